"""Exposures against a real event log: written in batches, dropped and counted when it is away, never in the way."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nightshift.eventlog import EventLog
from nightshift.seats import RecommendedItem, RecommendResponse
from serving import exposures
from serving.exposures import Exposures

AT = datetime(2026, 9, 2, 12, tzinfo=UTC)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def an_answer(request_id: str, user_id: str = "u1") -> RecommendResponse:
    items = [
        RecommendedItem(item_id=f"i{n}", title="", category="", score=1.0, confidence=None, rank=n, reason="")
        for n in (1, 2, 3)
    ]
    return RecommendResponse(
        request_id=request_id, user_id=user_id, known_user=True, items=items, model_version="4",
        recent_items_used=0, features_at=None, note=None,
    )  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(f"sqlite:///{tmp_path / 'log.db'}", wait_seconds=0.2)


def kept(log: EventLog) -> list[str]:
    return [answer.user_id for answer in log.answers(4, 20_000, ["click"], timedelta(1), since=LONG_AGO)]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_answers_are_written_within_a_second_or_so_and_the_rest_at_the_end(log: EventLog) -> None:
    counted = Counter[str]()
    taking = Exposures(log, lambda how, n: counted.update({how: n}))
    taking.start()
    taking.note(an_answer("r1", "first"), AT)
    until(lambda: kept(log) == ["first"])
    for n in range(1_200):  # more than two batches
        taking.note(an_answer(f"s{n}", "사용자"), AT)
    taking.stop()
    assert len(kept(log)) == 1_201 and counted == {"kept": 1_201}
    (first,) = log.answers(4, 1, ["click"], timedelta(1), since=LONG_AGO)
    assert first.at == AT and abs(first.answered_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_service_that_never_starts_it_writes_nothing(log: EventLog) -> None:
    taking = Exposures(log, lambda how, n: pytest.fail(how))
    taking.note(an_answer("r1"), AT)
    taking.stop()
    assert kept(log) == []


def test_with_the_log_away_they_are_dropped_and_counted_and_later_ones_are_kept(
    log: EventLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log.pending()
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    counted = Counter[str]()
    taking = Exposures(log, lambda how, n: counted.update({how: n}))
    taking.start()
    for n in range(exposures.BATCH + 7):
        taking.note(an_answer(f"lost {n}"), AT)
    until(lambda: counted["dropped"] == exposures.BATCH + 7)
    other.execute("ROLLBACK")
    taking.note(an_answer("r2", "after"), AT)
    taking.stop()
    assert kept(log) == ["after"] and counted["kept"] == 1
    assert caplog.text.count("exposures are dropped") == 1


def test_a_full_queue_drops_at_once_and_counts(log: EventLog) -> None:
    counted = Counter[str]()
    taking = Exposures(log, lambda how, n: counted.update({how: n}), queue=5)
    taking.start()
    began = time.monotonic()
    for n in range(50):
        taking.note(an_answer(f"r{n}"), AT)
    assert time.monotonic() - began < 0.5
    taking.stop()
    assert counted["kept"] + counted["dropped"] == 50 and counted["dropped"] >= 40
    assert len(kept(log)) == counted["kept"]
