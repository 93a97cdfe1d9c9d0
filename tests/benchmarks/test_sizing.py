from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import OperationalError

from benchmarks.capacity import units
from benchmarks.capacity.plan import SIZES, Business, needs
from benchmarks.sizing import market
from feature_repo.build import build_partitions
from nightshift.lake import Lake
from nightshift.settings import PROJECT, Settings
from tests.conftest import TINY_DAYS, TINY_START

UNIT = {
    "lake_bytes_per_interaction": 40.0,
    "feature_bytes_per_user_day": 60.0,
    "feature_bytes_per_item_day": 50.0,
    "redis_bytes_per_user": 600.0,
    "online_write_cpu_seconds_per_million": 300.0,
    "eventlog_bytes_per_event": 400.0,
    "artifact_bytes_per_user_and_item": 500.0,
    "requests_per_cpu_second": 500.0,
}


def test_the_sizes_are_the_units_times_what_there_is() -> None:
    found = needs(Business(1_000_000, 100_000), UNIT)
    assert found["interactions_a_day"] == 1_000_000
    assert found["lake_gib"] == pytest.approx(1_000_000 * 40 * 365 / 2**30)
    assert found["redis_gib"] == pytest.approx(600_000_000 / 2**30)
    assert found["eventlog_gib"] == pytest.approx(1_000_000 * 400 * 90 / 2**30)
    assert found["version_gib"] == pytest.approx(1_100_000 * 500 / 2**30)
    assert found["requests_a_second"] == pytest.approx(500_000 * 0.15 / 3_600)
    assert found["serving_cores"] == 1 and needs(SIZES[2], UNIT)["serving_cores"] == 1
    assert needs(SIZES[2], {**UNIT, "requests_per_cpu_second": 50.0})["serving_cores"] == 9


@given(st.integers(100, 10**8), st.integers(100, 10**7), st.integers(1, 20))
def test_more_users_never_take_less_of_anything(users: int, items: int, times: int) -> None:
    few, many = needs(Business(users, items), UNIT), needs(Business(users * times, items), UNIT)
    assert all(many[name] >= few[name] for name in few)


def test_what_was_not_measured_is_left_out_and_not_guessed() -> None:
    assert set(needs(SIZES[0], {})) == {
        "users",
        "items",
        "interactions_a_day",
        "requests_a_second",
        "training_gib",
    }


def test_the_market_that_is_measured_is_its_own_whatever_the_surroundings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_EVENTLOG_URL", "postgresql://somebody@production/events")
    monkeypatch.setenv("NIGHTSHIFT_MLFLOW_URL", "http://production:5500")
    config = market(tmp_path, 200, 100, 3)
    assert config.eventlog_uri.startswith(f"sqlite:///{tmp_path}")
    assert config.mlflow_uri.startswith("http://127.0.0.1:") and str(config.mlflow_port) in config.mlflow_uri
    assert units.night_of(config) == config.market_start + pd.Timedelta(days=2)


def test_users_online_are_counted_in_a_redis_of_its_own(tiny_home: Settings, tmp_path: Path) -> None:
    if shutil.which("redis-server") is None:
        reason = "redis-server is not on the path; on Debian: apt install redis-server"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    home = tmp_path / "home"
    shutil.copytree(tiny_home.home / "lake", home / "lake")
    config = tiny_home.model_copy(
        update={"home": home, "market_start": TINY_START, "history_days": TINY_DAYS}
    )
    build_partitions(config, Lake(config.lake_dir).days()[-1])
    found = units.online(config, users=100, reads=10)
    assert 100 < found["redis_bytes_per_user"] < 20_000
    assert 0 < found["online_read_ms_p50"] <= found["online_read_ms_p99"]


@pytest.mark.service
def test_events_are_counted_in_a_schema_that_is_gone_afterwards() -> None:
    url = units.postgres()
    try:
        found = units.events(url, 1_200)
    except OperationalError as error:
        reason = f"PostgreSQL at {url}: {error!r:.120}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    assert 100 < found["eventlog_bytes_per_event"] < 2_000 and found["events_per_second"] > 0
    left = inspect(create_engine(url)).get_schema_names()
    assert not [name for name in left if name.startswith("sizing_")]


def test_the_command_says_what_there_is() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sizing", "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--postgres" in done.stdout and "served" in done.stdout
