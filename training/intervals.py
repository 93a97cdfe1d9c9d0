"""Bootstrap intervals over users. Seeded, so that whoever reads a verdict can compute it again."""

from __future__ import annotations

import hashlib

import numpy as np

CHUNK_CELLS = 2_000_000  # draws × users resampled at once: 16 MB of indices a chunk


def seed_from(text: str) -> int:
    """A seed from any text, such as an exam's digest."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def mean_interval(values: np.ndarray, *, confidence: float, draws: int, seed: int) -> tuple[float, float]:
    """Percentile-bootstrap interval of the mean of `values` [users], resampling users.

    For the difference of two models, give the per-user differences: that keeps users paired.
    Two-sided, so a bound alone errs (1 - confidence) / 2 of the time (Efron & Tibshirani 1993, ch. 13).
    """
    users = len(values)
    random = np.random.default_rng(seed)
    means = np.empty(draws)
    step = max(1, CHUNK_CELLS // users)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        means[start : start + rows] = values[random.integers(0, users, size=(rows, users))].mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
