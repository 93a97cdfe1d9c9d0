"""Online features: their age, and a store that is away. The real store is met in test_recommender.py."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nightshift import featurestore
from nightshift.errors import FeatureError
from nightshift.settings import Settings
from serving import features
from serving.features import AT_ONCE, AWAY, Found, OnlineFeatures, Row, judge

NOW = datetime(2026, 9, 29, 15, tzinfo=UTC)
VALUES = {"spend_28d": 3.0}
WANTED = ["user_features:spend_28d"]


@given(st.floats(-1, 30), st.integers(1, 10))
@example(3.0, 3)
def test_features_are_used_exactly_up_to_their_age_limit(age: float, limit: int) -> None:
    at = NOW - timedelta(days=age)
    found = judge((VALUES, at), NOW, limit)
    if NOW - at <= timedelta(days=limit):
        assert found == Found(VALUES, at)
    else:
        assert not found.values and found.at is None and found.wrong == "stale"
        assert "days old" in (found.note or "")


def test_one_that_the_store_does_not_have_is_said() -> None:
    assert judge(({}, None), NOW, 3) == Found(note="no features are known of this user", wrong="unknown")
    assert "of this topic" in (judge(({}, None), NOW, 3, "topic").note or "")


class Store(OnlineFeatures):
    """A store that answers, fails or hangs on demand."""

    answer: Any = (VALUES, NOW)
    delay = 0.0
    reads = 0
    opens = 0

    def _opened(self) -> Any:
        self.opens += 1
        time.sleep(self.delay)

    def _read(self, names: Sequence[str], features: Sequence[str]) -> list[Row]:
        self.reads += 1
        time.sleep(self.delay)
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer for _ in names]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Settings(_env_file=None, home=tmp_path), "user_id", 3)  # type: ignore[call-arg]


def ask(store: Store, wanted: list[str] = WANTED) -> Found:
    return asyncio.run(store.of("u", wanted, NOW))


def test_a_model_without_features_asks_for_none(store: Store) -> None:
    assert ask(store, []) == Found() and store.reads == 0


def test_a_failure_is_said_nobody_waits_meanwhile_and_it_recovers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "RETRY_SECONDS", 0.1)
    store.answer = FeatureError("gone")
    assert ask(store) == ask(store) == Found(note=AWAY, wrong="away")
    assert store.reads == 1  # the second did not wait for the store
    store.answer = (VALUES, NOW)
    time.sleep(0.15)
    assert ask(store) == Found(VALUES, NOW)


def test_a_store_that_hangs_costs_no_more_than_the_budget(store: Store) -> None:
    store.delay = 1.0

    async def hanging() -> tuple[Found, float]:
        start = time.monotonic()
        return await store.of("u", WANTED, NOW), time.monotonic() - start

    found, seconds = asyncio.run(hanging())
    assert found.note == AWAY and seconds < 0.8


def test_many_are_read_by_the_handful_and_a_failure_is_the_readers_alone(store: Store) -> None:
    names = [f"t{n}" for n in range(2 * AT_ONCE + 1)]
    assert [name for name, row in store.of_many(names, WANTED) if row == (VALUES, NOW)] == names
    assert store.reads == 3
    store.answer = FeatureError("gone")
    with pytest.raises(FeatureError):
        list(store.of_many(names, WANTED))
    store.answer = (VALUES, NOW)
    assert ask(store) == Found(VALUES, NOW)  # requests did not hear of it


def test_a_bulk_read_of_a_store_that_hangs_ends_in_time_holds_up_no_request_and_is_not_repeated_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "HANDFUL_SECONDS", 0.05)
    answering, read = threading.Event(), store._read

    def hanging(names: Sequence[str], features: Sequence[str]) -> list[Row]:
        if len(names) > 1:
            answering.wait(10)
        return read(names, features)

    monkeypatch.setattr(store, "_read", hanging)
    try:
        for _ in range(3):
            with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
                list(store.of_many(["a", "b"], WANTED))
        assert ask(store) == Found(VALUES, NOW)
    finally:
        answering.set()
    monkeypatch.setattr(features, "HANDFUL_SECONDS", 10.0)
    assert len(list(store.of_many(["a", "b"], WANTED))) == 2
    assert store.reads == 3, "the first that hung, the request, the last: nobody waits for the others"


def test_a_service_starts_while_a_store_that_hangs_is_opened(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    featurestore.import_feast()  # seconds, once per process
    monkeypatch.setattr(features, "OPEN_SECONDS", 0.05)
    store.delay = 1.0
    began = time.monotonic()
    store.start()
    store.open()  # before a champion is seated
    assert time.monotonic() - began < 0.8 and "no answer within 0.05 s" in caplog.text
    assert ask(store) == Found(note=AWAY, wrong="away")
    time.sleep(1.1)
    store.delay = 0.0
    store.open()
    assert ask(store) == Found(VALUES, NOW) and store.opens == 2


def test_a_store_that_was_built_again_is_opened_again_and_one_that_is_written_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    files = featurestore.files_of(featurestore.store_config(settings))
    assert len(files) == 2  # the registry and the online store
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.write_text("1")
    monkeypatch.setattr(featurestore, "open_store", lambda settings: object())
    real = OnlineFeatures(settings, "user_id", 3)
    first = real._opened()
    for path in files:
        path.write_text("2")
        assert real._opened() is first
    for path in files:
        before = real._opened()
        with path.open():  # as SQLite does, so that its number is not given to another
            path.unlink()
            assert real._opened() is before  # until there is another
            path.write_text("3")
            assert real._opened() is not before
