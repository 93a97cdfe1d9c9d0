"""The pictures on the hybrid's page: what each group of parts adds on the validation days, what drives scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from training.hybrid.data import Cases
from training.hybrid.predictor import PARTS, Hybrid

EXPLAINED = 200
# What comes in when, on the curve and in the table `components`.
STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("popularity", ("popularity", "trend", "standing", "newness", "unmet")),
    ("+ people like the user", ("people",)),
    ("+ taste", ("taste", "category", "price")),
    ("+ content", ("content",)),
    ("+ session", ("session", "session_content", "session_category")),
    ("+ moment", ("moment",)),
    ("+ factors", ("factors",)),
)


def curve(components: pd.DataFrame) -> Figure:
    """NDCG@100 on the validation days as groups of parts are added."""
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axis = figure.add_subplot()
    for column, label in (
        ("ndcg_at_100", "before the visit (as the exam asks)"),
        ("silent_ndcg_at_100", "the second half of a visit, of which nothing is told"),
        ("session_ndcg_at_100", "the second half of a visit, the first half told"),
    ):
        if column in components:
            axis.plot(range(len(components)), components[column], marker=".", label=label)
    axis.set_xticks(range(len(components)), components["parts"].tolist(), rotation=20, ha="right")
    axis.set_ylabel("NDCG@100, validation days")
    axis.set_title("What each group of parts adds")
    if len(components):
        axis.legend()
    return figure


def weights(learnt: np.ndarray, spread: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    """The table `weights`: what one standard deviation of a part is worth, by what is known of the user."""
    found = pd.DataFrame(learnt * spread[:, None], columns=list(names)).astype(np.float64).round(4)
    found.insert(0, "part", list(PARTS))
    return found


def attributions(model: Hybrid, cases: Cases, random: np.random.Generator, explained: int = EXPLAINED) -> Any:
    """SHAP values (`shap.Explanation`, [n, parts]), exact: they sum to the item's *lead*.

    The lead is an item's score above the mean score of all items for the same request: a shift of all of a request's
    scores ranks nothing. For one request the score is linear in the parts, so the Shapley value of a part is its weight
    times (its value - its mean over all items) (Lundberg & Lee 2017, corollary 1). Half of the pairs are items that the
    user met next, the others any item.
    """
    import shap

    items = len(model.items)
    at = random.choice(len(cases), size=explained, replace=len(cases) < explained)
    cases = cases.take(at)
    met = np.where(cases.item <= items, cases.item - 1, 0)
    item = np.where(np.arange(explained) % 2 == 0, met, random.integers(0, items, explained))
    recent = [some[some <= items] - 1 for some in cases.recent]
    asked = model.asked_of(cases.user - 1, recent, cases.moment)
    weight, rows = model.mixed(asked), np.arange(explained)
    values, data = np.zeros((2, explained, len(PARTS)))
    for number, part in model.parts(asked):
        full = np.broadcast_to(part, (explained, items))
        data[:, number] = full[rows, item]
        values[:, number] = weight[:, number] * (full[rows, item] - full.mean(axis=1))
    return shap.Explanation(
        values=values,
        base_values=np.zeros(explained),
        data=data,
        feature_names=[part.replace("_", " · ") for part in PARTS],
    )
