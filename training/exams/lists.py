"""What a list of ten shows besides hits: how far beyond the best known, how wide, how much like its user.

Novelty is the mean self-information of the items shown (Zhou et al., PNAS 2010; Castells et al. 2015): an item that
one interaction in 1,024 is with says 10 bits. Miscalibration is how far the list's mix of categories is from that of
what its user met before (Steck, RecSys 2018), as the Jensen-Shannon distance, which is symmetric and within 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

UNKNOWN = "unknown"  # the category of an item that the catalogue does not list
PRIOR = 1.0  # items' worth of the overall mix in what a user met: with nothing met, it is that mix


def best(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of each row's k highest finite scores, int64 [users, min(k, items)], in column order; -1 = none is left.

    scores [users, items]. A tie goes to the earlier column, as when serving.
    """
    k = min(k, scores.shape[1])
    if k == 0 or not len(scores):
        return np.empty((len(scores), k), dtype=np.int64)
    usable = np.where(np.isfinite(scores), scores, -np.inf)
    edge = -np.partition(-usable, k - 1, axis=1)[:, k - 1 : k]
    above, tied = usable > edge, usable == edge
    room = k - np.count_nonzero(above, axis=1)[:, None]
    taken = above | (tied & (np.cumsum(tied, axis=1) <= room))
    lists = np.nonzero(taken)[1].reshape(len(scores), k)
    return np.where(np.isfinite(np.take_along_axis(usable, lists, axis=1)), lists, -1)


class Background:
    """What was known of the items of a catalogue before an exam.

    share: float64 [items], the items' shares of the interactions, with one more for each (Laplace): a new item's is
        small, and not 0. kind: int64 [items], its category's number. overall: float64 [kinds], the categories' shares.
    """

    def __init__(
        self, catalogue: Sequence[str], category: Mapping[str, str], popularity: Mapping[str, int]
    ) -> None:
        counts = np.array([popularity.get(item, 0) for item in catalogue], dtype=np.float64) + 1
        self.share: np.ndarray = counts / counts.sum()
        self.kinds = sorted({*category.values(), UNKNOWN})
        self._number = {name: number for number, name in enumerate(self.kinds)}
        self._category = category
        self.kind = self.kinds_of(catalogue)
        self.overall: np.ndarray = np.bincount(self.kind, weights=self.share, minlength=len(self.kinds))

    def kinds_of(self, items: Sequence[str]) -> np.ndarray:
        """The categories' numbers of any items, int64."""
        return np.array([self._number[self._category.get(item, UNKNOWN)] for item in items], dtype=np.int64)

    def novelty(self, lists: np.ndarray) -> np.ndarray:
        """Mean self-information in bits of the items of lists [users, k], float64 [users]; 0 of an empty list."""
        bits = np.where(lists >= 0, -np.log2(self.share)[lists], 0.0) if lists.size else np.zeros(lists.shape)
        return bits.sum(axis=1) / np.maximum(np.count_nonzero(lists >= 0, axis=1), 1)

    def miscalibration(self, lists: np.ndarray, met: Sequence[Sequence[str]]) -> np.ndarray:
        """Distance 0..1 of lists' categories [users, k] from those of the items met, [users]; 1 of an empty list."""
        shown = self._mix([self.kind[row[row >= 0]] for row in lists])
        before = self._mix([self.kinds_of(items) for items in met]) + PRIOR * self.overall
        before /= before.sum(axis=1, keepdims=True)
        count = shown.sum(axis=1, keepdims=True)
        distance = jensen_shannon(shown / np.maximum(count, 1), before)
        return np.where(count[:, 0] > 0, distance, 1.0)

    def _mix(self, kinds: list[np.ndarray]) -> np.ndarray:
        row = np.repeat(np.arange(len(kinds)), [len(one) for one in kinds])
        cells = row * len(self.kinds) + np.concatenate([np.empty(0, np.int64), *kinds])
        counts = np.bincount(cells, minlength=len(kinds) * len(self.kinds))
        return counts.reshape(len(kinds), len(self.kinds)).astype(np.float64)


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Distance of distributions [n, kinds], float64 [n], 0..1: the root of the divergence in bits (Lin 1991)."""
    middle = (p + q) / 2

    def information(given: np.ndarray) -> np.ndarray:
        ratio = np.divide(given, middle, out=np.ones_like(given), where=(given > 0) & (middle > 0))
        total: np.ndarray = (given * np.log2(ratio)).sum(axis=1)
        return total

    distance: np.ndarray = np.sqrt(np.clip((information(p) + information(q)) / 2, 0.0, 1.0))
    return distance
