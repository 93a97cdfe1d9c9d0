"""The ranking of all topics: when it is made anew, what is left out, and a store that is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nightshift.contracts.features import TOPIC_FEATURES
from nightshift.contracts.indicators import INDICATOR_NAMES
from nightshift.errors import FeatureError
from nightshift.registry import Version
from nightshift.settings import Settings
from serving import trends as module
from serving.champion import Bundle
from serving.features import Row
from serving.forecasting import ANSWER, FEATURES, prepare
from serving.trends import MOST, NOT_RANKED, NOT_READ, NOTHING, Trends, rank
from tests.serving.conftest import wait_until

NOW = datetime(2026, 9, 2, 15, tzinfo=UTC)
TYPICAL = {f"{name}_{part}": 1.0 for name in INDICATOR_NAMES for part in ("usual", "spread")}


def bundle(number: int = 1, topics: Sequence[str] = (), add: float = 0.0) -> Bundle[Any]:
    def forecast(rows: pd.DataFrame) -> pd.DataFrame:
        change = np.nan_to_num(rows["velocity_change_4w"].to_numpy(float)) + add
        return pd.DataFrame({name: change for name in ANSWER})

    features = [f for f in FEATURES if f.endswith(("change_4w", "_w0"))]
    parts = {"features": features, "typical": TYPICAL, "topics": list(topics), "forecast": forecast}
    version = Version("forecaster", number, "r", NOW, {}, "", True)
    return Bundle(prepare(SimpleNamespace(**parts)), version, {}, NOW)  # type: ignore[arg-type]


def row(velocity: float | None, change: float = 0.0, *, days_ago: float = 1, week: str = "2026-W35") -> Row:
    values: dict[str, Any] = dict.fromkeys((f.name for f in TOPIC_FEATURES), 1.0)
    values |= {"velocity": velocity, "velocity_change_4w": change, "week": week}
    return values, NOW - timedelta(days=days_ago)


def test_topics_stand_by_forecast_velocity_and_ties_by_name() -> None:
    known = [
        ("b", row(50, 10)),
        ("c", row(80, -30)),
        ("a", row(50, 10)),
        ("d", row(99, 20)),
        ("e", row(1, -9)),
    ]
    ranking = rank(bundle(4), known, NOW, 28)
    told = ranking.best(4)
    assert [(t.rank, t.topic) for t in told.trends] == [(1, "d"), (2, "a"), (3, "b"), (4, "c")]
    assert [t.forecast for t in told.trends] == [100, 60, 60, 50]
    assert (told.topics, told.left_out, told.model_version, told.note) == (5, 0, "4", None)
    assert abs(datetime.now(UTC) - told.made_at) < timedelta(minutes=1)  # really, whatever day the data is of
    assert [t.topic for t in ranking.best(1_000).trends] == ["d", "a", "b", "c", "e"]
    first = told.trends[0]
    assert first.week == "2026-W35" and first.change == 20
    assert first.base + sum(driver.effect for driver in first.drivers) == pytest.approx(20)


def test_topics_of_which_too_little_or_nothing_new_is_known_are_left_out_and_counted() -> None:
    known: list[tuple[str, Row]] = [
        ("good", row(50)),
        ("no velocity", row(None)),
        ("told too long ago", row(90, days_ago=29)),
        ("a revision of a week long past", row(90, week="2026-W29")),
        ("not in the store", ({}, None)),
    ]
    told = rank(bundle(), known, NOW, 28).best(10)
    assert [t.topic for t in told.trends] == ["good"] and (told.topics, told.left_out) == (1, 3)


def test_no_topics_is_an_answer_too() -> None:
    told = rank(bundle(), [], NOW, 28).best(10)
    assert told.trends == [] and told.topics == 0 and told.note == NOTHING


def test_of_many_topics_all_are_ranked_and_the_first_thousand_told() -> None:
    random = np.random.default_rng(0)
    known = [(f"t{n:05d}", row(float(v))) for n, v in enumerate(random.uniform(0, 100, 2_500))]
    ranking = rank(bundle(), known, NOW, 28)
    assert ranking.topics == 2_500 and len(ranking.trends) == MOST
    best = sorted((values[1][0]["velocity"] for values in known), reverse=True)[:MOST]
    assert [t.forecast for t in ranking.best(MOST).trends] == best


# --- when it is made -------------------------------------------------------------------------------------


class Store:
    """A feature store that answers or fails on demand, and counts."""

    max_age_days = 28

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {"a": row(60), "b": row(40)}
        self.error: Exception | None = None
        self.reads = 0

    def of_many(self, names: Sequence[str], features: Sequence[str]) -> Iterator[tuple[str, Row]]:
        self.reads += 1
        if self.error is not None:
            raise self.error
        yield from ((name, self.rows.get(name, ({}, None))) for name in names)


class World:
    """Trends with everything around them in hand."""

    def __init__(self, home: Path) -> None:
        self.store, self.now = Store(), NOW
        self.bundle: Bundle[Any] | None = bundle(1, ["a", "b"])
        self.settings = Settings(_env_file=None, home=home)  # type: ignore[call-arg]
        self.marker = home / "feast" / "written.json"
        self.marker.parent.mkdir()
        self.marker.write_text("1")
        clock = SimpleNamespace(now=lambda: self.now)
        self.trends = Trends(self.settings, self.store, clock, lambda: self.bundle)  # type: ignore[arg-type]

    def look(self) -> Any:
        self.trends.look()
        return self.trends.ranking


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(module, "RANK_AGAIN_SECONDS", 0.0)
    return World(tmp_path)


def test_without_a_champion_there_is_no_ranking(world: World) -> None:
    world.bundle = None
    assert world.look() is None and world.store.reads == 0


def test_it_is_made_once_and_anew_on_another_champion_a_written_store_and_a_new_day(world: World) -> None:
    first = world.look()
    assert [t.topic for t in first.trends] == ["a", "b"] and world.look() is first
    world.bundle = bundle(2, ["a", "b"], add=5.0)
    assert world.look().version == 2 and world.trends.ranking.trends[0].forecast == 65  # type: ignore[union-attr]
    world.store.rows["b"] = row(90)
    assert world.look().trends[0].topic == "a"  # nobody said that the store was written
    world.marker.unlink()
    world.marker.write_text("2")
    assert world.look().trends[0].topic == "b"
    world.now += timedelta(days=40)
    assert world.look().topics == 0 and world.store.reads == 4


def test_topics_that_the_champion_did_not_learn_from_are_ranked_if_the_files_name_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def newest(settings: Settings, view: str, until: date) -> tuple[date, pd.DataFrame]:
        assert (view, until) == ("topic_features", NOW.date())
        return until, pd.DataFrame({"topic": ["new", "a"]})

    world.store.rows["new"] = row(70)
    assert [t.topic for t in world.look().trends] == ["a", "b"]
    world.bundle = bundle(2, ["a", "b"])
    monkeypatch.setattr(module.partitions, "newest", newest)
    assert [t.topic for t in world.look().trends] == ["new", "a", "b"]


def test_a_store_that_is_away_from_the_start_leaves_no_ranking_until_it_is_back(world: World) -> None:
    world.store.error = FeatureError("gone")
    assert world.look() is None
    world.store.error = None
    assert world.look().topics == 2


def test_a_store_that_goes_away_changes_a_note_and_a_new_champion_ranks_what_was_read(world: World) -> None:
    first = world.look()
    world.store.error = OSError("disk")
    world.marker.unlink()
    away = world.look()
    assert away.note == NOT_READ and away.trends is first.trends and away.made_at == first.made_at
    world.bundle = bundle(2, ["a", "b"], add=5.0)
    assert world.look().version == 2
    assert world.trends.ranking is not None and world.trends.ranking.note == NOT_READ
    world.now += timedelta(days=40)
    assert world.look().topics == 0  # what was read has grown too old
    world.store.error, world.now = None, NOW
    assert world.look().note is None


def breaking(rows: pd.DataFrame) -> pd.DataFrame:
    raise ZeroDivisionError("some topic")


def test_a_model_that_breaks_on_some_topic_leaves_the_ranking_before_and_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    first = world.look()
    world.bundle = bundle(2, ["a", "b"])
    whole, world.bundle.ready.model.forecast = world.bundle.ready.model.forecast, breaking
    before = world.look()
    assert (before.version, before.trends, before.made_at) == (1, first.trends, first.made_at)
    assert before.note == NOT_RANKED and "some topic" in caplog.text
    caplog.clear()
    assert world.look().note == NOT_RANKED and not caplog.text  # the log has it already
    world.bundle.ready.model.forecast = whole
    assert (world.look().version, world.look().note) == (2, None)


def test_a_model_that_breaks_is_asked_again_after_a_pause_and_another_one_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RANK_AGAIN_SECONDS", 60.0)
    world.look()
    world.bundle = bundle(2, ["a", "b"])
    world.bundle.ready.model.forecast = breaking
    assert world.look() is world.look() and world.store.reads == 2
    world.bundle = bundle(1, ["a", "b"])  # who served before is seated again
    assert (world.look().version, world.look().note) == (1, None)


def test_a_model_that_breaks_while_the_store_is_away_is_asked_again_too(world: World) -> None:
    world.look()
    world.store.error = OSError("disk")
    world.bundle = bundle(2, ["a", "b"])
    whole, world.bundle.ready.model.forecast = world.bundle.ready.model.forecast, breaking
    assert world.look().note == NOT_RANKED
    world.bundle.ready.model.forecast = whole
    assert (world.look().version, world.look().note) == (2, NOT_READ)


def test_nobody_waits_at_the_start_for_a_store_that_hangs(world: World) -> None:
    answering = threading.Event()
    of_many = world.store.of_many

    def hanging(names: Sequence[str], features: Sequence[str]) -> Iterator[tuple[str, Row]]:
        answering.wait(10)
        return of_many(names, features)

    world.store.of_many = hanging  # type: ignore[method-assign]
    began = time.monotonic()
    world.trends.start()
    try:
        assert time.monotonic() - began < 1 and world.trends.ranking is None
        answering.set()
        wait_until(lambda: world.trends.ranking is not None, 1.5)  # at once, not when the next look is due
    finally:
        answering.set()
        world.trends.stop()


def test_while_the_store_is_away_it_is_asked_now_and_then_and_at_once_for_a_new_champion(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 60.0)
    world.store.error = FeatureError("gone")
    assert world.look() is world.look() is None and world.store.reads == 1
    world.bundle = bundle(2, ["a", "b"])
    world.look()
    assert world.store.reads == 2
