"""EASE's fit against the regression that it solves."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.baselines.test_neighbours import similarities, window
from training.baselines import ease
from training.baselines.ease import Hyper, fit
from training.baselines.item_knn_predictor import ItemKNN

MET = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=2, max_size=30)


@given(MET, st.floats(0.5, 50.0))
def test_each_items_weights_are_the_ridge_regression_of_its_column_on_the_others(
    met: set[tuple[int, int]], strength: float
) -> None:
    matrix = np.zeros((6, 7))
    matrix[tuple(np.array(sorted(met)).T)] = 1
    found = similarities(fit(window(met), Hyper(strength=strength)))

    for item in range(7):
        others = np.delete(np.arange(7), item)
        told = matrix[:, others]
        expected = np.linalg.solve(told.T @ told + strength * np.eye(6), told.T @ matrix[:, item])
        np.testing.assert_allclose(found[item, others], expected, atol=1e-5)
        assert found[item, item] == 0


def test_only_the_largest_weights_are_kept_and_the_largest_comes_first() -> None:
    met = {(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 2), (3, 3), (3, 0)}
    whole, few = fit(window(met), Hyper(strength=1.0)), fit(window(met), Hyper(strength=1.0, neighbours=2))

    assert np.diff(few["near_start"]).tolist() == [2] * 7
    first = slice(*few["near_start"][:2])
    best = np.sort(np.abs(similarities(whole)[0]))[::-1][:2]
    np.testing.assert_allclose(np.abs(few["near_weight"][first]), best)


def test_beyond_the_bound_the_items_that_fewer_met_have_no_weights_and_popularity_ranks_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ease, "MOST_ITEMS", 3)
    met = {(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 2), (3, 2), (3, 5)}
    given, hyper = window(met), replace(Hyper(), strength=1.0)
    arrays = fit(given, hyper)
    assert np.flatnonzero(np.diff(arrays["near_start"])).tolist() == [0, 1, 2]

    model = ItemKNN()
    model.set_up(asdict(hyper), arrays, given.users, given.items)
    scores = model.score(pd.DataFrame({"user_id": ["u0"]}))[0]
    assert np.isfinite(scores).all() and scores[5] > scores[3]  # one met it, nobody met the other
