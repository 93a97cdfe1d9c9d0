"""Feedback as a source."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nightshift.contracts import CONTRACTS
from nightshift.errors import SourceError
from nightshift.eventlog import EventLog
from nightshift.lake import Lake
from nightshift.settings import Settings
from nightshift.sources import open_source

DAY = date(2026, 9, 5)
NOON = datetime(2026, 9, 5, 12, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]


def append(config: Settings, *events: tuple[str, datetime]) -> None:
    log = EventLog(config.eventlog_uri)
    common: dict[str, Any] = {"user_id": "u", "item_id": "i", "kind": "purchase", "value": 3.5}
    common |= {"device": "tablet", "channel": "search"}
    log.append([{"event_id": event_id, "at": at, **common} for event_id, at in events])
    log.close()


def test_a_night_reads_its_events_as_the_contract_wants_them_and_counts_them(config: Settings) -> None:
    append(config, ("e1", NOON), ("late", NOON - timedelta(days=9)), ("tomorrow", NOON + timedelta(days=1)))
    batch = open_source("events", config).read(DAY)
    assert batch.counts == {"read": 2, "kept": 2}
    rows = {name: table.num_rows for name, table in batch.tables.items()}
    assert rows == {name: 2 if name == "interactions" else 0 for name in CONTRACTS}
    for name, table in batch.tables.items():
        assert table.schema == CONTRACTS[name].schema
    assert batch.tables["interactions"]["event_id"].to_pylist() == ["late", "e1"]


def test_a_day_without_events_is_an_empty_batch(config: Settings) -> None:
    batch = open_source("events", config).read(DAY)
    assert batch.counts == {"read": 0, "kept": 0} and batch.tables["interactions"].num_rows == 0


def test_a_published_day_takes_no_more_so_that_a_late_event_is_not_lost(config: Settings) -> None:
    source, lake = open_source("events", config), Lake(config.lake_dir)
    append(config, ("e1", NOON))
    lake.stage(source.read(DAY))
    lake.record_audit(DAY, {"passed": True})
    lake.publish(DAY)
    append(config, ("late", NOON))
    assert source.read(DAY).tables["interactions"]["event_id"].to_pylist() == ["e1"]
    following = source.read(DAY + timedelta(days=1))
    assert following.tables["interactions"]["event_id"].to_pylist() == ["late"]


def test_conversations_are_read_beside_the_events_and_late_ones_join_the_next_night(config: Settings) -> None:
    source, lake, log = open_source("events", config), Lake(config.lake_dir), EventLog(config.eventlog_uri)
    talk = {**CONTRACTS["conversations"].sample[0], "at": NOON}
    log.converse([talk, {**talk, "conversation_id": "not to be learnt from", "consent": False}])
    append(config, ("e1", NOON))
    batch = source.read(DAY)
    assert batch.counts == {"read": 2, "kept": 2}
    talk = {**talk, "said_by": "coach"}
    assert batch.tables["conversations"].to_pylist() == [talk], "our own model answered"
    lake.stage(batch)
    lake.record_audit(DAY, {"passed": True})
    lake.publish(DAY)
    log.converse([{**talk, "conversation_id": "late"}])
    assert source.read(DAY).tables["conversations"].to_pylist() == [talk]
    following = source.read(DAY + timedelta(days=1))
    assert following.tables["conversations"]["conversation_id"].to_pylist() == ["late"]
    log.close()


def test_its_calendar_is_what_waits(config: Settings) -> None:
    source = open_source("events", config)
    with pytest.raises(SourceError, match="no event"):
        source.first_day()
    append(config, ("e1", NOON), ("e2", NOON + timedelta(days=4)))
    assert source.first_day() == DAY
    assert source.next_day(DAY) == date(2026, 9, 9)
    assert source.next_day(date(2026, 9, 9)) is None
