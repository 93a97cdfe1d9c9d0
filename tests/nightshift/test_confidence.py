"""How sure a recommender is of an item: the log-share, and the chance that belongs to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nightshift.confidence import checked, confidences, log_shares

KNOTS = np.array([[-4.0, -2.0, -1.0], [0.01, 0.05, 0.4]])


def test_a_log_share_is_the_log_of_a_softmax_over_what_is_in_the_ranking() -> None:
    scores = np.array([[3.0, 1.0, np.nan, 2.0, -np.inf]], np.float32)
    found = log_shares(scores, np.array([[0, 3, 2, 4, -1]]))
    whole = np.exp([3.0, 1.0, 2.0]).sum()
    assert found[0, :2] == pytest.approx(np.log(np.exp([3.0, 2.0]) / whole))
    assert np.isnan(found[0, 2:]).all(), "left out, not known, and no item"


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_a_shift_of_all_scores_says_nothing(shift: float) -> None:
    scores = np.random.default_rng(0).normal(size=(3, 8)) + shift
    lists = np.tile(np.arange(8), (3, 1))
    assert log_shares(scores, lists) == pytest.approx(log_shares(scores - shift, lists), abs=1e-9)


def test_a_user_with_nothing_in_the_ranking_has_no_shares() -> None:
    assert np.isnan(log_shares(np.full((1, 3), np.nan), np.array([[-1, -1]]))).all()
    assert log_shares(np.array([[7.0, np.nan]]), np.array([[0]])).tolist() == [[0.0]]


def test_between_knots_the_chance_is_interpolated_beyond_them_flat() -> None:
    shares = np.array([[-9.0, -3.0, 0.0, np.nan]])
    assert confidences(KNOTS, shares)[0, :3] == pytest.approx([0.01, 0.03, 0.4])
    assert np.isnan(confidences(KNOTS, shares)[0, 3])
    assert confidences(np.array([[-2.0], [0.1]]), shares)[0, :3] == pytest.approx([0.1] * 3)


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        (np.zeros(3), "shape"),
        (np.zeros((2, 0)), "shape"),
        (np.array([[0.0, np.nan], [0.1, 0.2]]), "finite"),
        (np.array([[0.0, 0.0], [0.1, 0.2]]), "ascend"),
        (np.array([[0.0, 1.0], [0.2, 0.1]]), "ascend"),
        (np.array([[0.0, 1.0], [0.0, 0.1]]), "0 or 1"),
        (np.array([[0.0, 1.0], [0.5, 1.0]]), "0 or 1"),
    ],
)
def test_what_is_no_calibration_is_refused_with_the_reason(calibration: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked(calibration)


def test_a_package_may_have_none() -> None:
    assert checked(None) is None
    np.testing.assert_array_equal(checked(KNOTS.tolist()), KNOTS)
