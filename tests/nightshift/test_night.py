from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from nightshift.commands import emit
from nightshift.errors import SourceError
from nightshift.night import (
    StepFailedError,
    StepSkippedError,
    commands,
    families,
    report,
    run_night,
    run_step,
)
from nightshift.settings import Settings
from tests.conftest import TINY_START
from training.families import FAMILIES

NIGHT = date(2026, 9, 28)


def make(home: Path, **values: object) -> Settings:
    return Settings(_env_file=None, home=home, **values)  # type: ignore[call-arg,arg-type]


def test_a_night_is_the_same_commands_as_the_dag_in_its_order() -> None:
    modules = [command[0] for command in commands(NIGHT, {"ncf": "recommender"}, smoke=True)]
    assert modules == [
        "nightshift.intake", "monitoring.quality", "nightshift.intake", "feature_repo.build",
        "training.run", "training.examine", "nightshift.night",
    ]  # fmt: skip


def test_every_family_trains_and_every_seat_is_judged_once() -> None:
    planned = commands(NIGHT, {"a": "x", "b": "y", "c": "x"}, smoke=False)
    assert [c[1] for c in planned if c[0] == "training.run"] == ["a", "b", "c"]
    assert [c[1] for c in planned if c[0] == "training.examine"] == ["x", "y"]


def test_the_families_are_those_that_training_names(tmp_path: Path) -> None:
    assert families(make(tmp_path)) == {f.name: f.seat for f in FAMILIES.values()}


def test_a_step_gives_its_last_line_and_runs_under_our_settings(tmp_path: Path) -> None:
    answer = run_step(make(tmp_path, history_days=3), ["nightshift.intake", "plan"])
    assert answer == {"night": "2026-09-03"}
    assert (tmp_path / "nights" / "2026-09-03" / "plan.json").exists()


def test_a_failed_step_is_told_in_its_own_words(tmp_path: Path) -> None:
    config = make(tmp_path)
    with pytest.raises(
        StepFailedError, match=r"`nightshift\.intake ingest .*2026-08-01.*SourceError.*2026-08-01"
    ):
        run_step(config, ["nightshift.intake", "ingest", "--night", "2026-08-01"])
    assert SourceError.exit_status == 65


def test_a_step_with_nothing_to_do_is_skipped_not_failed(tiny_home: Settings) -> None:
    nobody = ["training.examine", "forecaster", "--night", str(TINY_START), "--families"]
    with pytest.raises(StepSkippedError, match="none of its families was chosen tonight: it is left out"):
        run_step(tiny_home, nobody)


def test_a_seat_without_data_is_left_out_of_the_night_and_a_source_without_a_day_is_not(
    tiny_home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def step(config: Settings, command: list[str]) -> dict[str, str]:
        done.append(command[0])
        if "gru" in command or "forecaster" in command:
            raise StepSkippedError("no indicators are in the lake")
        return {"step": command[0]}

    monkeypatch.setattr("nightshift.night.run_step", step)
    said: list[str] = []
    told = run_night(
        tiny_home, NIGHT, smoke=True, chosen={"ncf": "recommender", "gru": "forecaster"}, say=said.append
    )
    assert told == {"step": "nightshift.night"} and done.count("training.examine") == 2
    assert "no indicators are in the lake" in said

    def nothing_new(config: Settings, command: list[str]) -> None:
        raise StepSkippedError("no day yet")

    monkeypatch.setattr("nightshift.night.run_step", nothing_new)
    with pytest.raises(StepSkippedError, match="no day yet"):
        run_night(tiny_home, NIGHT, smoke=True, chosen={"ncf": "recommender"})


def test_a_night_that_is_not_published_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(StepFailedError, match="not in the lake"):
        report(make(tmp_path), NIGHT)


def test_a_night_on_which_no_seat_had_enough_data_is_done_and_the_next_day_can_come(
    tiny_home: Settings,
) -> None:
    told = report(tiny_home, TINY_START)
    assert told["gates"] == {} and told["rows"]["interactions"] > 0


def test_the_report_brings_together_what_the_steps_did(tiny_home: Settings) -> None:
    config = tiny_home.model_copy(update={"source": "files"})
    night = date(2026, 9, 2)
    emit(config, night, "train-ncf", {"version": 3})
    emit(config, night, "gate-recommender", {"decision": "keep"})
    told = report(config, night)
    assert told["families"] == {"ncf": {"version": 3}} and told["gates"]["recommender"]["decision"] == "keep"
    assert told["rows"]["interactions"] > 0 and told["lake_days"] == 8
