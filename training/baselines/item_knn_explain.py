"""The two pictures on item-kNN's page: how many neighbours it takes, and what drives its scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.sparse import csr_matrix

from training.baselines.neighbours import Hyper
from training.history import EXPLAINED, some_pairs
from training.history import attributions as shap_of
from training.meetings import Meetings


def curve(neighbours: list[int], ndcg: list[float], kept: int) -> Figure:
    """NDCG@100 on the validation days by number of neighbours, with the number that is kept."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.add_subplot()
    axis.plot(neighbours, ndcg, color="tab:blue", marker=".", label="NDCG@100 on the validation days")
    axis.axvline(kept, color="tab:green", linestyle="--", label=f"kept: {kept}")
    axis.set_xlabel("neighbours of each item")
    axis.set_ylabel("NDCG@100")
    axis.set_title("How many neighbours it takes")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend()
    return figure


def attributions(
    window: Meetings,
    hyper: Hyper,
    arrays: dict[str, np.ndarray],
    random: np.random.Generator,
    explained: int = EXPLAINED,
) -> Any:
    """SHAP values (`shap.Explanation`) of some pairs' leads, exact: see `training.history.attributions`.

    Explained is the score times how many things its user liked, which is linear in them and ranks the same.
    """
    users, items = len(window.users), len(window.items)
    given = arrays["near_weight"], arrays["near_item"], arrays["near_start"]
    near = csr_matrix(given, shape=(items, items))  # row: the item that is scored
    starts, met, liked = arrays["met_start"], arrays["met_item"], arrays["met_liked"].astype(np.float32)
    history = csr_matrix((liked, met, starts), shape=(users, items))
    pairs = some_pairs(window, random, explained)
    weight = near[pairs[1]].toarray() - np.asarray(near.mean(axis=0)).ravel()
    places = hyper.tie_break * arrays["place"].astype(np.float64)
    return shap_of(window, history, pairs, weight, places, random)
