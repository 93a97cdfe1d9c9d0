"""The whole embedded stack on free ports, over a small market: what `make run` starts, only smaller."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from nightshift.airflow_api import Airflow
from nightshift.settings import PROJECT, Settings
from nightshift.stack import Stack
from nightshift.tonight import DAGS
from tests.conftest import free_port

START, HISTORY = date(2026, 9, 1), 14
FIRST_NIGHT = START + timedelta(days=HISTORY - 1)
DRIFT_DAY = FIRST_NIGHT + timedelta(days=1)
LATER = ("ncf", "item_knn", "ridge")  # the families of the nights after the first, which trains them all


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a small market with its drift planted on the day after the first night."""
    values = {
        "home": tmp_path_factory.mktemp("stack") / "var",
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
        "mlflow_port": free_port(),
        "airflow_port": free_port(),
        "serving_port": free_port(),
        "forecaster_port": free_port(),
        "language_port": free_port(),
    }
    config = Settings(_env_file=None, **values)  # type: ignore[call-arg,arg-type]
    yield config
    Stack(config).down(lambda _: None)


@pytest.fixture(scope="session")
def first_night(small: Settings) -> subprocess.CompletedProcess[str]:
    """The README's first command, without a person: `make run ONCE=1`."""
    command = ["make", "run", "ONCE=1", f"PYTHON={base_python()}"]
    environment = {**os.environ, **small.exportable(), "NIGHTSHIFT_FAMILIES": ""}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def stack(small: Settings, first_night: subprocess.CompletedProcess[str]) -> Iterator[Airflow]:
    """The stack, up again over the state that the first night left."""
    assert first_night.returncode == 0, first_night.stdout[-3000:] + first_night.stderr[-3000:]
    Stack(small).up(lambda _: None)
    airflow = Airflow(small)
    airflow.prepare(DAGS)
    yield airflow
    Stack(small).down(lambda _: None)


def base_python() -> Path:
    """The Python that made this environment: what `make` uses to look whether it is complete."""
    return Path(sys.base_prefix) / "bin" / "python3.11"
