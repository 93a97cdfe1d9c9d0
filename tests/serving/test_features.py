"""Online features: their age, and a store that is away. The real store is met in test_recommender.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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
