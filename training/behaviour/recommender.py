"""How a recommender answers: `try_model`. Lists are made as serving makes them, from the model's own `seen`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import sparse

from nightshift.contracts.features import USER_FEATURES, numeric
from nightshift.errors import ContractError
from nightshift.seats import RecommenderModel
from training.behaviour import NothingToAskError, drawn_from, largest_change, measured, nudged, sample
from training.evidence import Measured
from training.exams.lists import best
from training.exams.ranking import TOP, Exam, chunks

TRIED = 200  # users who are asked about several times
LISTED = 1_000  # users whose lists are looked at
STRANGERS = 20
FEW_MET = 5  # added to a union of items met: two who met one and the same item are not yet alike
NUMBERS = numeric(USER_FEATURES)


def try_model(model: RecommenderModel, exam: Exam) -> Measured:
    """Figures of `training.metrics`; a probe in which the model's code raises gives none, but a problem.

    not_finite: share of scores that are no number. order_dependence: largest change of a score, in standard deviations
    of all scores, when users are asked in another order, one by one, or with their columns in another order.
    nudged_overlap: share of a list that stays when its user's numbers move by 1 %. repeated_items, met_items: share of
    lists with an id twice, and with an item that the user met in the training window. strangers_served: share of
    made-up users without any, or with half of, the features who get a full list. alike_overlap: overlap of the lists
    of users who met the same, less that of any two: below 0, taste has no part in it.
    """
    trial = _Trial(model, exam)
    return measured([trial.scores, trial.order, trial.nudge, trial.lists, trial.strangers, trial.alike])


@dataclass(frozen=True)
class _Trial:
    model: RecommenderModel
    exam: Exam

    def scores(self) -> Mapping[str, float]:
        return {"not_finite": float((~np.isfinite(self._scores)).mean()) if self._scores.size else 0.0}

    def order(self) -> Mapping[str, float]:
        asked, scores, random = self._asked, self._scores, self._random
        rows, columns = random.permutation(len(asked)), random.permutation(asked.shape[1])
        others = [
            (scores[rows], _score(self.model, asked.iloc[rows].reset_index(drop=True))),
            (scores, _score(self.model, asked.iloc[:, columns])),
            (scores, np.concatenate([_score(self.model, asked.iloc[[row]]) for row in range(len(asked))])),
        ]
        finite = scores[np.isfinite(scores)]
        spread = float(finite.std()) if finite.size else 0.0
        change = max(largest_change(before, after) for before, after in others)
        return {"order_dependence": change / spread if spread else change}

    def nudge(self) -> Mapping[str, float]:
        moved = self._asked.copy()
        names = [name for name in NUMBERS if name in moved]
        numbers = moved[names].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        moved[names] = nudged(numbers, self._random)
        before, after = _members(self.model, self._asked), _members(self.model, moved)
        return {"nudged_overlap": float(_overlap(before, after).mean())}

    def lists(self) -> Mapping[str, float]:
        lists = _lists(self.model, self._listed)
        met = [set(self.exam.met(row)) for row in self._rows]
        return {
            "repeated_items": float(np.mean([len(ids) != len(set(ids)) for ids in lists])),
            "met_items": float(
                np.mean([not known.isdisjoint(ids) for known, ids in zip(met, lists, strict=True)])
            ),
        }

    def strangers(self) -> Mapping[str, float]:
        """The first half of them without any feature, the others with each second one of somebody."""
        people = self._asked.iloc[np.resize(np.arange(len(self._asked)), STRANGERS)].reset_index(drop=True)
        people["user_id"] = [f"stranger {n} of exam {self.exam.digest[:12]}" for n in range(STRANGERS)]
        missing = self._random.random((STRANGERS, people.shape[1] - 1)) < 0.5
        missing[: STRANGERS // 2] = True
        features = people.columns.drop("user_id")
        people[features] = people[features].mask(missing)
        full = min(TOP, len(self.model.items))
        return {"strangers_served": float(np.mean([len(ids) == full for ids in _lists(self.model, people)]))}

    def alike(self) -> Mapping[str, float]:
        """Each user with the one who met most of the same, and with somebody else."""
        nearest, similarity = _nearest([self.exam.met(row) for row in self._rows])
        pairs = np.flatnonzero(similarity >= max(np.median(similarity), np.finfo(float).tiny))
        if not len(pairs):
            raise NothingToAskError("no two users of the exam met the same item before it")
        members = _members(self.model, self._listed)
        users = len(self._rows)
        anybody = (pairs + self._random.integers(1, users, size=(4, len(pairs)))) % users
        anyway = np.mean([_overlap(members[pairs], members[others]).mean() for others in anybody])
        return {"alike_overlap": float(_overlap(members[pairs], members[nearest[pairs]]).mean() - anyway)}

    @cached_property
    def _rows(self) -> np.ndarray:
        return sample(drawn_from(self.exam.digest), len(self.exam), LISTED)

    @cached_property
    def _listed(self) -> pd.DataFrame:
        return self.exam.features.iloc[self._rows].reset_index(drop=True)

    @cached_property
    def _asked(self) -> pd.DataFrame:
        return self._listed.iloc[sample(self._random, len(self._listed), TRIED)].reset_index(drop=True)

    @cached_property
    def _scores(self) -> np.ndarray:
        return _score(self.model, self._asked)

    @property
    def _random(self) -> np.random.Generator:
        """Fresh, so that no probe's draws hang on which were made before."""
        return drawn_from(f"{self.exam.digest} behaviour")


def _score(model: RecommenderModel, users: pd.DataFrame) -> np.ndarray:
    scores = np.asarray(model.score(users.copy()))
    if scores.shape != (len(users), len(model.items)):
        raise ContractError(f"the model scored {scores.shape}, expected {(len(users), len(model.items))}")
    return scores


def _columns(model: RecommenderModel, users: pd.DataFrame) -> np.ndarray:
    """The columns of each user's ten, int64 [users, 10]; -1 = none is left."""
    found = []
    for rows in chunks(len(users), len(model.items)):
        some = users.iloc[rows.start : rows.stop].reset_index(drop=True)
        scores = _score(model, some).astype(np.float64)
        for at, user in enumerate(some["user_id"]):
            scores[at, np.asarray(model.seen(user), dtype=np.int64)] = -np.inf
        found.append(best(scores, TOP))
    return np.concatenate(found)


def _lists(model: RecommenderModel, users: pd.DataFrame) -> list[list[str]]:
    return [[model.items[column] for column in row if column >= 0] for row in _columns(model, users)]


def _members(model: RecommenderModel, users: pd.DataFrame) -> sparse.csr_array:
    """Whose list holds which column: [users, items] of 0 and 1."""
    lists = _columns(model, users)
    user, place = np.nonzero(lists >= 0)
    ones = np.ones(len(user))
    return sparse.csr_array((ones, (user, lists[user, place])), shape=(len(users), len(model.items)))


def _overlap(some: sparse.csr_array, others: sparse.csr_array) -> np.ndarray:
    """Share of each list of `some` that is in its partner's too, float64 [users]; of two empty ones 1."""
    common, most = (some * others).sum(axis=1), np.maximum(some.sum(axis=1), others.sum(axis=1))
    return np.divide(common, most, out=np.ones(len(most)), where=most > 0)


def _nearest(met: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Each user's most similar other one [users], and how alike they are: Jaccard of the items met, shrunk."""
    names = {item: column for column, item in enumerate(sorted({item for items in met for item in items}))}
    user = np.repeat(np.arange(len(met)), [len(items) for items in met])
    item = np.array([names[item] for items in met for item in items], dtype=np.int64)
    there = sparse.csr_array((np.ones(len(user)), (user, item)), shape=(len(met), max(len(names), 1)))
    common = (there @ there.T).toarray()
    count = there.sum(axis=1)
    alike = common / (count[:, None] + count[None, :] - common + FEW_MET)
    np.fill_diagonal(alike, -1.0)
    return alike.argmax(axis=1), alike.max(axis=1)
