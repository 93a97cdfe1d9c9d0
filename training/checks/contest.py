"""Is there a contest at all, and who wins it?"""

from __future__ import annotations

import numpy as np

from training.checks.case import Case, Check
from training.evidence import Sitting
from training.metrics import named


def complete(case: Case) -> list[Check]:
    name = "every candidate is here"
    if case.evidence.absent:
        names = " and ".join(case.evidence.absent)
        return [Check(name, "missing", f"The candidate of family {names} is missing.")]
    if case.evidence.candidate is None:
        return [Check(name, "missing", "There is no candidate.")]
    return [Check(name, "pass", "Every family that competes for this seat handed in a candidate.")]


def same_exam(case: Case) -> list[Check]:
    """Everyone sat this very exam, every figure that a check needs is there and finite, for enough units."""
    name, evidence, policy = "same exam for all", case.evidence, case.policy
    wanted = (*policy.baselines.beat, *policy.baselines.match)
    if absent := [baseline for baseline in wanted if baseline not in evidence.baselines]:
        return [Check(name, "missing", f"The {absent[0]} baseline did not sit the exam.")]
    counts = set()
    for model, metrics in _needed(case):
        who = model.name
        if model.problem:
            return [Check(name, "missing", f"The {who} could not be scored: {model.problem}.")]
        if model.exam_digest != evidence.exam_digest:
            return [Check(name, "missing", f"The {who} sat another exam.")]
        counts |= {len(values) for values in model.per_unit.values()}
        for metric in metrics:
            values = model.per_unit.get(metric, np.array([model.totals.get(metric, np.nan)]))
            if not np.isfinite(values).all():
                return [Check(name, "missing", f"The {who} has no usable {named(metric)}.")]
    if len(counts) > 1:
        return [Check(name, "missing", f"The models were scored on different numbers of {evidence.unit}.")]
    units = counts.pop() if counts else 0
    figures = {evidence.unit: units, "needed": policy.exam.min_units, "digest": evidence.exam_digest}
    if units < policy.exam.min_units:
        few = f"Only {units} {evidence.unit} sat the exam; {policy.exam.min_units} are needed to tell gain from luck."
        return [Check(name, "missing", few, figures)]
    told = f"All were scored on the same {units:,} {evidence.unit} by the same scorer."
    return [Check(name, "pass", told, figures)]


def unseen(case: Case) -> list[Check]:
    """Nobody was trained on a day of the exam."""
    name, evidence = "exam unseen in training", case.evidence
    figures = {"exam_start": evidence.exam_start.isoformat()}
    for model in case.trained():
        if model.trained_until is None:
            return [Check(name, "missing", f"It is not known until when the {model.name} was trained.")]
        figures[model.name] = model.trained_until.isoformat()
        if model.trained_until >= evidence.exam_start:
            told = (
                f"The {model.name} was trained on data up to {model.trained_until}, "
                f"which holds days of the exam ({evidence.exam_start} to {evidence.exam_end})."
            )
            return [Check(name, "fail", told, figures)]
    return [Check(name, "pass", f"Nobody was trained on {evidence.exam_start} or later.", figures)]


def not_withdrawn(case: Case) -> list[Check]:
    if not case.evidence.withdrawn:
        return []
    return [Check("not withdrawn", "fail", f"This version was taken out before: {case.evidence.withdrawn}")]


def better_than_champion(case: Case) -> list[Check]:
    """Beyond noise, and by enough: the interval above zero, the gain itself at least `min_gain`."""
    if case.evidence.champion is None:
        return []
    return [_better(case, case.evidence.champion, case.policy.better.min_gain, "better")]


def better_than_baselines(case: Case) -> list[Check]:
    """Better than some beyond noise; not below others beyond noise, which compete for the seat themselves.

    By the figure alone, two families that noise alone tells apart could keep each other out: one is a hair below the
    other, which something else keeps from the seat. If both pass, the better figure takes it (`training.choosing`).
    """
    baselines, policy = case.evidence.baselines, case.policy
    beat = [
        _better(case, baselines[name], 0.0, "baselines")
        for name in policy.baselines.beat
        if name in baselines
    ]
    match = [_not_below(case, baselines[name]) for name in policy.baselines.match if name in baselines]
    return [*beat, *match]


def guardrails(case: Case) -> list[Check]:
    """What the primary metric does not see must not be paid for its gain."""
    if case.evidence.champion is None:
        return []
    return [_not_worse(case, case.evidence.champion, m, share) for m, share in case.policy.guardrails.items()]


def reference(case: Case) -> list[Check]:
    """No ratchet: losses that are each within their margin must not add up over the nights.

    Judged by the figure itself, not by its interval: the frozen version grows old, agrees less with today's models,
    and its interval would grow too wide to rule anything out.
    """
    frozen = case.evidence.reference
    if frozen is None:
        if case.evidence.champion is None or not case.policy.reference:
            return []
        told = "No version is frozen to hold it against: nightshift freeze."
        return [Check("not behind a frozen reference", "missing", told, group="reference")]
    checks = []
    for metric, share in case.policy.reference.items():
        name = f"not behind the {frozen.name}: {named(metric)}"
        found = case.difference(frozen, metric)
        if found is None:
            told = f"{named(metric)} cannot be compared with the {frozen.name}'s."
            checks.append(Check(name, "missing", told, group="reference", metric=metric))
            continue
        allowed = -share * abs(found.other)
        kept = found.gain >= allowed
        told = (
            f"{'Not' if kept else 'Has fallen'} behind the {frozen.name} "
            f"by more than {100 * share:g} %: {case.line(found)}."
        )
        figures = found.figures(allowed)
        checks.append(
            Check(name, "pass" if kept else "fail", told, figures, group="reference", metric=metric)
        )
    return checks


def _needed(case: Case) -> list[tuple[Sitting, list[str]]]:
    """Who must have sat the exam, and which of their figures the checks read."""
    evidence, policy = case.evidence, case.policy
    compared = [policy.primary, *policy.guardrails, *policy.reference, *policy.floors]
    sitters = [(model, compared) for model in (evidence.candidate,) if model is not None]
    if evidence.champion is not None:
        sitters.append((evidence.champion, [policy.primary, *policy.guardrails]))
    if evidence.reference is not None and policy.reference:
        sitters.append((evidence.reference, list(policy.reference)))
    return [*sitters, *((baseline, [policy.primary]) for baseline in evidence.baselines.values())]


def _better(case: Case, other: Sitting, min_gain: float, group: str) -> Check:
    name, metric = f"better than the {other.name}", case.policy.primary
    found = case.difference(other, metric)
    if metric not in other.per_unit:  # a figure of the whole exam has no noise that could be measured
        whole = f"{named(metric)} is told of the exam as a whole, not by {case.evidence.unit}"
        told = f"{whole}: luck cannot be told from gain."
        return Check(name, "missing", told, group=group, metric=metric)
    if found is None:
        told = f"{named(metric)} cannot be compared with the {other.name}'s."
        return Check(name, "missing", told, group=group, metric=metric)
    needed = min_gain * abs(found.other)
    line, figures = case.line(found), found.figures(needed)
    if found.at_worst <= 0:
        told = f"Not better than the {other.name} beyond noise: {line}."
        return Check(name, "fail", told, figures, group=group, metric=metric)
    if found.gain < needed:
        told = f"Better than the {other.name}, but by less than {100 * min_gain:g} %: {line}."
        return Check(name, "fail", told, figures, group=group, metric=metric)
    told = f"Better than the {other.name} beyond noise: {line}."
    return Check(name, "pass", told, figures, group=group, metric=metric)


def _not_below(case: Case, other: Sitting) -> Check:
    name, metric = f"not below the {other.name}", case.policy.primary
    found = case.difference(other, metric)
    if found is None:
        told = f"{named(metric)} cannot be compared with the {other.name}'s."
        return Check(name, "missing", told, group="baselines", metric=metric)
    kept = found.at_best >= 0
    told = f"{'Not below' if kept else 'Below'} the {other.name} beyond noise: {case.line(found)}."
    return Check(name, "pass" if kept else "fail", told, found.figures(0.0), group="baselines", metric=metric)


def _not_worse(case: Case, other: Sitting, metric: str, share: float) -> Check:
    name = f"guardrail {named(metric)}"
    found = case.difference(other, metric)
    if found is None:
        told = f"{named(metric)} cannot be compared with the {other.name}'s."
        return Check(name, "missing", told, group="guardrails", metric=metric)
    allowed = -share * abs(found.other)
    line, figures = case.line(found), found.figures(allowed)
    loss = f"more than {100 * share:g} % of the {other.name}'s {named(metric)}"
    if found.at_worst < allowed:
        told = f"A loss of {loss} is not ruled out: {line}."
        return Check(name, "fail", told, figures, group="guardrails", metric=metric)
    return Check(name, "pass", f"No loss of {loss}: {line}.", figures, group="guardrails", metric=metric)
