"""Tables as earlier versions made them are brought up with what they hold; newer ones are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from nightshift import migrations
from nightshift.errors import EventLogError
from nightshift.eventlog import EventLog
from nightshift.settings import PROJECT
from tests.nightshift.test_eventlog import NIGHT, NOON, an_event, ids, url

__all__ = ["url"]  # the fixture: SQLite and PostgreSQL

EVENTS = """CREATE TABLE events (event_id VARCHAR NOT NULL PRIMARY KEY, user_id VARCHAR NOT NULL,
item_id VARCHAR NOT NULL, kind VARCHAR NOT NULL, value FLOAT, at {moment} NOT NULL, session_id VARCHAR,
device VARCHAR NOT NULL, channel VARCHAR NOT NULL, request_id VARCHAR, received_at {moment} NOT NULL, night DATE,
CHECK (event_id <> ''));
CREATE INDEX events_night_at ON events (night, at)"""
EXPOSURES = """CREATE TABLE exposures (request_id VARCHAR NOT NULL PRIMARY KEY, model_version INTEGER NOT NULL,
user_id VARCHAR NOT NULL, shown INTEGER NOT NULL, at {moment} NOT NULL, answered_at {moment} NOT NULL);
CREATE INDEX exposures_answered ON exposures (answered_at);
CREATE INDEX events_request ON events (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX events_received ON events (received_at)"""
CONVERSATIONS = """CREATE TABLE conversations (conversation_id VARCHAR NOT NULL PRIMARY KEY, user_id VARCHAR NOT NULL,
at {moment} NOT NULL, messages TEXT NOT NULL, turns INTEGER NOT NULL, consent BOOLEAN NOT NULL,
received_at {moment} NOT NULL, night DATE, CHECK (conversation_id <> ''));
CREATE INDEX conversations_night_at ON conversations (night, at)"""
ROW = """INSERT INTO events VALUES ('old', 'u1', 'i1', 'click', NULL, '2026-09-28 11:00:00', NULL, 'mobile', 'home',
NULL, '2026-09-28 11:00:01', NULL)"""
SAID = """INSERT INTO conversations VALUES ('c1', 'u1', '2026-09-28 11:00:00', '[{"role": "user", "content": "hello"}]',
1, true, '2026-09-28 11:00:01', NULL)"""
OLDER = {
    "0001": [EVENTS, ROW],
    "0002": [EVENTS, ROW, EXPOSURES],
    "0003": [EVENTS, ROW, EXPOSURES, CONVERSATIONS, SAID],
}


def engine_of(url: str) -> Engine:
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return create_engine(url)


def build(url: str, scripts: list[str]) -> None:
    """Tables as an earlier version made them."""
    engine = engine_of(url)
    moment = "DATETIME" if url.startswith("sqlite") else "TIMESTAMP WITH TIME ZONE"
    with engine.begin() as connection:
        for script in scripts:
            for statement in script.format(moment=moment).split(";") if "INSERT" not in script else [script]:
                connection.exec_driver_sql(statement)
    engine.dispose()


def shape(connection: Connection) -> dict[str, Any]:
    """Columns, keys and indexes of every table, without what a database calls them by itself."""
    there = inspect(connection)
    return {
        table: (
            sorted((c["name"], str(c["type"]), c["nullable"]) for c in there.get_columns(table)),
            there.get_pk_constraint(table)["constrained_columns"],
            sorted((i["name"], tuple(i["column_names"])) for i in there.get_indexes(table)),
            len(there.get_check_constraints(table)),
        )
        for table in ("events", "exposures", "conversations")
    }


@pytest.mark.parametrize("step", list(OLDER))
def test_an_older_log_is_brought_up_with_what_it_holds(url: str, step: str, tmp_path: Path) -> None:
    build(url, OLDER[step])
    log = EventLog(url)
    assert log.append([an_event("old"), an_event("new", request_id="r1")]) == 1
    assert ids(log.claim(NIGHT)) == ["old", "new"]
    assert [c["conversation_id"] for c in log.claim_conversations(NIGHT)] == (
        ["c1"] if step == "0003" else []
    )
    row = {"user_id": "u2", "conversation_id": "c1", "at": NOON, "consent": True}
    assert log.converse([{**row, "messages": [{"role": "user", "content": "hi"}]}]) == 1, "of another user"
    log.close()
    engine = engine_of(url)
    with engine.connect() as connection:
        found = shape(connection)
        assert migrations.version(connection, "eventlog") == migrations.HEADS["eventlog"]
    engine.dispose()
    if url.startswith("sqlite"):
        fresh = EventLog(f"sqlite:///{tmp_path / 'fresh.db'}")
        fresh.pending()
        fresh.close()
        engine = engine_of(f"sqlite:///{tmp_path / 'fresh.db'}")
        with engine.connect() as connection:
            assert found == shape(connection), "brought up, a log is what a new one is"
        engine.dispose()


def test_a_newer_log_is_refused_in_words_and_left_alone(url: str) -> None:
    log = EventLog(url)
    log.append([an_event("e1")])
    log.close()
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE nightshift_eventlog SET version_num = '9999'"))
    with pytest.raises(EventLogError, match="made by a newer Nightshift"):
        EventLog(url).append([an_event("e2")])
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM events")).scalar() == 1
    engine.dispose()


OPENER = """
import sys
from nightshift.eventlog import EventLog
sys.stdin.readline()
print(EventLog(sys.argv[1]).pending())
"""


def test_of_processes_that_open_an_older_log_at_once_one_brings_it_up(url: str) -> None:
    build(url, OLDER["0003"])
    opening = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, url],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for each in opening:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    assert [each.communicate(timeout=120)[0].strip() for each in opening] == ["1", "1", "1"]


def test_a_step_that_fails_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    build(url, [*OLDER["0003"], "CREATE TABLE conversations_by_part (x INTEGER)"])
    engine = engine_of(url)
    with pytest.raises(EventLogError, match="conversations_by_part"):
        EventLog(url).pending()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT conversation_id FROM conversations")).scalars().all() == ["c1"]
        assert not inspect(connection).has_table("nightshift_eventlog")
    engine.dispose()


@pytest.mark.parametrize("store", list(migrations.HEADS))
def test_the_newest_step_is_the_one_that_the_code_knows(store: str) -> None:
    here = Path(migrations.__file__).parent
    config = Config()
    config.set_main_option("script_location", str(here))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", str(here / store))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEADS[store]]


def test_opening_a_log_of_today_runs_no_step_and_does_not_import_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    script = f"import sys\nfrom nightshift.eventlog import EventLog\nEventLog({url!r}).pending()\n"
    script += "EventLog(sys.argv[1]).pending()\nassert 'alembic' not in sys.modules"
    subprocess.run([sys.executable, "-c", script, url], check=True, cwd=PROJECT)
