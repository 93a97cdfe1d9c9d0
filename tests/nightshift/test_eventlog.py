"""The event log, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from nightshift.contracts import CONVERSATIONS, INTERACTIONS
from nightshift.contracts.conversations import MAX_CHARACTERS, MAX_MESSAGES
from nightshift.errors import EventLogError
from nightshift.eventlog import EventLog

POSTGRES = os.environ.get("NIGHTSHIFT_TEST_POSTGRES", "postgresql+psycopg2://root@127.0.0.1:5432/test")
START_IT = (
    "docker run -d -p 5432:5432 -e POSTGRES_HOST_AUTH_METHOD=trust -e POSTGRES_USER=root "
    "-e POSTGRES_DB=test postgres:17"
)
NIGHT = date(2026, 9, 28)
NOON = datetime(2026, 9, 28, 12, tzinfo=UTC)


def an_event(event_id: str, at: datetime = NOON, **other: Any) -> dict[str, Any]:
    base = {"event_id": event_id, "user_id": "u1", "item_id": "i1", "kind": "click", "at": at}
    return {**base, "value": None, "session_id": None, "device": "mobile", "channel": "home", **other}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'home' / 'eventlog.db'}"
        return
    schema = f"nightshift_{uuid.uuid4().hex}"  # thrown away, so that runs side by side never meet
    try:
        server = create_engine(POSTGRES)
        with server.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
    except (SQLAlchemyError, ImportError) as error:
        reason = f"PostgreSQL at {POSTGRES}: {error!r:.120}; start it with: {START_IT}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    yield f"{POSTGRES}?options=-csearch_path%3D{schema}"
    with server.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    server.dispose()


@pytest.fixture
def log(url: str) -> Iterator[EventLog]:
    log = EventLog(url)
    yield log
    log.close()


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["event_id"] for row in rows]


def test_an_event_comes_back_as_its_contract_says_whatever_its_time_zone(log: EventLog) -> None:
    seoul = NOON.astimezone(timezone(timedelta(hours=9)))
    event = an_event("e1", at=seoul, user_id="사용자", kind="rating", value=4.0, request_id="r1")
    assert log.append([event]) == 1
    (row,) = log.claim(NIGHT)
    assert list(row) == [column.name for column in INTERACTIONS.columns]
    assert row["at"] == NOON and row["at"].utcoffset() == timedelta(0)
    assert (row["user_id"], row["value"]) == ("사용자", 4.0)
    assert INTERACTIONS.table([row]).num_rows == 1


def test_the_same_id_again_changes_nothing(log: EventLog) -> None:
    assert log.append([an_event("e1"), an_event("e2")]) == 2
    assert log.append([an_event("e1", item_id="another"), an_event("e3"), an_event("e3", item_id="x")]) == 1
    rows = log.claim(NIGHT)
    assert ids(rows) == ["e1", "e2", "e3"]
    assert {row["item_id"] for row in rows} == {"i1"}


def test_what_was_new_is_told_by_id_and_of_an_id_twice_the_first_stands(log: EventLog) -> None:
    assert log.append_new([an_event("e2"), an_event("e1"), an_event("e1", item_id="x")]) == {"e1", "e2"}
    assert log.append_new([an_event("e1", item_id="y"), an_event("e3")]) == {"e3"}
    assert log.append_new([]) == set()
    assert {row["event_id"]: row["item_id"] for row in log.claim(NIGHT)}["e1"] == "i1"


def test_the_latest_events_are_those_that_reached_us_last_whenever_they_happened_and_whoever_claimed_them(
    log: EventLog,
) -> None:
    log.append(
        [an_event("first", item_id="a", at=NOON), an_event("second", item_id="b", kind="rating", value=1.0)]
    )
    log.claim(NIGHT)
    between = datetime.now(UTC)
    log.append([an_event("third", item_id="c", at=NOON - timedelta(days=3))])
    rows = log.latest(10)
    assert [row["item_id"] for row in rows] == ["a", "b", "c"]
    assert rows[1] == {"user_id": "u1", "item_id": "b", "kind": "rating", "value": 1.0, "at": NOON}
    assert [row["item_id"] for row in log.latest(2)] == ["b", "c"]
    assert [row["item_id"] for row in log.latest(10, between)] == ["c"]
    assert log.latest(10, datetime.now(UTC)) == []


def test_a_night_claims_up_to_its_end_and_again_the_same(log: EventLog) -> None:
    midnight = datetime(2026, 9, 29, tzinfo=UTC)
    early, last, after = NOON - timedelta(days=40), midnight - timedelta(microseconds=1), midnight
    log.append([an_event("after", after), an_event("last", last), an_event("early", early)])
    assert ids(log.claim(NIGHT)) == ["early", "last"]
    log.append([an_event("late")])
    assert ids(log.claim(NIGHT)) == ["early", "late", "last"]
    assert log.pending() == 1


def test_an_event_belongs_to_one_night_and_a_late_one_to_the_next(log: EventLog) -> None:
    log.append([an_event("e1")])
    log.claim(NIGHT)
    log.append([an_event("late")])
    assert ids(log.of_night(NIGHT)) == ["e1"]
    assert ids(log.claim(NIGHT + timedelta(days=1))) == ["late"]
    assert ids(log.claim(NIGHT)) == ["e1"]


def test_the_first_waiting_day_and_the_figures_follow_what_is_unclaimed(log: EventLog) -> None:
    assert log.first_pending_day() is None
    assert log.stats() == {"events": 0, "pending": 0, "nights": 0, "last_received_at": None}
    log.append([an_event("e1"), an_event("e2", NOON + timedelta(days=3))])
    assert log.first_pending_day() == NIGHT
    assert log.first_pending_day(after=NIGHT) == date(2026, 10, 1)
    log.claim(NIGHT)
    assert log.first_pending_day() == date(2026, 10, 1)
    stats = log.stats()
    assert (stats["events"], stats["pending"], stats["nights"]) == (2, 1, 1)
    assert abs(stats["last_received_at"] - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "bad",
    [
        {"user_id": None},
        {"user_id": "lone \ud800 surrogate"},
        {"at": datetime(2026, 9, 28, 12)},
        {"at": "2026-09-28"},
    ],
)
def test_one_bad_event_stores_none_of_the_call(log: EventLog, bad: dict[str, Any]) -> None:
    with pytest.raises(EventLogError, match="nothing was stored"):
        log.append([an_event("a"), an_event("b", **bad), an_event("c")])
    assert log.stats()["events"] == 0
    assert log.append([an_event("a")]) == 1


def test_sqlite_syncs_every_commit_to_disk(tmp_path: Path) -> None:
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    with log._transaction() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL
    log.close()


def an_exposure(request_id: str, answered_at: datetime = NOON, **other: Any) -> dict[str, Any]:
    base = {"request_id": request_id, "model_version": 1, "user_id": "u1", "shown": 10, "at": NOON}
    return {**base, "answered_at": answered_at, **other}


EVER = datetime(2000, 1, 1, tzinfo=UTC)
ONE_DAY = timedelta(days=1)


def test_the_first_and_the_last_answers_of_a_version_come_back_in_order(log: EventLog) -> None:
    moments = [NOON + timedelta(seconds=n) for n in range(6)]
    rows = [an_exposure(f"r{5 - n}", at, user_id=f"u{n}") for n, at in enumerate(moments)]
    log.expose([*rows[::-1], an_exposure("other", moments[2], model_version=2)])
    first = log.answers(1, 3, ["click"], ONE_DAY, since=moments[1])
    assert [answer.user_id for answer in first] == ["u1", "u2", "u3"]
    assert [answer.answered_at for answer in first] == moments[1:4] and first[0].at == NOON
    last = log.answers(1, 3, ["click"], ONE_DAY, before=moments[5])
    assert [answer.user_id for answer in last] == ["u2", "u3", "u4"]
    assert log.answers(3, 3, ["click"], ONE_DAY, since=EVER) == []


def test_the_same_request_exposed_again_changes_nothing(log: EventLog) -> None:
    log.expose([an_exposure("r1")])
    log.expose([an_exposure("r1", user_id="another"), an_exposure("r2")])
    assert [answer.user_id for answer in log.answers(1, 9, ["click"], ONE_DAY, since=EVER)] == ["u1", "u1"]


def test_one_bad_exposure_stores_none_of_the_call(log: EventLog) -> None:
    with pytest.raises(EventLogError):
        log.expose([an_exposure("r1"), an_exposure("r2", user_id=None)])
    assert log.answers(1, 9, ["click"], ONE_DAY, since=EVER) == []


def test_an_outcome_is_what_the_same_user_did_in_time_and_silence_is_told_apart(log: EventLog) -> None:
    now = datetime.now(UTC)
    long_ago = now - timedelta(days=3)
    asked = ("clicked", "viewed", "another's", "nothing", "twice")
    log.expose([an_exposure(request, now, user_id=f"of {request}") for request in asked])
    log.expose([an_exposure("too late", long_ago, user_id="of too late")])
    log.append(
        [
            an_event("e1", request_id="clicked", user_id="of clicked"),
            an_event("e2", request_id="viewed", user_id="of viewed", kind="view"),
            an_event("e3", request_id="another's", user_id="a stranger"),
            an_event("e4", request_id="too late", user_id="of too late"),
            an_event("e5", request_id="twice", user_id="of twice", kind="purchase"),
            an_event("e6", request_id="twice", user_id="of twice"),
            an_event("e7", request_id="never exposed", user_id="of nothing"),
        ]
    )
    found = log.answers(1, 10, ["click", "purchase"], ONE_DAY, since=EVER)
    seen = {answer.user_id.removeprefix("of "): (answer.engaged, answer.heard) for answer in found}
    assert len(found) == 6
    assert seen == {
        "clicked": (True, True), "twice": (True, True), "too late": (False, False),
        "viewed": (False, True), "another's": (False, True), "nothing": (False, True),
    }  # fmt: skip


def test_old_exposures_are_forgotten_and_events_stay(log: EventLog) -> None:
    log.expose([an_exposure("r1"), an_exposure("r2", NOON + ONE_DAY)])
    log.append([an_event("e1", request_id="r1")])
    assert log.forget_exposures(NOON + ONE_DAY) == 1
    assert len(log.answers(1, 9, ["click"], ONE_DAY, since=EVER)) == 1
    assert log.pending() == 1


# --- conversations -------------------------------------------------------------------------------------


def a_talk(conversation_id: str, turns: int = 2, at: datetime = NOON, **other: Any) -> dict[str, Any]:
    messages = [{"role": ("user", "assistant")[n % 2], "content": f"말 {n}"} for n in range(turns)]
    base = {"conversation_id": conversation_id, "user_id": "u1", "at": at, "messages": messages}
    return {**base, "consent": True, "said_by": "coach", **other}


def told(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many messages each conversation has."""
    return {row["conversation_id"]: len(row["messages"]) for row in rows}


def test_a_conversation_comes_back_as_its_contract_says_whatever_its_time_zone(log: EventLog) -> None:
    seoul = NOON.astimezone(timezone(timedelta(hours=9)))
    talk = a_talk("c1", at=seoul, user_id="사용자")
    talk["messages"][0]["content"] = 'NUL \x00, "quotes", 🙂\nand lines'
    assert log.converse([]) == 0 and log.converse([talk]) == 1
    (row,) = log.claim_conversations(NIGHT)
    assert list(row) == [column.name for column in CONVERSATIONS.columns]
    assert row == {**talk, "at": NOON} and row["at"].utcoffset() == timedelta(0)
    assert CONVERSATIONS.table([row]).num_rows == 1


def test_a_longer_version_takes_the_place_of_a_shorter_one_and_never_the_other_way(log: EventLog) -> None:
    assert log.converse([a_talk("c1", 2), a_talk("c2", 4)]) == 2
    assert log.converse([a_talk("c1", 4), a_talk("c2", 2), a_talk("c3", 2), a_talk("c3", 6)]) == 2
    assert log.converse([a_talk("c1", 4, user_id="u1", at=NOON + ONE_DAY)]) == 0, "it is known"
    assert told(log.claim_conversations(NIGHT)) == {"c1": 4, "c2": 4, "c3": 6}


def test_what_a_night_has_claimed_of_a_conversation_stays_as_it_was(log: EventLog) -> None:
    log.converse([a_talk("c1", 2)])
    assert told(log.claim_conversations(NIGHT)) == {"c1": 2}
    assert log.converse([a_talk("c1", 2), a_talk("late", 2)]) == 1
    assert told(log.conversations_of(NIGHT)) == {"c1": 2}
    assert told(log.claim_conversations(NIGHT + ONE_DAY)) == {"late": 2}
    assert told(log.claim_conversations(NIGHT)) == {"c1": 2}


def test_what_is_said_after_a_claim_is_a_part_of_its_own_that_begins_with_the_user(log: EventLog) -> None:
    for turns in (2, 4):
        log.converse([a_talk("c1", turns)])
    log.claim_conversations(NIGHT)
    assert [log.converse([a_talk("c1", turns)]) for turns in (4, 6, 8, 8)] == [0, 1, 1, 0]
    (later,) = log.claim_conversations(NIGHT + ONE_DAY)
    assert later["conversation_id"] == "c1#4" and later["messages"] == a_talk("c1", 8)["messages"][4:]
    assert log.converse([a_talk("c1", 10)]) == 1
    assert told(log.claim_conversations(NIGHT + 2 * ONE_DAY)) == {"c1#8": 2}
    assert told(log.conversations_of(NIGHT)) == {"c1": 4}


def test_two_users_may_have_the_same_id_and_no_two_conversations_of_a_night_do(log: EventLog) -> None:
    last = a_talk("c1", 4)["messages"][2:]
    names = [a_talk("c1"), a_talk("c1", 4, user_id="u2"), a_talk("c1#2"), a_talk("x" * 128)]
    assert log.converse([*names, a_talk("c1", messages=last, after=2)]) == 4, "two are parts of one"
    log.converse([a_talk("x" * 128, messages=last, after=2)])
    rows = log.claim_conversations(NIGHT)
    assert len({row["conversation_id"] for row in rows}) == len(rows) == 6
    assert all(CONVERSATIONS.fits(row) for row in rows)
    assert {row["user_id"]: len(row["messages"]) for row in rows} == {"u1": 2, "u2": 4}
    assert log.conversations_of(NIGHT) == rows
    assert log.withdraw("u2", "c1") and len(log.conversations_of(NIGHT)) == 5


def test_a_part_without_what_came_before_it_joins_what_is_kept(log: EventLog) -> None:
    whole = a_talk("c1", 6)["messages"]
    log.converse([a_talk("c1", 2)])
    assert log.converse([a_talk("c1", messages=whole[2:4], after=2)]) == 1
    assert log.converse([a_talk("c1", messages=whole[2:6], after=2)]) == 1
    assert told(log.claim_conversations(NIGHT)) == {"c1": 2, "c1#2": 4}
    assert log.keeps("u1", "c1", "말 4") and not log.keeps("u1", "c1", "말 5"), "the coach's"
    assert not log.keeps("u2", "c1", "말 4")


def test_a_withdrawal_reaches_every_part_also_of_a_night_that_is_given_up(log: EventLog) -> None:
    log.converse([a_talk("c1", 2), a_talk("c2", 2), a_talk("c1", user_id="u2")])
    log.claim_conversations(NIGHT)
    log.converse([a_talk("c1", 4)])
    assert log.withdraw("u1", "c1") and not log.withdraw("u1", "c1") and not log.withdraw("u1", "unknown")
    assert [(row["user_id"], len(row["messages"])) for row in log.conversations_of(NIGHT)] == [
        ("u2", 2),
        ("u1", 2),
    ]
    with log._transaction(read_only=True) as connection:
        rows = connection.execute(text("SELECT night, messages FROM conversations WHERE NOT consent")).all()
    assert [messages for _, messages in rows] == ["[]", "[]"]
    assert sorted(night is None for night, _ in rows) == [False, True], "the night's row stays the night's"
    following = log.claim_conversations(NIGHT + ONE_DAY, release=[NIGHT])
    assert {(row["user_id"], row["conversation_id"][:2]) for row in following} == {("u2", "c1"), ("u1", "c2")}
    assert log.converse([a_talk("c1", 2), a_talk("c1", 4)]) == 0, "late copies of what was agreed to"


def test_a_row_without_consent_withdraws_what_a_night_has_claimed(log: EventLog) -> None:
    log.converse([a_talk("c1", 2)])
    log.claim_conversations(NIGHT)
    assert log.converse([a_talk("c1", 4, consent=False)]) == 1
    assert log.conversations_of(NIGHT) == [] == log.claim_conversations(NIGHT + ONE_DAY, release=[NIGHT])


def test_a_withdrawal_where_nothing_is_kept_waits_for_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "eventlog.db"
    log = EventLog(f"sqlite:///{path}", wait_seconds=0.2)
    log.converse([a_talk("c1")])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert not log.withdraw("u1", "other")
    with pytest.raises(EventLogError, match="locked"):
        log.withdraw("u1", "c1")
    other.close()
    assert log.withdraw("u1", "c1")
    log.close()


def test_a_statement_of_postgresql_that_hangs_is_given_up(url: str) -> None:
    if url.startswith("sqlite"):
        pytest.skip("SQLite has no server that could hang")
    log = EventLog(url, wait_seconds=0.05)
    with pytest.raises(EventLogError, match="statement timeout"), log._transaction() as connection:
        connection.execute(text("SELECT pg_sleep(20)"))
    log.close()


def test_a_night_claims_the_conversations_that_were_over_before_its_end(log: EventLog) -> None:
    midnight = datetime(2026, 9, 29, tzinfo=UTC)
    moments = {"after": midnight, "last": midnight - timedelta(microseconds=1), "early": NOON - 40 * ONE_DAY}
    log.converse([a_talk(name, at=at) for name, at in moments.items()])
    assert list(told(log.claim_conversations(NIGHT))) == ["early", "last"]
    assert log.first_pending_day() == NIGHT + ONE_DAY and log.first_pending_day(after=NIGHT + ONE_DAY) is None


def test_what_a_night_that_was_given_up_had_claimed_is_free_again(log: EventLog) -> None:
    log.converse([a_talk("c1")])
    log.claim_conversations(NIGHT)
    assert told(log.claim_conversations(NIGHT + ONE_DAY, release=[NIGHT])) == {"c1": 2}
    assert log.conversations_of(NIGHT) == []


def test_without_consent_no_night_gets_a_conversation_and_no_word_of_it_is_kept(log: EventLog) -> None:
    log.converse([a_talk("never", consent=False), a_talk("withdrawn", 4), a_talk("given", 2, consent=False)])
    assert log.converse([a_talk("withdrawn", 4, consent=False), a_talk("given", 4)]) == 2
    with log._transaction(read_only=True) as connection:
        rows = connection.execute(text("SELECT conversation_id, messages FROM conversations")).all()
    kept = {name for name, messages in rows if "말" in messages}
    assert len(rows) == 3 and kept == {"given"}
    assert told(log.claim_conversations(NIGHT)) == {"given": 4}
    assert log.first_pending_day() is None, "what no night may take waits for none"


def test_a_late_copy_of_what_was_agreed_to_does_not_undo_a_withdrawal(log: EventLog) -> None:
    agreed, withdrawn = a_talk("c1", 4), a_talk("c1", 2, consent=False)
    log.converse([agreed, withdrawn, agreed])
    for row in (agreed, withdrawn, agreed):
        log.converse([{**row, "conversation_id": "c2"}])
    assert log.claim_conversations(NIGHT) == []
    assert log.converse([a_talk("c1", 6)]) == 1, "a new yes is a yes"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"messages": []}, f"1 to {MAX_MESSAGES} messages"),
        ({"messages": a_talk("x", MAX_MESSAGES + 1)["messages"]}, f"1 to {MAX_MESSAGES} messages"),
        ({"messages": [{"role": "user", "content": "x" * (MAX_CHARACTERS + 1)}]}, "message 0"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "message 0"),
        ({"messages": [{"role": "user", "content": None}]}, "message 0"),
        ({"messages": ["안녕"]}, "message 0"),
        ({"messages": [{"role": "user", "content": "half \ud800"}]}, "surrogates"),
        ({"consent": None}, "consent None"),
        ({"user_id": None}, "up to 128"),
        ({"user_id": "u" * 129}, "up to 128"),
        ({"at": datetime(2026, 9, 28, 12)}, "time zone"),
    ],
)
def test_one_bad_conversation_is_named_and_stores_none_of_the_call(
    log: EventLog, bad: dict[str, Any], words: str
) -> None:
    with pytest.raises(EventLogError, match="nothing was stored") as raised:
        log.converse([a_talk("a"), {**a_talk("b"), **bad}, a_talk("c")])
    assert words in str(raised.value) and len(str(raised.value)) < 600
    assert log.claim_conversations(NIGHT) == []


def test_the_largest_conversation_that_is_allowed_is_stored(log: EventLog) -> None:
    talk = a_talk("c1", MAX_MESSAGES)
    talk["messages"][0]["content"] = "가" * MAX_CHARACTERS
    assert log.converse([talk]) == 1 and log.claim_conversations(NIGHT) == [talk]


def test_writers_of_the_same_conversation_leave_the_longest_version(log: EventLog) -> None:
    log.pending()
    lengths = [2, 4, 6, 8, 10, 12, 14, 16]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda turns: log.converse([a_talk("b", turns), a_talk("a", turns)]), lengths))
    assert told(log.claim_conversations(NIGHT)) == {"a": 16, "b": 16}


WRITER = """
import sys
from datetime import UTC, datetime
from nightshift.eventlog import EventLog
log, me = EventLog(sys.argv[1]), int(sys.argv[2])
sys.stdin.readline()
new = 0
for call in range(20):
    rows = [{"event_id": f"e{(call * 10 + n + me * 50) % 300}", "user_id": "u", "item_id": "i", "kind": "view",
             "at": datetime(2026, 9, 28, tzinfo=UTC), "device": "mobile", "channel": "home"} for n in range(10)]
    new += log.append(rows if me % 2 else rows[::-1])
print(new)
"""


def test_processes_that_write_at_once_lose_nothing_and_count_each_event_once(url: str) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    new = [int(writer.communicate(timeout=60)[0]) for writer in writers]
    assert all(writer.returncode == 0 for writer in writers)
    log = EventLog(url)
    # 200 of the 300 ids by writer 0, 50 more by each of 1 and 2; writer 3 (150..349 mod 300) adds none.
    assert sum(new) == log.stats()["events"] == 300
    log.close()


def test_threads_share_one_log_while_a_night_claims(log: EventLog) -> None:
    log.append([an_event("first")])

    def write(n: int) -> int:
        return sum(log.append([an_event(f"{n}-{call}")]) for call in range(25))

    with ThreadPoolExecutor(4) as pool:
        written = [pool.submit(write, n) for n in range(3)]
        claims = [pool.submit(log.claim, NIGHT) for _ in range(5)]
        assert sum(w.result() for w in written) == 75
        assert all("first" in ids(claim.result()) for claim in claims)
    assert len(log.claim(NIGHT)) == 76


def test_a_locked_sqlite_says_so_and_works_again_after(tmp_path: Path) -> None:
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}", wait_seconds=0.2)
    log.append([an_event("e1")])
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(EventLogError, match=r"locked.*send again"):
        log.append([an_event("e2")])
    assert log.pending() == 1  # readers are not kept out
    other.execute("ROLLBACK")
    assert log.append([an_event("e2")]) == 1
    log.close()


FILLER = """
import resource, sys
from datetime import UTC, datetime
from nightshift.errors import EventLogError
from nightshift.eventlog import EventLog
log = EventLog(sys.argv[1])
log.pending()
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
for call in range(100):
    try:
        log.append([{"event_id": f"{call}-{n}", "user_id": "u", "item_id": "i", "kind": "view", "device": "mobile",
                     "at": datetime(2026, 9, 28, tzinfo=UTC), "channel": "home"} for n in range(100)])
    except EventLogError as error:
        print(call)
        print(error)
        break
"""


def test_a_full_disk_is_an_error_and_leaves_whole_calls_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    ended = subprocess.run([sys.executable, "-c", FILLER, url], capture_output=True, text=True, timeout=60)
    calls, reason = ended.stdout.splitlines()
    assert int(calls) > 0 and "nothing was stored" in reason
    log = EventLog(url)
    assert log.stats()["events"] == int(calls) * 100
    assert log.append([an_event("room again")]) == 1
    log.close()


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from nightshift.eventlog import EventLog
EventLog(sys.argv[1]).append([{"event_id": "e1", "user_id": "u", "item_id": "i", "kind": "view",
                               "at": datetime(2026, 9, 28, tzinfo=UTC), "device": "mobile", "channel": "home"}])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_append_returned_for_survives_a_kill(url: str) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, url], timeout=60)
    assert ended.returncode == -9
    log = EventLog(url)
    assert ids(log.claim(NIGHT)) == ["e1"]
    log.close()


@pytest.mark.parametrize(
    "broken",
    [
        lambda folder: "sqlite:////proc/nowhere/log.db",
        lambda folder: f"sqlite:///{_not_a_database(folder)}",
        lambda folder: "postgresql://someone:s3cret@127.0.0.1:1/none",
    ],
)
def test_an_unusable_log_is_one_clear_error_without_the_password(
    tmp_path: Path, broken: Callable[[Path], str]
) -> None:
    log = EventLog(broken(tmp_path), wait_seconds=1)
    with pytest.raises(EventLogError, match="event log") as raised:
        log.append([an_event("e1")])
    assert "s3cret" not in str(raised.value) and "\n" not in str(raised.value)


def _not_a_database(folder: Path) -> Path:
    path = folder / "log.db"
    path.write_bytes(b"this is a text file, and long enough to be looked at" * 100)
    return path
