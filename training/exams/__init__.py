"""The exams: one examiner per seat. Training, the gate and the verdict know a seat's exam by this alone.

An examiner says which days a night trains on and which it keeps for the exam, sets the exam, brings the cheap
models that sit every exam, and scores whoever sits it: candidate, champion and baselines on the same rows.
To add a seat's exam: a module with an `Examiner`, and a line in EXAMINERS (imported on use).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from nightshift.errors import LakeError
from nightshift.lake import Lake
from nightshift.settings import Settings
from training.evidence import Measured
from training.recipe import Night

EXAMINERS = {
    "recommender": "training.exams.recommender:EXAMINER",
    "forecaster": "training.exams.forecaster:EXAMINER",
    "language": "training.exams.language:EXAMINER",
}


class EmptyExamError(LakeError):
    """The exam days hold nothing to ask about."""


class Exam(Protocol):
    """Questions and answers; what is in them is between the examiner and its models.

    digest: sha256 of all of it: equal digests mean equal exams. start, end: the days that it asks about.
    """

    @property
    def digest(self) -> str: ...

    @property
    def start(self) -> date: ...

    @property
    def end(self) -> date: ...

    def __len__(self) -> int:
        """How many units (users, topics) it asks about."""
        ...


@dataclass(frozen=True)
class Scores:
    """A model's result: `per_unit[metric]` is float64 [units], in the exam's order; totals have one figure.

    slices: "group: name" → `slice_metric`, float64 [units], NaN where a unit is not of the slice.
    """

    per_unit: dict[str, np.ndarray]
    totals: dict[str, float] = field(default_factory=dict)
    slices: dict[str, np.ndarray] = field(default_factory=dict)
    slice_metric: str = ""

    def means(self) -> dict[str, float]:
        """Every metric over all units; a per-unit one is zero if nobody sat the exam."""
        means = {name: float(v.mean()) if len(v) else 0.0 for name, v in self.per_unit.items()}
        return {**means, **self.totals}


@dataclass(frozen=True)
class Content:
    """Name of a piece (its day or its week) → digest of what it holds: nothing may be in both."""

    training: dict[str, str]
    exam: dict[str, str]


class Examiner(Protocol):
    """unit: what is asked about, in the plural. metrics: every metric that `score` gives."""

    unit: str
    metrics: tuple[str, ...]

    def night(self, lake: Lake, day: date, settings: Settings, *, smoke: bool = False) -> Night:
        """What the night of a published day trains on, and what it keeps for the exam.

        Raises:
            LakeError: the day is not published, or leaves nothing to train on.
            NoDataError: the lake holds nothing for this seat, or too little: no failure, it is left out.
        """
        ...

    def digest(self, lake: Lake, night: Night) -> str:
        """sha256 of the published data that the night trains on."""
        ...

    def content(self, lake: Lake, settings: Settings, night: Night) -> Content:
        """What the night trains on and what its exam asks about, piece by piece."""
        ...

    def set(self, lake: Lake, settings: Settings, night: Night) -> Exam:
        """The night's exam. Raises EmptyExamError if there is nothing to ask, FeatureError without features."""
        ...

    def baselines(self, lake: Lake, settings: Settings, night: Night) -> dict[str, Any]:
        """Name → cheap model that follows the seat's protocol; knows nothing of the exam."""
        ...

    def score(self, model: Any, exam: Any) -> Scores:
        """Score a model that follows the seat's protocol."""
        ...

    def behaviour(self, model: Any, exam: Any) -> Measured:
        """Figures of how the model answers, whatever it scores; their limits are in the seat's policy."""
        ...

    def rest(self) -> None:
        """Give back the memory that scoring took: a candidate is about to be tried in its service."""
        ...

    def about(self, exam: Any) -> str:
        """One line on how the exam was held, for the verdict's page."""
        ...


def examiner(seat: str) -> Examiner:
    """The examiner of a seat, by its name."""
    module, _, attribute = EXAMINERS[seat].partition(":")
    found: Examiner = getattr(import_module(module), attribute)
    return found
