"""Backup and restore of what lies under home, without the stack: each part by itself and all of them together."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from nightshift import backup, upgrade
from nightshift.dumps import copy_sqlite
from nightshift.errors import BackupError, UpgradeError
from nightshift.eventlog import EventLog
from nightshift.lake import Lake
from nightshift.restore import check, find, restore
from nightshift.settings import PROJECT, Settings
from nightshift.vault import Vault
from tests.conftest import TINY_DAYS, TINY_START, publish_day, tiny_day
from tests.nightshift.test_eventlog import NIGHT, POSTGRES, START_IT, an_event, ids

LAST = TINY_START + timedelta(days=TINY_DAYS - 1)


@pytest.fixture
def config(tiny_home: Settings, tmp_path: Path) -> Settings:
    """A home with a lake, two feedback events, a night's result, artifacts, and things that are made again."""
    home = tmp_path / "var"
    shutil.copytree(tiny_home.home, home)
    config = Settings(_env_file=None, home=home)  # type: ignore[call-arg]
    log = EventLog(config.eventlog_uri)
    log.append([an_event("e1"), an_event("e2")])
    log.close()
    upgrade.prepare(config)  # as `up` does: what is MLflow's below is only called so
    for path, content in {
        "nights/2026-09-08/report.json": '{"decision": "promote"}',
        "mlflow/artifacts/1/models/m-1/artifacts/weights.safetensors": "weights" * 1000,
        "triggers/2026-09-08-recommender-v1.json": "{}",
        "models/small/config.json": "{}",
        "secrets.json": '{"airflow_password": "open-sesame"}',
        "logs/mlflow.log": "talk",
        "checkpoints/qlora/step-50": "half-way",
        "replay/market/lake/manifest.json": "another home",
        "lake/data/interactions/day=2026-09-01/never-published.parquet": "left by a kill",
        "lake/staging/2026-09-09/counts.json": "{}",
        "lake/quarantine/2026-08-30/report.json": '{"why": "teleport"}',
    }.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(content)
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE runs (name TEXT)")
        database.execute("INSERT INTO runs VALUES ('one')")
    return config


def held(made: backup.Made) -> set[str]:
    return {each["path"] for each in made.told["files"]}


def test_a_state_that_was_destroyed_is_back_at_another_place(config: Settings, tmp_path: Path) -> None:
    made = backup.make(config)
    digest = Lake(config.lake_dir).digest(TINY_START, LAST)
    shutil.rmtree(config.home)
    elsewhere = config.model_copy(update={"home": tmp_path / "new" / "place"})
    assert restore(find(made.path), elsewhere) == []
    assert Lake(elsewhere.lake_dir).digest(TINY_START, LAST) == digest
    assert Lake(elsewhere.lake_dir).read("interactions", TINY_START, LAST).num_rows > 0
    assert Lake(elsewhere.lake_dir).quarantined() == [TINY_START - timedelta(days=2)]
    log = EventLog(elsewhere.eventlog_uri)
    assert ids(log.claim(NIGHT)) == ["e1", "e2"]
    log.close()
    assert (elsewhere.home / "nights/2026-09-08/report.json").read_text() == '{"decision": "promote"}'
    assert (elsewhere.home / "mlflow/artifacts/1/models/m-1/artifacts/weights.safetensors").exists()
    with closing(sqlite3.connect(elsewhere.home / "mlflow" / "mlflow.db")) as database:
        assert database.execute("SELECT name FROM runs").fetchall() == [("one",)]
    assert elsewhere.home.stat().st_mode & 0o077 == 0


def test_what_is_made_again_and_passwords_are_left_out_and_said_to_be(config: Settings) -> None:
    made = backup.make(config)
    gone = ("logs/", "checkpoints/", "replay/", "lake/staging/", "secrets.json", "stack.json")
    assert not [path for path in held(made) if path.startswith(gone) or "never-published" in path]
    assert any("passwords" in line for line in made.told["left_out"])
    kept = {path.read_bytes() for path in made.path.parent.rglob("data/??/*")}
    assert not any(b"open-sesame" in content for content in kept)
    assert "secrets.json" in held(backup.make(config, secrets=True))


def test_a_second_backup_keeps_only_what_is_new(config: Settings) -> None:
    first = backup.make(config)
    publish_day(Lake(config.lake_dir), tiny_day(LAST + timedelta(days=1)))
    second = backup.make(config)
    new = {each["sha256"] for each in second.told["files"]} - {each["sha256"] for each in first.told["files"]}
    assert (
        0
        < second.new
        == sum({e["sha256"]: e["size"] for e in second.told["files"] if e["sha256"] in new}.values())
    )
    assert second.new < first.new
    assert backup.make(config).new == 0
    check(find(first.path))


def test_keep_deletes_the_oldest_and_what_only_they_held(config: Settings) -> None:
    weights = config.home / "mlflow/artifacts/1/models/m-1/artifacts/weights.safetensors"
    backup.make(config)
    weights.write_text("others")
    second = backup.make(config)
    third = backup.make(config, keep=2)
    vault = Vault(third.path.parent)
    assert vault.names() == [second.path.stem, third.path.stem] and len(third.dropped) == 1
    assert not any(b"weightsweights" in path.read_bytes() for path in third.path.parent.rglob("data/??/*"))
    check(find(second.path))
    check(find(third.path))


def test_a_clock_set_back_does_not_delete_the_backup_just_made(config: Settings) -> None:
    from datetime import UTC, datetime

    backup.make(config, now=datetime(2027, 1, 1, tzinfo=UTC))
    made = backup.make(config, keep=1, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert Vault(made.path.parent).names() == [made.path.stem]


KILLED = """
import os, signal, sys
from pathlib import Path
from nightshift import backup, vault
from nightshift.settings import Settings
left = int(sys.argv[2])
take = vault.Vault.take
def die(self, *words):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return take(self, *words)
vault.Vault.take = die
backup.make(Settings(_env_file=None, home=Path(sys.argv[1])))
"""


@pytest.mark.parametrize("after", [0, 1, 5, 12])
def test_a_backup_that_is_killed_is_none_and_the_next_one_is_whole(config: Settings, after: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(config.home), str(after)], cwd=PROJECT)
    assert done.returncode == -9
    with pytest.raises(BackupError, match="holds no backup"):
        find(config.backups_dir)
    made = backup.make(config)
    check(find(made.path))
    assert list(config.backups_dir.glob("data/*.building*")) == []


FILLED = """
import resource, sys
from pathlib import Path
from nightshift import backup
from nightshift.commands import run_command
from nightshift.settings import Settings
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
run_command(lambda: backup.make(Settings(_env_file=None, home=Path(sys.argv[1]))))
"""


def test_a_full_disk_is_one_clear_line_and_leaves_the_former_backup_whole(config: Settings) -> None:
    former = backup.make(config)
    (config.home / "models" / "small" / "weights").write_bytes(os.urandom(500_000))
    done = subprocess.run(
        [sys.executable, "-c", FILLED, str(config.home)], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "the disk is full" in done.stderr and "earlier ones are whole" in done.stderr
    assert Vault(former.path.parent).names() == [former.path.stem]
    check(find(former.path))
    assert list(config.backups_dir.glob("data/*.building*")) == []


def test_a_database_is_copied_whole_while_others_write_to_it(config: Settings, tmp_path: Path) -> None:
    """Every copy holds whole calls only: both events of a pair, or none."""
    stop = threading.Event()

    def write() -> None:
        log, call = EventLog(config.eventlog_uri), 0
        while not stop.is_set():
            log.append([an_event(f"{call}-a"), an_event(f"{call}-b")])
            call += 1
        log.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            copy_sqlite(config.home / "eventlog.db", tmp_path / f"{number}.db")
    finally:
        stop.set()
        writer.join()
    seen = []
    for number in range(5):
        with closing(sqlite3.connect(tmp_path / f"{number}.db")) as database:
            rows = [
                row[0] for row in database.execute("SELECT event_id FROM events WHERE event_id LIKE '%-%'")
            ]
        assert sorted(r[:-2] for r in rows if r.endswith("a")) == sorted(
            r[:-2] for r in rows if r.endswith("b")
        )
        seen.append(len(rows))
    assert seen == sorted(seen)


@pytest.mark.parametrize("harm", ["changed", "cut", "gone"])
def test_bytes_that_are_not_what_they_were_are_found_and_nothing_is_restored(
    config: Settings, tmp_path: Path, harm: str
) -> None:
    made = backup.make(config)
    victim = next(each for each in made.told["files"] if each["path"].startswith("lake/data/items/"))
    path = Vault(made.path.parent).blob(victim["sha256"])
    content = path.read_bytes()
    path.unlink() if harm == "gone" else path.write_bytes(
        content[:-1] + b"?" if harm == "changed" else content[:-9]
    )
    with pytest.raises(BackupError, match=r"1 of .* not whole; lake/data/items"):
        check(find(made.path))
    elsewhere = config.model_copy(update={"home": tmp_path / "elsewhere"})
    with pytest.raises(BackupError, match="not whole"):
        restore(find(made.path), elsewhere)
    assert not elsewhere.home.exists()


def test_a_home_with_a_state_is_refused_and_by_force_moved_aside_whole(config: Settings) -> None:
    made = backup.make(config)
    (config.home / "nights" / "later.json").write_text("since the backup")
    with pytest.raises(BackupError, match="--force moves it aside"):
        restore(find(made.path), config)
    assert (config.home / "nights" / "later.json").exists()
    (line,) = restore(find(made.path), config, force=True)
    aside = Path(line.rpartition(" is now ")[2])
    assert (aside / "nights" / "later.json").read_text() == "since the backup"
    assert not (config.home / "nights" / "later.json").exists() and (config.home / "nights").is_dir()


def test_a_restore_refuses_while_the_stack_runs_there(config: Settings) -> None:
    from nightshift.stack import birth

    made = backup.make(config)
    pid = os.getpid()
    (config.home / "stack.json").write_text(json.dumps({"mlflow": {"pid": pid, "born": birth(pid)}}))
    with pytest.raises(BackupError, match=r"runs there \(mlflow\); `nightshift down` first"):
        restore(find(made.path), config, force=True)


def test_a_restore_without_room_changes_nothing(config: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    made = backup.make(config)
    usage = shutil.disk_usage(config.home)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(BackupError, match="the disk is full"):
        restore(find(made.path), config, force=True)
    assert (config.home / "nights/2026-09-08/report.json").exists()
    assert sorted(path.name for path in config.home.parent.iterdir()) == ["var", "var.backups"]


@pytest.mark.parametrize("newer", [{"eventlog": "9999"}, {"home": 2}, {"lake": 10}, {"something": 1}])
def test_a_backup_of_a_newer_version_is_refused_in_words(config: Settings, newer: dict[str, Any]) -> None:
    made = backup.make(config)
    made.path.write_text(json.dumps({**made.told, "schemas": {**upgrade.schemas(), **newer}}))
    with pytest.raises(UpgradeError, match="made by a newer Nightshift"):
        find(made.path)


def test_a_backup_inside_the_home_or_of_nothing_is_refused(config: Settings, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="would be lost with it"):
        backup.make(config, config.home / "backups")
    with pytest.raises(BackupError, match="no such folder"):
        backup.make(config.model_copy(update={"home": tmp_path / "nowhere"}))
    (tmp_path / "file").write_text("")
    with pytest.raises(BackupError, match="is a file"):
        backup.make(config, tmp_path / "file")
    with pytest.raises(BackupError, match="not a backup that can be read"):
        find(tmp_path / "file")


def test_two_at_once_do_not_share_a_folder(config: Settings) -> None:
    with (
        Vault(config.backups_dir).writing(),
        pytest.raises(BackupError, match="another backup is being made"),
    ):
        backup.make(config)


def test_by_the_command_line(config: Settings, tmp_path: Path) -> None:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "NIGHTSHIFT_HOME": str(config.home), "COLUMNS": "200"}
        command = [str(Path(sys.executable).parent / "nightshift"), *words]
        return subprocess.run(
            command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=False
        )

    to = str(tmp_path / "backups")
    done = call("backup", "--to", to, "--keep", "2")
    assert done.returncode == 0 and "of it new there" in done.stdout and "not in it: passwords" in done.stdout
    assert "whole" in call("restore", to, "--check").stdout
    refused = call("restore", to)
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1 and "--force" in refused.stderr
    done = call("restore", to, "--home", str(tmp_path / "again"))
    assert done.returncode == 0 and f"up to {LAST}" in done.stdout, done.stderr
    assert Lake(tmp_path / "again" / "lake").last_day() == LAST


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, as a container's volume is."""
    place = tmp_path / "volume"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True
    ).returncode:
        pytest.skip("needs the right to mount a tmpfs (root)")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_home_that_is_a_volume_is_restored_into_and_what_was_there_stays_on_it(
    config: Settings, on_disk: Path
) -> None:
    made = backup.make(config)
    volume = config.model_copy(update={"home": on_disk})
    restore(find(made.path), volume)
    assert Lake(volume.lake_dir).last_day() == LAST
    (line,) = restore(find(made.path), volume, force=True)
    assert Lake(Path(line.rpartition(" is now ")[2]) / "lake").last_day() == LAST
    assert Lake(volume.lake_dir).last_day() == LAST


def test_a_disk_that_fills_up_during_a_backup_is_told_and_the_former_one_stays(
    config: Settings, on_disk: Path
) -> None:
    (config.home / "models" / "small" / "weights").write_bytes(os.urandom(3_000_000))
    former = backup.make(config, on_disk / "backups")
    (config.home / "mlflow" / "artifacts" / "more").write_bytes(os.urandom(6_000_000))
    with pytest.raises(BackupError, match="the disk is full"):
        backup.make(config, on_disk / "backups")
    check(find(former.path))


@pytest.fixture
def shared(config: Settings) -> Iterator[Settings]:
    """The same home with its event log on PostgreSQL, in a schema of its own."""
    schema = f"nightshift_{uuid.uuid4().hex}"
    try:
        server = create_engine(POSTGRES)
        with server.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
    except (SQLAlchemyError, ImportError) as error:
        reason = f"PostgreSQL at {POSTGRES}: {error!r:.120}; start it with: {START_IT}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    url = SecretStr(f"{POSTGRES}?options=-csearch_path%3D{schema}")
    (config.home / "eventlog.db").unlink()
    yield config.model_copy(update={"eventlog_url": url})
    with server.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    server.dispose()


@pytest.mark.service
def test_an_event_log_on_postgresql_is_dumped_and_put_back(shared: Settings) -> None:
    log = EventLog(shared.eventlog_uri)
    log.append([an_event("e1", user_id="사용자"), an_event("e2")])
    made = backup.make(shared)
    check(find(made.path))
    log.append([an_event("e3")])
    with pytest.raises(BackupError, match="the database of eventlog"):
        restore(find(made.path), shared.model_copy(update={"home": shared.home.with_name("new")}))
    log.close()
    told = restore(find(made.path), shared, force=True)
    assert any("eventlog's database" in line and "pg_dump" in line for line in told)
    assert ids(log.claim(NIGHT)) == ["e1", "e2"]
    assert log.append([an_event("e1"), an_event("e4")]) == 1
    log.close()


@pytest.mark.service
def test_a_backup_of_sqlite_is_not_put_into_postgresql(config: Settings, shared: Settings) -> None:
    EventLog(config.eventlog_uri).append([an_event("e1")])
    made = backup.make(config)
    with pytest.raises(BackupError, match="its eventlog is of SQLite, and the settings name PostgreSQL"):
        restore(find(made.path), shared, force=True)


def test_without_postgresqls_client_it_says_what_to_install(
    config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    other = config.model_copy(
        update={"eventlog_url": SecretStr("postgresql://someone:s3cret@127.0.0.1:1/none")}
    )
    with pytest.raises(BackupError, match=r"pg_dump is not installed.*postgresql-client"):
        backup.make(other)


def test_a_server_that_is_away_is_told_without_its_password(config: Settings) -> None:
    other = config.model_copy(
        update={"eventlog_url": SecretStr("postgresql://someone:s3cret@127.0.0.1:1/none")}
    )
    with pytest.raises(BackupError, match="pg_dump failed") as raised:
        backup.make(other)
    assert "s3cret" not in str(raised.value)
