"""Intervals: seeded, paired by column, and right as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import intervals
from training.intervals import cautious_intervals, mean_interval, mean_intervals, student_interval


def test_the_same_seed_gives_the_same_interval_and_columns_are_resampled_alike() -> None:
    values = np.random.default_rng(0).normal(size=(300, 2))
    low, high = mean_intervals(values, confidence=0.95, draws=500, seed=1)
    alone = mean_interval(values[:, 1], confidence=0.95, draws=500, seed=1)
    assert alone == pytest.approx((low[1], high[1]))
    twice = np.stack([values[:, 0], values[:, 0]], axis=1)
    low, high = mean_intervals(twice, confidence=0.95, draws=500, seed=2)
    assert (low[0], high[0]) == (low[1], high[1])


def test_many_users_are_resampled_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(400, 1))
    kept = mean_intervals(values, confidence=0.9, draws=300, seed=3)
    monkeypatch.setattr(intervals, "KEPT_CELLS", 0)
    assert np.allclose(mean_intervals(values, confidence=0.9, draws=300, seed=3), kept)


@pytest.mark.parametrize("interval", ["bootstrap", "student"])
def test_an_interval_of_95_percent_holds_the_truth_in_about_95_of_100(interval: str) -> None:
    random, held, trials = np.random.default_rng(4), 0, 400
    for trial in range(trials):
        values = random.normal(1.0, 2.0, 80)
        if interval == "student":
            low, high = student_interval(values, confidence=0.95)
        else:
            low, high = mean_interval(values, confidence=0.95, draws=400, seed=trial % 10)
        held += low <= 1.0 <= high
    assert 0.91 <= held / trials <= 0.985


@given(shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_an_interval_moves_and_stretches_with_its_values(shift: float, scale: float) -> None:
    values = np.random.default_rng(5).normal(size=60)
    low, high = mean_interval(values, confidence=0.9, draws=200, seed=6)
    moved = mean_interval(scale * values + shift, confidence=0.9, draws=200, seed=6)
    assert moved == pytest.approx((scale * low + shift, scale * high + shift))


@pytest.mark.parametrize("rivals", [1, 4, 28])
def test_however_many_rivals_the_interval_errs_no_more_often_than_it_says(rivals: int) -> None:
    random, confidence = np.random.default_rng(7), 1 - 0.05 / rivals
    trials, columns = 30, 400
    above = 0
    for trial in range(trials):
        lows, _ = cautious_intervals(
            random.normal(0, 1, (30, columns)), confidence=confidence, draws=2_000, seed=trial
        )
        above += int((lows > 0).sum())
    allowed = (1 - confidence) / 2
    total = trials * columns
    assert above / total <= allowed + 3 * np.sqrt(allowed / total)


def test_one_value_alone_has_no_interval_that_says_anything() -> None:
    low, high = student_interval(np.array([3.0]), confidence=0.95)
    assert (low, high) == (-np.inf, np.inf)
