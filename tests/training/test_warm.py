"""Which version a night goes on from. Nights here have an exam of one day unless a test says otherwise."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest

from nightshift.packages import package_digest
from nightshift.registry import Registry
from nightshift.retrains import Retrain
from nightshift.settings import Settings
from nightshift.versions import Version
from training import warm
from training.recipe import Night
from training.warm import Base, choose, fetch

DAY = timedelta(days=1)
TONIGHT = date(2026, 10, 1)


def night(day: date, exam: int = 1) -> Night:
    return Night(day, day - 28 * DAY, day - exam * DAY, day - (exam - 1) * DAY)


def handed_in(number: int, when: Night, base: Version | None = None, **more: str) -> Version:
    window = {name: str(getattr(when, name)) for name in ("night", "train_start", "train_end", "exam_start")}
    ancestry = Base(base, "" if base else warm.FIRST).tags(when, f"digest of {number}")
    tags = {"family": "ncf", "seed": "0", "smoke": "false", **window, **ancestry, **more}
    return Version("recommender", number, f"run{number}", datetime(2026, 10, 1, tzinfo=UTC), tags)


def chosen(
    versions: list[Version],
    champion: Version | None = None,
    tonight: Night | None = None,
    drifts: tuple[Retrain, ...] = (),
    **made: str,
) -> Base:
    tonight = tonight or night(TONIGHT)
    return choose(versions, champion, tonight, drifts, full_days=7, made={"seed": "0", **made})


ONE = handed_in(1, night(TONIGHT - 2 * DAY))
TWO = handed_in(2, night(TONIGHT - DAY), ONE)


def test_it_goes_on_from_the_newest_version_and_from_the_champion_before_it() -> None:
    assert chosen([ONE, TWO]) == Base(TWO)
    assert chosen([ONE, TWO], champion=ONE) == Base(ONE)
    of_another_family = replace(ONE, number=9)
    assert chosen([ONE, TWO], champion=of_another_family) == Base(TWO)


def test_the_first_of_its_family_starts_from_nothing() -> None:
    from_before = replace(ONE, tags={name: tag for name, tag in ONE.tags.items() if name != "state_digest"})
    assert chosen([]) == chosen([from_before]) == Base(None, warm.FIRST)


def test_a_version_that_knows_a_day_of_tonights_exam_is_passed_over_for_an_older_one() -> None:
    # Exams of one day came before: version 2 knows the 29th, version 1 the 28th.
    assert chosen([ONE, TWO], champion=TWO, tonight=night(TONIGHT, exam=2)) == Base(TWO)
    assert chosen([ONE, TWO], champion=TWO, tonight=night(TONIGHT, exam=3)) == Base(ONE)
    found = chosen([ONE, TWO], champion=TWO, tonight=night(TONIGHT, exam=4))
    why = "version 2 was trained up to 2026-09-29, and tonight's exam begins after 2026-09-27"
    assert found == Base(None, why)


@pytest.mark.parametrize(("ago", "fits"), [(6, True), (7, False), (8, False)])
def test_seven_data_days_after_the_last_training_from_nothing_it_starts_from_nothing(
    ago: int, fits: bool
) -> None:
    full = handed_in(1, night(TONIGHT - ago * DAY))
    versions = [full]
    for number in range(2, 5):  # nights between change nothing: the days count from the one that had no base
        versions.append(handed_in(number, night(TONIGHT - (6 - number) * DAY), versions[-1]))
    found = chosen(versions)
    assert (found.version is not None) is fits
    assert fits or f"{ago} days ago" in found.reason


def test_a_full_night_of_a_weekly_turn_is_gone_on_from_although_the_champion_is_older() -> None:
    champion = handed_in(1, night(TONIGHT - 9 * DAY))
    weekly = handed_in(2, night(TONIGHT - 2 * DAY))
    assert chosen([champion, weekly], champion=champion) == Base(weekly)


def test_after_a_drift_it_starts_from_nothing_until_one_was_trained_on_the_day_that_drifted() -> None:
    drift = Retrain(TONIGHT - DAY, "recommender", 1, TONIGHT - DAY)
    found = chosen([ONE, TWO], drifts=(drift,))
    assert found.version is None and found.reason.startswith("2026-09-30 drifted")
    not_yet_in_its_days = night(TONIGHT, exam=2)
    assert chosen([ONE, TWO], tonight=not_yet_in_its_days, drifts=(drift,)) == Base(TWO)
    said_after_its_publication = replace(drift, published=TONIGHT)
    assert chosen([ONE, TWO], drifts=(said_after_its_publication,)) == Base(TWO)
    since = handed_in(3, night(TONIGHT))
    assert chosen([ONE, TWO, since], tonight=night(TONIGHT + DAY), drifts=(drift,)) == Base(since)


def test_what_was_taken_out_is_not_gone_on_from_nor_what_came_of_it() -> None:
    out = replace(ONE, tags={**ONE.tags, "rolled_back": "mina: all umbrellas"})
    found = chosen([out, TWO])
    assert found == Base(None, "version 1 was taken out: mina: all umbrellas")


def test_other_settings_smoke_nights_and_a_window_without_its_days_are_no_base() -> None:
    assert "other settings" in chosen([ONE, TWO], hyper="study 3").reason
    assert chosen([handed_in(1, night(TONIGHT - DAY), smoke="true")]) == Base(None, warm.FIRST)
    short = replace(night(TONIGHT), train_start=TONIGHT - DAY)
    assert "before tonight's window" in chosen([ONE], tonight=short).reason


def test_a_night_that_is_trained_again_goes_on_from_what_it_went_on_from_at_first() -> None:
    first = handed_in(3, night(TONIGHT), ONE)  # version 1 was champion then
    assert chosen([ONE, TWO, first], champion=first) == Base(ONE)
    from_nothing = handed_in(3, night(TONIGHT), full_retrain_reason="the state of version 2 is gone")
    assert chosen([ONE, TWO, from_nothing]) == Base(None, "the state of version 2 is gone")
    by_hand = handed_in(3, night(TONIGHT), full_retrain_reason=warm.ASKED)
    assert chosen([ONE, TWO, by_hand]) == Base(TWO)
    of_another_seed = handed_in(3, night(TONIGHT), ONE, seed="1")
    assert chosen([ONE, TWO, of_another_seed]) == Base(TWO)


def test_a_version_tells_its_whole_ancestry() -> None:
    three = Base(TWO).tags(night(TONIGHT), "mine")
    assert three == {
        "state_digest": "mine", "warm_from": "2", "warm_digest": "digest of 2",
        "full_night": "2026-09-29", "full_until": "2026-09-28",
    }  # fmt: skip


@pytest.fixture
def kept(mlflow_server: Settings, tmp_path: Path) -> tuple[Registry, Version, Path]:
    """A registry, a version whose run keeps a state, and where MLflow has it."""
    registry = Registry(mlflow_server)
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "weights.safetensors").write_text("weights")
    mlflow.set_experiment("warm tests")
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(folder), "state")
    version = handed_in(1, night(TONIGHT), state_digest=package_digest(folder))
    stored = next((mlflow_server.home / "artifacts").glob(f"*/{run.info.run_id}/artifacts/state"))
    return registry, replace(version, run_id=run.info.run_id), stored


def test_the_state_comes_as_it_was_handed_in(kept: Any, tmp_path: Path) -> None:
    registry, version, _ = kept
    base, folder = fetch(registry, Base(version), tmp_path / "warm")
    assert base == Base(version)
    assert folder is not None and (folder / "weights.safetensors").read_text() == "weights"


def test_a_state_that_was_changed_or_is_gone_is_not_gone_on_from(kept: Any, tmp_path: Path) -> None:
    registry, version, stored = kept
    (stored / "weights.safetensors").write_text("others")
    changed, folder = fetch(registry, Base(version), tmp_path / "changed")
    assert folder is None and changed.version is None and "not the one that was handed in" in changed.reason
    shutil.rmtree(stored)
    gone, folder = fetch(registry, Base(version), tmp_path / "gone")
    assert folder is None and "the state of version 1 is gone" in gone.reason
    assert fetch(registry, Base(None, "why"), tmp_path) == (Base(None, "why"), None)
