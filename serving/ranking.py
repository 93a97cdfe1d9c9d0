"""Which items to return: from scores alone, and where asked from no more than so many of a kind."""

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


def best_of_each(scores: np.ndarray, left_out: np.ndarray, k: int, kind: np.ndarray, cap: int) -> np.ndarray:
    """As `best`, but at most `cap` of each kind; fewer than k where the kinds do not suffice.

    kind: [items] int64. The best of each kind stay; what comes in for those beyond the cap is the best of the others.
    """
    deep = 4 * k
    while True:
        ranked = best(scores, left_out, deep)
        kept = ranked[_place_in_kind(kind[ranked]) < cap]
        if len(kept) >= k or len(ranked) < deep:
            return kept[:k]
        deep *= 4


def _place_in_kind(kind: np.ndarray) -> np.ndarray:
    """How many of the same kind came before, [n] int64."""
    order = np.argsort(kind, kind="stable")
    sorted_ = kind[order]
    place = np.empty(len(kind), np.int64)
    place[order] = np.arange(len(kind)) - np.searchsorted(sorted_, sorted_)
    return place
