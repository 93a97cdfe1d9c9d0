"""Estimates with their 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z = 1.959964  # two-sided 95 %
DRAWS = 4_000


def share(happened: Sequence[bool] | np.ndarray) -> dict[str, float]:
    """How often something happened, with Wilson's score interval (1927), which also holds at 0 and at 1.

    Raises ValueError without a case.
    """
    n, count = len(happened), int(np.sum(happened))
    if n == 0:
        raise ValueError("a share of no cases")
    rate = count / n
    centre = (rate + Z**2 / (2 * n)) / (1 + Z**2 / n)
    reach = Z / (1 + Z**2 / n) * math.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2))
    # At 0 and at 1 the bound is exact; rounding must not push it past the estimate.
    return {
        "estimate": rate,
        "low": min(rate, max(0.0, centre - reach)),
        "high": max(rate, min(1.0, centre + reach)),
        "nights": n,
    }


def average(values: Sequence[float] | np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """A mean with its percentile-bootstrap interval. Raises ValueError without a value."""
    found = np.asarray(values, dtype=np.float64)
    if not len(found):
        raise ValueError("a mean of no values")
    drawn = np.random.default_rng(seed).integers(0, len(found), size=(DRAWS, len(found)))
    low, high = np.quantile(found[drawn].mean(axis=1), [0.025, 0.975])
    mean = float(found.mean())
    return {
        "estimate": mean,
        "low": min(mean, float(low)),
        "high": max(mean, float(high)),
        "chains": len(found),
    }
