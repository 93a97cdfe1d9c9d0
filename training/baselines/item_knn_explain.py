"""The two pictures on item-kNN's page: how many neighbours it takes, and what drives its scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.sparse import csr_matrix

from training.baselines.neighbours import Hyper
from training.meetings import Meetings

EXPLAINED, BACKGROUND = 120, 2_000  # users; what they met on average is what a score is compared with


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
    """SHAP values (`shap.Explanation`, [n, players]), exact: they sum to the item's *lead*.

    The lead is an item's score above the mean score of all items for the same user: a shift of all of a user's
    scores ranks nothing. It is linear in what the user met, so the Shapley value of a met item is its weight times
    (met - share of the users who met it) (Lundberg & Lee 2017, corollary 1), and that of a group the sum over it.
    A player is all that was met of one category, or the item's own popularity. Half of the pairs are items that a
    user met last, the others any item.
    """
    import shap

    users, items = len(window.users), len(window.items)
    given = arrays["near_weight"], arrays["near_item"], arrays["near_start"]
    near = csr_matrix(given, shape=(items, items))  # row: the item that is scored
    starts, met, liked = arrays["met_start"], arrays["met_item"], arrays["met_liked"].astype(np.float32)
    history = csr_matrix((liked, met, starts), shape=(users, items))
    some = random.choice(users, size=min(BACKGROUND, users), replace=False)
    usual = np.asarray(history[some].mean(axis=0)).ravel()
    rivals = np.asarray(near.mean(axis=0)).ravel()
    places = hyper.tie_break * arrays["place"].astype(np.float64)

    at = random.choice(len(window.user), size=explained, replace=len(window.user) < explained)
    item = np.where(np.arange(explained) % 2 == 0, window.item[at] - 1, random.integers(0, items, explained))
    names, category = np.unique(window.items["category"].to_numpy().astype(str), return_inverse=True)
    mine = history[window.user[at] - 1].toarray()
    weight = near[item].toarray() - rivals
    group = np.zeros((items, len(names)))
    group[np.arange(items), category] = 1
    parts = (weight * (mine - usual)) @ group
    popular = places[item] - places.mean()
    return shap.Explanation(
        values=np.column_stack([parts, popular]),
        base_values=weight @ usual,
        data=np.column_stack([mine @ group, arrays["people"][item]]),
        feature_names=[*(f"met before · {name}" for name in names), "the item · people who met it"],
    )
