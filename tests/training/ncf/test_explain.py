from __future__ import annotations

import numpy as np
import pytest
import torch

from training.ncf import explain
from training.ncf.data import Window
from training.ncf.fit import Inputs
from training.ncf.model import NeuMF


@pytest.fixture(scope="module")
def cases(window: Window, fitted: tuple[NeuMF, Inputs]) -> explain.Cases:
    return explain.sample_cases(window, fitted[1], 16, np.random.default_rng(0))


def test_attributions_sum_to_what_they_explain_and_name_every_player(
    window: Window, fitted: tuple[NeuMF, Inputs], cases: explain.Cases
) -> None:
    found = explain.attributions(*fitted, cases, background=6, seed=0)
    again = explain.attributions(*fitted, cases, background=6, seed=0)

    assert found.values.shape == found.data.shape == (10, len(explain.player_names()))
    np.testing.assert_array_equal(found.values, again.values)
    # each explained lead differs from the background's mean lead by the sum of its parts
    assert np.abs(found.values).sum() > 0.1
    total = found.base_values + found.values.sum(axis=1)
    assert np.corrcoef(total, _leads(fitted, cases)[6:])[0, 1] > 0.999


def _leads(fitted: tuple[NeuMF, Inputs], cases: explain.Cases) -> np.ndarray:
    model, inputs = fitted
    there = np.unique(cases.item)
    rivals = torch.from_numpy(there[:: max(1, len(there) // explain.RIVALS)])
    leads = []
    for n in range(len(cases.user)):
        items = torch.cat([torch.tensor([cases.item[n]]), rivals])[None]
        items_x = torch.cat([torch.from_numpy(cases.item_x[n])[None], inputs.item_x[-1][rivals]])[None]
        user, user_x = torch.tensor([cases.user[n]]), torch.from_numpy(cases.user_x[n])[None]
        with torch.no_grad():
            scores = model(user, user_x, items + inputs.categories, items_x)[0]
        leads.append(float(scores[0] - scores[1:].mean()))
    return np.array(leads)


def test_players_read_like_words_and_are_told_apart() -> None:
    names = explain.player_names()

    assert len(names) == len(set(names))
    assert names[:2] == ["user · own taste (id)", "item · own appeal (id)"]
    assert not [name for name in names if "_" in name or ";" in name]


def test_half_of_the_explained_pairs_really_happened(window: Window, cases: explain.Cases) -> None:
    met = {(int(user), int(item)) for user, item, _ in window.met}

    assert all((int(u), int(i)) in met for u, i in zip(cases.user[::2], cases.item[::2], strict=True))


def test_the_learning_curve_marks_the_epoch_that_was_kept() -> None:
    figure = explain.learning_curve([2.0, 1.5, 1.4], [0.1, 0.3, 0.2], best=2)
    left, right = figure.axes

    assert np.asarray(left.get_lines()[0].get_ydata()).tolist() == [2.0, 1.5, 1.4]
    assert np.asarray(right.get_lines()[1].get_xdata()).tolist() == [2, 2]
    assert len(explain.learning_curve([2.0], [], best=6).axes) == 1
