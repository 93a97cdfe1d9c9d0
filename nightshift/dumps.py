"""Databases copied while others write to them, and put back: SQLite by its backup interface, PostgreSQL by pg_dump.

What PostgreSQL's own tools need to know (server, user, password) goes to them in their environment, never in their
arguments, which every user of the machine can read.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Engine, create_engine, inspect, literal, select, table, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from nightshift.databases import with_driver
from nightshift.errors import BackupError

SQLITE_HEADER = b"SQLite format 3\0"
WAIT_SECONDS = 60.0  # for a writer that is in the middle of a transaction
NO_CLIENT = (
    "{tool} is not installed; PostgreSQL's client package has it (Debian: apt-get install postgresql-client)"
)


def is_sqlite(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(len(SQLITE_HEADER)) == SQLITE_HEADER


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL; None of another database's."""
    found = make_url(url)
    return Path(found.database or "") if found.get_backend_name() == "sqlite" else None


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database as it is at one moment, whoever writes to it meanwhile. Raises BackupError."""
    try:
        with (
            closing(
                sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=WAIT_SECONDS)
            ) as there,
            closing(sqlite3.connect(target)) as here,
        ):
            # All at once: a copy in steps begins anew whenever somebody writes, and may never end.
            there.backup(here)
            here.execute("PRAGMA journal_mode=DELETE")  # the copy is one file
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        if _full(error):
            raise OSError(28, "No space left on device") from error
        raise BackupError(f"{source}: cannot be copied ({error})") from error


def check_sqlite(path: Path) -> None:
    """Raises BackupError if a database's pages do not fit together."""
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise BackupError(f"{path}: not a whole SQLite database ({found})")


def dump_postgresql(url: str, target: Path, tables: Sequence[str] = ()) -> None:
    """Dump a database, or some of its tables, as they are at one moment, in pg_dump's custom format.

    Raises:
        BackupError: there is no pg_dump, it is older than the server, or the server cannot be reached.
    """
    chosen = [f"--table={name}" for name in tables]
    _run("pg_dump", url, ["--format=custom", "--no-owner", "--no-privileges", f"--file={target}", *chosen])


def restore_postgresql(url: str, source: Path, extension: str | None = None) -> None:
    """Put a dump in the place of its tables: all of it, or nothing is changed. Raises BackupError."""
    if extension is not None:
        with _connected(url) as engine, engine.begin() as connection:
            connection.execute(text(f"CREATE EXTENSION IF NOT EXISTS {extension}"))
    words = [
        "--clean",
        "--if-exists",
        "--no-owner",
        "--no-privileges",
        "--exit-on-error",
        "--single-transaction",
    ]
    _run("pg_restore", url, [*words, f"--dbname={make_url(url).database or ''}", str(source)])


def check_dump(path: Path) -> None:
    """Raises BackupError if a dump's list of contents cannot be read."""
    tool = shutil.which("pg_restore")
    if tool is None:
        raise BackupError(NO_CLIENT.format(tool="pg_restore"))
    done = subprocess.run([tool, "--list", str(path)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BackupError(f"{path}: not a dump of PostgreSQL ({_words(done.stderr)})")


def filled_tables(url: str, tables: Sequence[str] = ()) -> list[str]:
    """The tables of a PostgreSQL database, or those of `tables`, that hold rows. Raises BackupError."""
    with _connected(url) as engine, engine.connect() as connection:
        there = [name for name in inspect(connection).get_table_names() if not tables or name in tables]
        rows = {
            name: connection.execute(select(literal(1)).select_from(table(name)).limit(1)).first()
            for name in there
        }
    return sorted(name for name, row in rows.items() if row is not None)


@contextmanager
def _connected(url: str) -> Iterator[Engine]:
    """An engine for a while; what goes wrong is a BackupError without the password."""
    engine = create_engine(with_driver(make_url(url)))
    try:
        yield engine
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        raise BackupError(f"{engine.url.render_as_string(hide_password=True)}: {reason}") from error
    finally:
        engine.dispose()


def _run(name: str, url: str, words: Sequence[str]) -> None:
    tool, where = shutil.which(name), make_url(url)
    if tool is None:
        raise BackupError(NO_CLIENT.format(tool=name))
    done = subprocess.run(
        [tool, "--no-password", *words],
        env={**os.environ, **_login(where)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = _words(done.stderr)
        if "No space left" in said:
            raise OSError(28, "No space left on device")
        raise BackupError(f"{where.render_as_string(hide_password=True)}: {name} failed: {said}")


def _login(url: URL) -> dict[str, str]:
    """What libpq reads a server and a user from."""
    query = {name: value for name, value in url.query.items() if isinstance(value, str)}
    told = {
        "PGHOST": url.host or query.get("host"),
        "PGPORT": str(url.port) if url.port else query.get("port"),
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGOPTIONS": query.get("options"),
        "PGSSLMODE": query.get("sslmode"),
        "PGSSLROOTCERT": query.get("sslrootcert"),
    }
    return {name: str(value) for name, value in told.items() if value is not None}


def _words(said: str) -> str:
    return " ".join(said.split())[:400]


def _full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorname", "") in ("SQLITE_FULL",) or "disk is full" in str(error)
