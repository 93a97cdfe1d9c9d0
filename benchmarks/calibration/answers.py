"""A model's answers over several exams, by the scorer of the real exam (`training.exams.ranking`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
import pandas as pd

from benchmarks.calibration.pools import Answers
from nightshift.seats import RecommenderModel
from training.exams.lists import best
from training.exams.ranking import TOP, Exam, score_model


class Scorer(Protocol):
    """What the scorer uses of a recommender: its items, and score(features) [users, items]."""

    items: list[str]

    def score(self, users: pd.DataFrame) -> np.ndarray: ...


class Table:
    """A recommender that looks its scores up: `scores` [users, items] of `users`, columns in the order of `items`."""

    def __init__(self, users: Sequence[str], items: Sequence[str], scores: np.ndarray) -> None:
        self.items = list(items)
        self._row = {user: row for row, user in enumerate(users)}
        self._scores = scores

    def score(self, users: pd.DataFrame) -> np.ndarray:
        return np.asarray(self._scores[[self._row[user] for user in users["user_id"]]])


def answers_of(models: Sequence[Scorer], exams: Sequence[Exam], catalogue: Sequence[str]) -> Answers:
    """One answer to all the exams' units, in their order; models[i] sits exams[i].

    catalogue: every item of any exam. A slice that an exam does not have is NaN for its units.
    """
    column = {item: number for number, item in enumerate(catalogue)}
    found = [
        score_model(cast(RecommenderModel, model), exam) for model, exam in zip(models, exams, strict=True)
    ]
    names = sorted({name for one in found for name in one.slices})
    lists = [_lists(model, exam, column) for model, exam in zip(models, exams, strict=True)]
    return Answers(
        per_unit={m: np.concatenate([one.per_unit[m] for one in found]) for m in found[0].per_unit},
        slices={
            name: np.concatenate(
                [
                    one.slices.get(name, np.full(len(exam), np.nan))
                    for one, exam in zip(found, exams, strict=True)
                ]
            )
            for name in names
        },
        top=np.concatenate(lists).astype(np.int32),
    )


def blank(users: Sequence[str]) -> pd.DataFrame:
    """Features for models that look at nothing but who it is."""
    return pd.DataFrame({"user_id": list(users)})


def groups_of(answers: Answers, kinds: tuple[str, ...]) -> dict[str, np.ndarray]:
    """User slice → bool [units], for the slices of these kinds."""
    return {
        name: np.isfinite(values) for name, values in answers.slices.items() if name.split(":")[0] in kinds
    }


def _lists(model: Scorer, exam: Exam, column: dict[str, int]) -> np.ndarray:
    """The ten items that each unit would be shown, as numbers of the catalogue; -1 where there is none."""
    offered = set(exam.catalogue)
    scores = np.array(model.score(exam.features), dtype=np.float64)
    scores[:, [place for place, item in enumerate(model.items) if item not in offered]] = -np.inf
    place = {item: number for number, item in enumerate(model.items)}
    for row, seen in enumerate(exam.seen):
        scores[row, [place[item] for item in seen if item in place]] = -np.inf
    lists = best(scores, TOP)
    numbers = np.array([column.get(item, -1) for item in model.items])
    return np.where(lists >= 0, numbers[lists], -1)
