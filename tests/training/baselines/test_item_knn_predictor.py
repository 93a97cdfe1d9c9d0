"""Item-kNN as it is served."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.training.baselines.test_neighbours import window
from training.baselines.item_knn_predictor import ItemKNN
from training.baselines.neighbours import Hyper, fit, in_memory

# u0 and u1 met items 0 and 1 together, u2 met 0 alone; 2 and 3 belong together; 4 is met most; 5 and 6 are new.
MET = {
    (0, 0),
    (0, 1),
    (1, 0),
    (1, 1),
    (2, 0),
    (3, 2),
    (3, 3),
    (4, 2),
    (4, 3),
    *((user, 4) for user in range(1, 6)),
}


@pytest.fixture
def model() -> ItemKNN:
    return in_memory(window(MET), Hyper(neighbours=2, shrink=1.0))


def order(model: ItemKNN, user: str, recent: list[str] | None = None) -> list[int]:
    scores = model.score(pd.DataFrame({"user_id": [user], "recent_items": [recent]}))[0]
    return [int(item) for item in np.argsort(-scores, kind="stable") if item not in model.seen(user)]


def test_who_met_one_of_two_that_go_together_is_shown_the_other_first(model: ItemKNN) -> None:
    assert order(model, "u2")[0] == 1


def test_a_stranger_is_shown_what_most_people_met_and_new_items_last(model: ItemKNN) -> None:
    assert order(model, "nobody")[:2] == [4, 0]
    assert set(order(model, "nobody")[-2:]) == {5, 6}
    assert not model.known("nobody") and model.seen("nobody").dtype == np.int64


def test_the_reason_names_the_nearest_thing_that_the_user_met_else_how_popular_it_is(model: ItemKNN) -> None:
    assert model.reason("u2", 1) == "people who looked at “Item 0”, as you did, looked at this too"
    assert model.reason("nobody", 3) == "popular: 2 people met it lately"
    assert model.reason("u5", 6) == "new in books"
    assert model.reason("nobody", 4) == "popular: 5 people met it lately"


def test_the_reason_names_what_was_met_lately_where_that_speaks_most_for_the_item(model: ItemKNN) -> None:
    for user in ("nobody", "u2"):
        assert model.reason(user, 2, recent_items=["i3"]) == "goes with “Item 3”, which you looked at lately"
    assert model.reason("u2", 1, recent_items=["i3"]) == model.reason("u2", 1)
    assert model.reason("nobody", 4, recent_items=["an item of tomorrow"]) == model.reason("nobody", 4)


def test_predict_answers_k_items_by_row_and_ten_by_default(model: ItemKNN) -> None:
    answer = model.predict(
        None, pd.DataFrame({"user_id": ["u2", "nobody", "u0"], "k": [1, None, 0]}, index=[7, 9, 9])
    )
    assert [len(ids) for ids in answer["item_ids"]] == [1, 7, 0]
    assert answer["item_ids"][0] == ["i1"]
    assert len(model.predict(None, pd.DataFrame({"user_id": ["u2"]}))["item_ids"][0]) == 5


# --- what a user met lately ------------------------------------------------------------------------------


def test_one_item_met_lately_decides_what_a_stranger_is_shown(model: ItemKNN) -> None:
    assert order(model, "nobody")[0] == 4
    assert next(item for item in order(model, "nobody", ["i2"]) if item != 2) == 3
    assert next(item for item in order(model, "nobody", ["i0"]) if item != 0) == 1


def test_what_was_met_lately_joins_a_known_users_history_each_item_once(model: ItemKNN) -> None:
    users = pd.DataFrame({"user_id": ["u2", "u2"], "recent_items": [["i3"], ["i3", "i0", "i3"]]})
    lately, again = model.score(users)
    alone, stranger, likewise = model.score(
        pd.DataFrame({"user_id": ["u2", "nobody", "nobody"], "recent_items": [None, None, ["i3"]]})
    )
    sums = 3 * lately - 2 * alone  # three things met against two
    np.testing.assert_allclose(sums, likewise - stranger, atol=1e-6)
    assert sums[2] > 0
    np.testing.assert_array_equal(lately, again)


@pytest.mark.parametrize("recent", [None, np.nan, [], ["an item of tomorrow"], np.array([]), ()])
def test_nothing_that_is_known_was_met_lately_changes_nothing(model: ItemKNN, recent: object) -> None:
    alone = model.score(pd.DataFrame({"user_id": ["u2"]}))
    users = pd.DataFrame({"user_id": ["u2"], "recent_items": pd.Series([recent], dtype=object)})
    np.testing.assert_array_equal(model.score(users), alone)


def test_it_has_the_calibration_that_it_was_packaged_with_or_none(model: ItemKNN) -> None:
    assert model.calibration is None and model.context == ["recent_items"]
    given, knots = window(MET), np.array([[-3.0, -1.0], [0.1, 0.4]])
    other = ItemKNN()
    arrays = {**fit(given, Hyper()), "calibration": knots}
    other.set_up({"tie_break": 0.01}, arrays, given.users, given.items)
    np.testing.assert_array_equal(other.calibration, knots)
