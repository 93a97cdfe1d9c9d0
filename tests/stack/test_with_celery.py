"""`nightshift up` on PostgreSQL, Redis and S3 by settings alone, with two Celery workers of which one is killed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import psycopg2
import pytest
from pydantic import SecretStr

from nightshift import backup
from nightshift.airflow_api import Airflow
from nightshift.commands import alone
from nightshift.errors import StackError
from nightshift.lake import open_lake
from nightshift.parts import CELERY
from nightshift.restore import find, restore
from nightshift.settings import Settings
from nightshift.stack import Stack
from nightshift.store import shared
from nightshift.tonight import DAGS
from tests.conftest import free_port
from tests.production import services
from tests.s3 import serving_s3
from tests.stack.conftest import FIRST_NIGHT, HISTORY, PORTS, START, until
from tests.stack.test_nights import state_of, trigger

# Long: a night as processes, tests/production/test_compose.py, goes through Celery's workers and the same stores.
pytestmark = [pytest.mark.stack, pytest.mark.service, pytest.mark.long]
PASSWORD = "it's a %secret@ of mine"  # with what has to be escaped in a URL, an INI file and a shell
LOGIN = {"MLFLOW_TRACKING_USERNAME": "nightshift", "MLFLOW_TRACKING_PASSWORD": "long enough for MLflow"}


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a small market on stores of their own; the login of MLflow is in the environment."""
    with (
        services.postgres(free_port(), "nightshift", PASSWORD) as postgres,
        services.redis(free_port(), "quiet") as redis,
        serving_s3(tmp_path_factory.mktemp("s3")) as s3,
        pytest.MonkeyPatch.context() as patch,
    ):
        postgres.create("airflow", "mlflow", "events", "feast")
        for name, value in {**LOGIN, **s3.environment}.items():
            patch.setenv(name, value)
        values = {
            "home": tmp_path_factory.mktemp("celery") / "var",
            "market_users": 300,
            "market_items": 120,
            "market_topics": 20,
            "market_conversations": 20,
            "market_start": START,
            "history_days": HISTORY,
            "schedule": "0 0 1 1 *",
            "watch_schedule": "0 0 1 1 *",
            "mlflow_backend_url": SecretStr(postgres.url("mlflow")),
            "mlflow_artifacts_url": "s3://nightshift/mlflow",
            "eventlog_url": SecretStr(postgres.url("events")),
            "feast_registry_url": SecretStr(postgres.url("feast")),
            "store_url": "s3://nightshift/store",
            "online_url": SecretStr(f"{redis}/1"),
            "airflow_database_url": SecretStr(postgres.url("airflow")),
            "airflow_executor": CELERY,
            "airflow_broker_url": SecretStr(f"{redis}/0"),
            **{name: free_port() for name in PORTS},
        }
        config = Settings(_env_file=None, **values)  # type: ignore[call-arg,arg-type]
        yield config
        Stack(config).down(lambda _: None)


# The services of the seats run on such stores in tests/production, as does a whole night on Celery's workers; they take
# a third of the time to start.
PARTS = ("mlflow", "api-server", "scheduler", "dag-processor", "triggerer", "worker-1", "worker-2")


def up(config: Settings) -> list[str]:
    return Stack(config, only=PARTS).up(lambda _: None)


@pytest.fixture(scope="module")
def airflow(production: Settings) -> Airflow:
    up(production)
    airflow = Airflow(production)
    airflow.prepare(DAGS)
    return airflow


def test_every_part_keeps_its_state_where_the_settings_say(production: Settings, airflow: Airflow) -> None:
    for url, table in (
        (production.airflow_database_url, "dag_run"),
        (production.airflow_database_url, "celery_taskmeta"),
        (production.mlflow_backend_url, "registered_models"),
        (production.mlflow_backend_url, "alembic_version_auth"),
    ):
        assert url is not None
        connection = psycopg2.connect(url.get_secret_value())
        cursor = connection.cursor()
        cursor.execute("SELECT to_regclass(%s)", (table,))
        assert cursor.fetchone() == (table,)
        connection.close()
    assert not list(production.home.rglob("*.db"))


def test_mlflow_asks_for_its_login(production: Settings, airflow: Airflow) -> None:
    experiments = f"{production.mlflow_uri}/api/2.0/mlflow/experiments/search"
    body = {"max_results": 1}
    assert httpx.post(experiments, json=body, timeout=60).status_code == 401
    login = (LOGIN["MLFLOW_TRACKING_USERNAME"], LOGIN["MLFLOW_TRACKING_PASSWORD"])
    assert httpx.post(experiments, json=body, auth=login, timeout=60).status_code == 200


def test_no_secret_stands_in_a_command_or_a_log(production: Settings, airflow: Airflow) -> None:
    secrets = [PASSWORD, "quiet", LOGIN["MLFLOW_TRACKING_PASSWORD"], production.secret("airflow_jwt_secret")]
    family = [p for leader in Stack(production).running().values() for p in [leader, *leader.children(True)]]
    said = [" ".join(process.cmdline()) for process in family]
    said += [log.read_text(errors="replace") for log in production.logs_dir.rglob("*.log")]
    assert said and not [text for text in said if any(secret in text for secret in secrets)]


def test_a_worker_that_is_killed_in_the_middle_of_a_task_loses_nothing(
    production: Settings, airflow: Airflow
) -> None:
    with alone(production, "intake"):  # whoever ingests waits for us, and so is killed in the middle of it
        run = trigger(airflow, FIRST_NIGHT)
        until(lambda: ingesting(production), 300)
        killed, left = kill_who_ingests(production)
    began = time.monotonic()
    until(lambda: tries(airflow, run) == 2, 120)
    assert time.monotonic() - began < 90, "noticed in half a minute, retried ten seconds later"
    until(lambda: state_of(airflow, run, "ingest") == "success")
    end(airflow, run)
    assert killed not in Stack(production).running() and left in Stack(production).running()
    assert Stack(production).died() == [killed]


def end(airflow: Airflow, run: str) -> None:
    """No more of this night. Asked again if PostgreSQL ends a deadlock with the scheduler at the cost of this call."""

    def ended() -> bool:
        try:
            airflow.call("PATCH", f"/dags/nightly/dagRuns/{run}", json={"state": "failed"})
        except StackError as error:
            if "Database error" not in str(error):
                raise
            return False
        return True

    until(ended, 60)


def ingesting(config: Settings) -> list[str]:
    """The workers below which a day is taken in."""
    workers = {name: leader for name, leader in Stack(config).running().items() if name.startswith("worker-")}
    return [name for name, leader in workers.items() if any(map(ingests, leader.children(recursive=True)))]


def ingests(process: psutil.Process) -> bool:
    try:
        return {"nightshift.intake", "ingest", "-m"} <= set(process.cmdline())
    except psutil.Error:
        return False


def kill_who_ingests(config: Settings) -> tuple[str, str]:
    """SIGKILL for that worker and all below it, as when its machine is lost; its name and the other's."""
    (killed,) = ingesting(config)
    leader = Stack(config).running()[killed]
    for process in [leader, *leader.children(recursive=True)]:
        process.kill()
    (left,) = {"worker-1", "worker-2"} - {killed}
    return killed, left


def test_what_was_taken_in_is_in_the_bucket_and_no_lake_under_home(
    production: Settings, airflow: Airflow
) -> None:
    assert open_lake(production).staged_days()[-1] == FIRST_NIGHT
    assert "ingest.json" in shared(production).names(f"nights/{FIRST_NIGHT}")
    assert not (production.home / "lake").exists()


def test_a_backup_of_the_running_stack_comes_back_on_other_databases(
    production: Settings, airflow: Airflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{services.binaries()}:{os.environ['PATH']}")  # pg_dump as new as its server
    made = backup.make(production, tmp_path / "backups")
    back = production.model_copy(
        update={
            "home": tmp_path / "var",
            "store_url": "s3://nightshift/store-again",
            "mlflow_artifacts_url": "s3://nightshift/mlflow-again",
            "online_url": SecretStr(production.online_url.get_secret_value().removesuffix("/1") + "/2"),  # type: ignore[union-attr]
            **{
                name: database_beside(getattr(production, name), "again")
                for name in (
                    "airflow_database_url",
                    "mlflow_backend_url",
                    "eventlog_url",
                    "feast_registry_url",
                )
            },
        }
    )
    restore(find(made.path), back)
    for database, table in (
        ("airflow_database_url", "SELECT run_id, state, conf FROM dag_run ORDER BY id"),
        ("airflow_database_url", "SELECT version_num FROM alembic_version"),
        (
            "airflow_database_url",
            "SELECT task_id, state, try_number FROM task_instance_history ORDER BY 1, 3",
        ),
        ("mlflow_backend_url", "SELECT experiment_id, name FROM experiments ORDER BY 1"),
        ("eventlog_url", "SELECT version_num FROM nightshift_eventlog"),
    ):
        before, after = (rows(getattr(config, database), table) for config in (production, back))
        assert before and before == after, (database, table)


def database_beside(url: SecretStr, end: str) -> SecretStr:
    """A new, empty database on the same server, of a longer name."""
    server, _, name = url.get_secret_value().rpartition("/")
    with contextlib.closing(psycopg2.connect(f"{server}/postgres")) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}_{end}")
    return SecretStr(f"{server}/{name}_{end}")


def rows(url: SecretStr, query: str) -> list[tuple[object, ...]]:
    with contextlib.closing(psycopg2.connect(url.get_secret_value())) as connection:
        cursor = connection.cursor()
        cursor.execute(query)
        return list(cursor.fetchall())


def tries(airflow: Airflow, run: str) -> int:
    return max(t["try_number"] for t in airflow.tasks("nightly", run) if t["task_id"] == "ingest")


def test_up_starts_the_dead_worker_again_and_nothing_else(production: Settings, airflow: Airflow) -> None:
    (dead,) = Stack(production).died()
    assert up(production) == [dead]
    time.sleep(10)  # it refuses to start beside one of its name, after it has asked around
    assert Stack(production).died() == []


def test_stopping_leaves_no_process_behind(production: Settings, airflow: Airflow) -> None:
    family = [p for leader in Stack(production).running().values() for p in [leader, *leader.children(True)]]
    Stack(production).down(lambda _: None)
    assert [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
