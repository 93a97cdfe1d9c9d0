"""What users did, kept durably until a night takes it: SQLite by default, PostgreSQL by URL.

`append` returns when the events are on disk, and the same `event_id` sent again changes nothing; so a
client that got no answer simply sends again. A night claims what happened up to its end: claiming twice
gives the same events and those that came meanwhile, so an ingest can be run again.
Not covered here: expiry (claimed events stay, as the record of what was taken in).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Date,
    DateTime,
    Dialect,
    Engine,
    Float,
    Index,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeDecorator

from nightshift.contracts import INTERACTIONS
from nightshift.errors import EventLogError

WAIT_SECONDS = 30.0  # a claim of a million events holds SQLite's one write lock for some seconds
_SCHEMA_LOCK = 7_302_020  # any number: PostgreSQL's "create if not exists" is not safe against itself


class _Utc(TypeDecorator[datetime]):
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


EVENTS = Table(
    "events",
    MetaData(),
    Column("event_id", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("item_id", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("value", Float),
    Column("at", _Utc, nullable=False),
    Column("session_id", String),
    Column("device", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("request_id", String),
    Column("received_at", _Utc, nullable=False),
    Column("night", Date),  # the night that took it in; null until one has
    CheckConstraint("event_id <> ''"),
)
_BY_NIGHT = Index("events_night_at", EVENTS.c.night, EVENTS.c.at)
_CONTRACT = [EVENTS.c[column.name] for column in INTERACTIONS.columns]


class EventLog:
    """The event log at a SQLAlchemy URL. Opened on first use; safe for threads and for several processes.

    url: `sqlite:///…/eventlog.db`, or `postgresql://user:password@host/database`.
    wait_seconds: how long to wait for another writer before giving up.
    Every method raises EventLogError when the log cannot be used; nothing is half-written then.
    """

    def __init__(self, url: str, wait_seconds: float = WAIT_SECONDS) -> None:
        self._url = _with_driver(make_url(url))
        self._wait = wait_seconds
        self._engine: Engine | None = None
        self._opening = threading.Lock()

    def append(self, events: list[dict[str, Any]]) -> int:
        """Store events durably and return how many were new; all of them or none.

        events: the columns of the contract `interactions` and, where known, `request_id`. An id that is
        stored already is left as it was.
        """
        if not events:
            return 0
        received = datetime.now(UTC)  # wall clock on purpose: when it reached us, not when it happened
        # Ordered, so that two writers that send the same ids to PostgreSQL cannot deadlock.
        rows = [self._row(event, received) for event in sorted(events, key=lambda e: str(e.get("event_id")))]
        with self._transaction() as connection:
            dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
            statement = dialect.insert(EVENTS).on_conflict_do_nothing(index_elements=["event_id"])
            return len(connection.execute(statement.returning(EVENTS.c.event_id), rows).all())

    def claim(self, night: date, release: Sequence[date] = ()) -> list[dict[str, Any]]:
        """Take every unclaimed event that happened before the end of `night` (UTC) into that night.

        release: nights that were given up (in quarantine): what they had claimed is free again first.
        Returns all events of the night, those it claimed earlier too, as rows of the contract
        `interactions` ordered by time and id.
        """
        end = datetime.combine(night + timedelta(days=1), time(), UTC)
        with self._transaction() as connection:
            unclaimed = EVENTS.c.night.is_(None) & (EVENTS.c.at < end)
            given_up = EVENTS.c.night.in_([each for each in release if each != night])
            connection.execute(update(EVENTS).where(given_up).values(night=None))
            connection.execute(update(EVENTS).where(unclaimed).values(night=night))
            return _of_night(connection, night)

    def of_night(self, night: date) -> list[dict[str, Any]]:
        """What `night` has claimed so far; claims nothing."""
        with self._transaction(read_only=True) as connection:
            return _of_night(connection, night)

    def pending(self) -> int:
        """How many events no night has claimed yet."""
        return int(self.stats()["pending"])

    def first_pending_day(self, after: date | None = None) -> date | None:
        """The first day (later than `after`) of an unclaimed event, or None."""
        query = select(func.min(EVENTS.c.at)).where(EVENTS.c.night.is_(None))
        if after is not None:
            query = query.where(EVENTS.c.at >= datetime.combine(after + timedelta(days=1), time(), UTC))
        with self._transaction(read_only=True) as connection:
            first: datetime | None = connection.execute(query).scalar_one()
        return first.date() if first is not None else None

    def stats(self) -> dict[str, Any]:
        """`events`, `pending`, `nights`, `last_received_at` (None when empty)."""
        query = select(
            func.count().label("events"),
            (func.count() - func.count(EVENTS.c.night)).label("pending"),
            func.count(EVENTS.c.night.distinct()).label("nights"),
            func.max(EVENTS.c.received_at).label("last_received_at"),
        ).select_from(EVENTS)
        with self._transaction(read_only=True) as connection:
            return dict(connection.execute(query).mappings().one())

    def close(self) -> None:
        """Give back the connections; the next call opens them again."""
        with self._opening:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    # --- inside ----------------------------------------------------------------------------------------

    def _row(self, event: dict[str, Any], received: datetime) -> dict[str, Any]:
        row = {column.name: event.get(column.name) for column in (*_CONTRACT, EVENTS.c.request_id)}
        at = row["at"]
        if not isinstance(at, datetime) or at.tzinfo is None:
            raise EventLogError(
                f"event {row['event_id']!r}: at {at!r} is no moment with a time zone; nothing was stored"
            )
        return {**row, "received_at": received, "night": None}

    @contextmanager
    def _transaction(self, read_only: bool = False) -> Iterator[Connection]:
        try:
            with self._opened().connect() as connection:
                connection = connection.execution_options(nightshift_read_only=read_only)
                with connection.begin():
                    yield connection
        except (SQLAlchemyError, OSError, ValueError, ImportError) as error:
            # ValueError: a character that the database cannot hold (NUL, a lone surrogate).
            reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
            raise EventLogError(
                f"event log {self._url.render_as_string(hide_password=True)}: {reason}; nothing was stored, "
                "send again once it is writable (free disk space, another writer, server up?)"
            ) from error

    def _opened(self) -> Engine:
        with self._opening:
            if self._engine is None:
                engine = self._sqlite() if self._url.get_backend_name() == "sqlite" else self._postgresql()
                try:
                    _create_schema(engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def _sqlite(self) -> Engine:
        if self._url.database and self._url.database != ":memory:":
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(self._url, connect_args={"timeout": self._wait})

        @event.listens_for(engine, "connect")
        def _on_connect(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # we say BEGIN ourselves; the driver begins too late
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")  # in WAL mode only FULL survives a power cut

        @event.listens_for(engine, "begin")
        def _on_begin(connection: Connection) -> None:
            reading = connection.get_execution_options().get("nightshift_read_only", False)
            # IMMEDIATE waits for its turn here; a lock taken later fails at once instead of waiting.
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

        return engine

    def _postgresql(self) -> Engine:
        arguments = {"connect_timeout": max(2, round(self._wait))}
        engine = create_engine(self._url, pool_pre_ping=True, connect_args=arguments)
        milliseconds = round(self._wait * 1000)

        @event.listens_for(engine, "begin")
        def _on_begin(connection: Connection) -> None:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")
            connection.exec_driver_sql("SET LOCAL synchronous_commit = on")

        return engine


def _with_driver(url: URL) -> URL:
    """The URL with the driver that we install; SQLAlchemy's default for PostgreSQL is another one."""
    return url.set(drivername="postgresql+psycopg2") if url.drivername == "postgresql" else url


def _create_schema(engine: Engine) -> None:
    with engine.connect() as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
        connection.execute(CreateTable(EVENTS, if_not_exists=True))
        connection.execute(CreateIndex(_BY_NIGHT, if_not_exists=True))


def _of_night(connection: Connection, night: date) -> list[dict[str, Any]]:
    query = select(*_CONTRACT).where(EVENTS.c.night == night).order_by(EVENTS.c.at, EVENTS.c.event_id)
    return [dict(row) for row in connection.execute(query).mappings()]
