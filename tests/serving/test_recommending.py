"""What a recommender must do before it is seated, and how a user is put before it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from serving.recommending import about, frame, prepare


def tiny(**other: Any) -> Any:
    parts = {
        "items": ["i1", "i2"],
        "titles": ["하나", "둘"],
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
    assert about(ready) == {"items": 2, "user_features": ["user_features:spend_28d"]}


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"items": []}, "0 items"),
        ({"items": ["i1", "i1"]}, "1 of them distinct"),
        ({"titles": ["one"]}, "1 titles"),
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
    row = frame("사용자", wanted, {"spend_28d": 5, "favourite_category_28d": "book"})
    expected = pd.DataFrame(
        {
            "user_id": ["사용자"],
            "spend_28d": [5.0],
            "interactions_28d": [np.nan],
            "favourite_category_28d": ["book"],
        }
    )
    pd.testing.assert_frame_equal(row, expected)
