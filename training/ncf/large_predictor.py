"""The large path's model as it is served: NumPy alone. This file travels inside the packaged model.

    score = user · item + bias

It imports neither torch nor Nightshift and loads no pickle. What users met stays in its file, which is mapped: it has
a row for each user and item that ever met, and a request asks for one user's. A request still scores every item; an
index over `item` and `bias` as one more dimension would spare that, and is not here.
"""

from __future__ import annotations

import json
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel
from safetensors import safe_open

DEFAULT_K = 10
ALIKE = 0.35  # cosine above which we say "like …"; below it the claim would be a guess
LAST_MET = 200  # items that a reason looks back on
UNKNOWN = 0  # row of the shared vector of users whose own taste was not learnt


class Factors(PythonModel):
    """The recommender seat's protocol over two tables, and MLflow's `predict` on top of it."""

    items: list[str]
    titles: list[str]
    categories: list[str]
    user_features: list[str]

    def load_context(self, context: Any) -> None:
        paths = context.artifacts
        with open(paths["config"], encoding="utf-8") as handle:
            self.config = json.load(handle)
        items = pd.read_parquet(paths["items"])
        self.items = items["item_id"].tolist()
        self.titles = items["title"].tolist()
        self.categories = items["category"].tolist()
        self.user_features = []
        users = pd.read_parquet(paths["users"])["user_id"].tolist()
        self._row = {user: row for row, user in enumerate(users, start=1)}
        with safe_open(paths["weights"], framework="numpy") as file:
            self._user, self._item, self._bias, self._learnt = (
                file.get_tensor(name) for name in ("user", "item", "bias", "user_learnt")
            )
        # Left open, as what users met is read from it request by request.
        self._seen = safe_open(paths["seen"], framework="numpy")
        self._start = self._seen.get_tensor("seen_start")
        self._met = self._seen.get_slice("seen_items")

    # --- the seat's protocol ---------------------------------------------------------------------------

    def known(self, user_id: str) -> bool:
        return bool(self._learnt[self._row.get(user_id, UNKNOWN)])

    def seen(self, user_id: str) -> np.ndarray:
        row = self._row.get(user_id)
        if row is None or self._start[row] == self._start[row + 1]:
            return np.empty(0, dtype=np.int64)
        met: np.ndarray = self._met[int(self._start[row]) : int(self._start[row + 1])]
        return met.astype(np.int64)

    def score(self, users: pd.DataFrame) -> np.ndarray:
        rows = np.array([self._row.get(user, UNKNOWN) for user in users["user_id"]], dtype=np.int64)
        rows[~self._learnt[rows].astype(bool)] = UNKNOWN
        scores: np.ndarray = self._user[rows] @ self._item.T
        scores += self._bias
        return scores

    def reason(self, user_id: str, column: int) -> str:
        met = self.seen(user_id)[-LAST_MET:]
        if len(met):
            alike = self._direction(met) @ self._direction(np.array([column]))[0]
            best = int(np.argmax(alike))
            if alike[best] >= ALIKE:
                return f"like “{self.titles[met[best]]}”, which you looked at"
            return f"picked for your taste, from {self.categories[column]}"
        return f"popular in {self.categories[column]}"

    # --- MLflow's pyfunc -------------------------------------------------------------------------------

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Rows of `user_id`[, `k`] → `item_ids` and `scores` (lists, best first).

        Items the user met before the training cut-off are left out.
        """
        rows = model_input.reset_index(drop=True)
        ks = rows["k"].fillna(DEFAULT_K).astype(int) if "k" in rows else [DEFAULT_K] * len(rows)
        answers = []
        for row, k in zip(range(len(rows)), ks, strict=True):
            scores = self.score(rows.iloc[[row]])[0]
            scores[self.seen(str(rows["user_id"][row]))] = -np.inf
            best = np.argsort(-scores, kind="stable")[: max(k, 0)]
            best = best[np.isfinite(scores[best])]
            answers.append(([self.items[i] for i in best], [float(s) for s in scores[best]]))
        return pd.DataFrame(answers, columns=["item_ids", "scores"])

    def _direction(self, columns: np.ndarray) -> np.ndarray:
        vectors = self._item[columns]
        length: np.ndarray = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(length, 1e-9)


mlflow.models.set_model(Factors())
