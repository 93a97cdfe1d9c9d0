"""Factors as they are served, from arrays that fit on a page."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from training.factors.predictor import Factors

ITEMS = pd.DataFrame(
    {
        "item_id": ["i0", "i1", "i2", "i3"],
        "title": ["Tea", "Cup", "Book", "Pen"],
        "category": ["tea", "tea", "ink", "ink"],
    }
)
MET = {
    "met_start": np.array([0, 2, 3]), "met_item": np.array([0, 3, 2], np.int32),
    "met_liked": np.array([1, 0, 1], np.uint8), "people": np.array([5, 0, 2, 1]),
}  # fmt: skip
ITEM = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
BIAS = np.array([0.4, 0.3, 0.2, 0.1], np.float32)


@pytest.fixture
def pooled() -> Factors:
    model = Factors()
    encoder = np.array([[2, 0], [1, 0], [0, 3], [0, 1]], np.float32)
    model.set_up({"alpha": 0.5}, {"encoder": encoder, "item": ITEM, "bias": BIAS, **MET}, ["u0", "u1"], ITEMS)
    return model


@pytest.fixture
def own() -> Factors:
    model = Factors()
    user = np.array([[1, 2], [3, 4]], np.float32)
    model.set_up({"alpha": 0.0}, {"user": user, "item": ITEM, "bias": BIAS, **MET}, ["u0", "u1"], ITEMS)
    return model


def asked(users: list[str], recent: list[object] | None = None) -> pd.DataFrame:
    frame = pd.DataFrame({"user_id": users})
    return frame if recent is None else frame.assign(recent_items=recent)


def test_a_taste_is_pooled_from_what_was_liked_alone_not_from_all_that_was_met(pooled: Factors) -> None:
    np.testing.assert_allclose(pooled.score(asked(["u0"]))[0], ITEM @ [2, 0] + BIAS)
    assert pooled.seen("u0").tolist() == [0, 3]


def test_what_was_met_lately_joins_each_item_once_and_unknown_ids_say_nothing(pooled: Factors) -> None:
    got = pooled.score(asked(["u0", "u0", "u0"], [["i2", "i0", "nobody's"], None, float("nan")]))
    np.testing.assert_allclose(got[0], ITEM @ (np.array([2, 3]) / np.sqrt(2)) + BIAS, rtol=1e-6)
    np.testing.assert_allclose(got[1:], np.tile(ITEM @ [2, 0] + BIAS, (2, 1)))


def test_a_stranger_gets_what_is_popular_until_something_was_met_lately(pooled: Factors) -> None:
    got = pooled.score(asked(["who", "who"], [[], ["i2"]]))
    np.testing.assert_allclose(got[0], BIAS)
    assert got[1].argmax() == 2 and not pooled.known("who")


def test_own_vectors_use_nothing_that_a_request_tells_and_say_so(own: Factors) -> None:
    assert own.context == []
    got = own.score(asked(["u1", "who"], [["i0"], ["i0"]]))
    np.testing.assert_allclose(got, [ITEM @ [3, 4] + BIAS, BIAS])


def test_a_reason_names_the_liked_item_that_leads_there_most(pooled: Factors) -> None:
    assert pooled.reason("u0", 1) == "goes with “Tea”, which you looked at"
    assert pooled.reason("u0", 2) == "picked for your taste, from ink"
    assert pooled.reason("who", 0) == "popular: 5 people met it lately"
    assert pooled.reason("who", 1) == "new in tea"


def test_a_reason_says_of_what_was_met_lately_that_it_was_lately(pooled: Factors, own: Factors) -> None:
    assert (
        pooled.reason("who", 3, recent_items=["i2", "nobody's"])
        == "goes with “Book”, which you looked at lately"
    )
    assert pooled.reason("u0", 3, recent_items=["i2"]) == "goes with “Book”, which you looked at lately"
    assert pooled.reason("u0", 1, recent_items=["i2"]) == "goes with “Tea”, which you looked at"
    assert own.reason("who", 3, recent_items=["i2"]) == own.reason("who", 3)  # its scores know nothing of it


def test_predict_leaves_out_what_was_met_and_asks_for_ten_where_k_is_missing(pooled: Factors) -> None:
    answer = pooled.predict(None, pd.DataFrame({"user_id": ["u0", "who"], "k": [1.0, None]}))
    assert answer["item_ids"].tolist() == [["i1"], ["i0", "i1", "i2", "i3"]]
