"""Schemas of the databases that are ours, and how an older one becomes the present one: Alembic, a step a file.

A store's tables are made as they are now where there are none. Older ones are brought up step by step in the
transaction that opens them, so whoever comes first does it and the others wait. Tables from before the steps were
counted say by their columns how far they are. Newer ones are refused: nothing is read or written by guess.
Each store counts in a table of its own, `nightshift_<store>`, so stores may share a database, with MLflow too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from nightshift.errors import UpgradeError

HEADS = {"eventlog": "0004", "profiles": "0002"}
_alone = threading.Lock()  # Alembic keeps the migration that runs in a global


def bring_up(connection: Connection, store: str, create: Callable[[Connection], None]) -> bool:
    """Bring a store's tables to the present schema in the connection's transaction; whether there was one to bring up.

    create: makes the present tables, where there are none.

    Raises:
        UpgradeError: the tables are of a newer Nightshift.
    """
    found, head = version(connection, store), HEADS[store]
    if found is not None and found > head:
        raise UpgradeError(
            f"its tables are at step {found} of {store}, made by a newer Nightshift; this one knows {head}: "
            "run that version, or restore a backup made before"
        )
    if found is None:
        found = _uncounted(connection, store)
        if found is None:
            create(connection)
        _count(connection, store, found or head)
    if found in (None, head):
        return False
    with _alone:
        _upgrade(connection, store)
    return True


def behind(connection: Connection, store: str) -> bool:
    """Whether there are tables of an older schema, or of one that was not counted."""
    found = version(connection, store)
    if found is None:
        return _uncounted(connection, store) not in (None, HEADS[store])
    return found < HEADS[store]


def version(connection: Connection, store: str) -> str | None:
    """The step that a store's tables are at; None where none was counted."""
    if not inspect(connection).has_table(_table(store)):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {_table(store)}")).scalar()  # noqa: S608
    return found


def _uncounted(connection: Connection, store: str) -> str | None:
    """How far tables are that were made before steps were counted, by their columns; None where there are none."""
    there = inspect(connection)

    def has(table: str, column: str) -> bool:
        return there.has_table(table) and column in (each["name"] for each in there.get_columns(table))

    if store == "profiles":
        return (
            None if not there.has_table("coach_profiles") else "0002" if has("coach_topics", "at") else "0001"
        )
    steps = [
        ("0004", "conversations", "after"), ("0003", "conversations", "turns"),
        ("0002", "exposures", "request_id"), ("0001", "events", "event_id"),
    ]  # fmt: skip
    return next((step for step, table, column in steps if has(table, column)), None)


def _table(store: str) -> str:
    return f"nightshift_{store}"


def _count(connection: Connection, store: str, step: str) -> None:
    connection.execute(text(f"CREATE TABLE {_table(store)} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text(f"INSERT INTO {_table(store)} VALUES (:step)"), {"step": step})  # noqa: S608


def _upgrade(connection: Connection, store: str) -> None:
    from alembic import command
    from alembic.config import Config

    here = Path(__file__).parent
    config = Config()
    config.set_main_option("script_location", str(here).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", str(here / store).replace("%", "%%"))
    config.attributes.update(connection=connection, version_table=_table(store))
    command.upgrade(config, "head")
