"""What a study may try of a setting: declared beside a recipe's settings, drawn by Optuna on use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from optuna import Trial

    from nightshift.settings import Settings
    from training.recipe import LogEpoch, Night, Setup


@dataclass(frozen=True)
class OneOf:
    """Any of a few values."""

    values: tuple[int | float, ...]

    def draw(self, trial: Trial, name: str) -> Any:
        return trial.suggest_categorical(name, self.values)


@dataclass(frozen=True)
class Between:
    """Any number between the two; log: each order of magnitude alike."""

    low: float
    high: float
    log: bool = False

    def draw(self, trial: Trial, name: str) -> Any:
        return trial.suggest_float(name, self.low, self.high, log=self.log)


Space = Mapping[str, OneOf | Between]


@dataclass(frozen=True)
class Goal:
    """metric: of what is told after each epoch, by which trials are pruned and compared."""

    metric: str
    upwards: bool


class Rehearse(Protocol):
    def __call__(self, setup: Setup, seed: int, log_epoch: LogEpoch) -> float:
        """The goal's metric at the epoch that would be kept, on the training window's own validation days."""
        ...


class Studied(Protocol):
    """A recipe whose settings can be studied."""

    space: Space
    goal: Goal
    defaults: Any  # the dataclass of its settings

    def rehearsal(self, night: Night, settings: Settings) -> Rehearse:
        """Read the window once; what is returned trains on it without its validation days, and keeps nothing.

        Raises:
            NoDataError: the window leaves no validation days.
        """
        ...
