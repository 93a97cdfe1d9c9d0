"""Whether what a model says of its own certainty comes true.

The expected calibration error is the mean distance between what was said and what happened, over ten groups of equally
many answers from the least to the most sure one (Naeini et al., AAAI 2015, with groups of equal size, as the chances
of a recommender are all small). What was said alike is in one group, that of its mean rank. Chance alone makes it more
than 0: `luck` is what a model would show on average whose every word is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.stats import rankdata

GROUPS = 10


@dataclass(frozen=True)
class Reliability:
    """Groups from the least to the most sure, float64 [groups] each: the mean of what was said, the share that came
    true with its 95 % interval (Wilson's), and of how many (int64). error, luck: over all of them."""

    said: np.ndarray
    came: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    error: float
    luck: float


def reliability(said: np.ndarray, true: np.ndarray) -> Reliability:
    """said: chances [n] within 0..1. true: whether it came so, [n]. At least one.

    Nothing hangs on the order that they come in.
    """
    order = np.lexsort((true, said))
    said, true = said[order].astype(np.float64), true[order].astype(np.float64)
    tenth = ((rankdata(said) - 0.5) * GROUPS / len(said)).astype(np.int64)
    number = np.unique(tenth, return_inverse=True)[1]
    count = np.bincount(number)
    mean, came = np.bincount(number, weights=said) / count, np.bincount(number, weights=true) / count
    share = count / len(said)
    # Of a normal variable the mean distance from its mean is √(2/π) standard deviations.
    luck = np.sqrt(2 / np.pi * mean * (1 - mean) / count)
    low, high = wilson(came, count)
    return Reliability(
        mean, came, low, high, count, float((share * np.abs(mean - came)).sum()), float((share * luck).sum())
    )


def wilson(share: np.ndarray, count: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of shares of counts (JASA 1927): within 0..1, holds its share, and is not of width 0 where
    nothing came true."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    # Where none came true, or all did, an end is the share itself, which rounding would miss.
    return np.minimum(middle - half, share), np.maximum(middle + half, share)
