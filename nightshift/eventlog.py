"""What users did and said, kept durably until a night takes it: SQLite by default, PostgreSQL by URL.

`append` returns when the events are on disk, and the same `event_id` sent again changes nothing; so a
client that got no answer simply sends again. A night claims what happened up to its end: claiming twice
gives the same events and those that came meanwhile, so an ingest can be run again.
Conversations with the coach are kept beside them and claimed in the same way, by `converse` and
`claim_conversations`; those without their user's consent by no night.
Beside the events stand the exposures: which version answered which request. They are evidence for judging a
champion by what users did with its answers, and no user's data are lost when one is: `expose` is called with
whole batches off the request path, and `answers` joins them with the events that name the request.
Not covered here: expiry of events (claimed ones stay, as the record of what was taken in).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    RowMapping,
    Table,
    case,
    create_engine,
    delete,
    event,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from nightshift import eventlog_tables
from nightshift.contracts import INTERACTIONS
from nightshift.contracts.conversations import CONVERSATIONS as SPOKEN
from nightshift.contracts.conversations import MAX_CHARACTERS, MAX_MESSAGES, ROLES
from nightshift.errors import EventLogError
from nightshift.eventlog_tables import CONVERSATIONS, EVENTS, EXPOSURES

WAIT_SECONDS = 30.0  # a claim of a million events holds SQLite's one write lock for some seconds
_CONTRACT = [EVENTS.c[column.name] for column in INTERACTIONS.columns]


@dataclass(frozen=True)
class Answer:
    """One answered request. at: by serving's clock; answered_at: by the wall clock; engaged, heard: see `answers`."""

    user_id: str
    at: datetime
    answered_at: datetime
    engaged: bool
    heard: bool


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
        with self._transaction() as connection:
            _claim(connection, EVENTS, night, release)
            return _of_night(connection, night)

    def of_night(self, night: date) -> list[dict[str, Any]]:
        """What `night` has claimed so far; claims nothing."""
        with self._transaction(read_only=True) as connection:
            return _of_night(connection, night)

    def pending(self) -> int:
        """How many events no night has claimed yet."""
        return int(self.stats()["pending"])

    def first_pending_day(self, after: date | None = None) -> date | None:
        """The first day (later than `after`) of what no night has claimed and one might, or None."""
        events = select(func.min(EVENTS.c.at)).where(EVENTS.c.night.is_(None))
        said = select(func.min(CONVERSATIONS.c.at)).where(
            CONVERSATIONS.c.night.is_(None), CONVERSATIONS.c.consent
        )
        if after is not None:
            start = datetime.combine(after + timedelta(days=1), time(), UTC)
            events, said = events.where(EVENTS.c.at >= start), said.where(CONVERSATIONS.c.at >= start)
        with self._transaction(read_only=True) as connection:
            first: list[datetime | None] = [
                connection.execute(query).scalar_one() for query in (events, said)
            ]
        return min((at.date() for at in first if at is not None), default=None)

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

    def converse(self, rows: list[dict[str, Any]]) -> int:
        """Store conversations durably and return how many were new or took the place of a shorter version; all of
        them or none.

        rows: the columns of the contract `conversations`; `messages` may still be those of a talk that goes on.
        The same id again is stored if it has more messages, or takes back the consent; not when a night has claimed
        it, nor when another user says it: then it is left as it was. Of one without consent no word is kept.
        Raises EventLogError also for more than MAX_MESSAGES messages, or one of more than MAX_CHARACTERS.
        """
        if not rows:
            return 0
        received = datetime.now(UTC)
        newest: dict[str, dict[str, Any]] = {}
        for row in map(_spoken, rows):  # PostgreSQL cannot update one row twice in a statement
            known = newest.setdefault(row["conversation_id"], row)
            if row["user_id"] == known["user_id"] and (row["turns"] > known["turns"] or not row["consent"]):
                newest[row["conversation_id"]] = {**row, "turns": max(row["turns"], known["turns"])}
        values = [{**newest[key], "received_at": received, "night": None} for key in sorted(newest)]
        with self._transaction() as connection:
            dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
            insert = dialect.insert(CONVERSATIONS)
            told = insert.excluded
            longer = told.turns > CONVERSATIONS.c.turns
            changed = {name: told[name] for name in ("at", "messages", "consent", "received_at")}
            # The most it ever had: a late copy of what was agreed to before does not undo a withdrawal.
            turns = case((longer, told.turns), else_=CONVERSATIONS.c.turns)
            statement = insert.on_conflict_do_update(
                index_elements=["conversation_id"],
                set_={**changed, "turns": turns},
                where=CONVERSATIONS.c.night.is_(None)
                & (CONVERSATIONS.c.user_id == told.user_id)
                & or_(longer, CONVERSATIONS.c.consent & ~told.consent),
            )
            return len(connection.execute(statement.returning(CONVERSATIONS.c.conversation_id), values).all())

    def claim_conversations(self, night: date, release: Sequence[date] = ()) -> list[dict[str, Any]]:
        """As `claim`, for conversations that were over before the end of `night` and may be learnt from.

        Returns rows of the contract `conversations` ordered by time and id.
        """
        with self._transaction() as connection:
            _claim(connection, CONVERSATIONS, night, release)
            return _conversations_of(connection, night)

    def conversations_of(self, night: date) -> list[dict[str, Any]]:
        """What `night` has claimed of them so far; claims nothing."""
        with self._transaction(read_only=True) as connection:
            return _conversations_of(connection, night)

    def expose(self, rows: list[dict[str, Any]]) -> None:
        """Store which version answered which requests: request_id, model_version, user_id, shown, at, answered_at.

        All of them or none; a request that is stored already is left as it was.
        """
        if not rows:
            return
        rows = sorted(rows, key=lambda row: str(row["request_id"]))
        with self._transaction() as connection:
            dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
            connection.execute(
                dialect.insert(EXPOSURES).on_conflict_do_nothing(index_elements=["request_id"]), rows
            )

    def answers(
        self,
        version: int,
        limit: int,
        kinds: Sequence[str],
        within: timedelta,
        *,
        since: datetime | None = None,
        before: datetime | None = None,
    ) -> list[Answer]:
        """The first `limit` requests that `version` answered since a moment, or the last ones before it; oldest first.

        since, before: wall clock; give one of them. engaged: the user sent an event of one of `kinds` that names
        the request, and it reached us within this time after the answer. heard: any event of anybody did; without
        one, nobody knows whether the user did nothing or feedback could not reach us. Both stamps are the
        servers' own and no client's, so once that time is over the answer never changes.
        """
        newest = before is not None
        asked = select(EXPOSURES).where(EXPOSURES.c.model_version == version)
        if since is not None:
            asked = asked.where(EXPOSURES.c.answered_at >= since)
        if before is not None:
            asked = asked.where(EXPOSURES.c.answered_at < before)
        order = [EXPOSURES.c.answered_at, EXPOSURES.c.request_id]
        found = asked.order_by(*(one.desc() if newest else one for one in order)).limit(limit).subquery()
        theirs = (
            (EVENTS.c.request_id == found.c.request_id)
            & (EVENTS.c.user_id == found.c.user_id)
            & EVENTS.c.kind.in_(kinds)
        )
        later = EVENTS.alias("later")
        anything = (
            select(func.min(later.c.received_at))
            .where(later.c.received_at >= found.c.answered_at)
            .scalar_subquery()
        )
        query = (
            select(*found.c, func.min(EVENTS.c.received_at).label("first"), anything.label("anything"))
            .select_from(found.outerjoin(EVENTS, theirs))
            .group_by(*found.c)
            .order_by(found.c.answered_at, found.c.request_id)
        )
        with self._transaction(read_only=True) as connection:
            rows = connection.execute(query).mappings().all()
        return [_answer(row, within) for row in rows]

    def forget_exposures(self, before: datetime) -> int:
        """Delete the exposures of requests that were answered before a moment; returns how many. Events stay."""
        with self._transaction() as connection:
            return connection.execute(delete(EXPOSURES).where(EXPOSURES.c.answered_at < before)).rowcount

    def close(self) -> None:
        """Give back the connections; the next call opens them again."""
        with self._opening:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    # --- inside ----------------------------------------------------------------------------------------

    def _row(self, event: dict[str, Any], received: datetime) -> dict[str, Any]:
        row = {column.name: event.get(column.name) for column in (*_CONTRACT, EVENTS.c.request_id)}
        _check_moment(f"event {row['event_id']!r}", row["at"])
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
                    eventlog_tables.create(engine)
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


def _answer(row: RowMapping, within: timedelta) -> Answer:
    end = row["answered_at"] + within
    engaged, heard = (row[name] is not None and row[name] <= end for name in ("first", "anything"))
    return Answer(row["user_id"], row["at"], row["answered_at"], engaged, heard)


def _check_moment(whose: str, at: Any) -> None:
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise EventLogError(f"{whose}: at {at!r} is no moment with a time zone; nothing was stored")


def _spoken(row: dict[str, Any]) -> dict[str, Any]:
    """A conversation as it is stored. Raises EventLogError, naming it, if it is none or too large."""
    values = {column.name: row.get(column.name) for column in SPOKEN.columns}
    whose, messages = f"conversation {values['conversation_id']!r}", values["messages"]
    _check_moment(whose, values["at"])
    if not isinstance(values["consent"], bool):
        raise EventLogError(
            f"{whose}: consent {values['consent']!r} is not true or false; nothing was stored"
        )
    if not all(isinstance(values[name], str) for name in ("conversation_id", "user_id")) or not SPOKEN.fits(
        values
    ):
        raise EventLogError(
            f"{whose}: its id or its user's is no text of up to 128 characters; nothing was stored"
        )
    if not isinstance(messages, list) or not 0 < len(messages) <= MAX_MESSAGES:
        raise EventLogError(f"{whose}: it has not 1 to {MAX_MESSAGES} messages; nothing was stored")
    for number, message in enumerate(messages):
        role, content = (
            (message.get(name) for name in ("role", "content")) if isinstance(message, dict) else (None, None)
        )
        if role not in ROLES or not isinstance(content, str) or len(content) > MAX_CHARACTERS:
            raise EventLogError(
                f"{whose}: message {number} is no text of one of {', '.join(ROLES)} with up to {MAX_CHARACTERS} "
                "characters; nothing was stored"
            )
    kept = [{"role": message["role"], "content": message["content"]} for message in messages]
    stored = json.dumps(kept if values["consent"] else [], ensure_ascii=False)
    return {**values, "messages": stored, "turns": len(kept)}


def _claim(connection: Connection, table: Table, night: date, release: Sequence[date]) -> None:
    end = datetime.combine(night + timedelta(days=1), time(), UTC)
    free = table.c.night.is_(None) & (table.c.at < end)
    if table is CONVERSATIONS:
        free &= table.c.consent
    given_up = table.c.night.in_([each for each in release if each != night])
    connection.execute(update(table).where(given_up).values(night=None))
    connection.execute(update(table).where(free).values(night=night))


def _conversations_of(connection: Connection, night: date) -> list[dict[str, Any]]:
    query = (
        select(*(CONVERSATIONS.c[column.name] for column in SPOKEN.columns))
        .where(CONVERSATIONS.c.night == night)
        .order_by(CONVERSATIONS.c.at, CONVERSATIONS.c.conversation_id)
    )
    rows = connection.execute(query).mappings()
    return [{**row, "messages": json.loads(row["messages"])} for row in rows]


def _of_night(connection: Connection, night: date) -> list[dict[str, Any]]:
    query = select(*_CONTRACT).where(EVENTS.c.night == night).order_by(EVENTS.c.at, EVENTS.c.event_id)
    return [dict(row) for row in connection.execute(query).mappings()]
