"""The one scorer: every model that wants the recommender's seat sits the same exam, on the same rows.

The task is *discovery*: rank the whole catalogue for a user, items the user met before left out, and find
what the user met for the first time on the exam days. No sampled negatives: sampled metrics can order two
models differently from the full catalogue (Krichene & Rendle, KDD 2020).

Three rules keep a model from looking better than it is: an item it does not know ranks last, a tie ranks
the irrelevant item first, and a score that is not finite ranks last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandas as pd

from nightshift.errors import ContractError
from nightshift.seats import RecommenderModel
from training.exams import Scores

PER_USER = ("hr_at_10", "ndcg_at_10", "recall_at_50", "auc", "precision_at_10")
METRICS = (*PER_USER, "coverage_at_10")
TOP, RECALL_TOP = 10, 50
CHUNK_CELLS = 4_000_000  # users × items scored at once: 16 MB of float32 a chunk
_DISCOUNT = 1 / np.log2(np.arange(2, TOP + 2))


@dataclass(frozen=True)
class Exam:
    """One exam. `users`, `relevant`, `seen` and the rows of `features` are aligned.

    relevant: per user, items met on the exam days and never before; at least one.
    seen: per user, items met before; left out of the ranking, as they are when serving.
    features: `user_id` and every user feature by its bare name, as known when the exam starts; NaN = missing.
    catalogue: every item id on offer; holds all relevant items.
    digest: sha256 of all of the above: equal digests mean equal exams.
    """

    users: list[str]
    relevant: list[list[str]]
    seen: list[list[str]]
    features: pd.DataFrame
    catalogue: list[str]
    start: date
    end: date
    digest: str

    def __len__(self) -> int:
        return len(self.users)

    def head(self, users: int) -> Exam:
        """The same exam for the first `users` alone."""
        return replace(
            self,
            users=self.users[:users],
            relevant=self.relevant[:users],
            seen=self.seen[:users],
            features=self.features.iloc[:users],
            digest=f"{self.digest}:{users}" if users < len(self.users) else self.digest,
        )


def score_model(model: RecommenderModel, exam: Exam) -> Scores:
    """Score `model` on `exam`, some users at a time, so that memory does not grow with the users.

    Metrics: HR@10, NDCG@10 (binary gains, ideal = min(relevant, 10) hits), recall@50, AUC (share of
    relevant/irrelevant pairs in strictly the right order), precision@10; coverage@10 is the share of the
    catalogue that is in somebody's first ten.

    Raises:
        ContractError: the scores do not have the shape [users, items].
    """
    column = {item: i for i, item in enumerate(exam.catalogue)}
    places = np.array([column.get(item, -1) for item in model.items], dtype=np.int64)
    kept = np.flatnonzero(places >= 0)
    result = {name: np.zeros(len(exam.users)) for name in PER_USER}
    shown = np.zeros(len(exam.catalogue), dtype=bool)
    for rows in _chunks(len(exam.users), max(len(exam.catalogue), len(model.items))):
        given = model.score(exam.features.iloc[rows.start : rows.stop].reset_index(drop=True))
        if given.shape != (len(rows), len(model.items)):
            raise ContractError(
                f"the model scored {given.shape}, expected {(len(rows), len(model.items))} [users, items]"
            )
        ranked = np.full((len(rows), len(exam.catalogue)), -np.inf, dtype=np.float32)
        ranked[:, places[kept]] = np.where(np.isfinite(given), given, -np.inf)[:, kept]
        for at, row in enumerate(rows):
            ranked[at, [column[item] for item in exam.seen[row] if item in column]] = np.nan
            wanted = [column[item] for item in exam.relevant[row]]
            for name, value in _one_user(ranked[at], np.array(wanted)).items():
                result[name][row] = value
        shown[_top_items(ranked)] = True
    return Scores(result, {"coverage_at_10": float(shown.mean()) if len(shown) else 0.0})


def _one_user(scores: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Metrics of one ranking; `scores` [items] is NaN for items left out, -inf for unknown ones."""
    relevant = np.sort(scores[wanted])[::-1]
    others = np.delete(scores, wanted)
    others = np.sort(others[~np.isnan(others)])
    above = len(others) - np.searchsorted(others, relevant, side="left")  # irrelevant ones not ranked lower
    rank = above + np.arange(len(relevant))  # 0 is first
    gains = _DISCOUNT[rank[rank < TOP]]
    ideal = _DISCOUNT[: min(len(wanted), TOP)].sum()
    return {
        "hr_at_10": float(len(gains) > 0),
        "ndcg_at_10": float(gains.sum() / ideal),
        "recall_at_50": float((rank < RECALL_TOP).mean()),
        "auc": float(1 - above.mean() / len(others)) if len(others) else 1.0,
        "precision_at_10": len(gains) / TOP,
    }


def _top_items(ranked: np.ndarray) -> np.ndarray:
    """Columns that are in at least one row's first ten (items left out or unknown never are)."""
    usable = np.where(np.isfinite(ranked), ranked, -np.inf)
    if usable.shape[1] > TOP:
        top = np.argpartition(-usable, TOP - 1, axis=1)[:, :TOP]
    else:
        top = np.broadcast_to(np.arange(usable.shape[1]), usable.shape)
    finite = np.isfinite(np.take_along_axis(usable, top, axis=1))
    return np.unique(top[finite])


def _chunks(users: int, items: int) -> Iterator[range]:
    size = max(1, CHUNK_CELLS // max(items, 1))
    for start in range(0, users, size):
        yield range(start, min(start + size, users))
