"""Spark gives what DuckDB gives: the same rows, columns and floats, whatever the world."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from feature_repo.build import build as build_features
from feature_repo.build import compute
from feature_repo.engines import Engine, open_engine
from nightshift.contracts import INTERACTIONS, ITEMS, USERS
from nightshift.contracts.features import ITEM_VIEW, USER_VIEW, WINDOW_DAYS
from nightshift.contracts.interactions import DEVICES, KINDS
from nightshift.errors import FeatureError
from nightshift.lake import Lake
from nightshift.settings import PROJECT, Settings
from nightshift.sources import DayBatch
from tests.feature_repo.conftest import LAST

pytestmark = pytest.mark.service
DAY = date(2026, 9, 28)
VIEWED = (USER_VIEW, ITEM_VIEW)


def on_spark(home: Path) -> Settings:
    return Settings(_env_file=None, home=home, features_engine="spark", spark_master="local[2]")  # type: ignore[call-arg]


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if importlib.util.find_spec("pyspark") is None or shutil.which("java") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("pyspark or Java is missing")
        pytest.skip("needs Java and pyspark: apt install openjdk-17-jre-headless, "
                    "python3.11 -m nightshift.bootstrap spark")  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, ExitStack() as opened:
        # Half of what so short a life costs is Java's thorough compiler, and threads of its collector.
        patch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        engine = opened.enter_context(open_engine(on_spark(tmp_path_factory.mktemp("spark"))))
        # Compiling a query to bytecode takes longer than running it on so few rows.
        engine.connection.raw_sql("SET spark.sql.codegen.wholeStage = false")
        engine.connection.raw_sql("SET spark.sql.codegen.factoryMode = NO_CODEGEN")
        engine.connection.raw_sql("SET spark.sql.shuffle.partitions = 2")
        yield engine


def publish_world(root: Path, seed: int) -> Lake:
    """Published days around the window's edges: odd ids, ties, missing values and fractions of seconds among them."""
    random = np.random.default_rng(seed)
    lake, users, items = (
        Lake(root),
        [f"u{n}" for n in range(6)] + ["사용자", "Ünï", ""],
        [f"i{n}" for n in range(12)],
    )
    days = [DAY - timedelta(days=ago) for ago in (WINDOW_DAYS, WINDOW_DAYS - 1, 9, 1, 0)] + [
        DAY + timedelta(days=1)
    ]
    for number, day in enumerate(days):
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        events = [
            {
                "event_id": f"{day}-{n}",
                "user_id": str(random.choice(users)),
                "item_id": str(random.choice([*items, "ghost"])),
                "kind": str(random.choice(KINDS)),
                "value": [None, float("nan"), 4.0, 19.99, round(float(random.random()) * 1e6, 2)][
                    random.integers(5)
                ],
                "at": midnight + timedelta(microseconds=int(random.integers(86_400_000_000))),
                "session_id": [None, "s1", "s2"][random.integers(3)],
                "device": str(random.choice(DEVICES)),
                "channel": "home",
            }
            for n in range([0, 40, 1, 60, 80, 20][number])
        ]
        told = items if number == 1 else list(random.choice(items, 3, replace=False)) if number == 3 else []
        things = [
            {
                "item_id": str(name),
                "title": "t",
                "category": str(random.choice(["food", "책", "Books"])),
                "price": round(float(random.random()) * 100, 2),
                "created_at": midnight + timedelta(days=int(random.integers(-300, 30)), seconds=1),
            }
            for name in told
        ]
        people = (
            [{"user_id": u, "registered_at": midnight} for u in [*users[:5], "away"]] if number == 1 else []
        )
        tables = {
            "interactions": INTERACTIONS.table(events),
            "items": ITEMS.table(things),
            "users": USERS.table(people),
        }
        lake.stage(DayBatch(day=day, tables=tables))
        lake.record_audit(day, {"passed": True})
        lake.publish(day)
    return lake


def by_duckdb(home: Path, lake: Lake, day: date) -> dict[str, pa.Table]:
    with open_engine(Settings(_env_file=None, home=home)) as engine:  # type: ignore[call-arg]
        return compute(lake, day, engine, VIEWED)


@pytest.mark.parametrize("seed", range(2))
def test_the_features_of_any_world_are_the_same_to_the_last_bit(
    spark: Engine, tmp_path: Path, seed: int
) -> None:
    lake = publish_world(tmp_path / "lake", seed)
    ours, theirs = by_duckdb(tmp_path, lake, DAY), compute(lake, DAY, spark, VIEWED)
    for view in VIEWED:
        assert ours[view].schema == theirs[view].schema
        assert ours[view].to_pylist() == theirs[view].to_pylist()
        assert all(column.null_count < len(column) for column in ours[view].columns)


def test_a_lake_without_a_window_gives_the_same_empty_features(spark: Engine, tmp_path: Path) -> None:
    lake, before = publish_world(tmp_path / "lake", 0), date(2026, 1, 1)
    ours, theirs = by_duckdb(tmp_path, lake, before), compute(lake, before, spark, VIEWED)
    assert ours == theirs and {table.num_rows for table in ours.values()} == {0}


def test_a_whole_build_on_spark_writes_the_bytes_of_one_on_duckdb(
    spark: Engine,
    small_home: Settings,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that a night builds: partitions of three days, then Feast. Spark runs already; opening it is tried above."""
    home = tmp_path_factory.mktemp("by_spark")
    shutil.copytree(small_home.lake_dir, home / "lake")
    by_duckdb = build_features(small_home, LAST)
    monkeypatch.setattr("feature_repo.build.open_engine", lambda settings: nullcontext(spark))
    by_spark = build_features(on_spark(home), LAST)
    told = {name: by_spark[name] for name in by_duckdb if name != "seconds"}
    assert told == {name: by_duckdb[name] for name in told} and by_spark["days_built"] == 3
    ours, theirs = (
        {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in root.glob("features/*/day=*.parquet")
        }
        for root in (small_home.home, home)
    )
    assert len(ours) == 9 and theirs == ours


def test_spark_listens_on_loopback_alone(spark: Engine) -> None:
    ours = [psutil.Process(), *psutil.Process().children(recursive=True)]
    java = [process for process in ours if "java" in process.name()]
    heard = [
        c.laddr.ip for process in java for c in process.net_connections() if c.status == psutil.CONN_LISTEN
    ]
    assert heard and {ip.removeprefix("::ffff:") for ip in heard} <= {"127.0.0.1", "::1"}


def build(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "feature_repo.build", "--night", str(DAY)]
    told = {"NIGHTSHIFT_HOME": str(home), "NIGHTSHIFT_FEATURES_ENGINE": "spark", **environment}
    return subprocess.run(command, env=told, cwd=PROJECT, capture_output=True, text=True, timeout=300)


def test_without_pyspark_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with (
        pytest.raises(
            FeatureError, match=r"pyspark is not installed: run `python3.11 -m nightshift.bootstrap spark`"
        ),
        open_engine(on_spark(tmp_path)),
    ):
        pass


def test_without_java_the_build_says_so_in_one_line_and_writes_nothing(tmp_path: Path) -> None:
    publish_world(tmp_path / "lake", 0)
    done = build(tmp_path, PATH="/nowhere")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "there is no Java on the path" in done.stderr and "openjdk-17" in done.stderr
    assert not list((tmp_path / "features").rglob("*.parquet")) and not (tmp_path / "spill").exists()
