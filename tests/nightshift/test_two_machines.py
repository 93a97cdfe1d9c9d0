"""A night's data steps on two machines that share nothing but servers: a bucket, PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from feature_repo.build import build, build_partitions
from monitoring.quality import audit_night
from nightshift.commands import emit, read_step
from nightshift.contracts.features import ITEM_VIEW, TOPIC_VIEW, USER_VIEW
from nightshift.errors import FeatureError
from nightshift.featurestore import Written, historical, online, open_store, rows
from nightshift.intake import ingest, publish
from nightshift.lake import open_lake
from nightshift.partitions import partitions
from nightshift.settings import Settings
from serving.clock import Clock
from serving.features import OnlineFeatures
from tests.conftest import free_port
from tests.s3 import BUCKET, S3Server

pytestmark = pytest.mark.service
POSTGRES = os.environ.get("NIGHTSHIFT_TEST_POSTGRES", "postgresql+psycopg2://root@127.0.0.1:5432/test")
SEEN = [f"{USER_VIEW}:recency_days", f"{USER_VIEW}:interactions_28d"]
NIGHT = date(2026, 9, 3)
OWN = {"cache", "quality", "features"}  # a machine's own; of features, the lock alone


def missing(reason: str) -> None:
    pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of one's own, for it will be flushed."""
    binary, port = shutil.which("redis-server"), free_port()
    if binary is None:
        missing("redis-server is not installed; on Debian: apt install redis-server")
        return
    folder = tmp_path_factory.mktemp("redis")
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    command += ["--requirepass", "1234"]  # digits: what Feast would take for a number
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"redis://:1234@127.0.0.1:{port}/2"
    try:
        for _ in range(200):
            try:
                Redis.from_url(url).ping()
                break
            except RedisError:
                time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=10)


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """A schema of its own in a real PostgreSQL."""
    schema = f"nightshift_{uuid.uuid4().hex}"
    try:
        server = create_engine(POSTGRES)
        with server.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
    except SQLAlchemyError as error:
        missing(f"PostgreSQL at {POSTGRES}: {error!r:.120}; see tests/nightshift/test_eventlog.py")
    yield f"{POSTGRES}?options=-csearch_path%3D{schema}"
    with server.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    server.dispose()


@pytest.fixture(scope="module")
def machines(
    s3_server: S3Server, redis: str, registry: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, Settings]]:
    """Two machines after a night whose steps ran here and there: ingest and publish on one, the rest on the other."""
    shared = {
        "store_url": f"s3://{BUCKET}/{uuid.uuid4().hex[:8]}", "online_url": redis, "feast_registry_url": registry,
        "history_days": 3, "market_users": 60, "market_items": 40, "market_topics": 10, "market_conversations": 4,
    }  # fmt: skip
    homes = [tmp_path_factory.mktemp(name) for name in ("one", "other")]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        one, other = (Settings(_env_file=None, home=home, **shared) for home in homes)  # type: ignore[arg-type]
        run_night(one, other, NIGHT)
        yield one, other


def run_night(one: Settings, other: Settings, night: date) -> None:
    emit(one, night, "ingest", ingest(one, night))
    emit(other, night, "audit", audit_night(other, night))
    emit(one, night, "publish", publish(one, night))
    emit(other, night, "features", build(other, night))


def user_of(config: Settings) -> str:
    return str(pd.read_parquet(partitions(config, USER_VIEW)[-1])["user_id"][0])


def known_online(config: Settings, user: str) -> datetime | None:
    _, (at,) = online(open_store(config), [user], SEEN)
    return at


def test_what_one_machine_did_the_other_reads(machines: tuple[Settings, Settings]) -> None:
    one, other = machines
    assert open_lake(one).days() == open_lake(other).days() and open_lake(one).last_day() == NIGHT
    assert not open_lake(one).staged_days()
    steps = [read_step(one, NIGHT, step) for step in ("ingest", "audit", "publish", "features")]
    assert steps == [read_step(other, NIGHT, step) for step in ("ingest", "audit", "publish", "features")]
    assert None not in steps
    for home in (one.home, other.home):
        there = {path.name for path in home.iterdir()}
        assert not {name for name in there - OWN if not name.startswith("eventlog.db")}
    assert build(one, NIGHT)["message"] == "nothing new"


def test_online_and_historical_features_are_the_same_from_both(machines: tuple[Settings, Settings]) -> None:
    midnight = datetime(2026, 9, 4, tzinfo=UTC)
    users = list(pd.read_parquet(partitions(machines[0], USER_VIEW)[-1])["user_id"][:5])
    asked = pd.DataFrame({"user_id": [*users, "nobody"], "event_timestamp": midnight})
    found = []
    for config in machines:
        store = open_store(config)
        table, times = online(store, [*users, "nobody"], SEEN)
        assert times == [midnight] * 5 + [None], "an unknown user is unknown in Redis too"
        assert table["recency_days"][5] is None
        past = historical(store, asked, SEEN)
        pd.testing.assert_series_equal(
            past["recency_days"][:5], table["recency_days"][:5].astype(float), check_dtype=False
        )
        found.append((past, rows(store, TOPIC_VIEW, datetime(2020, 1, 1, tzinfo=UTC), midnight)))
    for first, second in zip(*found, strict=True):
        pd.testing.assert_frame_equal(first, second)


def test_a_new_day_from_another_machine_is_noticed(machines: tuple[Settings, Settings]) -> None:
    one, other = (config.model_copy(update={"champion_poll_seconds": 0.05}) for config in machines)
    clock, written = Clock(one), Written(one)
    user = user_of(one)
    assert clock.now().date() == NIGHT + timedelta(days=1)
    before = written.stamp()
    run_night(other, one, NIGHT + timedelta(days=1))
    deadline = time.monotonic() + 30
    while clock.now().date() != NIGHT + timedelta(days=2):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert written.stamp() not in (None, before)
    assert known_online(other, user) == datetime(2026, 9, 5, tzinfo=UTC)


def test_two_projects_on_one_redis_do_not_mix(machines: tuple[Settings, Settings]) -> None:
    one, _ = machines
    user = user_of(one)
    before = known_online(one, user)
    elsewhere = one.model_copy(update={"feast_project": "elsewhere"})
    assert Written(elsewhere).read() is None
    assert build(elsewhere, NIGHT)["materialized"] > 0
    client = Redis.from_url(one.online_url.get_secret_value())  # type: ignore[union-attr]
    mine = [key for key in client.scan_iter() if key.endswith(b"nightshift")]
    client.delete(*mine)
    assert known_online(one, user) is None and known_online(elsewhere, user) == before
    client.delete(f"nightshift:{one.feast_project}:written")
    assert build(one, NIGHT)["materialized"] > 0 and known_online(one, user) == before


def test_a_flushed_redis_is_noticed_and_filled_again(machines: tuple[Settings, Settings]) -> None:
    one, other = machines
    user = user_of(one)
    serving = OnlineFeatures(one, "user_id", one.feature_max_age_days)
    serving.start()
    serving.open()

    def wrong() -> str | None:
        return asyncio.run(serving.of(user, SEEN, datetime(2026, 9, 5, tzinfo=UTC))).wrong

    assert wrong() is None
    Redis.from_url(one.online_url.get_secret_value()).flushdb()  # type: ignore[union-attr]
    assert wrong() == "unknown", "served as an unknown user is"
    assert build(other, NIGHT)["materialized"] > 0
    assert wrong() is None, "and without a restart it is known again"


def test_changed_definitions_are_written_over_rows_of_the_same_moment(
    machines: tuple[Settings, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis leaves alone what is not newer; the features of before would stay for a day."""
    one, _ = machines
    user = user_of(one)
    client = Redis.from_url(one.online_url.get_secret_value())  # type: ignore[union-attr]
    key = next(key for key in client.scan_iter() if user.encode() in key and key.endswith(b"nightshift"))
    for field in client.hkeys(key):
        if not field.startswith(b"_ts"):
            client.hdel(key, field)
    written = Written(one)
    told = written.read()
    assert told is not None
    written.write({**told, "definitions": "of before"})
    build(one, NIGHT)
    table, _ = online(open_store(one), [user], SEEN)
    assert table["interactions_28d"][0] is not None


def test_a_registry_that_was_wiped_is_made_again(machines: tuple[Settings, Settings]) -> None:
    one, other = machines
    engine = create_engine(one.feast_registry_url.get_secret_value())  # type: ignore[union-attr]
    with engine.begin() as connection:
        schema = connection.execute(text("SELECT current_schema()")).scalar_one()
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    engine.dispose()
    with pytest.raises(FeatureError, match="nightshift features"):
        online(open_store(one), ["u"], SEEN)
    assert build(other, NIGHT)["materialized"] > 0
    assert known_online(one, user_of(one)) is not None


def test_a_server_that_is_away_is_named_without_its_password(
    machines: tuple[Settings, Settings], tmp_path: Path
) -> None:
    one, _ = machines
    gone = Settings.model_validate(
        {**one.model_dump(), "home": tmp_path, "online_url": "redis://:open-sesame@127.0.0.1:1/0"}
    )
    with pytest.raises(FeatureError, match=r"NIGHTSHIFT_ONLINE_URL redis://:\*\*\*@127\.0\.0\.1:1/0: "):
        build(gone, NIGHT)
    gone = Settings.model_validate(
        {**one.model_dump(), "feast_registry_url": "postgresql://u:open-sesame@127.0.0.1:1/x"}
    )
    with pytest.raises(FeatureError, match=r"NIGHTSHIFT_FEAST_REGISTRY_URL .*u:\*\*\*@127\.0\.0\.1:1/x: "):
        build(gone, NIGHT)


def test_the_partitions_are_those_that_one_machine_alone_would_have(
    machines: tuple[Settings, Settings], tmp_path: Path
) -> None:
    one, other = machines
    servers = ("store_url", "online_url", "feast_registry_url")
    alone = Settings.model_validate({**one.model_dump(), "home": tmp_path, **dict.fromkeys(servers)})
    ingest(alone, NIGHT)
    for day in open_lake(alone).staged_days():
        open_lake(alone).record_audit(day, {"passed": True})
    publish(alone, NIGHT)
    build_partitions(alone, NIGHT)
    for view in (USER_VIEW, ITEM_VIEW, TOPIC_VIEW):
        expected = [(path.name, path.read_bytes()) for path in partitions(alone, view)]
        for config in (one, other):
            assert expected == [(path.name, path.read_bytes()) for path in partitions(config, view, NIGHT)]
