"""The state destroyed and got back from a backup, at another place: after the other tests have stopped their stack."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from nightshift import backup
from nightshift.airflow_api import Airflow
from nightshift.eventlog import EventLog
from nightshift.lake import open_lake
from nightshift.registry import Registry
from nightshift.restore import find, restore
from nightshift.seats import RECOMMENDER
from nightshift.settings import Settings
from nightshift.stack import Stack
from nightshift.tonight import DAGS
from tests.conftest import free_port
from tests.stack.test_nights import finish, succeeded, until

pytestmark = pytest.mark.stack

ASKED = [{"user_id": user, "k": 5} for user in ("u000001", "u000002", "u000003", "nobody-knows-me")]


def answers(config: Settings) -> list[tuple[Any, list[str]]]:
    """(version, items) of each question, once the service has found its champion and its features."""
    until(lambda: httpx.get(f"{config.serving_uri}/model").json()["version"], 120)
    found = [httpx.post(f"{config.serving_uri}/recommend", json=asked, timeout=30).json() for asked in ASKED]
    return [(each["model_version"], [item["item_id"] for item in each["items"]]) for each in found]


def send(config: Settings, *event_ids: str) -> None:
    """Feedback that the service acknowledges as new."""
    item = httpx.post(f"{config.serving_uri}/recommend", json=ASKED[0], timeout=30).json()["items"][0][
        "item_id"
    ]
    events = [{"event_id": e, "user_id": "u000009", "item_id": item, "kind": "click"} for e in event_ids]
    answer = httpx.post(f"{config.serving_uri}/feedback", json={"events": events}, timeout=30)
    assert answer.status_code == 200 and answer.json()["accepted"] == len(event_ids), answer.text


def test_a_destroyed_state_is_back_with_its_champion_its_feedback_and_its_nights(
    small: Settings, first_night: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    assert first_night.returncode == 0, first_night.stdout[-3000:] + first_night.stderr[-3000:]
    serving = Stack(small, only=("mlflow", "recommender"))
    serving.up(lambda _: None)
    answers(small)  # from here on it has its champion
    send(small, "acknowledged-1", "acknowledged-2")
    before, last = answers(small), open_lake(small).last_day()
    made = backup.make(small, tmp_path / "backups")  # while it serves
    serving.down(lambda _: None)
    shutil.rmtree(small.home)

    ports = {f"{name}_port": free_port() for name in ("mlflow", "airflow", "serving")}
    back = small.model_copy(update={"home": tmp_path / "back", **ports})
    restore(find(made.path), back)
    for table, column in (
        ("runs", "artifact_uri"),
        ("model_versions", "source"),
        ("experiments", "artifact_location"),
    ):
        with closing(sqlite3.connect(back.home / "mlflow" / "mlflow.db")) as database:
            places = [row[0] for row in database.execute(f"SELECT {column} FROM {table}")]
        assert not [place for place in places if str(small.home) in str(place)], (
            "no artifact is named by its old path"
        )
    stack = Stack(back, only=("mlflow", "api-server", "scheduler", "dag-processor", "recommender"))
    try:
        stack.up(lambda _: None)
        assert answers(back) == before
        airflow = Airflow(back)
        airflow.prepare(DAGS)
        assert last is not None
        night = last + timedelta(days=1)
        conf = {"night": night.isoformat(), "smoke": True, "families": ["ncf"]}
        assert succeeded(finish(airflow, "nightly", airflow.trigger("nightly", conf)), "ncf")
        assert open_lake(back).last_day() == night
        taken = {row["event_id"] for row in EventLog(back.eventlog_uri).of_night(night)}
        assert {"acknowledged-1", "acknowledged-2"} <= taken
        versions = [version.number for version in Registry(back).versions(RECOMMENDER)]
        assert max(versions) > int(before[0][0]), "numbers go on, and none comes twice"
    finally:
        stack.down(lambda _: None)
