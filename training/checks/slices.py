"""A regression that only some of the users (topics, items) have, and the mean hides.

A slice blocks if its loss is real (the interval of its difference lies below zero) and large enough to matter. The
intervals share out `confidence` over all judged slices (Bonferroni), so that two equal models are not blocked by the
luck of many looks. What is too small to judge is listed, and is no evidence either way.
"""

from __future__ import annotations

import math

import numpy as np

from training.checks.case import Case, Check
from training.evidence import Sitting
from training.intervals import student_interval
from training.metrics import named, upwards, written


def slices(case: Case) -> list[Check]:
    policy, champion, candidate = case.policy.slices, case.evidence.champion, case.evidence.candidate
    if policy is None or champion is None or candidate is None:
        return []
    if problem := _incomparable(case, candidate, champion):
        return [Check("slices", "missing", problem, group="slices")]
    gaps = {name: _pairs(candidate.slices[name], champion.slices[name]) for name in champion.slices}
    judged = {name: pair for name, pair in gaps.items() if len(pair[0]) >= policy.min_units}
    small = [f"{name} ({len(pair[0])})" for name, pair in gaps.items() if name not in judged]
    confidence = 1 - (1 - policy.confidence) / max(len(judged), 1)
    checks = [_slice(case, name, *pair, confidence) for name, pair in judged.items()]
    if not judged:
        told = f"No slice has the {policy.min_units} {case.evidence.unit} that it takes to judge it."
        return [Check("slices", "missing", told, {"too_small": small}, group="slices")]
    told = f"{len(judged)} slices of at least {policy.min_units} {case.evidence.unit} were judged"
    told += f"; too small to judge: {', '.join(small)}." if small else "."
    return [
        Check("slices", "pass", told, {"judged": len(judged), "too_small": len(small)}, group="slices"),
        *checks,
    ]


def _slice(case: Case, name: str, mine: np.ndarray, theirs: np.ndarray, confidence: float) -> Check:
    assert case.policy.slices is not None
    metric, share = case.policy.primary, case.policy.slices.min_loss
    low, high = student_interval(mine - theirs, confidence=confidence)
    difference, other = float(mine.mean() - theirs.mean()), float(theirs.mean())
    allowed = -share * abs(other)
    best = max(upwards(metric, low), upwards(metric, high))
    real = best < 0 and upwards(metric, difference) < allowed
    said = (
        f"{name}, {len(mine)} {case.evidence.unit}: {named(metric)} {written(metric, float(mine.mean()))} against "
        f"{written(metric, other)}, {written(metric, difference, '+')} "
        f"({100 * confidence:.4g} % interval {written(metric, low, '+')} to {written(metric, high, '+')})"
    )
    figures = {
        "units": len(mine), "candidate": float(mine.mean()), "other": other, "difference": difference,
        "low": low if math.isfinite(low) else None, "high": high if math.isfinite(high) else None,
        "needed": upwards(metric, allowed),
    }  # fmt: skip
    told = f"A real regression on a slice: {said}." if real else f"No regression beyond noise: {said}."
    return Check(f"slice {name}", "fail" if real else "pass", told, figures, group="slices", metric=metric)


def _incomparable(case: Case, candidate: Sitting, champion: Sitting) -> str:
    """Why the two cannot be compared slice by slice; empty if they can."""
    if not champion.slices or not candidate.slices:
        return "The exam could not be told apart by slices."
    for model in (candidate, champion):
        if model.slice_metric != case.policy.primary:
            told = named(model.slice_metric) if model.slice_metric else "another metric"
            return f"The {model.name}'s slices are told in {told}, and {named(case.policy.primary)} decides."
    if set(candidate.slices) != set(champion.slices):
        odd = sorted(set(candidate.slices) ^ set(champion.slices))[0]
        return f"Only one of candidate and champion has the slice {odd}."
    for name, theirs in champion.slices.items():
        if not np.array_equal(np.isfinite(candidate.slices[name]), np.isfinite(theirs)):
            return (
                f"Candidate and champion have figures for different {case.evidence.unit} of the slice {name}."
            )
    return ""


def _pairs(mine: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both models' values where the slice is."""
    inside = np.isfinite(theirs)
    return mine[inside], theirs[inside]
