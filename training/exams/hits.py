"""Where the relevant items came in a full ranking, and what follows from that alone.

A hit keeps how many *irrelevant* items were ranked no lower. So the ranking of one class of relevant items, with the
other relevant ones taken out of it, is known without scoring anything again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Hits:
    """Every user's relevant items, in order of user, best ranked first.

    user: int64 [p], whose. item: int64 [p], which column of the catalogue. above: int64 [p], how many irrelevant items
    were ranked no lower. others: int64 [users], how many irrelevant items were ranked.
    """

    user: np.ndarray
    item: np.ndarray
    above: np.ndarray
    others: np.ndarray

    @property
    def place(self) -> np.ndarray:
        """int64 [p], from 0: irrelevant items above, and the user's better relevant ones."""
        count = np.bincount(self.user, minlength=len(self.others))
        first = np.cumsum(count) - count
        return self.above + np.arange(len(self.user)) - first[self.user]

    def only(self, kept: np.ndarray) -> Hits:
        """As if only these [p] relevant items were in the ranking: neither counted nor in anybody's way."""
        return replace(self, user=self.user[kept], item=self.item[kept], above=self.above[kept])

    def ndcg(self, k: int) -> np.ndarray:
        """NDCG@k [users]: binary gains, ideal = min(relevant, k) hits; NaN for whom nothing is relevant."""
        users, place = len(self.others), self.place
        discount = 1 / np.log2(np.arange(2, k + 2))
        gains = np.where(place < k, discount[np.minimum(place, k - 1)], 0.0)
        ideal = np.concatenate([[np.nan], np.cumsum(discount)])
        relevant = np.bincount(self.user, minlength=users)
        found: np.ndarray = (
            np.bincount(self.user, weights=gains, minlength=users) / ideal[np.minimum(relevant, k)]
        )
        return found

    def recall(self, k: int) -> np.ndarray:
        """Share of the relevant items that came within the first k, [users]."""
        return self._mean(self.place < k)

    def hit_rate(self, k: int) -> np.ndarray:
        """1 where a relevant item came within the first k, [users]."""
        return (self.recall(k) > 0).astype(np.float64)

    def precision(self, k: int) -> np.ndarray:
        """Share of the first k that is relevant, [users]."""
        within: np.ndarray = np.bincount(self.user, weights=self.place < k, minlength=len(self.others))
        return within / k

    def auc(self) -> np.ndarray:
        """Share of relevant/irrelevant pairs in strictly the right order, [users]; 1 if nothing is irrelevant."""
        wrong = self._mean(self.above)
        return 1 - np.divide(wrong, self.others, out=np.zeros(len(self.others)), where=self.others > 0)

    def _mean(self, values: np.ndarray) -> np.ndarray:
        users = len(self.others)
        relevant = np.maximum(np.bincount(self.user, minlength=users), 1)
        mean: np.ndarray = np.bincount(self.user, weights=values, minlength=users) / relevant
        return mean


def find(ranked: np.ndarray, wanted: list[np.ndarray]) -> Hits:
    """The hits of some users.

    ranked: scores float32 [users, items]; NaN = left out of the ranking, -inf = last. wanted: each user's relevant
    columns (int64), at least one, none left out. A tie ranks the irrelevant item first.
    """
    others = ranked.copy()
    for at, columns in enumerate(wanted):
        others[at, columns] = np.nan
    others.sort(axis=1)  # NaN comes last
    count = np.count_nonzero(~np.isnan(others), axis=1)
    items, above = [], []
    for at, columns in enumerate(wanted):
        scores = ranked[at, columns]
        order = np.argsort(-scores, kind="stable")
        items.append(columns[order])
        above.append(count[at] - np.searchsorted(others[at, : count[at]], scores[order], side="left"))
    user = np.repeat(np.arange(len(wanted)), [len(columns) for columns in wanted])
    return Hits(user, _joined(items), _joined(above), count.astype(np.int64))


def joined(parts: list[Hits]) -> Hits:
    """The hits of users after users."""
    users = np.cumsum([0, *(len(part.others) for part in parts)])
    return Hits(
        _joined([part.user + before for part, before in zip(parts, users, strict=False)]),
        _joined([part.item for part in parts]),
        _joined([part.above for part in parts]),
        _joined([part.others for part in parts]),
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64)
