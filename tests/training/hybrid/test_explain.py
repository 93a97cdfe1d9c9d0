"""The hybrid's pictures: the parts sum to what they explain."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tests.training.hybrid.conftest import DAYS, ITEMS
from training.hybrid import explain
from training.hybrid.data import Window, cases_from
from training.hybrid.predictor import MIXERS, PARTS, Hybrid


def test_the_parts_sum_to_the_items_lead_exactly(model: Hybrid, window: Window) -> None:
    cases = cases_from(window, DAYS - 2)
    found = explain.attributions(model, cases, np.random.default_rng(0), explained=40)
    recent = [some - 1 for some in cases.recent]
    asked = model.asked_of(cases.user - 1, recent, cases.moment)
    scores = np.zeros((len(cases), ITEMS))
    for number, part in model.parts(asked):
        scores += model.mixed(asked)[:, number, None] * part
    leads = scores - scores.mean(axis=1, keepdims=True)
    total = found.values.sum(axis=1)
    # which pairs were drawn is not told: each sum is some case's lead of some item
    assert np.abs(total[:, None] - leads.ravel()[None, :]).min(axis=1).max() < 1e-4
    assert len(set(total.round(3))) > 10 and found.values.shape == (40, len(PARTS))


def test_every_part_comes_in_once_on_the_curve() -> None:
    assert sorted(part for _, added in explain.STEPS for part in added) == sorted(PARTS)
    steps = [name for name, _ in explain.STEPS]
    components = pd.DataFrame({"parts": steps, "ndcg_at_100": np.linspace(0.1, 0.2, len(steps))})
    (line,) = explain.curve(components).axes[0].get_lines()
    assert np.asarray(line.get_ydata()).tolist() == components["ndcg_at_100"].tolist()


def test_the_table_of_weights_is_in_units_of_each_parts_spread() -> None:
    found = explain.weights(np.ones((len(PARTS), len(MIXERS))), np.arange(len(PARTS)), MIXERS)
    assert found["part"].tolist() == list(PARTS) and found["always"].tolist() == list(range(len(PARTS)))
