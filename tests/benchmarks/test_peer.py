"""The public peer: it sees a series' past and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import peer
from benchmarks.series import TEST, Samples, Series, windows


def samples_of(*values: np.ndarray) -> Samples:
    names = [str(number) for number in range(len(values))]
    return windows("some", Series(names, list(values), [0] * len(values)))


def walk(seed: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(0.01, 0.1, 160))


@pytest.mark.parametrize("name", peer.PEERS)
def test_the_future_changes_no_forecast(name: str) -> None:
    values, changed = walk(0), walk(0)
    changed[140:] += 5 * walk(1)[140:]
    rows = samples_of(values).rows(TEST)
    before, after = (peer.forecast(name, samples_of(one), rows) for one in (values, changed))
    known = samples_of(values).at[rows] < 140
    np.testing.assert_allclose(before[known], after[known])
    assert not np.allclose(before[~known], after[~known])


def test_a_steady_climb_goes_on() -> None:
    random = np.random.default_rng(0)
    samples = samples_of(0.1 * np.arange(160) + 0.01 * random.normal(size=160))
    rows = samples.rows(TEST)
    found = peer.forecast("autoets", samples, rows)
    np.testing.assert_allclose(found, samples.windows.y[rows, -1], atol=0.2 * np.abs(found).max())


def test_gaps_and_a_late_start_are_no_hindrance() -> None:
    values = walk(2)
    values[:20], values[60:64] = np.nan, np.nan
    samples = samples_of(values)
    assert np.isfinite(peer.forecast("autoets", samples, samples.rows(TEST))).all()
