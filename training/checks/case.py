"""What every check is given: the evidence, the policy, and each compared difference with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from training.evidence import Evidence, Sitting
from training.intervals import cautious_intervals, seed_from
from training.metrics import named, upwards, written
from training.policy import Policy

Status = Literal["pass", "fail", "missing"]


@dataclass(frozen=True)
class Check:
    """group: the policy's table that asked for it, or "contest". metric: what its figures are of, if they are.

    figures: of a comparison candidate, other, difference, low, high, needed (the difference asked for); of a limit
    candidate, needed. flag: passed, but a reader should know.
    """

    name: str
    status: Status
    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    group: str = "contest"
    metric: str = ""
    flag: bool = False


@dataclass(frozen=True)
class Difference:
    """Candidate minus other, in a metric's own direction; a total has no interval: low = high = difference."""

    metric: str
    candidate: float
    other: float
    difference: float
    low: float
    high: float

    @property
    def at_worst(self) -> float:
        """The gain at the interval's worse end."""
        return min(upwards(self.metric, self.low), upwards(self.metric, self.high))

    @property
    def at_best(self) -> float:
        """The gain at the interval's better end."""
        return max(upwards(self.metric, self.low), upwards(self.metric, self.high))

    @property
    def gain(self) -> float:
        """The difference, turned so that higher is better."""
        return upwards(self.metric, self.difference)

    def figures(self, needed: float) -> dict[str, float]:
        """needed: the gain that was asked for, counted upwards."""
        return {
            "candidate": self.candidate, "other": self.other, "difference": self.difference,
            "low": self.low, "high": self.high, "needed": upwards(self.metric, needed),
        }  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One candidate's case. All differences are resampled together, once."""

    evidence: Evidence
    policy: Policy

    @property
    def confidence(self) -> float:
        """Bonferroni: k candidates a night get k chances to be lucky.

        k known in advance err together no more than one would. Tries handed in one after the other, each judged
        before the next, err at most 1 + 1/2 + … + 1/k times as often: three tries 1.8 times, ten 2.9 times.
        """
        return 1 - (1 - self.policy.exam.confidence) / max(self.evidence.rivals, 1)

    def trained(self) -> list[Sitting]:
        """The models that learnt, by what they were trained on: what a training window may not overlap."""
        sitters = (self.evidence.candidate, self.evidence.champion, self.evidence.reference)
        return [model for model in sitters if model is not None]

    def difference(self, other: Sitting, metric: str) -> Difference | None:
        """Candidate minus `other`, or None where either has no finite figure."""
        return self._differences.get((other.name, metric))

    def line(self, found: Difference) -> str:
        """A difference in words."""
        metric = found.metric
        mine, theirs = written(metric, found.candidate), written(metric, found.other)
        line = f"{named(metric)} {mine} against {theirs}, {written(metric, found.difference, '+')}"
        if found.low == found.high:
            return line
        rivals = self.evidence.rivals
        why = f"; wider than usual, as this exam has {rivals} candidates" if rivals > 1 else ""
        low, high = written(metric, found.low, "+"), written(metric, found.high, "+")
        return f"{line} ({100 * self.confidence:.4g} % interval {low} to {high}{why})"

    @cached_property
    def _differences(self) -> dict[tuple[str, str], Difference]:
        found: dict[tuple[str, str], Difference] = {}
        columns: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}
        for other, metrics in self._compared():
            for metric in metrics:
                mine, theirs = values_of(self.evidence.candidate, metric), values_of(other, metric)
                if mine is None or theirs is None or len(mine) != len(theirs):
                    continue
                if len(mine) == 1:
                    gap = float(mine[0] - theirs[0])
                    found[other.name, metric] = Difference(
                        metric, float(mine[0]), float(theirs[0]), gap, gap, gap
                    )
                else:
                    columns[other.name, metric] = mine, theirs
        for units in {len(mine) for mine, _ in columns.values()}:
            alike = {key: pair for key, pair in columns.items() if len(pair[0]) == units}
            gaps = np.stack([mine - theirs for mine, theirs in alike.values()], axis=1)
            lows, highs = cautious_intervals(
                gaps,
                confidence=self.confidence,
                draws=self.policy.exam.draws,
                seed=seed_from(self.evidence.exam_digest),
            )
            for (key, (mine, theirs)), gap, low, high in zip(alike.items(), gaps.T, lows, highs, strict=True):
                found[key] = Difference(
                    key[1],
                    float(mine.mean()),
                    float(theirs.mean()),
                    float(gap.mean()),
                    float(low),
                    float(high),
                )
        return found

    def _compared(self) -> list[tuple[Sitting, list[str]]]:
        """Who is compared with, in which metrics."""
        policy, evidence = self.policy, self.evidence
        pairs = [(baseline, [policy.primary]) for baseline in evidence.baselines.values()]
        if evidence.champion is not None:
            pairs.append((evidence.champion, list(dict.fromkeys([policy.primary, *policy.guardrails]))))
        if evidence.reference is not None:
            pairs.append((evidence.reference, list(policy.reference)))
        return pairs


def values_of(model: Sitting | None, metric: str) -> np.ndarray | None:
    """[units] of a per-unit metric, [1] of a total; None unless all are there and finite."""
    if model is None:
        return None
    values = np.asarray(model.per_unit.get(metric, [model.totals.get(metric, np.nan)]), dtype=np.float64)
    return values if len(values) and np.isfinite(values).all() else None


def sentence(text: str) -> str:
    """`text` as a sentence begins."""
    return text[:1].upper() + text[1:]
