from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from nightshift.errors import SettingsError
from nightshift.featurestore import redis_address
from nightshift.settings import Settings


def make(**values: object) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[call-arg,arg-type]


def test_every_setting_comes_from_an_environment_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path))
    monkeypatch.setenv("NIGHTSHIFT_MLFLOW_PORT", "5999")
    config = make()
    assert config.lake_dir == tmp_path / "lake"
    assert config.mlflow_uri == "http://127.0.0.1:5999"


def test_what_is_exported_to_a_child_process_gives_the_same_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = make(
        home=tmp_path, source="online_retail", source_path=tmp_path, market_users=50, eventlog_url="sqlite://"
    )
    monkeypatch.setenv("NIGHTSHIFT_MLFLOW_URL", "http://the.real.one:5000")
    for name, value in config.exportable().items():
        monkeypatch.setenv(name, value)
    assert make() == config
    assert make().mlflow_url is None, "what is unset here must not be found in the surroundings"


def test_a_made_secret_is_kept_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    config = make(home=tmp_path)
    first = config.secret("airflow_jwt_secret")
    assert len(first) >= 32
    assert config.secret("airflow_jwt_secret") == first != config.secret("airflow_password")
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600


def test_printing_the_settings_hides_secrets(tmp_path: Path) -> None:
    config = make(
        home=tmp_path,
        airflow_password="open-sesame",
        eventlog_url="postgresql://u:open-sesame@h/d",
        feast_registry_url="postgresql://u:open-sesame@h/d",
        online_url="rediss://:open-sesame@h/1",
    )
    assert "open-sesame" not in f"{config!r} {config.model_dump(mode='json')}"


@pytest.mark.parametrize(
    ("field", "value"), [("mlflow_port", 0), ("market_users", 1), ("source", "rumours"), ("exam_days", 0)]
)
def test_a_setting_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        make(**{field: value})


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", "h:6379,db=0"),
        ("rediss://h:1/3", "h:1,db=3,ssl=true"),
        ("redis://me:12%3D3@h/0", 'h:6379,db=0,username="me",password="12=3"'),
    ],
)
def test_a_redis_url_is_told_to_feast_in_its_own_way(url: str, address: str) -> None:
    told = [part for part in redis_address(url).split(",") if not part.startswith("socket")]
    assert ",".join(told) == address


@pytest.mark.parametrize("url", ["redis://", "redis://h/name", "redis://:a,b@h", "redis://:a%2Cb@h"])
def test_a_redis_url_that_feast_cannot_be_told_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="NIGHTSHIFT_ONLINE_URL") as told:
        redis_address(url)
    assert "a,b" not in str(told.value)


def test_an_online_store_that_is_no_redis_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="online_url"):
        make(online_url="http://h")
