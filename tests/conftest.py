"""Shared by all tests: a real MLflow server, and a tiny published lake. No mocks of real components.

One run on two workers has everything: the stack's tests share one stack, so one worker has them all, begins with them
and then helps the other, which has meanwhile begun with the files of the others.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from nightshift.commands import quiet_libraries
from nightshift.contracts import INTERACTIONS, ITEMS, USERS
from nightshift.lake import Lake
from nightshift.s3 import S3Store
from nightshift.settings import Settings
from nightshift.sources import DayBatch
from nightshift.store import LocalStore, Store
from tests import mlflow_server as mlflow_server_of_tests
from tests.s3 import BUCKET, S3Server, serving_s3

quiet_libraries()  # before any test imports torch, feast or mlflow

hypothesis.settings.register_profile("nightshift", deadline=None)  # a busy machine is late, not wrong
hypothesis.settings.load_profile("nightshift")

TINY_START = date(2026, 9, 1)
TINY_DAYS = 8
STACK = "tests/stack"


class ByFile(LoadScopeScheduling):
    """A file's tests, or all of the stack's, go to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return STACK if nodeid.startswith(f"{STACK}/") else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    config.option.loadscopereorder = False  # in the order that is made below, not by the number of tests
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The stack's tests first: they take longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(f"{STACK}/"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on a free port, with one bucket."""
    with serving_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty part of the server's bucket; the environment says how to get there."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:8]}/deep"


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store, in a folder and in a bucket."""
    if request.param == "folder":
        return LocalStore(tmp_path / "store")
    return S3Store(request.getfixturevalue("bucket"), tmp_path / "cache")


@pytest.fixture(params=["folder", "bucket"])
def stored_home(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of an empty home, whose store is under it, or a bucket."""
    url = request.getfixturevalue("bucket") if request.param == "bucket" else None
    return Settings(_env_file=None, home=tmp_path, store_url=url)  # type: ignore[call-arg]


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A real MLflow server on a free port; yields Settings with its URL and an own, empty home.

    For an own home with the same server: `mlflow_server.model_copy(update={"home": tmp_path})`.
    """
    home = tmp_path_factory.mktemp("mlflow_home")
    port = free_port()
    log = home / "mlflow.log"
    command, environment = mlflow_server_of_tests.command(home, port), mlflow_server_of_tests.ENVIRONMENT
    with log.open("w") as output:
        server = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=output, stderr=output, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(url, server, log)
        yield Settings(_env_file=None, home=home, mlflow_url=url)  # type: ignore[call-arg]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait_until_healthy(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"mlflow server ended with {server.returncode}: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"mlflow server not healthy after 90 s: {log.read_text()[-2000:]}")


def publish_day(lake: Lake, batch: DayBatch) -> None:
    """Stage, pass and publish a day, as a night does, without Great Expectations."""
    lake.stage(batch)
    lake.record_audit(batch.day, {"passed": True})
    lake.publish(batch.day)


def tiny_day(day: date, start: date = TINY_START, users: int = 40, items: int = 30) -> DayBatch:
    """A day of a small world with planted taste: user n likes category n % 3, and the first items most."""
    number = (day - start).days
    random = np.random.default_rng(number)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    rows = []
    for user in range(users):
        if random.random() < 0.3:
            continue  # away today
        count = int(random.integers(2, 6))
        mine = np.arange(items)[np.arange(items) % 3 == user % 3]
        pool = np.where(
            random.random(count) < 0.8, random.choice(mine, count), random.integers(0, items, count)
        )
        for n, item in enumerate(pool):
            kind = ("view", "click", "purchase", "rating")[int(random.integers(0, 4))]
            value = {"purchase": 10.0 + item, "rating": float(random.integers(1, 6))}.get(kind)
            rows.append(
                {
                    "event_id": f"{day}-{user}-{n}",
                    "user_id": f"u{user:03d}",
                    "item_id": f"i{item:03d}",
                    "kind": kind,
                    "value": value,
                    "at": midnight + timedelta(hours=9 + user % 10, minutes=3 * n),
                    "session_id": f"s{day}-{user}",
                    "device": "mobile" if user % 2 else "desktop",
                    "channel": "home",
                }
            )
    first = number == 0
    people = [{"user_id": f"u{n:03d}", "registered_at": midnight} for n in range(users)] if first else []
    things = [
        {
            "item_id": f"i{n:03d}",
            "title": f"상품 {n}",
            "category": ("book", "food", "toy")[n % 3],
            "price": 10.0 + n,
            "created_at": midnight,
        }
        for n in range(items)
    ]
    tables = {
        "interactions": INTERACTIONS.table(rows),
        "users": USERS.table(people),
        "items": ITEMS.table(things if first else []),
    }
    return DayBatch(day=day, tables=tables, counts={"read": len(rows), "kept": len(rows)})


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose home holds a lake of 8 published days, 40 users × 30 items. Read it; copy it to write."""
    home = tmp_path_factory.mktemp("tiny_home")
    lake = Lake(home / "lake")
    for number in range(TINY_DAYS):
        publish_day(lake, tiny_day(TINY_START + timedelta(days=number)))
    return Settings(_env_file=None, home=home)  # type: ignore[call-arg]
