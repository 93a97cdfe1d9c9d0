"""The whole embedded stack on free ports, over a small market: what `make run` starts, only smaller."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from nightshift import backup
from nightshift.airflow_api import Airflow
from nightshift.restore import find, restore
from nightshift.settings import PROJECT, Settings
from nightshift.stack import Stack
from nightshift.tonight import DAGS
from tests.conftest import free_port

START, HISTORY = date(2026, 9, 1), 14
FIRST_NIGHT = START + timedelta(days=HISTORY - 1)
DRIFT_DAY = FIRST_NIGHT + timedelta(days=1)
# Two families that compete for a seat, and a candidate that is worth it for each of the others. That every family
# trains, is judged and is served: tests/training/test_conformance.py and test_run.py.
FIRST = ("item_knn", "dae", "ridge", "qlora")
LATER = ("ncf", "ridge")  # of the nights after the first
PORTS = ("mlflow_port", "airflow_port", "serving_port", "forecaster_port", "language_port")
ASKED = [{"user_id": user, "k": 5} for user in ("u000001", "u000002", "u000003", "nobody-knows-me")]
ACKNOWLEDGED = {"acknowledged-1", "acknowledged-2"}  # feedback of the evening before the disaster


@dataclass(frozen=True)
class Survivor:
    """A state that is back at another place. `before`: what the service had answered, see `answers`."""

    settings: Settings
    before: list[tuple[Any, list[str]]]


@pytest.fixture(scope="session")
def born(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Where the first night runs."""
    return market(tmp_path_factory.mktemp("stack") / "var")


def market(home: Path) -> Settings:
    """Settings of a small market with its drift planted on the day after the first night."""
    values = {
        "home": home,
        "market_users": 600,
        "market_items": 200,
        "market_topics": 60,
        "market_conversations": 60,
        "market_start": START,
        "market_drift_day": DRIFT_DAY,
        "history_days": HISTORY,
        "families": ",".join(LATER),
        "schedule": "0 0 1 1 *",  # nothing starts by the clock while a test looks
        "watch_schedule": "0 0 1 1 *",
        **{name: free_port() for name in PORTS},
    }
    return Settings(_env_file=None, **values)  # type: ignore[call-arg,arg-type]


@pytest.fixture(scope="session")
def first_night(born: Settings) -> Iterator[subprocess.CompletedProcess[str]]:
    yield make_run_once(born, FIRST)
    Stack(born).down(lambda _: None)


def make_run_once(config: Settings, families: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """The README's first command, without a person: `make run ONCE=1`; of every family if none is named."""
    command = ["make", "run", "ONCE=1", f"PYTHON={base_python()}"]
    environment = {**os.environ, **config.exportable(), "NIGHTSHIFT_FAMILIES": ",".join(families)}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def survivor(
    born: Settings,
    first_night: subprocess.CompletedProcess[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Survivor:
    """What the first night left, destroyed, and got back from a backup: all later tests stand on it."""
    assert first_night.returncode == 0, first_night.stdout[-3000:] + first_night.stderr[-3000:]
    serving = Stack(born, only=("mlflow", "recommender"))
    try:
        serving.up(lambda _: None)
        answers(born)  # from here on it has its champion
        send(born, ACKNOWLEDGED)
        before = answers(born)
        made = backup.make(born, tmp_path_factory.mktemp("backups"))  # while it serves
    finally:
        serving.down(lambda _: None)
    shutil.rmtree(born.home)
    ports = {name: free_port() for name in PORTS}
    back = born.model_copy(update={"home": tmp_path_factory.mktemp("back") / "var", **ports})
    restore(find(made.path), back)
    return Survivor(back, before)


@pytest.fixture(scope="session")
def small(survivor: Survivor) -> Settings:
    """The settings of the stack that the tests share."""
    return survivor.settings


@pytest.fixture(scope="session")
def stack(small: Settings) -> Iterator[Airflow]:
    """The stack, up again over the state that the first night left."""
    try:
        Stack(small).up(lambda _: None)
        airflow = Airflow(small)
        airflow.prepare(DAGS)
        yield airflow
    finally:
        Stack(small).down(lambda _: None)


def until(what: Callable[[], Any], seconds: float = 180, every: float = 0.5) -> Any:
    """The first true answer of `what`; asked twice a second."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(every)
    return answer


def answers(config: Settings) -> list[tuple[Any, list[str]]]:
    """(version, items) of each question, once the service has found its champion and its features."""
    until(lambda: httpx.get(f"{config.serving_uri}/model").json()["version"], 120)
    found = [httpx.post(f"{config.serving_uri}/recommend", json=asked, timeout=30).json() for asked in ASKED]
    return [(each["model_version"], [item["item_id"] for item in each["items"]]) for each in found]


def send(config: Settings, event_ids: set[str]) -> None:
    """Feedback that the service acknowledges as new."""
    shown = httpx.post(f"{config.serving_uri}/recommend", json=ASKED[0], timeout=30).json()["items"]
    click = {"user_id": "u000009", "item_id": shown[0]["item_id"], "kind": "click"}
    events = [{"event_id": event, **click} for event in sorted(event_ids)]
    answer = httpx.post(f"{config.serving_uri}/feedback", json={"events": events}, timeout=30)
    assert answer.status_code == 200 and answer.json()["accepted"] == len(event_ids), answer.text


def base_python() -> Path:
    """The Python that made this environment: what `make` uses to look whether it is complete."""
    return Path(sys.base_prefix) / "bin" / "python3.11"
