"""What a verdict rests on: plain values, gathered elsewhere, that `training.gate.decide` alone judges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from training.metrics import upwards


@dataclass(frozen=True)
class Sitting:
    """One model's result on the exam.

    per_unit: metric → float64 [units], the same users (topics, …) in the same order for everyone.
    totals: metrics of the whole exam that have no per-unit value, such as coverage.
    slices: "group: name" → float64 [units], `slice_metric` where the unit belongs to the slice, NaN elsewhere.
    trained_until: last day of its training window; None = not known.
    problem: why there is no result, if there is none.
    """

    name: str
    exam_digest: str
    per_unit: Mapping[str, np.ndarray] = field(default_factory=dict)
    totals: Mapping[str, float] = field(default_factory=dict)
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)
    slice_metric: str = ""
    trained_until: date | None = None
    problem: str = ""

    def figure(self, metric: str) -> float | None:
        """The metric over all units, or None if it is absent or not finite."""
        values = self.per_unit.get(metric)
        if values is not None:
            found = float(np.mean(values)) if len(values) else math.nan
        else:
            found = float(self.totals.get(metric, math.nan))
        return found if math.isfinite(found) else None

    def figures(self) -> dict[str, float]:
        """Every metric that has a finite figure."""
        found = {metric: self.figure(metric) for metric in [*self.per_unit, *self.totals]}
        return {metric: figure for metric, figure in found.items() if figure is not None}


@dataclass(frozen=True)
class Measured:
    """Figures of a trial by name (`training.metrics`), and what went wrong where one could not be made."""

    figures: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Lineage:
    """Where a candidate comes from.

    unaudited: days that it was trained or examined on whose audit is not on record, or did not pass.
    shared: content (named by its day) that is both in its training window and in the exam, by digest.
    changed: what is not any more as it was recorded when the model was trained: a day's content, an artifact's hash.
    absent: what ought to be recorded and is not: a tag, the list of days, the artifacts' digest.
    commit, dirty: the code it was trained by; dirty: its tree differed from the commit, None = not known.
    """

    unaudited: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    commit: str = ""
    dirty: bool | None = None
    problem: str = ""


@dataclass(frozen=True)
class Evidence:
    """All that a decision rests on.

    champion: None if the seat is empty. candidate: None if nobody handed in.
    reference: the frozen version that no champion may fall behind; None only while nothing was ever frozen.
    baselines: the cheap models that sit every exam, by name.
    absent: families that should have handed in a candidate tonight and did not.
    withdrawn: why a person (or the live outcomes) took this very version out of the seat, or turned it down.
    rivals: how many different candidates this exam has judged or will; each must be surer the more there are, so that
        neither many families nor training one again and again is a way to luck.
    unit: what the exam asked about, in the plural: users, topics.
    behaviour, infra, lineage: None = not looked at.
    """

    exam_digest: str
    exam_start: date
    exam_end: date
    candidate: Sitting | None
    champion: Sitting | None
    baselines: Mapping[str, Sitting]
    reference: Sitting | None = None
    absent: tuple[str, ...] = ()
    withdrawn: str = ""
    rivals: int = 1
    unit: str = "users"
    behaviour: Measured | None = None
    lineage: Lineage | None = None
    infra: Measured | None = None

    def best_of(self, names: Iterable[str], metric: str) -> Sitting:
        """The baseline with the best figure among `names`; one that has none comes last."""

        def rank(model: Sitting) -> float:
            figure = model.figure(metric)
            return -math.inf if figure is None else upwards(metric, figure)

        return max((self.baselines[name] for name in names), key=rank)
