"""What a recommender must do before it is seated, and how a user is put before it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nightshift.seats import RECENT, RecommendRequest, RecommendResponse
from nightshift.versions import Version
from serving.champion import Bundle
from serving.features import Found
from serving.recommending import about, frame, prepare, recent_items, recommend
from serving.sessions import Lately

NOW = datetime(2026, 9, 29, 21, 40, tzinfo=UTC)
NOTHING = Lately()
KNOTS = np.array([[-4.0, -1.0], [0.02, 0.6]])


def tiny(**other: Any) -> Any:
    parts = {
        "items": ["i1", "i2"],
        "titles": ["하나", "둘"],
        "categories": ["book", "tea"],
        "user_features": ["user_features:spend_28d"],
        "known": lambda user: False,
        "seen": lambda user: np.empty(0, np.int64),
        "score": lambda users: np.zeros((len(users), 2), np.float32),
        "reason": lambda user, column: "popular",
    }
    return SimpleNamespace(**{**parts, **other})


def test_a_model_that_follows_the_protocol_passes() -> None:
    ready = prepare(tiny())
    assert ready.column == {"i1": 0, "i2": 1}
    assert about(ready) == {
        "items": 2,
        "user_features": ["user_features:spend_28d"],
        "context": [],
        "calibrated": False,
    }


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"items": []}, "0 items"),
        ({"items": ["i1", "i1"]}, "1 of them distinct"),
        ({"titles": ["one"]}, "1 titles"),
        ({"categories": ["one"]}, "1 categories"),
        ({"context": ["weather"]}, "'weather'"),
        ({"calibration": np.array([[0.0, 1.0], [0.1, 1.0]])}, "0 or 1"),
        ({"score": lambda users: np.zeros((1, 3))}, "shape"),
        ({"score": lambda users: np.array([[1.0, np.nan]])}, "finite"),
    ],
)
def test_a_model_that_breaks_it_is_refused_with_the_reason(broken: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        prepare(tiny(**broken))


def test_a_missing_feature_is_nan_under_its_bare_name_and_text_stays_text() -> None:
    wanted = [
        "user_features:spend_28d",
        "user_features:interactions_28d",
        "user_features:favourite_category_28d",
    ]
    told = {"spend_28d": 5, "favourite_category_28d": "book"}
    row = frame("사용자", wanted, told, {"recent_items": ["i1", "i2"], "device": None})
    expected = pd.DataFrame(
        {
            "user_id": ["사용자"],
            "spend_28d": [5.0],
            "interactions_28d": [np.nan],
            "favourite_category_28d": ["book"],
            "recent_items": [["i1", "i2"]],
            "device": [None],
        }
    )
    pd.testing.assert_frame_equal(row, expected)


# --- one answer ------------------------------------------------------------------------------------------


class Shop:
    """Twelve items of three categories, the first best, for everybody; remembers what it was asked."""

    def __init__(self, **other: Any) -> None:
        self.items = [f"i{n}" for n in range(12)]
        self.titles = self.items
        self.categories = ["book"] * 6 + ["tea"] * 4 + ["toy"] * 2
        self.user_features: list[str] = []
        self.asked: list[pd.DataFrame] = []
        for name, value in other.items():
            setattr(self, name, value)

    def known(self, user_id: str) -> bool:
        return user_id == "u1"

    def seen(self, user_id: str) -> np.ndarray:
        return np.array([0] if user_id == "u1" else [], np.int64)

    def score(self, users: pd.DataFrame) -> np.ndarray:
        self.asked.append(users)
        return np.tile(np.linspace(3, 0, 12, dtype=np.float32), (len(users), 1))

    def reason(self, user_id: str, column: int) -> str:
        return "so"


def ask(model: Any, lately: Lately = NOTHING, **request: Any) -> RecommendResponse:
    version = Version("recommender", 7, "r", NOW)
    bundle = Bundle(prepare(model), version, {}, NOW)
    return recommend(bundle, RecommendRequest(**{"user_id": "u1", **request}), Found(), lately, NOW)


def shown(answer: RecommendResponse) -> list[str]:
    return [item.item_id for item in answer.items]


def test_a_model_is_told_of_a_request_what_it_wants_and_nothing_else() -> None:
    request = {"recent_items": ["i3"], "device": "mobile", "channel": "home"}
    plain, wants = Shop(), Shop(context=["hour", "device", "recent_items", "channel"])
    ask(plain, **request)
    assert list(plain.asked[-1]) == ["user_id"]
    ask(wants, **request)
    (row,) = wants.asked[-1].to_dict("records")
    assert row == {"user_id": "u1", "hour": 21, "device": "mobile", "recent_items": ["i3"], "channel": "home"}
    ask(wants)
    (row,) = wants.asked[-1].to_dict("records")
    assert row["recent_items"] == [] and row["device"] is None and row["channel"] is None


class Speaking(Shop):
    """Its reasons name what was met lately."""

    def reason(self, user_id: str, column: int, recent_items: Sequence[str] = ()) -> str:
        return f"goes with {', '.join(recent_items)}" if recent_items else "popular"


def test_a_reason_is_told_of_the_visit_where_the_model_goes_by_it_and_takes_it() -> None:
    lately = Lately(("i1",), frozenset({"i1"}))
    request = {"recent_items": ["i3"], "k": 1}
    wants = Speaking(context=["recent_items"])
    assert ask(wants, lately, **request).items[0].reason == "goes with i1, i3"
    assert ask(wants, k=1).items[0].reason == "popular"
    assert ask(Speaking(), lately, **request).items[0].reason == "popular"  # its scores know nothing of them


def test_a_package_of_before_reasons_were_told_of_the_visit_still_serves() -> None:
    older = Shop(context=["recent_items"])
    assert ask(older, recent_items=["i3"], k=1).items[0].reason == "so"


def test_what_is_remembered_comes_before_what_is_brought_each_once_the_newest_kept() -> None:
    lately = Lately(("a", "b", "c"), frozenset("abc"))
    assert recent_items(lately, ["d", "b", "e", "d"]) == ["a", "c", "b", "e", "d"]
    many = Lately(tuple(f"m{n}" for n in range(80)), frozenset())
    given = [f"g{n}" for n in range(60)]
    assert recent_items(many, given) == [*(f"m{n}" for n in range(40, 80)), *given]
    assert len(recent_items(many, given)) == RECENT


def test_what_was_met_lately_is_left_out_whether_it_was_liked_or_not_and_whether_the_model_cares_or_not() -> (
    None
):
    lately = Lately(("i1",), frozenset({"i1", "i2", "gone"}))
    answer = ask(Shop(), lately, recent_items=["i4"], exclude_items=["i5"], k=3)
    assert shown(answer) == ["i3", "i6", "i7"] and answer.recent_items_used == 0


def test_the_answer_says_how_many_items_met_lately_the_list_goes_by() -> None:
    lately = Lately(("i1", "i2"), frozenset({"i1", "i2", "i3"}))
    answer = ask(Shop(context=["recent_items"]), lately, recent_items=["i2", "an item of tomorrow"])
    assert answer.recent_items_used == 2
    assert ask(Shop(context=["recent_items"])).recent_items_used == 0
    stranger = ask(Shop(context=["recent_items"]), lately, user_id="new", k=9)
    assert (
        not stranger.known_user
        and stranger.note == "the model does not know this user: what was met lately decides"
    )


def test_no_more_than_asked_for_come_of_one_category_and_a_short_list_says_so() -> None:
    answer = ask(Shop(), k=5, max_per_category=2)
    assert [item.category for item in answer.items] == ["book", "book", "tea", "tea", "toy"]
    assert answer.note is None and shown(answer)[:2] == ["i1", "i2"]
    short = ask(Shop(), k=5, max_per_category=1)
    assert [item.category for item in short.items] == ["book", "tea", "toy"]
    assert short.note == "only 3 items: at most 1 of one category, as you asked"
    few = ask(Shop(), k=5, max_per_category=5, exclude_items=[f"i{n}" for n in range(1, 10)])
    assert few.note == "only 2 items are left that the user has not met and you did not exclude"


def test_a_calibrated_model_says_how_sure_it_is_and_an_older_one_null() -> None:
    model = Shop(calibration=KNOTS)
    answer = ask(model, k=11)
    sure = [item.confidence for item in answer.items]
    scores = np.linspace(3, 0, 12)
    share = scores[1:] - np.log(np.exp(scores[1:]).sum())  # i0 was met before
    assert sure == pytest.approx(np.interp(share, *KNOTS), abs=1e-6)
    assert [item.confidence for item in ask(Shop()).items] == [None] * 10


def test_how_sure_it_is_of_an_item_does_not_hang_on_what_else_was_asked_for() -> None:
    model = Shop(calibration=KNOTS)
    whole = {item.item_id: item.confidence for item in ask(model, k=11).items}
    for request in ({"k": 1}, {"max_per_category": 1}, {"exclude_items": ["i1", "i2", "i3"]}):
        for item in ask(model, **request).items:
            assert item.confidence == whole[item.item_id]
    met = ask(model, Lately((), frozenset({"i1", "i2"})), k=1).items[0]
    assert met.confidence is not None and met.confidence > whole[met.item_id]  # type: ignore[operator]
