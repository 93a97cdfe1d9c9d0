"""Rollback by itself, against a real MLflow server and a real event log: who is judged, who moves, and what is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import mlflow.pyfunc
import pytest

from monitoring import outcomes
from nightshift import retrains
from nightshift.commands import read_step
from nightshift.errors import EventLogError
from nightshift.eventlog import EventLog
from nightshift.lake import Lake
from nightshift.registry import PRODUCTION, Registry
from nightshift.seats import RECOMMENDER, SEATS
from nightshift.settings import Settings
from nightshift.store import shared
from tests.conftest import TINY_START, publish_day, tiny_day

TODAY = datetime(2026, 9, 2, 12, tzinfo=UTC)  # by the data clock
Action = Literal["promote", "approve", "override"]


@pytest.fixture
def home(mlflow_server: Settings, tmp_path: Path) -> Iterator[Settings]:
    """An own home with a published day and an empty seat; whoever sat in it is put back."""
    settings = mlflow_server.model_copy(update={"home": tmp_path})
    publish_day(Lake(settings.lake_dir), tiny_day(TINY_START))
    registry = Registry(settings)
    name, before = RECOMMENDER.registered_model, registry.champion(RECOMMENDER)
    if before is not None:
        registry.client.delete_registered_model_alias(name, PRODUCTION)
    yield settings
    now = registry.champion(RECOMMENDER)
    if before is not None:
        registry.client.set_registered_model_alias(name, PRODUCTION, str(before.number))
    elif now is not None:
        registry.client.delete_registered_model_alias(name, PRODUCTION)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recommender's package that can be loaded."""
    folder = tmp_path_factory.mktemp("package")
    table = folder / "table.json"
    table.write_text(json.dumps({"items": ["i1"], "scores": {}}))
    predictor = Path(__file__).parents[1] / "training" / "tiny_predictor.py"
    mlflow.pyfunc.save_model(
        str(folder / "model"), python_model=str(predictor), artifacts={"table": str(table)}, pip_requirements=[]
    )  # fmt: skip
    return folder / "model"


class World:
    """A seat, its champions, and users who act on what they show. Time passes by `now`, not by waiting."""

    def __init__(self, settings: Settings, package: Path) -> None:
        self.settings = settings
        self.package = package
        self.registry = Registry(settings)
        self.log = EventLog(settings.eventlog_uri)

    def seat(self, action: Action = "promote", torn: bool = False) -> int:
        client = self.registry.client
        found = client.get_experiment_by_name("nightshift/test-outcomes")
        experiment = found.experiment_id if found else client.create_experiment("nightshift/test-outcomes")
        run_id = client.create_run(experiment).info.run_id
        if torn:
            client.log_text(run_id, "no model", "model/nothing.txt")
        else:
            client.log_artifacts(run_id, str(self.package), "model")
        client.set_terminated(run_id)
        version = self.registry.submit(RECOMMENDER, run_id=run_id, model_uri=f"runs:/{run_id}/model", tags={})
        self.registry.promote(RECOMMENDER, version.number, by="test", reason="test", action=action)
        return version.number

    def serve(self, version: int, clicked: int, of: int = 500, ago: float = 0, told: bool = True) -> None:
        """`of` requests of as many users, `clicked` of them with a click; answered `ago` seconds before now."""
        first = datetime.now(UTC) - timedelta(seconds=ago)
        hits = [n * clicked // of != (n + 1) * clicked // of for n in range(of)]
        rows = [
            {
                "request_id": f"{version}-{n}", "model_version": version, "user_id": f"u{n}", "shown": 10,
                "at": TODAY, "answered_at": first + timedelta(microseconds=n),
            }
            for n in range(of)
        ]  # fmt: skip
        self.log.expose(rows)
        events = [
            {
                "event_id": f"e{row['request_id']}", "request_id": row["request_id"], "user_id": row["user_id"],
                "item_id": "i1", "kind": "click", "at": TODAY, "device": "mobile", "channel": "recommendation",
            }
            for row, hit in zip(rows, hits, strict=True)
            if hit
        ]  # fmt: skip
        self.log.append(events if told else [])

    def judged(self, after: timedelta = timedelta(hours=1)) -> dict[str, Any]:
        result = outcomes.outcomes(self.settings, list(SEATS.values()), now=datetime.now(UTC) + after)
        seen: dict[str, Any] = result["seats"]["recommender"]
        assert ("recommender" in result["rolled_back"]) == seen["rolled_back"]
        return seen

    def champion(self) -> int:
        version = self.registry.champion(RECOMMENDER)
        assert version is not None
        return version.number


@pytest.fixture
def world(home: Settings, package: Path) -> Iterator[World]:
    world = World(home, package)
    yield world
    world.log.close()


def two_champions(
    world: World, clicked: int, action: Action = "promote", told: bool = True
) -> tuple[int, int]:
    """A champion with 200 clicks on 500 answers, and one after it with `clicked`."""
    former = world.seat()
    world.serve(former, 200, ago=2)
    champion = world.seat(action)
    world.serve(champion, clicked, told=told)
    return former, champion


def test_a_champion_with_fewer_outcomes_is_rolled_back_once_and_the_history_says_why(world: World) -> None:
    former, champion = two_champions(world, clicked=100)
    early = world.judged(after=timedelta(minutes=29))  # the users have half an hour
    assert (early["verdict"], early["requests"], world.champion()) == ("no evidence", 0, champion)
    seen = world.judged(after=timedelta(minutes=31))
    assert (seen["verdict"], seen["rolled_back"], world.champion()) == ("worse", True, former)
    assert (seen["champion"], seen["previous"], seen["requests"]) == (champion, former, 500)
    assert len(seen["looks"]) == 1 and seen["looks"][0]["requests"] == 250  # the first look saw it
    history = world.registry.history(RECOMMENDER)
    assert (history[-1]["action"], history[-1]["by"]) == ("rollback", "the watch")
    assert (history[-1]["from"], history[-1]["to"]) == (champion, former)
    assert "live outcomes: users did something with 20.0% of the answers, 40.0%" in history[-1]["reason"]
    loser = world.registry.get(RECOMMENDER, champion)
    assert loser.withdrawn.startswith("the watch: live outcomes") and loser.tags["live_verdict"] == "worse"
    figures = world.registry.metrics(loser.run_id)
    assert (figures["live_rate"], figures["live_rate_before"], figures["live_requests"]) == (0.2, 0.4, 250)

    again = world.judged()
    assert (again["verdict"], again["rolled_back"]) == ("not judged", False)
    assert world.registry.history(RECOMMENDER) == history and world.champion() == former


def test_a_champion_with_as_many_outcomes_stays(world: World) -> None:
    _, champion = two_champions(world, clicked=200)
    seen = world.judged()
    assert (seen["verdict"], seen["rolled_back"]) == ("not worse so far", False)
    assert (seen["rate"], seen["rate_before"], world.champion()) == (0.4, 0.4, champion)
    assert world.registry.metrics(world.registry.get(RECOMMENDER, champion).run_id)["live_requests"] == 500


def test_where_no_feedback_arrives_at_all_nobody_is_judged_by_silence(world: World) -> None:
    _, champion = two_champions(world, clicked=0, told=False)
    seen = world.judged()
    assert (seen["verdict"], seen["requests"], world.champion()) == ("no evidence", 0, champion)


def test_an_override_that_does_worse_is_reported_and_stays(world: World) -> None:
    _, champion = two_champions(world, clicked=100, action="override")
    for seen in (world.judged(), world.judged()):
        assert (seen["verdict"], seen["rolled_back"]) == ("worse", False)
        assert "it stays: test seated it by override" in seen["reason"]
    assert world.champion() == champion


def test_drift_and_a_withdrawn_former_champion_forbid_a_move_and_nothing_else_does(world: World) -> None:
    former, champion = two_champions(world, clicked=100)
    retrains.keep(world.settings, date(2026, 8, 20), "recommender", champion, {"reason": "long before"})
    drift = retrains.keep(world.settings, TODAY.date(), "recommender", champion, {"reason": "drift"})
    seen = world.judged()
    assert (seen["verdict"], seen["rolled_back"], world.champion()) == ("worse", False, champion)
    assert "it stays: the world drifted on 2026-09-02" in seen["reason"]

    shared(world.settings).remove(drift)
    world.registry.annotate(RECOMMENDER, former, tags={"rejected": "a reviewer: it was broken"})
    seen = world.judged()
    assert "withdrawn (a reviewer: it was broken)" in seen["reason"] and world.champion() == champion

    world.registry.client.delete_model_version_tag(RECOMMENDER.registered_model, str(former), "rejected")
    reason = "a decision about the seat that moves nobody"
    world.registry.freeze(RECOMMENDER, champion, by="test", reason=reason)
    assert world.registry.history(RECOMMENDER)[-1]["reason"] == reason
    assert world.judged()["rolled_back"] and world.champion() == former


def test_a_former_champion_that_cannot_be_loaded_or_is_gone_does_not_get_the_seat_back(world: World) -> None:
    former = world.seat(torn=True)
    world.serve(former, 200, ago=2)
    champion = world.seat()
    world.serve(champion, 100)
    seen = world.judged()
    assert (seen["verdict"], seen["rolled_back"], world.champion()) == ("worse", False, champion)
    assert f"it stays: v{former} cannot be loaded" in seen["reason"]
    world.registry.client.delete_model_version(RECOMMENDER.registered_model, str(former))
    assert f"it stays: v{former} before it was deleted" in world.judged()["reason"]
    assert world.champion() == champion


def test_what_was_seen_is_kept_before_the_move_and_not_replaced_by_no_evidence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    former, champion = two_champions(world, clicked=100)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "rollback", killed)
        with pytest.raises(KeyboardInterrupt):
            world.judged()
    assert world.registry.get(RECOMMENDER, champion).tags["live_verdict"] == "worse"
    assert world.judged()["rolled_back"] and world.champion() == former
    world.registry.promote(RECOMMENDER, champion, by="test", reason="again", action="override")
    assert world.judged()["verdict"] == "no evidence"
    assert world.registry.get(RECOMMENDER, champion).tags["live_verdict"] == "worse"


def test_only_the_sitting_counts_not_what_a_version_answered_before_it(world: World) -> None:
    first = world.seat()
    world.serve(first, 500, ago=2)
    second = world.seat()
    world.registry.rollback(RECOMMENDER, to=first, by="test", reason="mistake")
    world.serve(second, 0, ago=3600)  # from another time it sat there
    world.registry.promote(RECOMMENDER, second, by="test", reason="again", action="override")
    seen = world.judged()
    assert (seen["verdict"], seen["requests"]) == ("no evidence", 0)


def test_without_a_champion_or_one_before_it_that_is_said(world: World) -> None:
    assert world.judged()["reason"] == "nobody sits in the seat yet"
    by_hand = world.seat()
    seen = world.judged()
    assert (seen["verdict"], seen["champion"]) == ("not judged", by_hand)
    assert seen["reason"] == "there is no champion before it to compare with"


def test_exposures_are_kept_for_a_month(world: World) -> None:
    two_champions(world, clicked=200)
    world.judged(after=timedelta(days=29))
    every = datetime(2000, 1, 1, tzinfo=UTC)
    version = world.champion()
    assert world.log.answers(version, 1, ["click"], timedelta(1), since=every)
    world.judged(after=timedelta(days=31))
    assert not world.log.answers(version, 1, ["click"], timedelta(1), since=every)


def test_the_command_prints_one_line_and_keeps_it_under_the_newest_day(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, champion = two_champions(world, clicked=100)
    monkeypatch.setattr(outcomes, "read_settings", lambda: world.settings)
    outcomes.main(["--settle", "60"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["rolled_back"] == [] and told["day"] == TINY_START.isoformat()
    assert told["seats"]["recommender"]["champion"] == champion
    assert set(told["seats"]) == set(SEATS)
    for seat in ("forecaster", "language"):
        assert "nightly exam" in told["seats"][seat]["reason"]
    assert read_step(world.settings, TINY_START, "outcomes") == told

    by_hand = subprocess.run(
        [sys.executable, "-c", "from nightshift.cli import main; main()", "outcomes"],
        env={**os.environ, **world.settings.exportable(), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert by_hand.returncode == 0, by_hand.stderr
    for shown in (f" {champion} ", "no evidence", "recommender: 0 requests count so far", "forecaster: what"):
        assert shown in by_hand.stdout


def test_before_anything_is_published_it_says_so_and_keeps_nothing(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = home.model_copy(update={"home": tmp_path / "empty"})
    monkeypatch.setattr(outcomes, "read_settings", lambda: empty)
    outcomes.main(["--seat", "recommender"])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["day"] is None and list(told["seats"]) == ["recommender"]
    assert not empty.nights_dir.exists()


def test_an_event_log_that_is_away_is_an_error_and_moves_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, champion = two_champions(world, clicked=100)
    broken = world.settings.home / "eventlog.db"
    world.log.close()
    broken.write_bytes(b"this is a text file, and long enough to be looked at" * 100)
    for leftover in broken.parent.glob("eventlog.db-*"):
        leftover.unlink()
    with pytest.raises(EventLogError):
        world.judged()
    assert world.champion() == champion


def test_who_only_looks_is_told_the_verdict_and_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    former, champion = two_champions(world, clicked=100)
    monkeypatch.setattr(outcomes, "read_settings", lambda: world.settings)
    outcomes.main(["--settle", "0", "--look-only"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    seen = result["seats"]["recommender"]
    later = outcomes.outcomes(
        world.settings, list(SEATS.values()), now=datetime.now(UTC) + timedelta(hours=1), act=False
    )["seats"]["recommender"]
    assert (later["verdict"], later["rolled_back"], world.champion()) == ("worse", False, champion)
    assert f"v{former} would get the seat back" in later["reason"]
    assert "live_verdict" not in world.registry.get(RECOMMENDER, champion).tags
    assert read_step(world.settings, TINY_START, "outcomes") is None
    assert seen["champion"] == champion
    shown = subprocess.run(
        [sys.executable, "-c", "from nightshift.cli import main; main()", "outcomes", "--look-only"],
        env={**os.environ, **world.settings.exportable(), "COLUMNS": "80"}, capture_output=True, text=True,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert world.champion() == champion
