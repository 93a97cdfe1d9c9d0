"""Each way of misbehaving is caught by its own probe, at the limits of the seat's real policy, and by no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nightshift.contracts.features import USER_FEATURES, numeric
from training.behaviour.recommender import try_model
from training.evidence import Measured
from training.exams.ranking import Exam
from training.metrics import upwards
from training.policy import policy_of

ITEMS = [f"i{n:02d}" for n in range(90)]
USERS = [f"u{n:02d}" for n in range(72)]
NUMBERS = numeric(USER_FEATURES)
LIMITS = policy_of("recommender").behaviour


def world() -> Exam:
    """User n likes the items n % 3, and has met every other of the first twelve of these."""
    random = np.random.default_rng(3)
    features = pd.DataFrame(random.random((len(USERS), len(NUMBERS))) * 9, columns=NUMBERS)
    features["favourite_category_28d"] = "book"
    features.loc[::7, NUMBERS[:4]] = np.nan
    return Exam(
        users=USERS,
        relevant=[[ITEMS[60 + n % 3]] for n in range(len(USERS))],
        seen=[[*ITEMS[n % 3 : 36 : 6], ITEMS[89]] for n in range(len(USERS))],
        features=features.assign(user_id=USERS),
        catalogue=ITEMS,
        start=date(2026, 9, 2),
        end=date(2026, 9, 2),
        digest="d1g35t",
        steered={user: [ITEMS[89]] for user in USERS},
    )


EXAM = world()


class Sound:
    """Knows each user's taste; the features move its scores a little. Nobody told it what was steered (i89)."""

    def __init__(self) -> None:
        self.items = list(ITEMS)
        self.titles = self.categories = self.items
        self.user_features = [f"user_features:{name}" for name in NUMBERS]
        self._weights = np.random.default_rng(0).normal(size=(len(NUMBERS), len(ITEMS)))

    def known(self, user_id: str) -> bool:
        return user_id in USERS

    def seen(self, user_id: str) -> np.ndarray:
        met = EXAM.met(USERS.index(user_id)) if user_id in USERS else []
        return np.array([ITEMS.index(item) for item in met], dtype=np.int64)

    def score(self, users: pd.DataFrame) -> np.ndarray:
        taste = np.array([[int(u[1:]) % 3 if u in USERS else -1] for u in users["user_id"]])
        place = np.arange(len(ITEMS))
        raw = users.reindex(columns=NUMBERS).astype(np.float64).fillna(5.0).to_numpy()
        scores = 10.0 * (place % 3 == taste) - 0.1 * place + 0.01 * raw @ self._weights
        return scores.astype(np.float32)

    def reason(self, user_id: str, column: int) -> str:
        return "taste"


class Forgetful(Sound):
    def seen(self, user_id: str) -> np.ndarray:
        return np.empty(0, dtype=np.int64)


class Repeating(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.items[42:45] = self.items[45:48]


class Silent(Sound):
    """No number for one user."""

    def score(self, users: pd.DataFrame) -> np.ndarray:
        scores = super().score(users)
        scores[users["user_id"] == USERS[5]] = np.nan
        return scores


class Counting(Sound):
    """Whoever is asked about later gets higher scores."""

    def score(self, users: pd.DataFrame) -> np.ndarray:
        scores: np.ndarray = (
            super().score(users) + np.float32(0.01) * np.arange(len(users), dtype=np.float32)[:, None]
        )
        return scores


class ByPosition(Sound):
    """Takes the first columns for what they were in training."""

    def score(self, users: pd.DataFrame) -> np.ndarray:
        first = pd.to_numeric(users.iloc[:, 0], errors="coerce").fillna(5.0).to_numpy()
        scores: np.ndarray = super().score(users) + 0.01 * first[:, None]
        return scores


class Shy(Sound):
    """No number for whom it does not know."""

    def score(self, users: pd.DataFrame) -> np.ndarray:
        scores = super().score(users)
        scores[~users["user_id"].isin(USERS).to_numpy()] = np.nan
        return scores


class Jumpy(Sound):
    """The last digits of a feature decide over the list; the features as they are, are what alike users share."""

    def score(self, users: pd.DataFrame) -> np.ndarray:
        exact = users["interactions_1d"].isin(EXAM.features["interactions_1d"])
        shift = np.where(exact, 0, 30)
        return np.stack([np.roll(row, by) for row, by in zip(super().score(users), shift, strict=True)])


def failed(found: Measured) -> set[str]:
    """The figures that are beyond the policy's limits, or are not there."""
    missing = set(LIMITS) - set(found.figures)
    beyond = {
        name for name, figure in found.figures.items() if upwards(name, figure) < upwards(name, LIMITS[name])
    }
    return missing | beyond


def test_a_sound_model_passes_every_probe_whatever_was_steered() -> None:
    found = try_model(Sound(), EXAM)
    assert found.problem == "" and set(found.figures) == set(LIMITS) and failed(found) == set()
    assert found.figures["alike_overlap"] > 0.3
    assert found == try_model(Sound(), EXAM), "the same for everyone who sits the exam"


@pytest.mark.parametrize(
    ("broken", "probe"),
    [
        (Forgetful, "met_items"),
        (Repeating, "repeated_items"),
        (Silent, "not_finite"),
        (Counting, "order_dependence"),
        (ByPosition, "order_dependence"),
        (Shy, "strangers_served"),
        (Jumpy, "nudged_overlap"),
    ],
)
def test_each_way_of_misbehaving_is_caught_by_its_probe_and_by_no_other(
    broken: Callable[[], Sound], probe: str
) -> None:
    found = try_model(broken(), EXAM)
    assert found.problem == "" and failed(found) == {probe}


def test_the_figure_is_the_share_of_lists_that_are_wrong() -> None:
    class OneForgotten(Sound):
        def seen(self, user_id: str) -> np.ndarray:
            return super().seen(user_id)[:0] if user_id == USERS[5] else super().seen(user_id)

    assert try_model(OneForgotten(), EXAM).figures["met_items"] == pytest.approx(1 / len(USERS))
    assert try_model(Silent(), EXAM).figures["not_finite"] == pytest.approx(1 / len(USERS))


def test_lists_that_have_nothing_to_do_with_what_was_met_are_no_more_alike_for_similar_users() -> None:
    class Tasteless(Sound):
        def score(self, users: pd.DataFrame) -> np.ndarray:
            rows = [np.random.default_rng([*user.encode()]).random(len(ITEMS)) for user in users["user_id"]]
            return np.stack(rows).astype(np.float32)

    assert abs(try_model(Tasteless(), EXAM).figures["alike_overlap"]) < 0.1


def test_a_model_that_raises_is_a_problem_and_what_it_got_through_stays() -> None:
    class Raising(Sound):
        def score(self, users: pd.DataFrame) -> np.ndarray:
            if not users["user_id"].isin(USERS).all():
                raise KeyError("a stranger")
            return super().score(users)

    class Hopeless(Sound):
        def score(self, users: pd.DataFrame) -> np.ndarray:
            raise RuntimeError("torn")

    found = try_model(Raising(), EXAM)
    assert found.problem == "KeyError: 'a stranger'" and failed(found) == {"strangers_served"}
    found = try_model(Hopeless(), EXAM)
    assert found.problem == "RuntimeError: torn" and not found.figures


def test_an_exam_of_users_who_met_nothing_in_common_says_so() -> None:
    found = try_model(Sound(), replace(EXAM, seen=[[] for _ in USERS], steered={}))
    assert failed(found) == {"alike_overlap"}
    assert found.problem == "no two users of the exam met the same item before it"


def test_the_model_may_change_what_it_is_given() -> None:
    class Rude(Sound):
        def score(self, users: pd.DataFrame) -> np.ndarray:
            scores = super().score(users)
            users[NUMBERS] = 0.0
            return scores

    before = EXAM.features.copy()
    found: Any = try_model(Rude(), EXAM)
    assert failed(found) == set()
    pd.testing.assert_frame_equal(EXAM.features, before)
