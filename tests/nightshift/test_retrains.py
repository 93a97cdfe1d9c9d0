"""The facts that the watch leaves, and which nights a drift makes short."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift import retrains
from nightshift.lake import MAX_EXAM_DAYS, open_lake
from nightshift.retrains import Retrain, after_drift
from nightshift.settings import Settings
from nightshift.store import shared
from tests.conftest import publish_day, tiny_day

START = date(2026, 10, 1)
DAYS = [START + timedelta(days=n) for n in range(30)]
TOLD = {"share": 0.5, "reason": "drift", "columns": [], "run_id": "r"}


def asked(day: date, published: date | None = None) -> Retrain:
    return Retrain(day, "recommender", 1, published or day)


@pytest.fixture
def home(stored_home: Settings) -> Settings:
    return stored_home


def test_the_week_after_the_day_that_drifted_is_within_reach_and_that_day_s_own_night_is_not() -> None:
    drift = DAYS[10]
    found = [DAYS[n] for n in range(30) if after_drift([asked(drift)], DAYS[: n + 1])]
    assert found == DAYS[11 : 10 + MAX_EXAM_DAYS]


def test_without_a_request_or_a_day_nothing_is_within_reach() -> None:
    assert not after_drift([], DAYS)
    assert not after_drift([asked(START)], [])


GAPS = st.lists(st.integers(1, 4), min_size=1, max_size=25)
REQUESTS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=4)


@given(gaps=GAPS, requests=REQUESTS, later=REQUESTS)
def test_what_is_asked_once_a_night_is_published_changes_nothing_about_it(
    gaps: list[int], requests: list[tuple[int, int]], later: list[tuple[int, int]]
) -> None:
    """So its training, its gate and the same night run again agree."""
    days = [START + timedelta(days=sum(gaps[:n])) for n in range(len(gaps))]
    night = days[-1]
    before = [asked(START + timedelta(days=n), START + timedelta(days=n + m)) for n, m in requests]
    day_of = [START + timedelta(days=n) for n, _ in later]
    after = [
        asked(day, max(day, night + timedelta(days=m))) for day, (_, m) in zip(day_of, later, strict=True)
    ]
    assert after_drift([*before, *after], days) == after_drift(before, days)


@given(gaps=GAPS, drift=st.integers(0, 60), longest=st.integers(1, MAX_EXAM_DAYS))
def test_out_of_reach_no_exam_keeps_the_day_that_drifted_from_training(
    gaps: list[int], drift: int, longest: int
) -> None:
    days = [START + timedelta(days=sum(gaps[:n])) for n in range(len(gaps))]
    day = START + timedelta(days=drift)
    if day < days[-1] and not after_drift([asked(day)], days):
        assert day < days[-longest:][0]


def test_a_fact_says_how_far_the_lake_was_and_is_never_changed(home: Settings) -> None:
    lake = open_lake(home)
    publish_day(lake, tiny_day(DAYS[0]))
    publish_day(lake, tiny_day(DAYS[2]))
    name = retrains.keep(home, DAYS[1], "recommender", 4, TOLD)
    assert name == f"triggers/{DAYS[1]}-recommender-v4.json"
    assert json.loads(shared(home).read(name) or "") == {
        **TOLD,
        "fact": "RetrainRequested",
        "day": str(DAYS[1]),
        "seat": "recommender",
        "champion": 4,
        "published": str(DAYS[2]),
    }
    publish_day(lake, tiny_day(DAYS[3]))
    retrains.keep(home, DAYS[1], "recommender", 4, {**TOLD, "reason": "another"})
    assert retrains.requested(home, "recommender") == [Retrain(DAYS[1], "recommender", 4, DAYS[2])]
    assert retrains.requested(home, "forecaster") == []


def test_a_fact_of_a_day_that_is_newer_than_the_lake_counts_from_that_day_on(home: Settings) -> None:
    retrains.keep(home, DAYS[5], "recommender", 4, TOLD)
    assert retrains.requested(home, "recommender") == [Retrain(DAYS[5], "recommender", 4, DAYS[5])]


def test_a_fact_that_does_not_say_how_far_the_lake_was_counts_from_its_day_on(home: Settings) -> None:
    name = retrains.keep(home, DAYS[5], "recommender", 4, TOLD)
    fact = json.loads(shared(home).read(name) or "")
    del fact["published"]
    shared(home).write(name, json.dumps(fact).encode())
    assert retrains.requested(home, "recommender")[0].published == DAYS[5]
