"""What a family provides. `training.run` does the rest: the MLflow run, curves, artifacts, registration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pandas as pd

from nightshift.errors import SettingsError
from nightshift.settings import Settings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LogEpoch = Callable[[int, dict[str, float]], None]
H = TypeVar("H", bound="DataclassInstance")


@dataclass(frozen=True)
class Setup:
    """How tonight's training differs from the recipe's own way; by default in nothing.

    hyper: settings by name that take the place of the recipe's defaults (a study found them).
    warm: the folder that an earlier version of the family kept as `state`, to go on from; None: from nothing.
    """

    hyper: Mapping[str, Any] = field(default_factory=dict)
    warm: Path | None = None

    def applied(self, defaults: H) -> H:
        """A recipe's dataclass of settings with `hyper` in it.

        Raises:
            SettingsError: it has no setting of a name, or one of another type.
        """
        known = {one.name: getattr(defaults, one.name) for one in fields(defaults)}
        for name, value in self.hyper.items():
            if name not in known:
                raise SettingsError(f"there is no setting {name!r}; there are {', '.join(known)}")
            kinds = (int, float) if isinstance(known[name], float) else (type(known[name]),)
            if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(known[name], bool):
                raise SettingsError(f"setting {name!r} is {value!r}; it must be like {known[name]!r}")
        return replace(defaults, **self.hyper)


AS_ALWAYS = Setup()


@dataclass(frozen=True)
class Night:
    """What is trained on and what is kept for the exam, both ends included: published days, or for a weekly seat
    the days of its weeks. `training.exams` says which for each seat.

    met_from: the first day of what a recommender must not show again, where that is before `train_start`: a smoke
    night learns from few days, and its lists are to make sense all the same.
    """

    night: date
    train_start: date
    train_end: date
    exam_start: date
    met_from: date | None = None


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
    measures: figures of the training itself (speed, memory), not of the model.
    figures: file name → Matplotlib figure (learning curve, SHAP), logged as PNG.
    tables: name → rows, shown as a table on the run's page.
    folders: name → folder of files that the page keeps. One named `state` is what `Setup.warm` gives a later night.
    scratch: folders that are of no use once the model is submitted (checkpoints to resume from).
    features: what the model was trained on, as Feast names them.
    reference: a sample of the training features, for the drift watch.
    data: what was learnt from; `table` is what it is called in MLflow.
    fresh: why nothing was taken over from `Setup.warm`; empty if it was, or if there was none to go on from.
    """

    package: Package
    params: dict[str, Any]
    metrics: dict[str, float]
    features: list[str]
    reference: pd.DataFrame
    data: pd.DataFrame
    table: str = "interactions"
    figures: dict[str, Any] = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    scratch: tuple[Path, ...] = ()
    fresh: str = ""


class Recipe(Protocol):
    def train(
        self,
        night: Night,
        settings: Settings,
        workdir: Path,
        *,
        smoke: bool,
        seed: int,
        log_epoch: LogEpoch,
        setup: Setup = AS_ALWAYS,
    ) -> Trained:
        """Read the lake and Feast, train, package under `workdir`.

        `log_epoch(epoch, metrics)` is called after each epoch. `smoke` means: seconds, not quality;
        `night` is the short one then.
        """
        ...
