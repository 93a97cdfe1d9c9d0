"""What the benchmark says of a forecast: error against last value, bootstrap bounds, coverage of intervals."""

from __future__ import annotations

import numpy as np

DRAWS = 2_000
TAIL = 0.025  # two-sided 95 %


def skill(errors: np.ndarray, last: np.ndarray) -> float:
    """1 - (mean of `errors`) / (mean of last value's): 0 is as good as last value, 1 is perfect."""
    return float(1 - errors.mean() / last.mean())


def ratio_interval(
    errors: np.ndarray, against: np.ndarray, cluster: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Percentile-bootstrap interval (95 %) of mean(errors) / mean(against), both [n], resampling whole clusters.

    cluster: [n], what belongs together: errors of one series (or of one quarter) are not independent.
    """
    _, member = np.unique(cluster, return_inverse=True)
    above, below = np.bincount(member, errors), np.bincount(member, against)
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(above), size=(draws, len(above)))
    low, high = np.quantile(above[drawn].sum(axis=1) / below[drawn].sum(axis=1), [TAIL, 1 - TAIL])
    return float(low), float(high)


def coverage(truth: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of the truths that lie in their intervals, ends included."""
    return float(((low <= truth) & (truth <= high)).mean())


def spread(values: list[float]) -> float:
    """Standard deviation over seeds, with n - 1; 0 for one seed."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
