"""What a version must do before it is seated. Swaps, refusals and outages are in test_recommender.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from nightshift.settings import Settings
from serving.champion import AWAY, Champion, exam_figures, frame, try_out
from tests.conftest import free_port


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
    try_out(tiny())


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
        try_out(tiny(**broken))


def test_what_the_registry_said_is_in_the_log_and_not_on_the_page(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()  # where nobody answers
    url = f"http://admin:open-sesame@127.0.0.1:{port}"
    config = Settings(_env_file=None, home=tmp_path, mlflow_url=url)  # type: ignore[call-arg]
    champion = Champion(config, on_swap=lambda: None)
    before = mlflow.get_tracking_uri()
    try:
        champion.look()
    finally:
        mlflow.set_tracking_uri(before)  # it is one per process
        mlflow.set_registry_uri(before)
    assert champion.describe()["registry"] == {"reachable": False, "error": AWAY}
    assert str(port) not in str(champion.describe())
    assert f"127.0.0.1:{port}" in caplog.text and "open-sesame" not in caplog.text


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


def test_exam_tags_become_figures_where_they_are_figures() -> None:
    tags = {"exam_hr_at_10": "0.25", "exam_start": "2026-09-28", "family": "ncf"}
    assert exam_figures(tags) == {"hr_at_10": 0.25, "start": "2026-09-28"}
