"""Which items to return, from scores alone."""

from __future__ import annotations

import numpy as np


def best(scores: np.ndarray, left_out: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k highest scores, best first; ties keep the column order.

    scores: [items] float; an item whose score is not finite is never returned.
    left_out: columns (int64) never returned. Fewer than k come back where fewer are left.
    """
    usable = np.where(np.isfinite(scores), scores, -np.inf).astype(np.float64)
    usable[left_out] = -np.inf
    k = min(k, int(np.isfinite(usable).sum()))
    if k == 0:
        return np.empty(0, dtype=np.int64)
    # Everything that ties with the k-th stays in, so that a tie at the edge is settled by the sort below.
    edge = np.partition(usable, len(usable) - k)[len(usable) - k]
    near = np.flatnonzero(usable >= edge)
    return near[np.argsort(-usable[near], kind="stable")][:k]
