"""Nights on the real stack: Airflow, MLflow and BentoML as processes, driven as a person would."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import httpx
import psutil
import pytest

from nightshift.airflow_api import Airflow
from nightshift.commands import read_step
from nightshift.eventlog import EventLog
from nightshift.lake import Lake
from nightshift.parts import service_uri
from nightshift.registry import Registry
from nightshift.seats import FORECASTER, LANGUAGE, RECOMMENDER, SEATS
from nightshift.settings import Settings
from nightshift.stack import Stack
from tests.stack.conftest import ACKNOWLEDGED, DRIFT_DAY, FIRST, FIRST_NIGHT, LATER, Survivor, answers, until
from training.families import FAMILIES

pytestmark = pytest.mark.stack


def finish(airflow: Airflow, dag: str, run: str) -> dict[str, str]:
    """Wait for a run; task → state."""
    until(lambda: airflow.state(dag, run) in ("success", "failed"), 600, every=1)
    return {task["task_id"]: task["state"] for task in airflow.tasks(dag, run)}


def trigger(airflow: Airflow, night: Any) -> str:
    """A night of one family: what these tests look at does not depend on how many there are."""
    return airflow.trigger("nightly", {"night": night.isoformat(), "smoke": True, "families": ["ncf"]})


def succeeded(states: dict[str, str], *chosen: str) -> bool:
    """Whether every task of a night did; a seat of which no family was chosen is skipped, and nothing else."""
    left_out = set(SEATS) - {FAMILIES[family].seat for family in chosen}
    skipped = {f"{step}_{seat}" for step in ("train", "gate") for seat in left_out}
    return all(state == ("skipped" if task in skipped else "success") for task, state in states.items())


def test_make_run_once_runs_a_night_and_stops_everything(
    born: Settings, first_night: subprocess.CompletedProcess[str]
) -> None:
    assert first_night.returncode == 0, first_night.stdout[-3000:] + first_night.stderr[-3000:]
    told = json.loads((born.home / "last_night.json").read_text())
    decided = {seat: gate["decision"] for seat, gate in told["gates"].items()}
    assert decided == dict.fromkeys(SEATS, "promote")
    for seat, decision in decided.items():
        assert f"{seat.capitalize()}: {decision}" in first_night.stdout
    assert Stack(born).running() == {}
    assert told["night"] == FIRST_NIGHT.isoformat()
    sat = told["gates"]["forecaster"]
    assert set(sat["verdicts"]) == first_of("forecaster")
    assert sat["scores"]["candidate"]["mse"] < sat["scores"]["last value"]["mse"]
    assert str(told["forecaster"]["version"]) == str(sat["production"])
    assert len(told["trends"]["trends"]) == 5 and told["trends"]["topics"] > 50
    won = told["gates"]["recommender"]
    assert str(told["served"]["version"]) == str(won["production"])
    assert set(won["verdicts"]) == first_of("recommender")
    assert len(told["recommendation"]["items"]) == 5 and all(
        i["title"] for i in told["recommendation"]["items"]
    )
    assert told["visits"]["accepted"] > 0
    assert told["audit"] and told["rows"]["interactions"] > 0


def first_of(seat: str) -> set[str]:
    """The families of the seat that the first night trains."""
    return {family for family in FIRST if FAMILIES[family].seat == seat}


def first_winner(small: Settings) -> int:
    """The version that the first night's gate seated."""
    report = read_step(small, FIRST_NIGHT, "report")
    assert report is not None
    return int(report["gates"]["recommender"]["production"])


def test_a_destroyed_state_is_back_with_its_champion_and_answers_as_before(
    born: Settings, survivor: Survivor, stack: Airflow
) -> None:
    assert answers(survivor.settings) == survivor.before
    for table, column in (
        ("runs", "artifact_uri"),
        ("model_versions", "source"),
        ("experiments", "artifact_location"),
    ):
        with closing(sqlite3.connect(survivor.settings.home / "mlflow" / "mlflow.db")) as database:
            places = [row[0] for row in database.execute(f"SELECT {column} FROM {table}")]
        assert places and not [place for place in places if str(born.home) in str(place)], (
            "no artifact is named by its old path"
        )


def test_the_day_before_the_drift_starts_nothing(small: Settings, stack: Airflow) -> None:
    calm = DRIFT_DAY - timedelta(days=1)  # the newest published day
    assert Lake(small.lake_dir).last_day() == calm
    (small.nights_dir / calm.isoformat() / "report.json").rename(small.home / "report.kept")
    states = finish(stack, "watch", stack.trigger("watch", {}))
    assert states["compare"] == "success" and states["request_retrain"] == "skipped"
    seen = read_step(small, calm, "watch")
    assert seen is not None and seen["drift"] is False, seen
    assert seen["seats"]["forecaster"]["champion"], "every seat's champion is compared"
    (small.home / "report.kept").rename(small.nights_dir / calm.isoformat() / "report.json")


@dataclass(frozen=True)
class Retrained:
    """The night of the drifted day. `waiting`: events that it had to take in. `told`: a conversation with the coach."""

    begun: dict[str, Any]
    states: dict[str, str]
    waiting: int
    told: str


@pytest.fixture(scope="module")
def retrained(small: Settings, stack: Airflow) -> Retrained:
    """The watch sees the drift; the night that begins of itself has its first training killed, and is waited for."""
    waiting = EventLog(small.eventlog_uri).pending()
    told = talk_with_the_coach(small, "배터리 재활용 일이 지루해요. 제 번호는 010-1234-5678이에요.")
    known = {run["dag_run_id"] for run in runs_of(stack)}
    states = finish(stack, "watch", stack.trigger("watch", {}))
    assert states["request_retrain"] == "success"
    (begun,) = until(lambda: [run for run in runs_of(stack) if run["dag_run_id"] not in known], 60)
    until(lambda: "RUNNING" in run_states(small, DRIFT_DAY, "ncf"), 300)
    for victim in training_processes(small, DRIFT_DAY, "ncf"):
        victim.kill()
    return Retrained(begun, finish(stack, "nightly", begun["dag_run_id"]), waiting, told)


def test_drift_starts_a_retrain_by_itself_which_takes_the_next_day_with_its_feedback_and_has_a_champion_to_beat(
    small: Settings, survivor: Survivor, retrained: Retrained
) -> None:
    seen = read_step(small, DRIFT_DAY, "watch")
    assert seen is not None and seen["drift"] is True
    assert retrained.begun["run_type"] == "asset_triggered"
    assert succeeded(retrained.states, *LATER)
    report = read_step(small, DRIFT_DAY, "report")
    assert report is not None, "the drifted day's night was run at once"
    assert report["counts"]["events.kept"] == retrained.waiting + 1 > 1
    taken = {row["event_id"] for row in EventLog(small.eventlog_uri).of_night(DRIFT_DAY)}
    assert taken >= ACKNOWLEDGED, "what was acknowledged before the disaster joins the first night after it"
    (kept,) = (
        row for row in Lake(small.lake_dir).read("conversations", DRIFT_DAY, DRIFT_DAY).to_pylist()
        if row["conversation_id"] == retrained.told
    )  # fmt: skip
    assert kept["messages"][0]["content"] == "배터리 재활용 일이 지루해요. 제 번호는 [전화번호]이에요."
    gate = report["gates"]["recommender"]
    assert gate["champion"] == first_winner(small)
    assert gate["candidate"] > max(int(version) for version, _ in survivor.before), (
        "numbers go on, and none comes twice"
    )
    for seat in {FAMILIES[family].seat for family in LATER}:
        gate = report["gates"][seat]
        assert gate["champion_metrics"] and gate["decision"] in ("promote", "keep")


def test_a_killed_training_task_is_retried_and_the_night_ends_well(
    small: Settings, stack: Airflow, retrained: Retrained
) -> None:
    tries = {
        task["task_id"]: task["try_number"]
        for task in stack.tasks("nightly", retrained.begun["dag_run_id"])
        if task["task_id"].startswith("train_") and task["state"] == "success"
    }
    assert tries == {"train_recommender": 2, "train_forecaster": 1}
    assert sorted(run_states(small, DRIFT_DAY, "ncf")) == ["FINISHED", "KILLED"]


def runs_of(airflow: Airflow) -> list[dict[str, Any]]:
    return list(airflow.call("GET", "/dags/nightly/dagRuns", params={"limit": 100})["dag_runs"])


def talk_with_the_coach(small: Settings, text: str) -> str:
    """One question to the coach, with consent to learn from it; the conversation's id."""
    coach = service_uri(small, LANGUAGE)
    until(lambda: httpx.get(f"{coach}/model").json()["version"], 120)
    asked = {"user_id": "u000001", "messages": [{"role": "user", "content": text}], "consent": True}
    answer = httpx.post(f"{coach}/chat", json={**asked, "stream": False}, timeout=60)
    assert answer.status_code == 200 and answer.json()["message"]["content"], answer.text
    return str(answer.json()["conversation_id"])


def run_states(small: Settings, night: date, family: str) -> list[str]:
    """States of the MLflow runs of a family's trainings on a night."""
    client = Registry(small).client
    experiments = [e.experiment_id for e in client.search_experiments()]
    wanted = f"tags.night = '{night}' AND tags.family = '{family}'"
    return [r.info.status for r in client.search_runs(experiments, filter_string=wanted)]


def training_processes(small: Settings, night: date, family: str) -> list[psutil.Process]:
    """The training command of a family and night: below this very scheduler, nobody else's."""
    below = Stack(small).running()["scheduler"].children(recursive=True)
    words = [(process, process.cmdline()) for process in below]
    return [p for p, w in words if {"training.run", family, str(night)} <= set(w) and "bash" not in w[0]]


def test_a_bad_day_fails_the_run_at_the_audit_with_the_reason_and_leaves_the_lake_unchanged(
    small: Settings, stack: Airflow, retrained: Retrained
) -> None:
    night = DRIFT_DAY + timedelta(days=1)
    before = Lake(small.lake_dir).days()
    run = trigger(stack, night)
    until(lambda: state_of(stack, run, "ingest") == "running")
    slots(stack, 0)  # nobody comes after ingest until the staged day has gone bad
    until(lambda: state_of(stack, run, "ingest") == "success")
    batch = Lake(small.lake_dir).staged(night)
    kinds = batch.tables["interactions"]["kind"].to_pylist()
    batch.tables["interactions"] = batch.tables["interactions"].set_column(
        3, "kind", [["teleport", *kinds[1:]]]
    )
    Lake(small.lake_dir).stage(batch)
    slots(stack, 1)
    states = finish(stack, "nightly", run)
    assert states["audit"] == "failed" and states["publish"] == "upstream_failed"
    (audit,) = (task for task in stack.tasks("nightly", run) if task["task_id"] == "audit")
    assert audit["try_number"] == 1, "the same data fail the same way again: no retry"
    assert "teleport" in stack.log("nightly", run, "audit", 1, -1)
    assert Lake(small.lake_dir).days() == before
    assert Lake(small.lake_dir).quarantined() == [night]


def state_of(airflow: Airflow, run: str, task: str) -> str | None:
    return next(t["state"] for t in airflow.tasks("nightly", run) if t["task_id"] == task)


def slots(airflow: Airflow, number: int) -> None:
    """Let `number` tasks at a time into the pool `lake`."""
    body = {"pool": "lake", "slots": number, "description": "", "include_deferred": False}
    airflow.call("PATCH", "/pools/lake", json=body)


def test_a_rollback_is_live_in_the_service_within_five_seconds(small: Settings, stack: Airflow) -> None:
    registry = Registry(small)
    champion = registry.champion(RECOMMENDER)
    assert champion is not None
    other = 2 if champion.number == 1 else 1
    registry.rollback(RECOMMENDER, to=other, by="test", reason="to see it")
    model = f"{small.serving_uri}/model"
    until(lambda: str(httpx.get(model).json()["version"]) == str(other), 5)
    registry.rollback(RECOMMENDER, to=champion.number, by="test", reason="and back")
    until(lambda: str(httpx.get(model).json()["version"]) == str(champion.number), 5)


def test_the_forecaster_follows_its_own_seat_and_forecasts_a_topic_of_the_market(
    small: Settings, stack: Airflow
) -> None:
    registry, service = Registry(small), service_uri(small, FORECASTER)
    champion = registry.champion(FORECASTER)
    assert champion is not None
    other = next(v.number for v in registry.versions(FORECASTER) if v.number != champion.number)
    registry.promote(FORECASTER, other, by="test", reason="to see it")
    until(lambda: str(httpx.get(f"{service}/model").json()["version"]) == str(other), 5)
    registry.rollback(FORECASTER, to=None, by="test", reason="and back")
    until(lambda: str(httpx.get(f"{service}/model").json()["version"]) == str(champion.number), 5)

    def ranked() -> list[dict[str, Any]] | None:
        """The topics as the champion ranks them; the ranking before is served until that is made."""
        found = httpx.get(f"{service}/trends", params={"k": 3}).json()
        return found["trends"] if found.get("model_version") == str(champion.number) else None

    trends = until(ranked, 30)
    answer = httpx.post(f"{service}/forecast", json={"topic": trends[0]["topic"]}).json()
    assert answer["forecast"] == pytest.approx(trends[0]["forecast"])
    assert answer["interval_80"]["low"] < answer["change"] < answer["interval_80"]["high"]


def test_the_service_answers_while_mlflow_is_away(small: Settings, stack: Airflow) -> None:
    leader = Stack(small).running()["mlflow"]
    for process in [*leader.children(recursive=True), leader]:
        process.kill()
    asked = {"user_id": "nobody-knows-me", "k": 3}
    for _ in range(20):
        answer = httpx.post(f"{small.serving_uri}/recommend", json=asked, timeout=10)
        assert answer.status_code == 200 and len(answer.json()["items"]) == 3
        time.sleep(0.2)
    assert "mlflow" not in Stack(small).running()
    Stack(small).up(lambda _: None)  # starts what is missing, and nothing else
    assert "mlflow" in Stack(small).running()


def test_a_taken_port_is_named_with_what_to_do(small: Settings, stack: Airflow) -> None:
    from nightshift.errors import StackError

    elsewhere = small.model_copy(update={"home": small.home.parent / "elsewhere"})
    with pytest.raises(StackError, match=rf"port {small.mlflow_port} .*NIGHTSHIFT_MLFLOW_PORT"):
        Stack(elsewhere).up(lambda _: None)
