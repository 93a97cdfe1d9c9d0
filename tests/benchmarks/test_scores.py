"""The benchmark's figures by hand-made errors."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import scores


def test_skill_is_nothing_for_last_value_and_one_for_the_truth() -> None:
    last = np.array([1.0, 4.0])
    assert scores.skill(last, last) == 0
    assert scores.skill(np.zeros(2), last) == 1
    assert scores.skill(2 * last, last) == -1


def test_a_ratio_that_is_the_same_in_every_series_has_no_interval() -> None:
    against = np.random.default_rng(0).gamma(1, 1, 400)
    low, high = scores.ratio_interval(0.7 * against, against, np.repeat(np.arange(20), 20))
    assert low == pytest.approx(0.7) == high


def test_fewer_clusters_say_less() -> None:
    random = np.random.default_rng(0)
    effect = np.repeat(random.gamma(4, 0.25, 20), 50)  # errors of a series are alike
    errors, against = effect * random.gamma(1, 1, 1_000), random.gamma(1, 1, 1_000)
    by_series = scores.ratio_interval(errors, against, np.repeat(np.arange(20), 50))
    by_row = scores.ratio_interval(errors, against, np.arange(1_000))
    assert by_series[1] - by_series[0] > 1.5 * (by_row[1] - by_row[0])
    assert by_series == scores.ratio_interval(errors, against, np.repeat(np.arange(20), 50))


def test_the_interval_of_a_ratio_holds_it_as_often_as_it_says() -> None:
    random, held = np.random.default_rng(1), 0
    for _ in range(100):
        errors, against = random.gamma(2, 0.4, 150), random.gamma(2, 0.5, 150)
        low, high = scores.ratio_interval(errors, against, np.arange(150), draws=400)
        held += low <= 0.8 <= high
    assert held >= 88


def test_coverage_counts_the_ends_in() -> None:
    truth = np.array([0.0, 1.0, 2.0, 3.0])
    assert scores.coverage(truth, np.full(4, 1.0), np.full(4, 2.0)) == 0.5


def test_one_seed_has_no_spread() -> None:
    assert scores.spread([0.4]) == 0
    assert scores.spread([0.4, 0.6]) == pytest.approx(0.1414, abs=1e-4)
