"""The one scorer: every model that wants the recommender's seat sits the same exam, on the same rows.

The task is *discovery*: rank the whole catalogue for a user, items the user met before left out, and find
what the user met for the first time on the exam days. No sampled negatives: sampled metrics can order two
models differently from the full catalogue (Krichene & Rendle, KDD 2020).

Three rules keep a model from looking better than it is: an item it does not know ranks last, a tie ranks
the irrelevant item first, and a score that is not finite ranks last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np
import pandas as pd

from nightshift.confidence import checked, confidences, log_shares
from nightshift.errors import ContractError
from nightshift.seats import RecommenderModel
from training.exams import Scores
from training.exams.hits import Hits, find, joined
from training.exams.lists import UNKNOWN, Background, best
from training.exams.reliability import reliability
from training.exams.slices import by_item, by_unit, popular

PER_USER = (
    "ndcg_at_100", "ndcg_at_10", "hr_at_10", "recall_at_50", "auc", "precision_at_10",
    "novelty_at_10", "miscalibration_at_10",
)  # fmt: skip
METRICS = (*PER_USER, "coverage_at_10", "calibration_error_at_10")
TOP, RECALL_TOP, DEEP = 10, 50, 100
NEW_BELOW = 5  # items met: who met fewer is a new user
CHUNK_CELLS = 1_000_000  # users × items ranked at once: some 30 MB a chunk


@dataclass(frozen=True)
class Exam:
    """One exam. `users`, `relevant`, `seen` and the rows of `features` are aligned.

    relevant: per user, items met on the exam days and never before; at least one.
    seen: per user, items met before; left out of the ranking, as they are when serving.
    features: `user_id` and every user feature by its bare name, as known when the exam starts; NaN = missing.
    catalogue: every item id on offer; holds all relevant items.
    digest: sha256 of all of it: equal digests mean equal exams.

    What tells users and items apart, as known when the exam starts; whoever is not in it is not known:
    category: item → category. popularity: item → interactions in the training window. country: user → country.
    steered: user → items of `seen` that were first met on the exam days, through a recommendation.
    """

    users: list[str]
    relevant: list[list[str]]
    seen: list[list[str]]
    features: pd.DataFrame
    catalogue: list[str]
    start: date
    end: date
    digest: str
    category: Mapping[str, str] = field(default_factory=dict)
    popularity: Mapping[str, int] = field(default_factory=dict)
    country: Mapping[str, str] = field(default_factory=dict)
    steered: Mapping[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)

    def met(self, row: int) -> list[str]:
        """What the row's user met in the training window: what a model could know of."""
        late = self.steered.get(self.users[row], [])
        return [item for item in self.seen[row] if item not in late] if late else self.seen[row]

    def where(self, kept: np.ndarray) -> Exam:
        """The same exam for some of its users. kept: bool [users]."""
        at = np.flatnonzero(kept)
        return replace(
            self,
            users=[self.users[row] for row in at],
            relevant=[self.relevant[row] for row in at],
            seen=[self.seen[row] for row in at],
            features=self.features.iloc[at].reset_index(drop=True),
            digest=f"{self.digest} {hashlib.sha256(at.tobytes()).hexdigest()}",
        )

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
    """Score `model` on `exam`, some users at a time, so that memory does not grow with users × items.

    Metrics: NDCG@100 and @10 (binary gains, ideal = min(relevant, k) hits), HR@10, recall@50, AUC (share of
    relevant/irrelevant pairs in strictly the right order), precision@10. Of the ten items shown: novelty and
    miscalibration (`training.exams.lists`); coverage@10 is the share of the catalogue that is in somebody's ten.
    calibration_error@10 is that of the confidences shown with them (`training.exams.reliability`); a model that says
    none, such as one of before there were any, has no such figure.
    Slices are of NDCG@100; one of items asks for the relevant items of that class alone.

    Raises:
        ContractError: the scores do not have the shape [users, items].
        ValueError: the model's calibration is none.
    """
    column = {item: i for i, item in enumerate(exam.catalogue)}
    known = Background(exam.catalogue, exam.category, exam.popularity)
    shown = np.zeros(len(exam.catalogue), dtype=bool)
    calibration = checked(getattr(model, "calibration", None))
    parts, novelty, miscalibration, said, true = [], [], [], [np.empty(0)], [np.empty(0, bool)]
    for rows, ranked in rankings(model, exam, column):
        parts.append(find(ranked, [np.array([column[item] for item in exam.relevant[row]]) for row in rows]))
        lists = best(ranked, TOP)
        shown[lists[lists >= 0]] = True
        novelty.append(known.novelty(lists))
        miscalibration.append(known.miscalibration(lists, [exam.met(row) for row in rows]))
        if calibration is not None:
            chances = confidences(calibration, log_shares(ranked, lists))
            there = ~np.isnan(chances)
            said.append(chances[there])
            true.append(came_true(lists, [exam.relevant[row] for row in rows], column)[there])
    hits = joined(parts)
    totals = {"coverage_at_10": float(shown.mean()) if len(shown) else 0.0}
    if sum(map(len, said)):
        totals["calibration_error_at_10"] = reliability(np.concatenate(said), np.concatenate(true)).error
    return Scores(
        {
            "ndcg_at_100": hits.ndcg(DEEP),
            "ndcg_at_10": hits.ndcg(TOP),
            "hr_at_10": hits.hit_rate(TOP),
            "recall_at_50": hits.recall(RECALL_TOP),
            "auc": hits.auc(),
            "precision_at_10": hits.precision(TOP),
            "novelty_at_10": np.concatenate([[], *novelty]),
            "miscalibration_at_10": np.concatenate([[], *miscalibration]),
        },
        totals,
        _slices(exam, hits, known),
        "ndcg_at_100",
    )


def came_true(lists: np.ndarray, relevant: list[list[str]], column: Mapping[str, int]) -> np.ndarray:
    """Whether each item listed was met: bool [users, k]. lists: columns int64 [users, k], -1 = none."""
    met = np.zeros((len(lists), len(column) + 1), dtype=bool)  # one column more, for the places where none is
    for at, items in enumerate(relevant):
        met[at, [column[item] for item in items]] = True
    return np.take_along_axis(met, lists, axis=1)


def rankings(
    model: RecommenderModel, exam: Exam, column: Mapping[str, int]
) -> Iterator[tuple[range, np.ndarray]]:
    """Some rows of the exam at a time, and their scores float32 [rows, catalogue]: NaN = left out, -inf = last."""
    places = np.array([column.get(item, -1) for item in model.items], dtype=np.int64)
    kept = np.flatnonzero(places >= 0)
    for rows in chunks(len(exam.users), max(len(exam.catalogue), len(model.items))):
        given = model.score(exam.features.iloc[rows.start : rows.stop].reset_index(drop=True))
        if given.shape != (len(rows), len(model.items)):
            raise ContractError(
                f"the model scored {given.shape}, expected {(len(rows), len(model.items))} [users, items]"
            )
        ranked = np.full((len(rows), len(exam.catalogue)), -np.inf, dtype=np.float32)
        ranked[:, places[kept]] = np.where(np.isfinite(given), given, -np.inf)[:, kept]
        for at, row in enumerate(rows):
            ranked[at, [column[item] for item in exam.seen[row] if item in column]] = np.nan
        yield rows, ranked


def _slices(exam: Exam, hits: Hits, known: Background) -> dict[str, np.ndarray]:
    """NDCG@100 of kinds of users and of kinds of items; a division of which nothing is known is left out."""
    whole = hits.ndcg(DEEP)
    new = ["new" if len(exam.met(row)) < NEW_BELOW else "returning" for row in range(len(exam))]
    found = by_unit(whole, "users", new)
    if exam.country:
        found |= by_unit(whole, "country", [exam.country.get(user, UNKNOWN) for user in exam.users])
    counts = np.array([exam.popularity.get(item, 0) for item in exam.catalogue], dtype=np.int64)
    if counts.any():
        found |= by_item(hits, DEEP, "items", np.where(popular(counts), "popular", "rare").astype(object))
    if exam.category:
        found |= by_item(hits, DEEP, "category", np.array(known.kinds, dtype=object)[known.kind])
    return found


def chunks(users: int, items: int) -> Iterator[range]:
    """Rows 0..users-1, as many at a time as may be ranked at once."""
    size = max(1, CHUNK_CELLS // max(items, 1))
    for start in range(0, users, size):
        yield range(start, min(start + size, users))
