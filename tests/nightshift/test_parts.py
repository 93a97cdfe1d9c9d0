"""What the parts are told: stores by settings, secrets in the environment alone, the order of stopping."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError
from sqlalchemy.engine import make_url

from nightshift.errors import SettingsError, StackError
from nightshift.parts import (
    CELERY,
    become,
    check_stores,
    environment,
    mlflow_environment,
    part_environment,
    parts,
    prepare,
    service_uri,
)  # fmt: skip
from nightshift.seats import FORECASTER, SEATS
from nightshift.settings import PROJECT, Settings
from nightshift.stack import Stack, stop_order
from tests.conftest import free_port

SECRET = "pa%ss w$rd@"
URL = "postgresql://somebody:pa%25ss%20w%24rd%40@127.0.0.1:{port}/{name}"


def make(home: Path, **values: object) -> Settings:
    return Settings(_env_file=None, home=home, **values)  # type: ignore[call-arg,arg-type]


def production(home: Path, port: int = 5432) -> Settings:
    return make(
        home,
        mlflow_backend_url=SecretStr(URL.format(port=port, name="mlflow")),
        mlflow_artifacts_url="s3://bucket/mlflow",
        airflow_database_url=SecretStr(URL.format(port=port, name="airflow")),
        airflow_executor=CELERY,
        airflow_broker_url=SecretStr("redis://:quiet@127.0.0.1:6379/3"),
    )


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)


def by_name(config: Settings) -> dict[str, dict[str, str]]:
    return {part.name: part_environment(config, part) for part in parts(config)}


def test_without_settings_everything_is_in_files_under_home(tmp_path: Path) -> None:
    told = by_name(make(tmp_path))
    assert set(told) == {"mlflow", "api-server", "scheduler", "dag-processor", *SEATS}
    assert told["mlflow"]["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert told["mlflow"]["MLFLOW_ARTIFACTS_DESTINATION"] == f"{tmp_path}/mlflow/artifacts"
    assert told["scheduler"]["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert (
        told["scheduler"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{tmp_path}/airflow/airflow.db"
    )
    assert not any("CELERY" in name for name in told["scheduler"])


def test_with_celery_there_are_workers_and_a_triggerer_on_the_stores_that_the_settings_name(
    tmp_path: Path,
) -> None:
    told = by_name(production(tmp_path))
    assert {"triggerer", "worker-1", "worker-2"} <= set(told)
    for name in ("scheduler", "worker-1"):
        url = told[name]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
        assert make_url(url).password == SECRET and url.startswith("postgresql+psycopg2://")
        assert told[name]["AIRFLOW__CELERY__RESULT_BACKEND"] == f"db+{url}"
        assert told[name]["AIRFLOW__CELERY__BROKER_URL"] == "redis://:quiet@127.0.0.1:6379/3"
        assert int(told[name]["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"]) < 60
    assert told["mlflow"]["MLFLOW_BACKEND_STORE_URI"].endswith("/mlflow")
    assert told["mlflow"]["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://bucket/mlflow"
    assert "AIRFLOW__CELERY__BROKER_URL" not in told["recommender"]


def test_celery_without_its_stores_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="AIRFLOW_DATABASE_URL and NIGHTSHIFT_AIRFLOW_BROKER_URL"):
        make(tmp_path, airflow_executor=CELERY)


def test_no_secret_is_in_a_command(tmp_path: Path, login: None) -> None:
    config = production(tmp_path)
    for part in parts(config):
        words = " ".join(part.command)
        assert not any(
            secret in words for secret in (SECRET, "pa%25ss", "quiet", config.secret("airflow_jwt_secret"))
        )
        assert SECRET not in repr(part)


def test_mlflow_asks_for_a_login_if_its_clients_have_one(tmp_path: Path, login: None) -> None:
    config = production(tmp_path)
    prepare(config)
    (mlflow,) = (part for part in parts(config) if part.name == "mlflow")
    assert mlflow.command[-2:] == ["--app-name", "basic-auth"]
    assert mlflow.variables["MLFLOW_AUTH_ADMIN_PASSWORD"] == SECRET
    assert mlflow.variables["MLFLOW_FLASK_SERVER_SECRET_KEY"] == config.secret("mlflow_session_secret")
    ini = Path(mlflow.variables["MLFLOW_AUTH_CONFIG_PATH"])
    assert stat.S_IMODE(ini.stat().st_mode) == 0o600
    read = ConfigParser()
    read.read(ini)  # as MLflow reads it
    assert read["mlflow"]["database_uri"] == mlflow.variables["MLFLOW_BACKEND_STORE_URI"]


def test_mlflow_without_a_login_asks_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    config = make(tmp_path)
    prepare(config)
    assert not list((tmp_path / "mlflow").glob("*.ini"))
    assert not any("AUTH" in name or "ALLOWED" in name for name in mlflow_environment(config))


def test_mlflow_answers_to_the_names_it_is_given_with_any_port(tmp_path: Path) -> None:
    told = mlflow_environment(make(tmp_path, mlflow_hosts="mlflow, models.example.org,"))
    names = told["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert {"mlflow", "mlflow:*", "models.example.org:*", "127.0.0.1:*"} <= set(names) and "" not in names


def test_a_service_is_asked_where_the_settings_say(tmp_path: Path) -> None:
    assert service_uri(make(tmp_path, forecaster_port=4001), FORECASTER) == "http://127.0.0.1:4001"
    assert (
        service_uri(make(tmp_path, forecaster_url="http://forecaster:3001"), FORECASTER)
        == "http://forecaster:3001"
    )


def test_a_store_that_is_away_is_named_before_anything_starts(tmp_path: Path) -> None:
    port = free_port()
    config = production(tmp_path, port)
    with pytest.raises(
        StackError, match=rf"postgresql at 127.0.0.1:{port} \(NIGHTSHIFT_MLFLOW_BACKEND_URL\)"
    ) as told:
        check_stores(config)
    assert "pa%25ss" not in str(told.value)
    with pytest.raises(StackError, match="NIGHTSHIFT_MLFLOW_BACKEND_URL"):
        Stack(config).up(lambda _: None)


PARTS = ("mlflow", "api-server", "scheduler", "dag-processor", "triggerer", "worker-1", "worker-2", *SEATS)


@given(st.permutations([*PARTS, "an older part"]))
def test_what_takes_tasks_stops_before_what_it_reports_to(names: list[str]) -> None:
    order = stop_order(names)
    assert sorted(order) == sorted(names) and order[0] == "an older part"
    services, rest = order[1 : 1 + len(SEATS)], order[1 + len(SEATS) :]
    assert set(services) == set(SEATS)
    assert rest == ["scheduler", "worker-1", "worker-2", "triggerer", "dag-processor", "api-server", "mlflow"]


def test_a_part_in_a_container_has_the_command_and_environment_of_the_stacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became = {}
    monkeypatch.setattr(os, "execve", lambda path, words, told: became.update(words=words, told=told))
    monkeypatch.chdir(tmp_path)
    config = make(tmp_path / "var")
    for part in parts(config):
        become(config, part.name, "")
        assert became["words"] == part.command
        assert re.sub("SCHEDULE_FROM.*?,", "", str(became["told"])) == re.sub(
            "SCHEDULE_FROM.*?,", "", str(part_environment(config, part))
        )
        assert Path.cwd() == PROJECT
    with pytest.raises(SettingsError, match="NIGHTSHIFT_AIRFLOW_EXECUTOR"):
        become(config, "triggerer", "")


def test_a_worker_takes_from_the_queues_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[str] = []
    monkeypatch.setattr(os, "execve", lambda path, words, told: became.extend(words))
    monkeypatch.chdir(tmp_path)
    become(production(tmp_path / "var"), "worker", "training")
    assert became[became.index("--queues") + 1] == "training" and "--skip-serve-logs" in became


def test_an_unknown_part_is_refused_with_those_there_are(tmp_path: Path) -> None:
    told = {**environment(make(tmp_path)), "NIGHTSHIFT_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "nightshift.parts", "sheduler"]
    done = subprocess.run(command, env=told, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "scheduler" in done.stderr


@pytest.mark.parametrize(("found", "left"), [(0o1777, 0o700), (0o750, 0o750)])
def test_a_home_that_is_open_to_all_is_closed_and_any_other_left_as_it_is(
    tmp_path: Path, found: int, left: int
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(found)
    prepare(make(home))
    assert home.stat().st_mode & 0o7777 == left
