"""Intervals hold what they promise, whatever the errors look like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.forecasting.conformal import LEVELS, calibrate, coverage, error_sizes


def draw(kind: str, random: np.random.Generator, count: int) -> np.ndarray:
    return {
        "normal": random.normal(size=count),
        "skewed": random.exponential(size=count) - 1,
        "heavy": random.standard_t(3, size=count),
        "biased": random.normal(1.0, 1.0, size=count),
    }[kind]


@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy", "biased"])
def test_coverage_is_as_promised_on_average(kind: str) -> None:
    random = np.random.default_rng(0)
    found = {level: [] for level in LEVELS}
    for _ in range(300):
        errors, later = draw(kind, random, 100), draw(kind, random, 100)
        for level, share in coverage(calibrate(errors), np.zeros(100), later).items():
            found[level].append(share)
    for level in LEVELS:  # at least as promised (theorem 2.2 of Lei et al.), and at most a little more
        assert level / 100 - 0.01 <= np.mean(found[level]) <= level / 100 + 0.035


def test_an_erratic_series_gets_a_wider_interval_than_a_calm_one() -> None:
    random = np.random.default_rng(0)
    series = np.repeat([0, 1], 4_000)
    errors = random.normal(size=8_000) * np.where(series == 0, 1.0, 3.0)
    sizes = error_sizes(errors, series)
    intervals = calibrate(errors, series, sizes)

    assert sizes[1] / sizes[0] == pytest.approx(3.0, rel=0.3)
    for one in (0, 1):
        held = coverage(intervals, np.zeros(4_000), errors[series == one], series[series == one])
        assert held[80] == pytest.approx(0.80, abs=0.05)
    low, high = intervals.around(np.zeros(1), np.array([77]))[80]
    assert (high - low)[0] == pytest.approx(intervals.bounds[80][1] - intervals.bounds[80][0])


def test_a_series_with_few_errors_is_taken_for_nearly_typical() -> None:
    sizes = error_sizes(np.array([1.0] * 400 + [50.0]), np.array([0] * 400 + [1]))
    assert sizes[1] < 5


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60), st.floats(-50, 50))
def test_intervals_hold_the_forecast_and_one_another(errors: list[float], forecast: float) -> None:
    made = calibrate(np.array(errors))
    (low_80, high_80), (low_95, high_95) = (
        tuple(float(bound[0]) for bound in made.around(np.array([forecast]))[level]) for level in LEVELS
    )
    assert low_95 <= low_80 <= forecast <= high_80 <= high_95


def test_a_bound_is_the_error_of_the_rank_that_the_theorem_names() -> None:
    """Of 99 errors the ⌈100 · 0.9⌉th for 80 %, and the ⌈100 · 0.975⌉th for 95 %; from below likewise."""
    errors = np.random.default_rng(0).permutation(np.arange(-49.0, 50.0))

    assert calibrate(errors).bounds == {80: (-40.0, 40.0), 95: (-48.0, 48.0)}
    assert calibrate(errors[:3]).bounds == dict.fromkeys(LEVELS, (min(*errors[:3], 0), max(*errors[:3], 0)))


def test_nothing_can_be_calibrated_on_nothing() -> None:
    with pytest.raises(ValueError, match="without an error"):
        calibrate(np.empty(0))
