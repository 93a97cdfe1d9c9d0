"""`nightshift up` over a state of another version: brought up after a backup, or refused in words."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nightshift import upgrade
from nightshift.errors import UpgradeError
from nightshift.restore import check, find
from nightshift.settings import Settings
from nightshift.vault import Vault
from tests.nightshift.test_migrations import OLDER, build

# A revision of MLflow's own, of early 2023 (MLflow 2.2): before the traces, the datasets and the aliases' tables.
OLD_MLFLOW = "97727af70f4d"


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    home = tmp_path / "var"
    home.mkdir()
    return Settings(_env_file=None, home=home)  # type: ignore[call-arg]


def mark(config: Settings, **told: object) -> None:
    (config.home / "version.json").write_text(json.dumps(told))


def test_a_fresh_home_is_marked_and_no_backup_is_made(config: Settings) -> None:
    assert upgrade.prepare(config, backup=True) == []
    told = json.loads((config.home / "version.json").read_text())
    assert told["home"] == upgrade.HOME and told["packages"]["mlflow"] == upgrade.packages()["mlflow"]
    assert not config.backups_dir.exists()
    assert upgrade.prepare(config, backup=True) == []


def test_a_home_of_a_newer_layout_is_refused(config: Settings) -> None:
    mark(config, home=upgrade.HOME + 1)
    with pytest.raises(UpgradeError, match="home is of schema 2, made by a newer Nightshift"):
        upgrade.prepare(config)


@pytest.mark.parametrize("package", upgrade.WITH_A_DATABASE)
def test_a_database_that_a_newer_package_used_is_refused(config: Settings, package: str) -> None:
    mark(config, home=upgrade.HOME, packages={package: "99.0"})
    with pytest.raises(UpgradeError, match=rf"last used with {package} 99\.0"):
        upgrade.prepare(config)


def test_an_older_event_log_is_brought_up_after_a_backup_of_it_as_it_was(config: Settings) -> None:
    build(config.eventlog_uri, OLDER["0003"])
    done = upgrade.prepare(config, backup=True)
    assert done[1:] == ["upgraded eventlog"]
    (name,) = Vault(config.backups_dir).names()
    chosen = find(config.backups_dir)
    check(chosen)
    (kept,) = (each for each in chosen.told["files"] if each["path"] == "databases/eventlog")
    with closing(sqlite3.connect(chosen.vault.blob(kept["sha256"]))) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(conversations)")]
    assert "after" not in columns and name in done[0]
    assert upgrade.prepare(config, backup=True) == [], "once"


def test_an_older_database_of_mlflow_is_upgraded_after_a_backup(config: Settings) -> None:
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config

    (config.home / "mlflow").mkdir()
    path = config.home / "mlflow" / "mlflow.db"
    url = f"sqlite:///{path}"
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    Base.metadata.create_all(create_engine(url))  # as MLflow's own first tables were
    command.upgrade(_get_alembic_config(url), OLD_MLFLOW)
    mark(config, home=upgrade.HOME, packages={"mlflow": "2.2.0"})
    done = upgrade.prepare(config, backup=True)
    assert done[1:] == ["upgraded mlflow"]
    with closing(sqlite3.connect(path)) as database:
        ((revision,),) = database.execute("SELECT version_num FROM alembic_version").fetchall()
    assert revision != OLD_MLFLOW
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    assert SqlAlchemyStore(url, str(config.home)).search_experiments(), "the server opens it"
    assert Vault(config.backups_dir).names()
