"""Item-kNN's fit: which items are met by the same people. The family and the standing baseline both use it.

    similarity(i, j) = people who met both / (√(people who met i · people who met j) + shrink)

Cosine of the columns of the user × item matrix (Sarwar et al., WWW 2001), shrunk: two items that one person met
have a cosine of 1 and no evidence (Bell & Koren, ICDM 2007). Each item keeps its nearest ones.

**Memory** is linear: the positives, `neighbours` entries an item, and the counts of as many items at once as hold
AT_ONCE of them, or one item's. Time grows with the sum of the squared lengths of the users' histories.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from training.baselines.item_knn_predictor import ItemKNN
from training.history import liked_matrix, met_arrays
from training.meetings import Meetings

AT_ONCE = 4_000_000  # pairs that are counted at once: some 100 MB


@dataclass(frozen=True)
class Hyper:
    """shrink: in people. neighbours: kept for each item. tie_break: what popularity is worth against similarities."""

    neighbours: int = 200
    shrink: float = 10.0
    tie_break: float = 0.01


def fit(window: Meetings, hyper: Hyper) -> dict[str, np.ndarray]:
    """The arrays that `ItemKNN.set_up` takes, from the positives of a window."""
    liked = liked_matrix(window)
    met = met_arrays(window, liked)
    start, near, weight = nearest(liked, met["people"], hyper)
    return {
        "near_start": start,
        "near_item": near,
        "near_weight": weight,
        **met,
        "place": places(met["people"], window.items["category"].to_numpy()),
    }


def nearest(
    matrix: csr_matrix, people: np.ndarray, hyper: Hyper
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each item's nearest: start int64 [items + 1], item int32 and similarity float32, nearest first.

    matrix: float32 [users, items] of ones. Ties go by item number, the same way every time.
    """
    by_item = matrix.T.tocsr()
    length = np.sqrt(people.astype(np.float64))
    pairs = by_item @ np.diff(matrix.indptr).astype(np.float64)  # at most so many of each item
    counted, near, weight = [np.zeros(1, np.int64)], [], []
    for first, last in _handfuls(pairs):
        both = (by_item[first:last] @ matrix).tocoo()
        row, column = both.row + first, both.col
        kept = row != column
        row, column, together = row[kept], column[kept], both.data[kept]
        alike = (together / (length[row] * length[column] + hyper.shrink)).astype(np.float32)
        order = np.lexsort((column, -alike, row))
        row, column, alike = row[order], column[order], alike[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        best = rank < hyper.neighbours
        counted.append(np.bincount(row[best] - first, minlength=last - first))
        near.append(column[best].astype(np.int32))
        weight.append(alike[best])
    start = np.cumsum(np.concatenate(counted)).astype(np.int64)
    return (
        start,
        np.concatenate([np.empty(0, np.int32), *near]),
        np.concatenate([np.empty(0, np.float32), *weight]),
    )


def _handfuls(pairs: np.ndarray) -> list[tuple[int, int]]:
    """Runs [first, last) of items with at most AT_ONCE pairs, or of one item."""
    runs, first, total = [], 0, 0.0
    for item, count in enumerate(pairs):
        if item > first and total + count > AT_ONCE:
            runs.append((first, item))
            first, total = item, 0.0
        total += count
    return [*runs, (first, len(pairs))]


def places(people: np.ndarray, category: np.ndarray) -> np.ndarray:
    """float32 [items]: 1 for the item that most people met, down to above 0; no two alike.

    Between equals, such as all new items, the one of the category whose items are met more comes first.
    """
    number = np.unique(category, return_inverse=True)[1]
    usual = np.bincount(number, weights=people) / np.bincount(number) if len(people) else np.zeros(0)
    order = np.lexsort((np.arange(len(people)), -usual[number], -people))
    place = np.empty(len(people), np.float32)
    place[order] = 1 - np.arange(len(people)) / max(len(people), 1)
    return place


def in_memory(
    window: Meetings,
    hyper: Hyper | None = None,
    fitted: Callable[[Meetings, Any], dict[str, np.ndarray]] = fit,
) -> ItemKNN:
    """What would be served, without the detour over the disk. fitted: as `fit`, the way to the arrays."""
    hyper = hyper or Hyper()
    served = ItemKNN()
    served.set_up(asdict(hyper), fitted(window, hyper), window.users, window.items)
    return served
