"""What one user, interaction or request costs: measured on a market of its own, on real stores of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from nightshift.contracts.features import ITEM_VIEW, USER_VIEW, VIEWS
from nightshift.errors import StackError
from nightshift.eventlog import EventLog
from nightshift.lake import open_lake
from nightshift.night import data_commands, run_step
from nightshift.packages import package_size
from nightshift.seats import RECOMMENDER
from nightshift.settings import Settings
from nightshift.stack import Stack

EVENTS_AT_ONCE = 500  # as a client that collects them sends them
MIB = 2**20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def night_of(config: Settings) -> date:
    """The first night's date: the last day of the history that it takes in at once."""
    return config.market_start + timedelta(days=config.history_days - 1)


# --- the lake and the features ---------------------------------------------------------------------------


def stored(config: Settings) -> dict[str, float]:
    """Bytes on disk per interaction, and per user's and item's row of a day's features, after a first night's data.

    seconds: of the four steps; what a day costs later is less (one day's interactions, one day's partition).
    """
    night, began = night_of(config), time.monotonic()
    for command in data_commands(night):
        run_step(config, command)
    lake = open_lake(config)
    first, last = lake.days()[0], lake.days()[-1]
    rows = lake.read("interactions", first, last).num_rows
    size = sum(path.stat().st_size for path in lake.paths("interactions", first, last))
    found = {"interactions": rows, "lake_bytes_per_interaction": size / rows}
    found["data_seconds"] = time.monotonic() - began
    for view, name in ((USER_VIEW, "user"), (ITEM_VIEW, "item")):
        path = config.features_dir / view / f"day={night}.parquet"
        found[f"feature_bytes_per_{name}_day"] = path.stat().st_size / len(pd.read_parquet(path, columns=[]))
    return found


# --- online features -------------------------------------------------------------------------------------


def online(config: Settings, users: int, reads: int) -> dict[str, float]:
    """Bytes per user in a Redis of its own, seconds to write a million, and a read's latency; through Feast.

    The rows are the newest night's, as often as it takes under other ids.
    """
    from feature_repo.services import definitions
    from nightshift import featurestore, partitions

    day = pd.read_parquet(config.features_dir / USER_VIEW / f"day={night_of(config)}.parquet")
    rows = day.iloc[np.arange(users) % len(day)].reset_index(drop=True)
    rows[VIEWS[USER_VIEW].key] = [f"u{n:09d}" for n in range(users)]
    features = [f"{USER_VIEW}:{feature.name}" for feature in VIEWS[USER_VIEW].features]
    with _redis() as port:
        settings = config.model_copy(update={"online_url": SecretStr(f"redis://127.0.0.1:{port}/0")})
        told = featurestore.store_config(settings)
        featurestore.connect(featurestore.overwriting(told)).apply(
            definitions(partitions.features_place(settings))
        )
        store = featurestore.connect(told)
        before, began = _used(port), time.process_time()
        store.write_to_online_store(USER_VIEW, df=rows)
        wrote, grown = time.process_time() - began, _used(port) - before
        taken, cpu = [], []
        for n in np.random.default_rng(0).integers(users, size=reads + 50):
            at, used = time.perf_counter(), time.process_time()
            table, times = featurestore.online(store, [f"u{n:09d}"], features)
            taken.append(time.perf_counter() - at)
            cpu.append(time.process_time() - used)
            assert times[0] is not None, "a user that was written is there"
            assert len(table) == 1
    ms = np.array(taken[50:]) * 1_000  # the first ones fill Feast's caches
    return {
        "online_users": users,
        "redis_bytes_per_user": grown / users,
        "online_write_cpu_seconds_per_million": wrote / users * 1e6,
        "online_read_cpu_ms_p50": float(np.median(cpu[50:])) * 1_000,
        "online_read_ms_p50": float(np.quantile(ms, 0.5)),
        "online_read_ms_p99": float(np.quantile(ms, 0.99)),
    }


@contextlib.contextmanager
def _redis() -> Iterator[int]:
    """A Redis of our own, that keeps nothing on disk; its port."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise StackError("redis-server is not on the path; on Debian: apt install redis-server")
    port = free_port()
    server = subprocess.Popen(
        [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while not _listens(port):
            if time.monotonic() > deadline or server.poll() is not None:
                raise StackError(f"{binary} did not start on port {port}")
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _used(port: int) -> int:
    import redis

    with redis.Redis(port=port) as client:
        return int(client.info("memory")["used_memory"])


# --- the event log ---------------------------------------------------------------------------------------


def events(url: str, count: int) -> dict[str, float]:
    """Bytes per event with its indexes in PostgreSQL, and seconds of it to take in a million; in a schema of its own.

    url: SQLAlchemy URL of a database that may be written to; the schema is dropped again.
    """
    schema = f"sizing_{uuid.uuid4().hex[:12]}"
    server = create_engine(url)
    with server.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    try:
        log = EventLog(f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}")
        began, used = time.monotonic(), time.process_time()
        for start in range(0, count, EVENTS_AT_ONCE):
            log.append([_event(n) for n in range(start, min(count, start + EVENTS_AT_ONCE))])
        seconds, cpu = time.monotonic() - began, time.process_time() - used
        log.close()
        query = text("SELECT pg_total_relation_size(to_regclass(:name))")
        with server.begin() as connection:
            size = int(connection.execute(query, {"name": f"{schema}.events"}).scalar_one())
    finally:
        with server.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        server.dispose()
    return {
        "events": count,
        "eventlog_bytes_per_event": size / count,
        "events_per_second": count / seconds,
        "event_client_cpu_seconds_per_million": cpu / count * 1e6,
    }


def _event(number: int) -> dict[str, Any]:
    """As the service stores one: ids of the market's length, a request that it answers."""
    at = datetime(2026, 9, 28, tzinfo=UTC) + timedelta(milliseconds=number)
    return {
        "event_id": str(uuid.UUID(int=number * 2**64 + number, version=4)),
        "user_id": f"u{number % 20_000:06d}",
        "item_id": f"i{number % 1_000:06d}",
        "kind": "click",
        "value": None,
        "at": at,
        "session_id": f"s{number // 8:09d}",
        "device": "mobile",
        "channel": "recommendation",
        "request_id": str(uuid.UUID(int=number, version=4)),
    }


# --- serving, and what a night hands in ------------------------------------------------------------------


def served(config: Settings, family: str, requests: int) -> dict[str, float]:
    """A trained version in the real service: requests per CPU second of it, latency with one client, memory; and what
    MLflow keeps of the version.

    `config`'s night must be in the lake. One process: the service's own workers are one.
    """
    from nightshift.registry import Registry

    night = night_of(config)
    stack = Stack(config, only=("mlflow",))
    try:
        stack.up(lambda line: None)
        run_step(config, ["training.run", family, "--night", night.isoformat()])
        registry = Registry(config)
        (version,) = registry.versions(RECOMMENDER, night=night.isoformat())
        package = package_size(registry.package(RECOMMENDER, version.number, _made(config.home / "package")))
        kept = sum(p.stat().st_size for p in (config.home / "mlflow" / "artifacts").rglob("*") if p.is_file())
        pinned = config.model_copy(update={"pinned_version": version.number})
        service = Stack(pinned, only=(RECOMMENDER.name,))
        service.up(lambda line: None)
        found = _asked(service, config, requests)
    finally:
        stack.down(lambda line: None)
    rows = config.market_users + config.market_items
    return {"package_mib": package / MIB, "artifact_bytes_per_user_and_item": kept / rows, **found}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _asked(service: Stack, config: Settings, requests: int) -> dict[str, float]:
    leader = service.running()[RECOMMENDER.name]
    with httpx.Client(base_url=config.serving_uri, timeout=30, trust_env=False) as client:
        deadline = time.monotonic() + 120
        while client.get("/model").json().get("version") is None:
            if time.monotonic() > deadline:
                raise StackError("the service did not seat the version")
            time.sleep(0.2)
        ask = [{"user_id": f"u{n % config.market_users:06d}", "k": 10} for n in range(requests + 200)]
        for body in ask[:200]:
            client.post("/recommend", json=body).raise_for_status()
        before, taken = _cpu(leader), []
        for body in ask[200:]:
            at = time.perf_counter()
            client.post("/recommend", json=body).raise_for_status()
            taken.append(time.perf_counter() - at)
        used = _cpu(leader) - before
    ms = np.array(taken) * 1_000
    return {
        "requests": requests,
        "requests_per_cpu_second": requests / used,
        "recommend_ms_p50": float(np.quantile(ms, 0.5)),
        "recommend_ms_p99": float(np.quantile(ms, 0.99)),
        "service_mib": service.memory_mb()[RECOMMENDER.name],
    }


def _cpu(leader: psutil.Process) -> float:
    times = [process.cpu_times() for process in [leader, *leader.children(recursive=True)]]
    return float(sum(each.user + each.system for each in times))


def postgres() -> str:
    """Where the event log is measured: NIGHTSHIFT_TEST_POSTGRES, as for the tests, or a local one."""
    return os.environ.get("NIGHTSHIFT_TEST_POSTGRES", "postgresql+psycopg2://root@127.0.0.1:5432/test")
