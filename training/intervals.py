"""Intervals over users (topics, …). Seeded, so that whoever reads a verdict can compute them again."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from scipy.stats import t as student

CHUNK_CELLS = 2_000_000  # draws × units resampled at once: 16 MB of indices a chunk
KEPT_CELLS = 8_000_000  # resamples up to this size are kept for the next exam of the same seed: 8 MB


def seed_from(text: str) -> int:
    """A seed from any text, such as an exam's digest."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def mean_intervals(
    values: np.ndarray, *, confidence: float, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile-bootstrap intervals (low, high) of the column means of `values` [units, columns].

    Every column is resampled alike: for the differences of two models, give the per-unit differences, and the units
    stay paired. Two-sided, so a bound alone errs (1 - confidence) / 2 of the time (Efron & Tibshirani 1993, ch. 13).
    """
    units = len(values)
    means = np.concatenate([counts @ values for counts in _resamples(seed, units, draws)]) / units
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low, high


def cautious_intervals(
    values: np.ndarray, *, confidence: float, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """At each end the wider of `mean_intervals` and Student's t.

    The bootstrap follows the skew of the differences, but so far out as many rivals push the confidence it has too
    few draws to show (2,000 draws put four beyond 99.8 %); Student's t goes on, and knows that a small exam's spread
    is itself uncertain.
    """
    lows, highs = mean_intervals(values, confidence=confidence, draws=draws, seed=seed)
    plain = [student_interval(column, confidence=confidence) for column in values.T]
    return np.minimum(lows, [low for low, _ in plain]), np.maximum(highs, [high for _, high in plain])


def mean_interval(values: np.ndarray, *, confidence: float, draws: int, seed: int) -> tuple[float, float]:
    """`mean_intervals` of one column [units]."""
    low, high = mean_intervals(values[:, None], confidence=confidence, draws=draws, seed=seed)
    return float(low[0]), float(high[0])


def student_interval(values: np.ndarray, *, confidence: float) -> tuple[float, float]:
    """Student's t interval of the mean of `values` [n]; for confidences so high that a bootstrap's few draws out
    there would be noise. Infinite with fewer than two values."""
    if len(values) < 2:
        return -math.inf, math.inf
    reach = _quantile(confidence, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)


@lru_cache(maxsize=4096)
def _quantile(confidence: float, freedom: int) -> float:
    return float(student.ppf((1 + confidence) / 2, freedom))


def _resamples(seed: int, units: int, draws: int) -> Iterator[np.ndarray]:
    """How often each unit was drawn: float64 [some draws, units] at a time, `draws` in all."""
    if units * draws <= KEPT_CELLS:
        kept = _kept(seed, units, draws)
        step = max(1, CHUNK_CELLS // units)
        for start in range(0, draws, step):
            yield kept[start : start + step].astype(np.float64)
        return
    yield from _drawn(seed, units, draws)


@lru_cache(maxsize=16)
def _kept(seed: int, units: int, draws: int) -> np.ndarray:
    # A unit that is drawn more than 255 times of as many units is not met in this universe, but is clipped.
    return np.concatenate([np.minimum(c, 255).astype(np.uint8) for c in _drawn(seed, units, draws)])


def _drawn(seed: int, units: int, draws: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    step = max(1, CHUNK_CELLS // units)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        drawn = random.integers(0, units, size=(rows, units), dtype=np.int32)
        drawn += np.arange(rows, dtype=np.int32)[:, None] * units
        yield np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)
