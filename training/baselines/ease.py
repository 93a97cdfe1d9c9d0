"""The EASE family, a baseline that may win the seat: a linear model of the history, fitted in closed form.

    python -m training.run ease --night 2026-09-28

    weights = I − P / diag(P),  P = (XᵀX + strength · I)⁻¹        (Steck, WWW 2019)

Served as item-kNN is, each item's largest weights kept. The inverse takes the cube of the items in time and their
square in memory, so only the MOST_ITEMS that most people met are in it; the others are ranked by popularity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.baselines import neighbours
from training.baselines.item_knn import HistoryRecipe
from training.history import liked_matrix, met_arrays
from training.meetings import Meetings

MOST_ITEMS = 10_000  # 0.8 GB a matrix, of which the inverse needs three


@dataclass(frozen=True)
class Hyper(neighbours.Hyper):
    """strength: of the ridge, in people. Chosen on a market of another seed and on Online Retail, 2011-07-28."""

    neighbours: int = 400
    strength: float = 300.0
    tie_break: float = 0.001


def fit(window: Meetings, hyper: Hyper) -> dict[str, np.ndarray]:
    """The arrays that `ItemKNN.set_up` takes, from the positives of a window."""
    liked = liked_matrix(window)
    met = met_arrays(window, liked)
    items = len(met["people"])
    inside = np.sort(np.argsort(-met["people"], kind="stable")[:MOST_ITEMS])
    some = liked[:, inside]
    gram = np.asarray((some.T @ some).todense(), np.float64)
    gram[np.diag_indices_from(gram)] += hyper.strength
    inverse = np.linalg.inv(gram)
    weights = (inverse / -np.diag(inverse)).T.astype(np.float32)  # row: the item that is scored
    np.fill_diagonal(weights, 0.0)
    kept = max(0, min(hyper.neighbours, len(inside) - 1))
    near = np.argsort(-np.abs(weights), axis=1, kind="stable")[:, :kept]
    count = np.zeros(items, np.int64)
    count[inside] = kept
    return {
        "near_start": np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
        "near_item": inside[near].astype(np.int32).ravel(),
        "near_weight": np.take_along_axis(weights, near, axis=1).ravel(),
        **met,
        "place": neighbours.places(met["people"], window.items["category"].to_numpy()),
    }


RECIPE = HistoryRecipe(fit, Hyper())
