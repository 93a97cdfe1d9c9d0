"""Item-kNN as it is served: NumPy and SciPy alone. This file travels inside the packaged model (models-from-code).

It imports neither torch nor Nightshift and loads no pickle.

    score(user, item) = ( Σ similarity(met, item) over what the user met and the item has as a neighbour
                          + tie_break · the item's place by popularity, 1 for the first ) / things the user met

Dividing ranks nothing. But confidence goes by how far scores are apart, and sums grow apart with every item: the model
that serves knows more days than the one that was calibrated, and said a point more than came true.

What a request says that the user met lately joins what is known of them, each item once; of a stranger it is all there
is. Who has met nothing at all gets what is popular; so does everybody among items that no neighbour speaks for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel
from safetensors.numpy import load_file
from scipy.sparse import csr_matrix

DEFAULT_K = 10


class ItemKNN(PythonModel):
    """The recommender seat's protocol over sparse neighbours, and MLflow's `predict` on top of it."""

    items: list[str]
    titles: list[str]
    categories: list[str]
    user_features: list[str] = []  # noqa: RUF012 - the protocol's attribute; this model wants none
    context: list[str] = ["recent_items"]  # noqa: RUF012
    calibration: np.ndarray | None = None

    def load_context(self, context: Any) -> None:
        paths = context.artifacts
        with open(paths["config"], encoding="utf-8") as handle:
            config = json.load(handle)
        users = pd.read_parquet(paths["users"])["user_id"].tolist()
        self.set_up(config, load_file(paths["neighbours"]), users, pd.read_parquet(paths["items"]))

    def set_up(
        self, config: dict[str, Any], arrays: dict[str, np.ndarray], users: list[str], items: pd.DataFrame
    ) -> None:
        """users: ids in the order of the rows of `met`; items: item_id, title, category, in column order.

        arrays: near_start [items + 1], near_item, near_weight: each item's neighbours; met_start [users + 1],
            met_item, met_liked: what each user met, by item, and whether it says anything of taste;
            people [items]: how many liked it; place float32 [items]: 1 for the most popular, down to above 0;
            calibration float64 [2, n], where there was a validation exam.
        """
        self.items = items["item_id"].tolist()
        self.titles = items["title"].tolist()
        self.categories = items["category"].tolist()
        self._row = {user: row for row, user in enumerate(users)}
        self._column = {item: column for column, item in enumerate(self.items)}
        self._a = arrays
        self.calibration = arrays.get("calibration")
        count = len(self.items)
        given = arrays["near_weight"], arrays["near_item"], arrays["near_start"]
        self._speaks_for = csr_matrix(given, shape=(count, count)).T.tocsr()  # row: what was met
        self._popular = (config["tie_break"] * arrays["place"]).astype(np.float32)

    # --- the seat's protocol ---------------------------------------------------------------------------

    def known(self, user_id: str) -> bool:
        return len(self._liked(user_id)) > 0

    def seen(self, user_id: str) -> np.ndarray:
        return self._met(user_id)[0].astype(np.int64)

    def score(self, users: pd.DataFrame) -> np.ndarray:
        lately = users["recent_items"] if "recent_items" in users else [None] * len(users)
        liked = [
            self._with(self._liked(str(user)), recent)
            for user, recent in zip(users["user_id"], lately, strict=True)
        ]
        starts = np.concatenate([[0], np.cumsum([len(items) for items in liked])]).astype(np.int64)
        columns = np.concatenate([np.empty(0, np.int64), *liked])
        shape = (len(liked), len(self.items))
        history = csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=shape)
        scores: np.ndarray = (history @ self._speaks_for).toarray() + self._popular
        scores /= np.maximum(np.diff(starts), 1)[:, None]
        return scores.astype(np.float32, copy=False)

    def reason(self, user_id: str, column: int, recent_items: Sequence[str] = ()) -> str:
        """Why this item is shown to this user; `recent_items` as in the context."""
        bounds = slice(*self._a["near_start"][column : column + 2])
        near, weight = self._a["near_item"][bounds], self._a["near_weight"][bounds]
        mine = np.isin(near, self._with(self._liked(user_id), recent_items)) & (weight > 0)
        if mine.any():
            best = near[mine][np.argmax(weight[mine])]
            if self.items[best] in recent_items:
                return f"goes with “{self.titles[best]}”, which you looked at lately"
            return f"people who looked at “{self.titles[best]}”, as you did, looked at this too"
        people = self._a["people"][column]
        return f"popular: {people} people met it lately" if people else f"new in {self.categories[column]}"

    # --- MLflow's pyfunc -------------------------------------------------------------------------------

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Rows of `user_id`[, `k`] → `item_ids` and `scores` (lists, best first).

        Items the user met before the training cut-off are left out.
        """
        wanted = model_input["k"] if "k" in model_input else pd.Series(DEFAULT_K, model_input.index)
        ids: list[list[str]] = []
        values: list[list[float]] = []
        for user, k in zip(model_input["user_id"].astype(str), wanted.fillna(DEFAULT_K), strict=True):
            scores = self.score(pd.DataFrame({"user_id": [user]}))[0]
            new = np.setdiff1d(np.arange(len(scores)), self.seen(user), assume_unique=True)
            best = new[np.argsort(-scores[new], kind="stable")][: max(int(k), 0)]
            ids.append([self.items[column] for column in best])
            values.append(scores[best].astype(float).tolist())
        return pd.DataFrame({"item_ids": ids, "scores": values})

    # --- inside ----------------------------------------------------------------------------------------

    def _met(self, user_id: str) -> tuple[np.ndarray, np.ndarray]:
        """What the user met, as columns, and which of it was liked."""
        row = self._row.get(user_id)
        bounds = slice(0, 0) if row is None else slice(*self._a["met_start"][row : row + 2])
        return self._a["met_item"][bounds], self._a["met_liked"][bounds].astype(bool)

    def _liked(self, user_id: str) -> np.ndarray:
        met, liked = self._met(user_id)
        return met[liked]

    def _with(self, liked: np.ndarray, recent: Any) -> np.ndarray:
        """What the user liked and met lately, each once. recent: a list of any ids; None or NaN = unknown."""
        if recent is None or isinstance(recent, float):
            return liked
        columns = [self._column[item] for item in recent if item in self._column]
        return np.union1d(liked, np.array(columns, liked.dtype)) if columns else liked


mlflow.models.set_model(ItemKNN())
