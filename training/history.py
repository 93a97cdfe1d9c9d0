"""What each user met, as the arrays that models of the history share: item-kNN, EASE, and the factor models.

All of them score from what a user liked, linearly; so one exact explanation fits them all (`attributions`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from training.meetings import Meetings

EXPLAINED, BACKGROUND = 120, 2_000  # users; what they met on average is what a score is compared with


def liked_matrix(window: Meetings) -> csr_matrix:
    """float32 [users, items]: 1 where the window has a positive of the user with the item."""
    users, items = len(window.users), len(window.items)
    liked = np.unique((window.user - 1) * items + window.item - 1)
    ones = np.ones(len(liked), np.float32)
    return csr_matrix((ones, (liked // items, liked % items)), shape=(users, items))


def met_arrays(window: Meetings, liked: csr_matrix) -> dict[str, np.ndarray]:
    """met_start int64 [users + 1], met_item int32 and met_liked uint8 [m]: what each user met, by item, and whether
    it says anything of taste; people int64 [items]: how many liked it."""
    users, items = liked.shape
    rows = np.repeat(np.arange(users), np.diff(liked.indptr))
    met = window.met  # sorted by user, then item
    return {
        "met_start": np.searchsorted(met[:, 0], np.arange(1, users + 2)).astype(np.int64),
        "met_item": (met[:, 1] - 1).astype(np.int32),
        "met_liked": np.isin((met[:, 0] - 1) * items + met[:, 1] - 1, rows * items + liked.indices).astype(
            np.uint8
        ),
        "people": np.bincount(liked.indices, minlength=items).astype(np.int64),
    }


def some_pairs(
    window: Meetings, random: np.random.Generator, count: int = EXPLAINED
) -> tuple[np.ndarray, np.ndarray]:
    """(users, items), 0-based [count]: pairs to explain. Half of the items are ones that the user met."""
    at = random.choice(len(window.user), size=count, replace=len(window.user) < count)
    anything = random.integers(0, len(window.items), count)
    return window.user[at] - 1, np.where(np.arange(count) % 2 == 0, window.item[at] - 1, anything)


def attributions(
    window: Meetings,
    history: csr_matrix,
    pairs: tuple[np.ndarray, np.ndarray],
    weight: np.ndarray,
    popular: np.ndarray,
    random: np.random.Generator,
) -> Any:
    """SHAP values (`shap.Explanation`, [n, players]), exact: they sum to the item's *lead*.

    The lead is an item's score above the mean score of all items for the same user: a shift of all of a user's
    scores ranks nothing. It is linear in what the user met, so the Shapley value of a met item is its weight times
    (met - its mean over users) (Lundberg & Lee 2017, corollary 1), and that of a group the sum over it. A player is all
    that was met of one category, or the item's own popularity.

    history: [users, items], what a user's score is linear in. weight: [n, items], what each met item adds to the pair's
    lead. popular: [items], what an item's popularity adds to its score.
    """
    import shap

    users, item = pairs
    some = random.choice(history.shape[0], size=min(BACKGROUND, history.shape[0]), replace=False)
    usual = np.asarray(history[some].mean(axis=0)).ravel()
    names, category = np.unique(window.items["category"].to_numpy().astype(str), return_inverse=True)
    mine = history[users].toarray()
    group = np.zeros((history.shape[1], len(names)))
    group[np.arange(len(category)), category] = 1
    parts = (weight * (mine - usual)) @ group
    people = np.bincount(
        np.unique(np.stack([window.user, window.item]), axis=1)[1] - 1, minlength=history.shape[1]
    )
    return shap.Explanation(
        values=np.column_stack([parts, popular[item] - popular.mean()]),
        base_values=weight @ usual,
        data=np.column_stack([(mine > 0) @ group, people[item]]),
        feature_names=[*(f"met before · {name}" for name in names), "the item · people who met it"],
    )
