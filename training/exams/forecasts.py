"""The one scorer of forecasts: every model that wants the forecaster's seat answers the same questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from nightshift.errors import ContractError
from training.exams import Scores
from training.exams.slices import by_unit, thirds

LEVELS = (80, 95)
ANSWER = ("change", *(f"{end}_{level}" for level in LEVELS for end in ("low", "high")))
PER_TOPIC = ("mse", "mae", "interval_score_80")
METRICS = (
    *PER_TOPIC,
    "skill",
    *(f"{what}_{level}" for what in ("coverage", "miss") for level in LEVELS),
    "width_80",
)
USUAL = 50.0  # the velocity of a topic at its own usual pace


@dataclass(frozen=True)
class Exam:
    """topic [n] int64 indexes `topics`, in the order of `rows` [n]; change [n] float64 is what came, in points.

    moved: topic → how much its velocity used to change in four weeks, in points; who is not in it is not known.
    digest: sha256 of all of it: equal digests mean equal exams.
    """

    topics: list[str]
    topic: np.ndarray
    rows: pd.DataFrame
    change: np.ndarray
    start: date
    end: date
    digest: str
    moved: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.topics)

    def by_topic(self, values: np.ndarray, asked: np.ndarray | None = None) -> np.ndarray:
        """Mean over each topic's questions of values [n], float64 [topics]; asked [n]: of these alone, or NaN."""
        weight = np.ones(len(values)) if asked is None else asked.astype(np.float64)
        counted = np.where(weight > 0, values, 0.0)
        count = np.bincount(self.topic, weights=weight, minlength=len(self))
        total = np.bincount(self.topic, weights=counted, minlength=len(self))
        return np.divide(total, count, out=np.full(len(self), np.nan), where=count > 0)


def answered(model: Any, rows: pd.DataFrame) -> pd.DataFrame:
    """The model's forecast for rows, its columns ANSWER.

    Raises:
        ContractError: it does not have a row per question and the protocol's columns.
    """
    given = model.forecast(rows.copy())
    missing = [name for name in ANSWER if name not in given]
    if missing or len(given) != len(rows):
        raise ContractError(
            f"the model gave {len(given)} rows with {list(given)}, expected {len(rows)} with {list(ANSWER)}"
        )
    return given[list(ANSWER)].astype(np.float64)


def score_model(model: Any, exam: Exam) -> Scores:
    """MSE and MAE per topic (mean over its changes), in points; skill against last value; how good the intervals are.

    `miss_80` is how far the 80 % interval's coverage is from 0.80; `width_80` its mean width in points;
    `interval_score_80` is the width plus 10 times how far outside the change was (Gneiting & Raftery 2007, eq. 43):
    lower is better, and neither too wide nor too narrow pays. Slices are of MSE.

    Raises:
        ContractError: the forecast does not have a row per question and the protocol's columns, or an interval is
            no interval.
    """
    given = answered(model, exam.rows)
    error = given["change"].to_numpy() - exam.change
    mse, last_value = exam.by_topic(error**2), exam.by_topic(exam.change**2)
    totals = {"skill": float(1 - mse.mean() / last_value.mean()) if last_value.any() else 0.0}
    per_topic = {"mse": mse, "mae": exam.by_topic(np.abs(error))}
    for level in LEVELS:
        low, high = (given[f"{end}_{level}"].to_numpy() for end in ("low", "high"))
        if not (np.isfinite(low) & np.isfinite(high) & (low <= high)).all():
            raise ContractError(
                f"the model gave a {level} % interval that is not one: upside down or not finite"
            )
        covered = float(((low <= exam.change) & (exam.change <= high)).mean())
        totals |= {f"coverage_{level}": covered, f"miss_{level}": abs(covered - level / 100)}
        if level == LEVELS[0]:
            outside = np.maximum(low - exam.change, 0) + np.maximum(exam.change - high, 0)
            per_topic["interval_score_80"] = exam.by_topic(high - low + 2 / (1 - level / 100) * outside)
            totals["width_80"] = float((high - low).mean())
    return Scores(per_topic, totals, _slices(exam, error**2, mse), "mse")


def _slices(exam: Exam, squared: np.ndarray, mse: np.ndarray) -> dict[str, np.ndarray]:
    """MSE by topic: of calm and restless ones; of questions asked at a fast and at a slow pace, early and late."""
    moved = np.array([exam.moved.get(topic, np.nan) for topic in exam.topics], dtype=np.float64)
    found = by_unit(mse, "volatility", thirds(moved, ("calm", "middling", "restless")))
    fast = exam.rows["velocity"].to_numpy(np.float64) > USUAL
    weeks = exam.rows["week"].to_numpy()
    asked = sorted(set(weeks))
    late = np.isin(weeks, asked[len(asked) // 2 :])
    for name, chosen in (
        ("pace: above usual", fast),
        ("pace: usual or below", ~fast),
        ("weeks: earlier", ~late),
        ("weeks: later", late),
    ):
        found[name] = exam.by_topic(squared, chosen)
    return found
