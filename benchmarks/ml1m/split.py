"""The split of He et al. (WWW 2017): each user's last item held out, and 99 items drawn by the authors beside it.

Files of github.com/hexiangnan/neural_collaborative_filtering as `train.csv` (user,item), `test.csv` (user,item) and
`test_negatives.csv` (user, then 99 items). They carry no times: which training item came last they do not tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from nightshift.errors import SourceError

FILES = ("train.csv", "test.csv", "test_negatives.csv")
TOP = 10
CHUNK = 500  # users scored at once: 3,706 items each

Scorer = Callable[[np.ndarray], np.ndarray]
"""Users int64 [n] → scores float [n, items], higher is better."""


@dataclass(frozen=True)
class Split:
    """train: float32 [users, items] of ones. held: int64 [users]. negatives: int64 [users, 99]."""

    train: csr_matrix
    held: np.ndarray
    negatives: np.ndarray

    def score(self, scorer: Scorer) -> dict[str, float]:
        """HR@10 and NDCG@10, the means over users: among the 99 sampled items, and over all items not met in training.

        A tie counts against the model. In 156 rows the held-out item is among its own negatives; there it is dropped.
        """
        found = {name: np.empty(len(self.held)) for name in ("hr10", "ndcg10", "hr10_full", "ndcg10_full")}
        for start in range(0, len(self.held), CHUNK):
            users = np.arange(start, min(start + CHUNK, len(self.held)))
            scores = np.array(scorer(users), np.float64)
            own = np.take_along_axis(scores, self.held[users, None], axis=1)
            rivals = np.take_along_axis(scores, self.negatives[users], axis=1)
            rivals[self.negatives[users] == self.held[users, None]] = -np.inf
            met = self.train[users].tocoo()
            scores[met.row, met.col] = -np.inf
            scores[np.arange(len(users)), self.held[users]] = -np.inf
            for name, others in (("", rivals), ("_full", scores)):
                place = np.count_nonzero(others >= own, axis=1)
                found[f"hr10{name}"][users] = place < TOP
                found[f"ndcg10{name}"][users] = np.where(place < TOP, 1 / np.log2(place + 2.0), 0.0)
        return {name: float(values.mean()) for name, values in found.items()}


def read(folder: Path) -> Split:
    """Raises SourceError where a file is missing."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise SourceError(f"{folder}: no {', '.join(missing)}; docs/benchmarks.md says where they come from")
    train = pd.read_csv(folder / "train.csv").to_numpy(np.int64)
    held = pd.read_csv(folder / "test.csv").sort_values("user")["item"].to_numpy(np.int64)
    listed = pd.read_csv(folder / "test_negatives.csv", header=None, index_col=0)
    negatives = listed.sort_index().to_numpy(np.int64)
    items = int(max(train[:, 1].max(), held.max(), negatives.max())) + 1
    ones = np.ones(len(train), np.float32)
    return Split(csr_matrix((ones, (train[:, 0], train[:, 1])), shape=(len(held), items)), held, negatives)
