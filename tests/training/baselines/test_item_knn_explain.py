"""The pictures of item-kNN: the parts sum to what they explain."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd

from tests.training.baselines.test_item_knn_predictor import MET
from tests.training.baselines.test_neighbours import window
from training.baselines import item_knn_explain as explain
from training.baselines.item_knn_predictor import ItemKNN
from training.baselines.neighbours import Hyper, fit


def test_the_parts_and_the_base_sum_to_the_items_lead_exactly() -> None:
    given, hyper = window(MET), Hyper(neighbours=3, shrink=1.0, tie_break=0.1)
    arrays = fit(given, hyper)
    found = explain.attributions(given, hyper, arrays, np.random.default_rng(1), explained=40)
    model = ItemKNN()
    model.set_up(asdict(hyper), arrays, given.users, given.items)
    liked = np.array([[max(1, len(model._liked(user)))] for user in given.users])
    scores = model.score(pd.DataFrame({"user_id": given.users})) * liked
    leads = scores - scores.mean(axis=1, keepdims=True)

    total = found.base_values + found.values.sum(axis=1)
    # which pairs were drawn is not told: each sum is some user's lead of some item
    assert np.abs(total[:, None] - leads.ravel()[None, :]).min(axis=1).max() < 1e-6
    assert len(set(total.round(6))) > 5
    assert found.feature_names == ["met before · books", "met before · tea", "the item · people who met it"]
    assert found.values.shape == found.data.shape == (40, 3)


def test_over_the_users_that_stand_for_the_average_the_parts_of_what_was_met_cancel_out() -> None:
    given, hyper = window(MET), Hyper(neighbours=3, shrink=1.0)
    arrays = fit(given, hyper)
    found = explain.attributions(given, hyper, arrays, np.random.default_rng(0), explained=4_000)
    anything = found.values[1::2, :2]  # half of the pairs are of any item
    assert np.abs(anything.mean(axis=0)).max() < 0.1 * np.abs(anything).max()


def test_the_curve_marks_the_number_of_neighbours_that_is_kept() -> None:
    axis = explain.curve([10, 100], [0.1, 0.2], kept=100).axes[0]
    tried, kept = axis.get_lines()
    assert np.asarray(tried.get_ydata()).tolist() == [0.1, 0.2]
    assert np.asarray(kept.get_xdata()).tolist() == [100, 100]
