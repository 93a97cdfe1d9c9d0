"""A packaged forecaster as small as the seat's protocol allows: one weight per indicator, NumPy only.

change = strength · (sum of weights · (mean of the four weeks − usual) + 0.1 · velocity_change_4w + lift); unknown = 0.
"""

import json
from pathlib import Path

import mlflow.models
import mlflow.pyfunc
import numpy as np
import pandas as pd


class Tiny(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        config = json.loads(Path(context.artifacts["config"]).read_text())
        if config["broken"]:
            raise RuntimeError("this version is broken on purpose")
        self.features, self.typical, self.topics = config["features"], config["typical"], config["topics"]
        self.weights, self.strength, self.nonsense = config["weights"], config["strength"], config["nonsense"]

    def forecast(self, rows):
        total = np.full(len(rows), 1.0)
        for name, weight in self.weights.items():
            weeks = rows[[f"{name}_w{ago}" for ago in range(4)]].to_numpy(float)
            usual = rows[f"{name}_usual"].to_numpy(float)
            known = np.isfinite(weeks)
            mean = np.where(known, weeks, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
            usual = np.where(np.isfinite(usual), usual, self.typical[f"{name}_usual"])
            total += np.where(known.any(axis=1), weight * np.clip(mean - usual, -1e6, 1e6), 0.0)
        total += 0.1 * np.nan_to_num(rows["velocity_change_4w"].to_numpy(float))
        change = self.strength * total
        low, high = (change - 2, change + 3) if self.nonsense != "interval" else (change + 2, change - 3)
        told = {"change": change, "low_80": low, "high_80": high, "low_95": low - 2, "high_95": high + 2}
        if self.nonsense == "nan":
            told["change"] = np.where(change > 1e3, np.nan, change)  # where the numbers are large
        return pd.DataFrame(told)

    def predict(self, model_input, params=None):
        return self.forecast(model_input)


mlflow.models.set_model(Tiny())
