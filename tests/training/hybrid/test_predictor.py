"""The hybrid as it is served: it reacts to the session at once, and has a place for the new."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.training.hybrid.conftest import NEW_ITEM
from training.hybrid.data import Window
from training.hybrid.package import in_memory
from training.hybrid.predictor import Hybrid, mixers

TEA, BOOKS = slice(1, None, 2), slice(0, None, 2)


def scores(model: Hybrid, user: str, **context: Any) -> np.ndarray:
    return model.score(pd.DataFrame([{"user_id": user, **context}]))[0]


def lead(row: np.ndarray) -> float:
    """How much higher tea is scored than books."""
    return float(row[TEA].mean() - row[BOOKS].mean())


def test_what_a_stranger_did_a_minute_ago_turns_the_list_round(model: Hybrid) -> None:
    tea, books = (scores(model, "nobody", recent_items=items) for items in (["i01", "i03"], ["i00", "i02"]))
    assert lead(tea) > 0 > lead(books)
    assert np.array_equal(scores(model, "nobody", recent_items=[]), scores(model, "nobody"))


def test_a_session_moves_somebody_known_too(model: Hybrid) -> None:
    assert lead(scores(model, "u00")) < 0  # loves books
    assert lead(scores(model, "u00", recent_items=["i01", "i03"])) > lead(scores(model, "u00"))


def test_of_a_session_the_newest_item_counts_most(plain: Hybrid) -> None:
    assert lead(scores(plain, "nobody", recent_items=["i00", "i01"])) > lead(
        scores(plain, "nobody", recent_items=["i01", "i00"])
    )
    asked = plain.asked(pd.DataFrame({"user_id": ["x"], "recent_items": [["i03", "i05", "i03"]]}))
    assert asked.recent.toarray()[0, [3, 5]].tolist() == pytest.approx([1.0, 0.85])


def test_an_item_that_nobody_met_is_shown_to_whom_its_text_suits(model: Hybrid) -> None:
    for user, suits in (("u01", True), ("u00", False)):
        row = scores(model, user)
        assert (row[NEW_ITEM] > np.median(row)) == suits


@pytest.mark.parametrize(
    "context",
    [
        {"recent_items": None, "hour": None, "device": None, "channel": None},
        {"recent_items": np.nan, "hour": np.nan, "device": np.nan, "channel": np.nan},
        {"recent_items": ["never heard of"], "hour": 99, "device": "fridge", "channel": "unknown"},
    ],
)
def test_what_is_not_known_of_a_request_changes_nothing(plain: Hybrid, context: dict[str, Any]) -> None:
    assert np.array_equal(scores(plain, "u03", **context), scores(plain, "u03"))


def test_the_moment_counts(plain: Hybrid) -> None:
    night, morning = (
        scores(plain, "nobody", hour=hour, device=device) for hour, device in ((21, "mobile"), (9, "desktop"))
    )
    assert lead(night) > lead(morning)


def test_context_of_some_rows_is_theirs_alone(model: Hybrid) -> None:
    rows = pd.DataFrame({"user_id": ["u00", "nobody"], "recent_items": [["i01"], None], "hour": [21, None]})
    found = model.score(rows)
    np.testing.assert_allclose(found[0], scores(model, "u00", recent_items=["i01"], hour=21), atol=1e-5)
    np.testing.assert_allclose(found[1], scores(model, "nobody"), atol=1e-5)


def test_the_reason_is_what_weighs_most(model: Hybrid) -> None:
    assert model.reason("nobody", 3, recent_items=["i01"]) == (
        f"goes with “{model.titles[1]}”, which you looked at lately"
    )
    best = int(np.argmax(scores(model, "nobody")[:NEW_ITEM]))
    assert model.reason("nobody", best).startswith("popular")
    assert "which you looked at" in model.reason("u01", NEW_ITEM) or "as you did" in model.reason(
        "u01", NEW_ITEM
    )


def test_the_reason_of_a_model_without_anything_to_say_is_the_shelf(model: Hybrid) -> None:
    model._a = {**model._a, "weight": np.zeros_like(model._a["weight"])}
    assert model.reason("u00", 4) == "from books"


def test_weights_depend_on_how_much_is_known() -> None:
    stranger, known = mixers(np.array([0, 53]), np.array([2, 0]))
    assert stranger.tolist() == pytest.approx([1, 0, 1, np.log(3) / 2])
    assert known.tolist() == pytest.approx([1, np.log(54) / 4, 0, 0])


def test_who_is_unknown_and_tells_nothing_may_get_plain_popularity_and_nobody_else(
    window: Window, arrays: dict[str, np.ndarray], model: Hybrid
) -> None:
    plain = in_memory(window, {**arrays, "plain": np.ones(1, np.uint8)})
    np.testing.assert_array_equal(scores(plain, "nobody"), arrays["standing"])
    assert not np.allclose(scores(model, "nobody"), arrays["standing"])
    for user, told in (("u00", {}), ("nobody", {"recent_items": ["i01"]})):
        np.testing.assert_array_equal(scores(plain, user, **told), scores(model, user, **told))
