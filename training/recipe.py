"""What a family provides. `training.run` does the rest: the MLflow run, curves, artifacts, registration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from nightshift.lake import Lake, training_window
from nightshift.settings import Settings

TRAIN_WINDOW_DAYS = 90  # a season: older behaviour says little about what somebody will look for next
SMOKE_DAYS = 7

LogEpoch = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Night:
    """What is trained on and what is kept for the exam, all by published day, both ends included."""

    night: date
    train_start: date
    train_end: date
    exam_start: date


def resolve_night(lake: Lake, day: date, settings: Settings) -> Night:
    """The night of a published day. Raises LakeError if it is not published or leaves no day to train on."""
    start, end, exam_start = training_window(
        lake,
        day,
        window_days=TRAIN_WINDOW_DAYS,
        exam_days=settings.exam_days,
        exam_users=settings.exam_users,
    )
    return Night(night=day, train_start=start, train_end=end, exam_start=exam_start)


def smoke_night(lake: Lake, night: Night) -> Night:
    """The same night with its last few training days alone: what `--smoke` trains on, and says so."""
    days = [day for day in lake.days() if night.train_start <= day <= night.train_end]
    return replace(night, train_start=days[-SMOKE_DAYS:][0])


@dataclass(frozen=True)
class Package:
    """A trained model on disk, ready for MLflow's models-from-code (no pickle).

    predictor: a .py file that ends in `mlflow.models.set_model(...)` and imports neither torch nor us.
    artifacts: name → file (safetensors, json, parquet).
    input_example: rows that `predict` takes; the signature is inferred from it and its answer.
    """

    predictor: Path
    artifacts: dict[str, Path]
    input_example: pd.DataFrame
    output_example: pd.DataFrame
    requirements: list[str]


@dataclass(frozen=True)
class Trained:
    """The outcome of `Recipe.train`.

    metrics: final figures on the scientist's own validation split, not the gate's exam.
    figures: file name → Matplotlib figure (learning curve, SHAP), logged as PNG.
    features: what the model was trained on, as Feast names them.
    reference: a sample of the training features, for the drift watch.
    """

    package: Package
    params: dict[str, Any]
    metrics: dict[str, float]
    features: list[str]
    reference: pd.DataFrame
    data: pd.DataFrame
    figures: dict[str, Any] = field(default_factory=dict)


class Recipe(Protocol):
    def train(
        self, night: Night, settings: Settings, workdir: Path, *, smoke: bool, seed: int, log_epoch: LogEpoch
    ) -> Trained:
        """Read the lake and Feast, train, package under `workdir`.

        `log_epoch(epoch, metrics)` is called after each epoch. `smoke` means: seconds, not quality;
        `night` is the short one then.
        """
        ...
