"""State of an older version is brought up by `nightshift up`, with a backup made first; of a newer one it is refused.

`home/version.json` says by which schema the folder is laid out and which MLflow and Airflow last used their
databases. Ours bring themselves up when they are opened (nightshift/migrations); here it is done for all at once,
after a backup. MLflow's by `mlflow db upgrade`; Airflow's by `airflow db migrate` (nightshift/stack.py). Feast's
registry is applied anew by the next build whenever the definitions change. Neither MLflow nor Airflow can take a
database back to an older version: the backup is the way back.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from packaging.version import Version
from sqlalchemy import Connection, create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from nightshift import migrations
from nightshift.databases import with_driver
from nightshift.dumps import sqlite_file
from nightshift.errors import UpgradeError
from nightshift.lake import write_json
from nightshift.settings import PROJECT, Settings

HOME = 1  # nights, triggers, studies, features: how they lie under home
LAKE = 1
WITH_A_DATABASE = ("mlflow", "apache-airflow")
_UPGRADE_MLFLOW = "import os, mlflow.db; mlflow.db.upgrade.callback(os.environ['NIGHTSHIFT_UPGRADED_URL'])"


def schemas() -> dict[str, int | str]:
    """The schemas that this version writes."""
    from nightshift.sources.rss import SCHEMA as FEEDS  # reads feeds, for which MLflow's image has no library

    return {"home": HOME, "lake": LAKE, "feeds": FEEDS, **migrations.HEADS}


def packages() -> dict[str, str]:
    """The versions installed here of what keeps a database, and of ourselves; an image has what its role needs."""
    found = {}
    for name in ("nightshift", *WITH_A_DATABASE, "feast"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def refuse_newer(found: dict[str, Any], where: str) -> None:
    """Raises UpgradeError if any schema is newer than this version's, or unknown to it."""
    known = schemas()
    for name, schema in found.items():
        if name not in known or str(schema).zfill(8) > str(known[name]).zfill(8):
            raise UpgradeError(
                f"{where}: {name} is of schema {schema}, made by a newer Nightshift; this one knows "
                f"{known.get(name, 'none')}: run that version, or restore a backup made before"
            )


def prepare(
    config: Settings, say: Callable[[str], None] = lambda line: None, *, backup: bool = False
) -> list[str]:
    """Bring the state under home up to this version; what was done, in words. A fresh home is only marked.

    backup: make one first if there is anything to do.

    Raises:
        UpgradeError: the state is of a newer version, or MLflow could not upgrade its database.
        BackupError: the backup could not be made; nothing was changed.
    """
    told = _told(config)
    refuse_newer({"home": told.get("home", HOME)}, str(config.home))
    used = told.get("packages", {})
    _refuse_newer_packages(config, used)
    from nightshift.backup import databases

    urls = {one.role: one.url for one in databases(config)}
    todo = _ours_behind(urls)
    mlflow = used.get("mlflow") != packages()["mlflow"] and _has("experiments", urls.get("mlflow"))
    airflow = used.get("apache-airflow") != packages()["apache-airflow"] and _has("dag", urls["airflow"])
    todo += [name for name, old in (("mlflow", mlflow), ("airflow", airflow)) if old]
    if todo and backup:
        from nightshift.backup import make

        say(f"a backup before {', '.join(todo)} {'is' if len(todo) == 1 else 'are'} upgraded")
        done = [f"backup {make(config).path}"]
    else:
        done = []
    for role in (name for name in todo if name in migrations.HEADS):
        say(f"upgrading {role}")
        _bring_ours_up(role, urls[role])
    if mlflow:
        say("upgrading MLflow's database")
        _upgrade_mlflow(config, urls["mlflow"])
    config.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(
        _path(config), {"home": HOME, "packages": {name: packages()[name] for name in WITH_A_DATABASE}}
    )
    return [*done, *(f"upgraded {name}" for name in todo)]


def bring_mlflow_up(config: Settings) -> bool:
    """Bring our MLflow server's database up to the MLflow that is installed, where there is one; whether it was done.

    Without a mark under home (a container has none) it is looked at each time: some seconds, and nothing is changed.

    Raises:
        UpgradeError: a newer MLflow has used it, or it could not be upgraded.
    """
    from nightshift.backup import databases

    used = _told(config).get("packages", {})
    _refuse_newer_packages(config, used)
    url = next((one.url for one in databases(config) if one.role == "mlflow"), None)
    if url is None or used.get("mlflow") == packages()["mlflow"] or not _has("experiments", url):
        return False
    _upgrade_mlflow(config, url)
    return True


def _path(config: Settings) -> Path:
    return config.home / "version.json"


def _told(config: Settings) -> dict[str, Any]:
    path = _path(config)
    told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return told


def _refuse_newer_packages(config: Settings, used: dict[str, str]) -> None:
    for name in WITH_A_DATABASE:
        here = packages().get(name)
        if here is not None and name in used and Version(used[name]) > Version(here):
            raise UpgradeError(
                f"{config.home}: was last used with {name} {used[name]}, and {here} is installed; its database cannot "
                f"go back: install {name} {used[name]} (`make install` of that version does), or restore a backup made "
                "before"
            )


def _is_there(url: str) -> bool:
    file = sqlite_file(url)
    return file is None or file.exists()


def _has(table: str, url: str | None) -> bool:
    """Whether a database of others is there with its tables: of an empty one there is nothing to upgrade."""
    if url is None or not _is_there(url):
        return False
    with _transaction(table, url) as connection:
        return inspect(connection).has_table(table)


def _ours_behind(urls: dict[str, str]) -> list[str]:
    found = []
    for store in migrations.HEADS:
        if _is_there(urls[store]):
            with _transaction(store, urls[store]) as connection:
                found += [store] if migrations.behind(connection, store) else []
    return found


def _bring_ours_up(store: str, url: str) -> None:
    with _transaction(store, url) as connection:
        migrations.bring_up(connection, store, lambda _: None)


@contextmanager
def _transaction(store: str, url: str) -> Iterator[Connection]:
    engine = create_engine(with_driver(make_url(url)))
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _on_connect(connection: Any, _: Any) -> None:
            connection.isolation_level = (
                None  # we say BEGIN ourselves; the driver makes none for a table's change
            )

        @event.listens_for(engine, "begin")
        def _on_begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        raise UpgradeError(f"{store} {engine.url.render_as_string(hide_password=True)}: {reason}") from error
    finally:
        engine.dispose()


def _upgrade_mlflow(config: Settings, url: str) -> None:
    from nightshift.parts import environment

    # With its driver: without one SQLAlchemy takes psycopg 3, which the image of MLflow does not have.
    driven = with_driver(make_url(url)).render_as_string(hide_password=False)
    # By the environment, as it may hold a password: never an argument.
    variables = {**environment(config), "NIGHTSHIFT_UPGRADED_URL": driven}
    done = subprocess.run(
        [sys.executable, "-c", _UPGRADE_MLFLOW],
        env=variables,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-400:]
        raise UpgradeError(
            f"MLflow's database could not be upgraded; it is as it was, and so is the backup: {said}"
        )
