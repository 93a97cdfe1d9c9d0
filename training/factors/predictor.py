"""A factor model as it is served: NumPy and SciPy alone. This file travels inside the packaged model.

It imports neither torch nor Nightshift and loads no pickle.

    score(user, item) = taste(user) · item + bias(item)

Where the package has an `encoder` [items, factors], a taste is pooled from what the user liked and, if the request
tells, met lately: Σ encoder[liked] / n^alpha. Else it is the user's own vector (`user` [users, factors]), and what a
request tells of lately is of no use to it. A stranger's taste is 0: the bias alone ranks, which is popularity.
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


class Factors(PythonModel):
    """The recommender seat's protocol over factors, and MLflow's `predict` on top of it."""

    items: list[str]
    titles: list[str]
    categories: list[str]
    user_features: list[str] = []  # noqa: RUF012 - the protocol's attribute; this model wants none
    context: list[str] = []  # noqa: RUF012
    calibration: np.ndarray | None = None

    def load_context(self, context: Any) -> None:
        paths = context.artifacts
        with open(paths["config"], encoding="utf-8") as handle:
            config = json.load(handle)
        users = pd.read_parquet(paths["users"])["user_id"].tolist()
        self.set_up(config, load_file(paths["factors"]), users, pd.read_parquet(paths["items"]))

    def set_up(
        self, config: dict[str, Any], arrays: dict[str, np.ndarray], users: list[str], items: pd.DataFrame
    ) -> None:
        """users: ids in the order of the rows of `met` and `user`; items: item_id, title, category, in column order.

        arrays: item [items, factors], bias [items]; encoder [items, factors] or user [users, factors], all float32;
            met_start [users + 1], met_item, met_liked, people as `training.history.met_arrays`; calibration, where
            there was a validation exam.
        """
        self.items = items["item_id"].tolist()
        self.titles = items["title"].tolist()
        self.categories = items["category"].tolist()
        self._row = {user: row for row, user in enumerate(users)}
        self._column = {item: column for column, item in enumerate(self.items)}
        self._a, self._alpha = arrays, float(config["alpha"])
        self._pooled = "encoder" in arrays
        self.context = ["recent_items"] if self._pooled else []
        self.calibration = arrays.get("calibration")
        spoken = arrays["encoder"] if self._pooled else arrays["item"]
        self._from = spoken / np.maximum(np.linalg.norm(spoken, axis=1, keepdims=True), 1e-9)
        self._to = arrays["item"] / np.maximum(np.linalg.norm(arrays["item"], axis=1, keepdims=True), 1e-9)

    # --- the seat's protocol ---------------------------------------------------------------------------

    def known(self, user_id: str) -> bool:
        return len(self._liked(user_id)) > 0

    def seen(self, user_id: str) -> np.ndarray:
        return self._met(user_id)[0].astype(np.int64)

    def score(self, users: pd.DataFrame) -> np.ndarray:
        names = [str(user) for user in users["user_id"]]
        taste = self._tastes(names, users) if self._pooled else self._own(names)
        scores: np.ndarray = taste @ self._a["item"].T + self._a["bias"]
        return scores.astype(np.float32, copy=False)

    def reason(self, user_id: str, column: int, recent_items: Sequence[str] = ()) -> str:
        """Why this item is shown to this user; `recent_items` as in the context."""
        lately = recent_items if self._pooled else ()
        liked = np.setdiff1d(self._with(self._liked(user_id), lately), [column])
        if len(liked):
            alike = self._from[liked] @ self._to[column]
            best = int(liked[np.argmax(alike)])
            if alike.max() > 0:
                when = " lately" if self.items[best] in lately else ""
                return f"goes with “{self.titles[best]}”, which you looked at{when}"
            return f"picked for your taste, from {self.categories[column]}"
        people = self._a["people"][column]
        return f"popular: {people} people met it lately" if people else f"new in {self.categories[column]}"

    # --- MLflow's pyfunc -------------------------------------------------------------------------------

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Rows of `user_id`[, `k`] → `item_ids` and `scores` (lists, best first).

        Items the user met before the training cut-off are left out.
        """
        wanted = model_input["k"] if "k" in model_input else pd.Series(DEFAULT_K, model_input.index)
        found = []
        for user, k in zip(model_input["user_id"].astype(str), wanted.fillna(DEFAULT_K), strict=True):
            scores = self.score(pd.DataFrame({"user_id": [user]}))[0]
            left = np.delete(np.arange(len(scores)), self.seen(user))
            best = left[np.argsort(-scores[left], kind="stable")][: max(int(k), 0)]
            found.append(([self.items[column] for column in best], scores[best].astype(float).tolist()))
        return pd.DataFrame(found, columns=["item_ids", "scores"])

    # --- inside ----------------------------------------------------------------------------------------

    def _tastes(self, names: list[str], users: pd.DataFrame) -> np.ndarray:
        """Pooled from what each liked and met lately, float32 [users, factors]."""
        lately = users["recent_items"] if "recent_items" in users else [None] * len(names)
        liked = [self._with(self._liked(name), recent) for name, recent in zip(names, lately, strict=True)]
        count = np.array([len(columns) for columns in liked], np.int64)
        starts = np.concatenate([[0], np.cumsum(count)])
        columns = np.concatenate([np.empty(0, np.int64), *liked])
        ones = np.ones(len(columns), np.float32)
        history = csr_matrix((ones, columns, starts), shape=(len(names), len(self.items)))
        taste: np.ndarray = history @ self._a["encoder"]
        return taste / np.maximum(count, 1)[:, None].astype(np.float32) ** np.float32(self._alpha)

    def _own(self, names: list[str]) -> np.ndarray:
        """Each user's own vector, float32 [users, factors]; 0 of a stranger."""
        taste = np.zeros((len(names), self._a["item"].shape[1]), np.float32)
        for place, name in enumerate(names):
            if self.known(name):
                taste[place] = self._a["user"][self._row[name]]
        return taste

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


mlflow.models.set_model(Factors())
