"""A packaged recommender for tests: answers from a table of scores. Travels inside the logged model."""

from __future__ import annotations

import json
import time
from typing import Any

import mlflow.models
import mlflow.pyfunc
import numpy as np
import pandas as pd


class Tiny(mlflow.pyfunc.PythonModel):
    user_features: list[str] = []  # noqa: RUF012

    def load_context(self, context: Any) -> None:
        with open(context.artifacts["table"], encoding="utf-8") as handle:
            table = json.load(handle)
        if table.get("broken"):
            raise ValueError("the table is torn")
        self.items = list(table["items"])
        self.titles = self.categories = self.items
        self._scores: dict[str, list[float]] = table["scores"]
        self._slow = set(table.get("slow", []))  # users whose answer takes 0.6 s

    def known(self, user_id: str) -> bool:
        return user_id in self._scores

    def seen(self, user_id: str) -> np.ndarray:
        return np.empty(0, dtype=np.int64)

    def score(self, users: pd.DataFrame) -> np.ndarray:
        nothing = [0.0] * len(self.items)
        if not self._slow.isdisjoint(users["user_id"]):
            time.sleep(0.6)
        return np.array([self._scores.get(user, nothing) for user in users["user_id"]], dtype=np.float32)

    def reason(self, user_id: str, column: int) -> str:
        return "from a table"

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        return pd.DataFrame(self.score(model_input), columns=self.items)


mlflow.models.set_model(Tiny())
