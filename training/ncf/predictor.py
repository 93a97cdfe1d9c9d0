"""NeuMF as it is served: NumPy alone. This file travels inside the packaged model (models-from-code).

It imports neither torch nor Nightshift and loads no pickle. Everything that does not depend on the request
was folded when the model was packaged (`training.ncf.package`): the items' half of the first layer with
their features, the users' half without theirs, the GMF's output weights into the users' vectors.

    score = user_gmf·item_gmf + item_bias + out·relu(hidden·relu(user_first + x·user_in + item_first))

He et al., Neural Collaborative Filtering, WWW 2017, with side features in the MLP tower.
"""

from __future__ import annotations

import json
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel
from safetensors.numpy import load_file

DEFAULT_K = 10
CHUNK_CELLS = 16_384  # users × items pushed through the MLP at once: the layers stay in the CPU's cache
ALIKE = 0.35  # cosine above which we say "like …"; below it the claim would be a guess
UNKNOWN = 0  # row of the shared vectors of users whose own taste was not learnt


def standardise(raw: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Features as the network takes them: [n, f] with NaN → [n, 2f] float32, values then missing flags.

    The signed logarithm tames counts and money; a missing value becomes the mean and raises its flag.
    """
    missing = ~np.isfinite(raw)
    raw = np.where(missing, 0.0, raw)
    values = (np.sign(raw) * np.log1p(np.abs(raw)) - mean) / std
    values = np.where(missing, 0.0, np.clip(values, -4, 4))
    return np.concatenate([values, missing], axis=1).astype(np.float32)


class NeuMF(PythonModel):
    """The recommender seat's protocol over the folded arrays, and MLflow's `predict` on top of it."""

    items: list[str]
    titles: list[str]
    categories: list[str]
    user_features: list[str]
    calibration: np.ndarray | None = None

    def load_context(self, context: Any) -> None:
        paths = context.artifacts
        with open(paths["config"], encoding="utf-8") as handle:
            config = json.load(handle)
        arrays = {**load_file(paths["weights"]), **load_file(paths["seen"])}
        users = pd.read_parquet(paths["users"])["user_id"].tolist()
        self.set_up(config, arrays, users, pd.read_parquet(paths["items"]))

    def set_up(
        self, config: dict[str, Any], arrays: dict[str, np.ndarray], users: list[str], items: pd.DataFrame
    ) -> None:
        """users: ids of the rows 1, 2, … of the user arrays; items: item_id, title, category, in row order.

        arrays: those of `training.ncf.package.fold`, and `calibration` where there was a validation exam.
        """
        self.user_features = list(config["user_features"])
        self.items = items["item_id"].tolist()
        self.titles = items["title"].tolist()
        self.categories = items["category"].tolist()
        self._columns = [name.partition(":")[2] for name in self.user_features]
        self._row = {user: row for row, user in enumerate(users, start=1)}
        self._learnt = {user for user, row in self._row.items() if arrays["user_learnt"][row]}
        self._a = arrays
        self.calibration = arrays.get("calibration")
        norms = np.linalg.norm(arrays["item_gmf"], axis=1, keepdims=True)
        self._direction = arrays["item_gmf"] / np.maximum(norms, 1e-9)

    # --- the seat's protocol ---------------------------------------------------------------------------

    def known(self, user_id: str) -> bool:
        return user_id in self._learnt

    def seen(self, user_id: str) -> np.ndarray:
        row = self._row.get(user_id)
        if row is None:
            return np.empty(0, dtype=np.int64)
        bounds = self._a["seen_start"]
        return self._a["seen_items"][bounds[row] : bounds[row + 1]].astype(np.int64)

    def score(self, users: pd.DataFrame) -> np.ndarray:
        rows = np.array(
            [self._row[u] if u in self._learnt else UNKNOWN for u in users["user_id"]], dtype=np.int64
        )
        raw = users.reindex(columns=self._columns).apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        x = standardise(raw, self._a["user_mean"], self._a["user_std"])
        first = self._a["user_first"][rows] + x @ self._a["user_in"]
        scores: np.ndarray = self._a["user_gmf"][rows] @ self._a["item_gmf"].T + self._a["item_bias"]
        step = max(1, CHUNK_CELLS // max(len(self.items), 1))
        for start in range(0, len(rows), step):
            scores[start : start + step] += self._tower(first[start : start + step])
        return scores.astype(np.float32, copy=False)

    def reason(self, user_id: str, column: int) -> str:
        met = self.seen(user_id)
        if len(met):
            alike = self._direction[met] @ self._direction[column]
            best = int(np.argmax(alike))
            if alike[best] >= ALIKE:
                return f"like “{self.titles[met[best]]}”, which you looked at"
            visited = pd.Series([self.categories[i] for i in met]).mode()
            if self.categories[column] in set(visited):
                return f"from {self.categories[column]}, where you look most"
            return f"picked for your taste, from {self.categories[column]}"
        return f"popular in {self.categories[column]}"

    # --- MLflow's pyfunc -------------------------------------------------------------------------------

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Rows of `user_id`[, `k`][, user features] → `item_ids` and `scores` (lists, best first).

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

    def _tower(self, first: np.ndarray) -> np.ndarray:
        """The MLP tower: [b, h] users' half of the first layer → [b, items]."""
        items = self._a["item_first"]
        hidden = np.maximum(first[:, None, :] + items[None, :, :], 0).reshape(-1, items.shape[1])
        hidden = np.maximum(hidden @ self._a["hidden_w"] + self._a["hidden_b"], 0)
        tower: np.ndarray = (hidden @ self._a["out_w"]).reshape(len(first), len(items))
        return tower


mlflow.models.set_model(NeuMF())
