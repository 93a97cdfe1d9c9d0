"""The baseline that every recommender must beat: what most people met, for everybody.

Follows the recommender seat's protocol (`nightshift.seats.RecommenderModel`), so the gate scores it as it
scores a candidate. Popularity counts *distinct users* per item: one fan's hundred clicks are one voice.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


class Popularity:
    """Built from the training window's interactions (columns `user_id`, `item_id`).

    items: the items on offer, as a frame with `item_id`, `title`, `category`; an item that nobody met
    scores 0. Ties between items are broken by id, the same way every time.
    """

    user_features: list[str] = []  # noqa: RUF012 - the protocol's attribute; this model wants none

    def __init__(self, interactions: pd.DataFrame, items: pd.DataFrame) -> None:
        pairs = interactions[["user_id", "item_id"]].drop_duplicates()
        counts = pairs["item_id"].value_counts()
        offered = items.drop_duplicates("item_id").sort_values("item_id")
        self.items: list[str] = offered["item_id"].tolist()
        self.titles: list[str] = offered["title"].tolist()
        self.categories: list[str] = offered["category"].tolist()
        self._users = counts.reindex(self.items, fill_value=0).to_numpy(np.int64)
        order = np.argsort(-self._users, kind="stable")
        self._place = np.empty(len(order), dtype=np.int64)
        self._place[order] = np.arange(len(order))
        column = {item: i for i, item in enumerate(self.items)}
        pairs = pairs[pairs["item_id"].isin(column)]
        self._seen = {
            user: np.unique([column[item] for item in met]).astype(np.int64)
            for user, met in pairs.groupby("user_id")["item_id"]
        }

    def known(self, user_id: str) -> bool:
        return False  # it has nobody's own taste

    def seen(self, user_id: str) -> np.ndarray:
        return self._seen.get(user_id, np.empty(0, dtype=np.int64))

    def score(self, users: pd.DataFrame) -> np.ndarray:
        """The same row for everybody: 1 for the most popular item, down to 1/len(items)."""
        score = (1 - self._place / max(len(self.items), 1)).astype(np.float32)
        return np.tile(score, (len(users), 1))

    def reason(self, user_id: str, column: int) -> str:
        return f"popular: {self._users[column]} people met it lately"
