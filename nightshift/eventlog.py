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

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    Table,
    create_engine,
    delete,
    event,
    func,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from nightshift import eventlog_tables
from nightshift.contracts import INTERACTIONS
from nightshift.contracts.conversations import CONVERSATIONS as SPOKEN
from nightshift.contracts.conversations import MAX_CHARACTERS, MAX_MESSAGES, ROLES
from nightshift.databases import postgresql_engine, with_driver
from nightshift.errors import EventLogError, UpgradeError
from nightshift.eventlog_tables import CONVERSATIONS, EVENTS, EXPOSURES

WAIT_SECONDS = 30.0  # a claim of a million events holds SQLite's one write lock for some seconds
POOL = 5
COACH = "coach"  # what is said here, our own model answered
MAX_ID = 128  # characters
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
    pool: connections to PostgreSQL that are kept; as many more are opened under load.
    Every method raises EventLogError when the log cannot be used; nothing is half-written then.
    """

    def __init__(self, url: str, wait_seconds: float = WAIT_SECONDS, pool: int = POOL) -> None:
        self._url = with_driver(make_url(url))
        self._wait, self._pool = wait_seconds, pool
        self._engine: Engine | None = None
        self._opening = threading.Lock()

    def append(self, events: list[dict[str, Any]]) -> int:
        """Store events durably and return how many were new; all of them or none.

        events: as for `append_new`.
        """
        return len(self.append_new(events))

    def append_new(self, events: list[dict[str, Any]]) -> set[str]:
        """Store events durably, all of them or none; returns the ids of those that were new.

        events: the columns of the contract `interactions` and, where known, `request_id`. An id that is
        stored already is left as it was; of one that comes twice here, the first event is stored.
        """
        if not events:
            return set()
        received = datetime.now(UTC)  # wall clock on purpose: when it reached us, not when it happened
        # Ordered, so that two writers that send the same ids to PostgreSQL cannot deadlock.
        rows = [self._row(event, received) for event in sorted(events, key=lambda e: str(e.get("event_id")))]
        with self._transaction() as connection:
            dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
            statement = dialect.insert(EVENTS).on_conflict_do_nothing(index_elements=["event_id"])
            return set(connection.execute(statement.returning(EVENTS.c.event_id), rows).scalars())

    def latest(self, limit: int, since: datetime | None = None) -> list[dict[str, Any]]:
        """The `limit` events that reached us last, of those since a moment (wall clock); oldest first.

        Rows of user_id, item_id, kind, value, at. Claimed by a night or not.
        """
        did = EVENTS.c
        query = select(did.user_id, did.item_id, did.kind, did.value, did.at)
        if since is not None:
            query = query.where(did.received_at >= since)
        query = query.order_by(did.received_at.desc(), did.event_id.desc()).limit(limit)
        with self._transaction(read_only=True) as connection:
            rows = connection.execute(query).mappings().all()
        return [dict(row) for row in reversed(rows)]

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
        """Store what users said to the coach durably; all of it or none. Returns how many conversations it changed.

        rows: the columns of the contract `conversations` but `said_by`, which is the coach here; `messages` may still
        be those of a talk that goes on. `after` (default 0): how many messages of the conversation came before them
        and are not to be kept; they are a part of their own then.
        A conversation is its user's and its id's: two users may have the same id. A part is stored again if it has
        more messages. What a night has claimed stays as it was, and what is said later is a part of its own.
        A row without consent is a withdrawal: no word is kept of any part of the conversation.
        Raises EventLogError also for more than MAX_MESSAGES messages, or one of more than MAX_CHARACTERS.
        """
        if not rows:
            return 0
        received = datetime.now(UTC)
        # Ordered, so that two writers that send the same ids to PostgreSQL cannot deadlock.
        spoken = sorted((_spoken(row) for row in rows), key=_whose)
        with self._transaction() as connection:
            return len({_whose(row) for row in spoken if _say(connection, row, received)})

    def withdraw(self, user_id: str, conversation_id: str) -> bool:
        """Take back the consent to a conversation, also where a night has claimed it: its words are deleted here, and a
        night that claims anew gets none. Returns whether there were any. What a night has published is not here.
        """
        theirs = (CONVERSATIONS.c.user_id == user_id) & (CONVERSATIONS.c.conversation_id == conversation_id)
        agreed = select(func.count()).select_from(CONVERSATIONS).where(theirs & CONVERSATIONS.c.consent)
        with self._transaction(
            read_only=True
        ) as connection:  # waits for no writer where there is nothing to do
            if not connection.execute(agreed).scalar_one():
                return False
        with self._transaction() as connection:
            return _withdraw(connection, user_id, conversation_id, datetime.now(UTC))

    def keeps(self, user_id: str, conversation_id: str, said: str) -> bool:
        """Whether these words of the user are kept, with consent, as a turn of this conversation."""
        query = select(CONVERSATIONS.c.messages).where(
            (CONVERSATIONS.c.user_id == user_id)
            & (CONVERSATIONS.c.conversation_id == conversation_id)
            & CONVERSATIONS.c.consent
        )
        with self._transaction(read_only=True) as connection:
            parts = connection.execute(query).scalars().all()
        return any({"role": "user", "content": said} in json.loads(part) for part in parts)

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
        except UpgradeError as error:
            raise EventLogError(
                f"event log {self._url.render_as_string(hide_password=True)}: {error}"
            ) from error
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
                engine = (
                    self._sqlite()
                    if self._url.get_backend_name() == "sqlite"
                    else postgresql_engine(self._url, self._wait, self._pool)
                )
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


def _answer(row: RowMapping, within: timedelta) -> Answer:
    end = row["answered_at"] + within
    engaged, heard = (row[name] is not None and row[name] <= end for name in ("first", "anything"))
    return Answer(row["user_id"], row["at"], row["answered_at"], engaged, heard)


def _check_moment(whose: str, at: Any) -> None:
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise EventLogError(f"{whose}: at {at!r} is no moment with a time zone; nothing was stored")


def _spoken(row: dict[str, Any]) -> dict[str, Any]:
    """A conversation as it is to be stored, its messages still a list. Raises EventLogError, naming it, if it is none
    or too large."""
    values = {column.name: row.get(column.name) for column in SPOKEN.columns} | {"said_by": COACH}
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
    return {**values, "messages": kept, "after": int(row.get("after", 0))}


def _whose(row: dict[str, Any]) -> tuple[str, str]:
    return row["user_id"], row["conversation_id"]


def _say(connection: Connection, row: dict[str, Any], received: datetime) -> bool:
    """Store a part of a conversation; whether that changed anything."""
    messages, after = row["messages"], row["after"]
    withdrawn = False
    if row["consent"]:
        # What a night took stays as it is: only what was said since is told to the next one.
        while (taken := _taken(connection, row, after)) is not None:
            messages, after = messages[taken:], after + taken
            if not messages:
                return False
    else:
        withdrawn = _withdraw(connection, *_whose(row), received)
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    insert = dialect.insert(CONVERSATIONS).values(
        user_id=row["user_id"],
        conversation_id=row["conversation_id"],
        after=after,
        at=row["at"],
        messages=json.dumps(messages if row["consent"] else [], ensure_ascii=False),
        turns=len(messages),
        consent=row["consent"],
        received_at=received,
        night=None,
    )
    told = insert.excluded
    statement = insert.on_conflict_do_update(
        index_elements=["user_id", "conversation_id", "after"],
        set_={name: told[name] for name in ("at", "messages", "turns", "consent", "received_at")},
        # The most it ever had: a late copy of what was agreed to before does not undo a withdrawal.
        where=CONVERSATIONS.c.night.is_(None) & (told.turns > CONVERSATIONS.c.turns),
    )
    return bool(connection.execute(statement.returning(CONVERSATIONS.c.after)).all()) or withdrawn


def _taken(connection: Connection, row: dict[str, Any], after: int) -> int | None:
    """How many messages the part that begins there has, if a night has claimed it."""
    query = select(CONVERSATIONS.c.turns).where(
        (CONVERSATIONS.c.user_id == row["user_id"])
        & (CONVERSATIONS.c.conversation_id == row["conversation_id"])
        & (CONVERSATIONS.c.after == after)
        & CONVERSATIONS.c.night.is_not(None)
    )
    found: int | None = connection.execute(query).scalar_one_or_none()
    return found


def _withdraw(connection: Connection, user_id: str, conversation_id: str, received: datetime) -> bool:
    statement = (
        update(CONVERSATIONS)
        .where(
            (CONVERSATIONS.c.user_id == user_id)
            & (CONVERSATIONS.c.conversation_id == conversation_id)
            & CONVERSATIONS.c.consent
        )
        .values(messages="[]", consent=False, received_at=received)
    )
    return connection.execute(statement).rowcount > 0


def _claim(connection: Connection, table: Table, night: date, release: Sequence[date]) -> None:
    end = datetime.combine(night + timedelta(days=1), time(), UTC)
    free: ColumnElement[bool] = table.c.night.is_(None) & (table.c.at < end)
    given_up: ColumnElement[bool] = table.c.night.in_([each for each in release if each != night])
    if table is CONVERSATIONS:  # a withdrawn part stays where it was: free, a late copy could take its place
        free, given_up = free & table.c.consent, given_up & table.c.consent
    connection.execute(update(table).where(given_up).values(night=None))
    connection.execute(update(table).where(free).values(night=night))


def _conversations_of(connection: Connection, night: date) -> list[dict[str, Any]]:
    said = CONVERSATIONS.c
    query = (
        select(said.conversation_id, said.user_id, said.at, said.messages, said.consent, said.after)
        .where((said.night == night) & said.consent)
        .order_by(said.at, said.conversation_id, said.user_id, said.after)
    )
    rows: dict[str, dict[str, Any]] = {}
    for row in connection.execute(query).mappings():
        plain = row["conversation_id"] if not row["after"] else f"{row['conversation_id']}#{row['after']}"
        name = plain
        if "#" in row["conversation_id"] or len(plain) > MAX_ID or plain in rows:
            # A client chooses its ids; two equal ones would send the day to quarantine.
            name = hashlib.sha256(f"{row['user_id']}\n{plain}\n{row['after']}".encode()).hexdigest()
        told = {column.name: row.get(column.name) for column in SPOKEN.columns}
        rows[name] = {
            **told,
            "conversation_id": name,
            "messages": json.loads(row["messages"]),
            "said_by": COACH,
        }
    return list(rows.values())


def _of_night(connection: Connection, night: date) -> list[dict[str, Any]]:
    query = select(*_CONTRACT).where(EVENTS.c.night == night).order_by(EVENTS.c.at, EVENTS.c.event_id)
    return [dict(row) for row in connection.execute(query).mappings()]
