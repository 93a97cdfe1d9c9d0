"""The event log's tables: what users did and said, and which version answered whom.

Created where they are not there yet; older ones are brought up (nightshift/migrations/eventlog): a change here is a
step there. What they mean is said in nightshift/eventlog.py.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Date,
    DateTime,
    Dialect,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeDecorator

from nightshift import migrations

_SCHEMA_LOCK = 7_302_020  # any number: PostgreSQL's "create if not exists" is not safe against itself


class Utc(TypeDecorator[datetime]):
    """A moment in UTC. SQLite keeps no zone, so it goes in and comes out as UTC on every database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_METADATA = MetaData()
EVENTS = Table(
    "events",
    _METADATA,
    Column("event_id", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("item_id", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("value", Float),
    Column("at", Utc, nullable=False),
    Column("session_id", String),
    Column("device", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("request_id", String),
    Column("received_at", Utc, nullable=False),
    Column("night", Date),  # the night that took it in; null until one has
    CheckConstraint("event_id <> ''"),
)
EXPOSURES = Table(
    "exposures",
    _METADATA,
    Column("request_id", String, primary_key=True),
    Column("model_version", Integer, nullable=False),
    Column("user_id", String, nullable=False),
    Column("shown", Integer, nullable=False),  # how many items
    Column("at", Utc, nullable=False),  # by serving's clock, as the events of that moment
    Column("answered_at", Utc, nullable=False),  # by the wall clock, as the events' received_at
)
CONVERSATIONS = Table(
    "conversations",
    _METADATA,
    Column("user_id", String, primary_key=True),
    Column("conversation_id", String, primary_key=True),
    Column("after", Integer, primary_key=True),  # how many of its messages came before those of this part
    Column("at", Utc, nullable=False),
    Column("messages", Text, nullable=False),  # JSON: [{"role": …, "content": …}]; [] without consent
    Column("turns", Integer, nullable=False),  # messages of the part, at most ever: more is the later version
    Column("consent", Boolean, nullable=False),
    Column("received_at", Utc, nullable=False),
    Column("night", Date),  # as of events
    CheckConstraint("conversation_id <> ''"),
)
_INDEXES = (
    Index("events_night_at", EVENTS.c.night, EVENTS.c.at),
    Index(
        "events_request",
        EVENTS.c.request_id,
        sqlite_where=EVENTS.c.request_id.is_not(None),
        postgresql_where=EVENTS.c.request_id.is_not(None),
    ),
    Index("events_received", EVENTS.c.received_at),
    Index("conversations_night_at", CONVERSATIONS.c.night, CONVERSATIONS.c.at),
    Index("exposures_answered", EXPOSURES.c.answered_at),
)


def create(engine: Engine) -> bool:
    """Create the tables and indexes, or bring older ones up; whether there were older ones.

    Raises UpgradeError if they are newer.
    """
    with engine.connect() as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
        return migrations.bring_up(connection, "eventlog", _create)


def _create(connection: Connection) -> None:
    for table in (EVENTS, EXPOSURES, CONVERSATIONS):
        connection.execute(CreateTable(table))
    for index in _INDEXES:
        connection.execute(CreateIndex(index))
