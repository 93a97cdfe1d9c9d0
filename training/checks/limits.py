"""Figures against the policy's limits: floors of the exam, the model's behaviour, its package in the real service."""

from __future__ import annotations

import math
from collections.abc import Mapping

from training.checks.case import Case, Check, Status, sentence
from training.evidence import Measured
from training.metrics import described, named, upwards, written


def floors(case: Case) -> list[Check]:
    """What a candidate must reach whatever the champion does."""
    candidate = case.evidence.candidate
    figures = candidate.figures() if candidate is not None else {}
    return _limits("floors", case.policy.floors, Measured(figures), "the candidate has no usable figure")


def behaviour(case: Case) -> list[Check]:
    """Whether the model's own answers make sense, whatever they score."""
    return _limits("behaviour", case.policy.behaviour, case.evidence.behaviour, "its behaviour was not tried")


def infra(case: Case) -> list[Check]:
    """Whether the package works in its real service, within its budgets."""
    return _limits(
        "infra", case.policy.infra, case.evidence.infra, "the package was not tried in its service"
    )


def _limits(group: str, limits: Mapping[str, float], found: Measured | None, nothing: str) -> list[Check]:
    figures = found.figures if found is not None else {}
    why = found.problem if found is not None and found.problem else nothing
    return [_limit(group, metric, figures.get(metric), limit, why) for metric, limit in limits.items()]


def _limit(group: str, metric: str, figure: float | None, limit: float, why: str) -> Check:
    more = described(metric).higher_is_better
    name = f"{'floor' if more else 'limit'} of {named(metric)}" if group == "floors" else named(metric)
    if figure is None or not math.isfinite(figure):
        told = f"{sentence(named(metric))} is not known: {why}."
        return Check(name, "missing", told, group=group, metric=metric)
    reached = upwards(metric, figure) >= upwards(metric, limit)
    if more:
        judged = f"{'reaches' if reached else 'is below'} the floor of {limit:g}"
    else:
        judged = f"{'keeps within' if reached else 'is above'} the limit of {limit:g}"
    told = f"{sentence(named(metric))}: {written(metric, figure)} {judged}."
    status: Status = "pass" if reached else "fail"
    return Check(name, status, told, {"candidate": figure, "needed": limit}, group=group, metric=metric)
