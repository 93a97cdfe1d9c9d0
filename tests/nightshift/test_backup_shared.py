"""Backup and restore where the state is on servers: databases on PostgreSQL, lake and artifacts in buckets."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import mlflow
import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from nightshift import backup
from nightshift.errors import BackupError
from nightshift.eventlog import EventLog
from nightshift.lake import open_lake
from nightshift.registry import Registry
from nightshift.restore import check, find, restore
from nightshift.s3 import S3Store
from nightshift.seats import RECOMMENDER
from nightshift.settings import Settings
from nightshift.stack import Stack
from nightshift.store import shared
from tests.conftest import TINY_START, free_port, publish_day, tiny_day
from tests.nightshift.conftest import PREDICTOR
from tests.nightshift.test_eventlog import NIGHT, POSTGRES, START_IT, an_event, ids
from tests.s3 import BUCKET, S3Server, serving_s3

pytestmark = pytest.mark.service

LAST = TINY_START + timedelta(days=2)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serving_s3(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def database() -> Iterator[Callable[[str], SecretStr]]:
    """Makes databases of its own on the real server, and drops them."""
    made: list[str] = []
    try:
        server = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.execute(text("SELECT 1"))
    except (SQLAlchemyError, ImportError) as error:
        reason = f"PostgreSQL at {POSTGRES}: {error!r:.120}; start it with: {START_IT}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)

    def make(name: str) -> SecretStr:
        made.append(f"nightshift_{name}_{uuid.uuid4().hex[:8]}")
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {made[-1]}"))
        return SecretStr(POSTGRES.rpartition("/")[0] + f"/{made[-1]}")

    yield make
    with server.connect() as connection:
        for name in made:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


def settings_at(home: Path, place: str, database: Callable[[str], SecretStr]) -> Settings:
    return Settings(
        _env_file=None,
        home=home,
        store_url=f"s3://{BUCKET}/{place}",
        mlflow_artifacts_url=f"s3://{BUCKET}/{place}-artifacts",
        mlflow_backend_url=database("mlflow"),
        eventlog_url=database("events"),
        mlflow_port=free_port(),
    )  # type: ignore[call-arg]


def champion(config: Settings, folder: Path) -> None:
    """A packaged model that answers from a table, seated."""
    registry = Registry(config)
    table = folder / "table.json"
    table.write_text(json.dumps({"items": ["i1", "i2"], "scores": {"u1": [0.25, 0.5]}}))
    mlflow.set_experiment("backup")
    with mlflow.start_run() as run:
        model = mlflow.pyfunc.log_model(
            name="model", python_model=str(PREDICTOR), artifacts={"table": str(table)}, pip_requirements=[]
        )
    version = registry.submit(RECOMMENDER, run_id=run.info.run_id, model_uri=model.model_uri, tags={})
    registry.promote(RECOMMENDER, version.number, by="test", reason="to see it come back")


def package_of_the_champion(config: Settings) -> tuple[int, str | None]:
    """Its number and digest, once its package has been loaded and checked."""
    registry = Registry(config)
    version = registry.champion(RECOMMENDER)
    assert version is not None
    registry.load(RECOMMENDER, version.number)
    return version.number, version.tags.get("package_digest")


def test_a_state_on_servers_that_was_destroyed_is_back_on_others(
    s3: S3Server, database: Callable[[str], SecretStr], tmp_path: Path
) -> None:
    config = settings_at(tmp_path / "one", "before", database)
    running = Stack(config, only=("mlflow",))
    log = EventLog(config.eventlog_uri)
    try:
        running.up(lambda _: None)
        champion(config, tmp_path)
        for number in range(3):
            publish_day(open_lake(config), tiny_day(TINY_START + timedelta(days=number)))
        shared(config).write("nights/2026-09-03/report.json", b'{"decision": "promote"}')
        log.append([an_event("e1"), an_event("e2")])
        seated, digest = package_of_the_champion(config), open_lake(config).digest(TINY_START, LAST)
        made = backup.make(config)  # while it runs
        again = backup.make(config)
        dumps = sum(each["size"] for each in again.told["files"] if each["kind"] == "pg_dump")
        assert again.new <= dumps < made.new, "what the backup before had of a bucket is not fetched again"
    finally:
        running.down(lambda _: None)
        log.close()
    check(find(made.path))
    with pytest.raises(BackupError, match="holds a state already"):
        restore(find(made.path), config, force=True)
    for place in ("before", "before-artifacts"):
        store = S3Store(f"s3://{BUCKET}/{place}", tmp_path / "cache")
        for name, _ in store.objects():
            store.remove(name)

    back = settings_at(tmp_path / "two", "after", database)
    restore(find(made.path), back)
    assert open_lake(back).digest(TINY_START, LAST) == digest
    assert open_lake(back).read("interactions", TINY_START, LAST).num_rows > 0
    assert shared(back).read("nights/2026-09-03/report.json") == b'{"decision": "promote"}'
    log = EventLog(back.eventlog_uri)
    assert ids(log.claim(NIGHT)) == ["e1", "e2"]
    log.close()
    running = Stack(back, only=("mlflow",))
    try:
        running.up(lambda _: None)
        assert package_of_the_champion(back) == seated
    finally:
        running.down(lambda _: None)


def test_a_lake_in_a_bucket_is_not_put_into_a_folder(s3: S3Server, tmp_path: Path) -> None:
    config = Settings(_env_file=None, home=tmp_path / "var", store_url=f"s3://{BUCKET}/kinds")  # type: ignore[call-arg]
    config.home.mkdir()
    publish_day(open_lake(config), tiny_day(TINY_START))
    made = backup.make(config)
    with pytest.raises(BackupError, match="NIGHTSHIFT_STORE_URL in a bucket, and the settings name a folder"):
        restore(find(made.path), Settings(_env_file=None, home=tmp_path / "other"))  # type: ignore[call-arg]


def test_a_bucket_that_is_away_is_told_and_makes_no_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nightshift.errors import NightshiftError
    from nightshift.vault import Vault

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    config = Settings(_env_file=None, home=tmp_path / "var", store_url="s3://gone/place")  # type: ignore[call-arg]
    config.home.mkdir()
    with pytest.raises(NightshiftError, match="s3://gone"):
        backup.make(config)
    assert Vault(config.backups_dir).names() == []
