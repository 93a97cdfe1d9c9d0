"""May this candidate take the seat? A pure decision over plain evidence: `decide(evidence, policy)`.

Every check passes, fails, or is missing its evidence; the seat changes hands only if all pass:

    something missing                    → not blessed (never a pass)
    something failed, a champion sits    → keep
    something failed, the seat is empty  → not blessed
    all passed                           → promote

Better means beyond noise *and* worth a change: the bootstrap interval of the paired difference lies above
zero, and the gain itself is at least `min_gain`. Asking the whole interval to clear `min_gain` would demand
far bigger exams for the same protection: a model no better than the champion should pass the first condition
alone in 2.5 % of the nights, and the second only lowers that. How often such a model does pass both, in 4,000
simulated exams each (1,000 draws, seeds 0 to 3,999):

    users                                 30      50     100     200     300
    differences symmetric              3.7 %   3.5 %   3.2 %   2.6 %   3.0 %
    differences skewed                15.9 %   8.9 %   5.5 %   4.4 %   3.9 %

Symmetric: each finds the item of a random 10 % of the users, at a random place of the first ten. Skewed, with
equal means: the champion puts the item of 5 % first, the candidate that of 17.3 % tenth. A small exam holds too
few of such rare, large losses, and the bootstrap cannot resample what it never saw: hence `min_units`. It is
no guarantee: with 3 % and 10.4 % instead, 7.6 % pass at 100 users and 4.0 % at 300.

To add a check: a function of (evidence, policy) that returns its Checks, and a line in CHECKS.
Not covered here: slices, a frozen reference, the model's behaviour, the packaged model in the real service.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import numpy as np

from training.intervals import mean_interval, seed_from


@dataclass(frozen=True)
class Metric:
    """How people write a metric, and which way is better. `spec` formats its figures."""

    label: str
    higher_is_better: bool = True
    spec: str = ".4f"


METRICS = {
    "ndcg_at_10": Metric("NDCG@10"),
    "hr_at_10": Metric("HR@10"),
    "recall_at_50": Metric("recall@50"),
    "precision_at_10": Metric("precision@10"),
    "coverage_at_10": Metric("coverage@10"),
    "auc": Metric("AUC"),
    "mse": Metric("MSE", higher_is_better=False, spec=".2f"),
    "mae": Metric("MAE", higher_is_better=False, spec=".3f"),
    "interval_score_80": Metric("80 % interval score", higher_is_better=False, spec=".2f"),
    "skill": Metric("skill", spec=".3f"),
    "coverage_80": Metric("80 % coverage", spec=".3f"),
    "coverage_95": Metric("95 % coverage", spec=".3f"),
    "miss_80": Metric("80 % coverage error", higher_is_better=False, spec=".3f"),
    "miss_95": Metric("95 % coverage error", higher_is_better=False, spec=".3f"),
    "width_80": Metric("80 % interval width", higher_is_better=False, spec=".2f"),
}

Status = Literal["pass", "fail", "missing"]
Decision = Literal["promote", "keep", "not blessed"]


@dataclass(frozen=True)
class Policy:
    """What a seat asks of a candidate. Which way a metric is better is in METRICS; unknown ones count upwards.

    guardrails: metric → how much of the champion's figure may be lost at most (0.1 = a tenth): for a
        per-unit metric the interval of the difference must stay within that, for a total the figure itself.
    floors: metric → the figure that a candidate must reach whatever the champion does; where lower is better,
        the most that it may be.
    min_gain: smallest gain of the primary metric worth a change, as a share of the champion's figure.
    min_units: how many users (topics, …) must have sat the exam.
    """

    primary: str
    guardrails: Mapping[str, float]
    floors: Mapping[str, float]
    min_gain: float = 0.01
    confidence: float = 0.95  # two-sided: an equal model's lower bound clears zero 2.5 % of the nights
    draws: int = 4_000  # the bound then moves by about 2 % of the interval's width between seeds
    min_units: int = 100  # with fewer, skewed differences pass for a gain too often: the table above


POLICIES: dict[str, Policy] = {
    "recommender": Policy(
        primary="ndcg_at_10",
        guardrails={"hr_at_10": 0.10, "recall_at_50": 0.10, "auc": 0.05, "coverage_at_10": 0.30},
        floors={"auc": 0.5},  # below a coin's toss the scores are upside down
    ),
    # Topics share the weeks: what moved all of them at once is not in the interval over topics. How often two equal
    # forecasters pass for different on 30 topics has not been measured.
    "forecaster": Policy(
        primary="mse",
        guardrails={"mae": 0.05, "interval_score_80": 0.05},
        # One exam's coverage scatters by some 2 points: this far off it is no scatter, and misleads.
        floors={"miss_80": 0.10, "miss_95": 0.08},
        min_units=30,
    ),
}


@dataclass(frozen=True)
class Sitting:
    """One model's result on the exam.

    per_unit: metric → float64 [units], the same users (topics, …) in the same order for everyone.
    totals: metrics of the whole exam that have no per-unit value, such as coverage.
    trained_until: last day of its training window; None = not known.
    problem: why there is no result, if there is none.
    """

    name: str
    exam_digest: str
    per_unit: Mapping[str, np.ndarray] = field(default_factory=dict)
    totals: Mapping[str, float] = field(default_factory=dict)
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
class Evidence:
    """All that a decision rests on.

    champion: None if the seat is empty. candidate: None if nobody handed in.
    baselines: the cheap models that every candidate must beat; at least one.
    absent: families that should have handed in a candidate tonight and did not.
    withdrawn: why a person took this very version out of the seat, if one did.
    rivals: how many different candidates this exam has judged or will; each must be surer the more there are, so that
        neither many families nor training one again and again is a way to luck.
    unit: what the exam asked about, in the plural: users, topics.
    """

    exam_digest: str
    exam_start: date
    exam_end: date
    candidate: Sitting | None
    champion: Sitting | None
    baselines: tuple[Sitting, ...]
    absent: tuple[str, ...] = ()
    withdrawn: str = ""
    rivals: int = 1
    unit: str = "users"

    def best_baseline(self, metric: str) -> Sitting:
        """The baseline with the best figure; one that has none comes last."""

        def rank(model: Sitting) -> float:
            figure = model.figure(metric)
            return -math.inf if figure is None else _upwards(metric, figure)

        return max(self.baselines, key=rank)


@dataclass(frozen=True)
class Check:
    name: str
    status: Status
    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """reasons: the sentences of the checks that decided it."""

    decision: Decision
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def reason(self) -> str:
        return " ".join(self.reasons)

    def failing(self) -> list[Check]:
        """What stands in the way, missing evidence first."""
        return sorted((c for c in self.checks if c.status != "pass"), key=lambda c: c.status != "missing")


def decide(evidence: Evidence, policy: Policy) -> Verdict:
    """The verdict on tonight's candidate. Equal evidence gives an equal verdict, to the last digit."""
    checks = tuple(check for examine in CHECKS for check in examine(evidence, policy))
    missing = [check.sentence for check in checks if check.status == "missing"]
    failed = [check.sentence for check in checks if check.status == "fail"]
    if missing:
        # CHECKS go from cause to consequence: what else is missing follows from the first.
        return Verdict("not blessed", (missing[0], *failed), checks)
    if failed:
        return Verdict("keep" if evidence.champion is not None else "not blessed", tuple(failed), checks)
    better = evidence.champion or evidence.best_baseline(policy.primary)
    won = next(check.sentence for check in checks if check.name == f"better than the {better.name}")
    return Verdict("promote", (won,), checks)


def beyond_noise(better: Sitting, other: Sitting, policy: Policy, rivals: int) -> bool:
    """Whether the interval of the two's difference in the primary metric leaves out zero; rivals: see Evidence."""
    mine, theirs = _values(better, policy.primary), _values(other, policy.primary)
    if mine is None or theirs is None or len(mine) != len(theirs):
        return False
    seed = seed_from(better.exam_digest)
    confidence = _confidence(rivals, policy)
    low, high = mean_interval(mine - theirs, confidence=confidence, draws=policy.draws, seed=seed)
    return not low <= 0 <= high


def described(metric: str) -> Metric:
    """What is known of a metric; an unknown one goes by its own name and counts upwards."""
    return METRICS.get(metric, Metric(metric))


def named(metric: str) -> str:
    """A metric as people write it."""
    return described(metric).label


def written(metric: str, figure: float, sign: str = "") -> str:
    """A figure of a metric as people write it; with sign "+", always with its sign."""
    return f"{figure:{sign}{described(metric).spec}}"


def _upwards(metric: str, value: float) -> float:
    """`value`, turned so that higher is better."""
    return value if described(metric).higher_is_better else -value


def _complete(evidence: Evidence, policy: Policy) -> list[Check]:
    name = "every candidate is here"
    if evidence.absent:
        names = " and ".join(evidence.absent)
        return [Check(name, "missing", f"The candidate of family {names} is missing.")]
    if evidence.candidate is None:
        return [Check(name, "missing", "There is no candidate.")]
    return [Check(name, "pass", "Every family that competes for this seat handed in a candidate.")]


def _scored(evidence: Evidence, policy: Policy) -> list[Check]:
    """Everyone sat this very exam, every figure that a check needs is there and finite, for enough units."""
    name = "same exam for all"
    counts = set()
    sitters = [(model, True) for model in _trained(evidence)]
    sitters += [(model, False) for model in evidence.baselines]
    for model, competes in sitters:
        who = model.name
        if model.problem:
            return [Check(name, "missing", f"The {who} could not be scored: {model.problem}.")]
        if model.exam_digest != evidence.exam_digest:
            return [Check(name, "missing", f"The {who} sat another exam.")]
        counts |= {len(values) for values in model.per_unit.values()}
        compared = (*policy.guardrails, *policy.floors) if competes else ()
        for metric in (policy.primary, *compared):
            values = model.per_unit.get(metric, np.array([model.totals.get(metric, np.nan)]))
            if not np.isfinite(values).all():
                return [Check(name, "missing", f"The {who} has no usable {named(metric)}.")]
    if len(counts) > 1:
        return [Check(name, "missing", f"The models were scored on different numbers of {evidence.unit}.")]
    units = counts.pop() if counts else 0
    figures = {evidence.unit: units, "needed": policy.min_units}
    if units < policy.min_units:
        sentence = f"Only {units} {evidence.unit} sat the exam; {policy.min_units} are needed to tell gain from luck."
        return [Check(name, "missing", sentence, figures)]
    sentence = f"All were scored on the same {units} {evidence.unit} by the same scorer."
    return [Check(name, "pass", sentence, figures)]


def _unseen(evidence: Evidence, policy: Policy) -> list[Check]:
    """Nobody was trained on a day of the exam."""
    name = "exam unseen in training"
    figures = {"exam_start": evidence.exam_start.isoformat()}
    for model in _trained(evidence):
        if model.trained_until is None:
            return [Check(name, "missing", f"It is not known until when the {model.name} was trained.")]
        figures[model.name] = model.trained_until.isoformat()
        if model.trained_until >= evidence.exam_start:
            sentence = (
                f"The {model.name} was trained on data up to {model.trained_until}, "
                f"which holds days of the exam ({evidence.exam_start} to {evidence.exam_end})."
            )
            return [Check(name, "fail", sentence, figures)]
    return [Check(name, "pass", f"Nobody was trained on {evidence.exam_start} or later.", figures)]


def _not_withdrawn(evidence: Evidence, policy: Policy) -> list[Check]:
    if not evidence.withdrawn:
        return []
    sentence = f"This version was rolled back: {evidence.withdrawn}"
    return [Check("not rolled back", "fail", sentence)]


def _better_than_champion(evidence: Evidence, policy: Policy) -> list[Check]:
    if evidence.champion is None:
        return []
    return [_better(evidence, policy, evidence.champion, policy.min_gain)]


def _better_than_baseline(evidence: Evidence, policy: Policy) -> list[Check]:
    return [_better(evidence, policy, evidence.best_baseline(policy.primary), 0.0)]


def _guardrails(evidence: Evidence, policy: Policy) -> list[Check]:
    """What the primary metric does not see must not be paid for its gain."""
    if evidence.champion is None:
        return []
    return [_not_worse(evidence, policy, metric, share) for metric, share in policy.guardrails.items()]


def _floors(evidence: Evidence, policy: Policy) -> list[Check]:
    checks = []
    for metric, floor in policy.floors.items():
        name = f"{'floor' if described(metric).higher_is_better else 'limit'} of {named(metric)}"
        figure = evidence.candidate.figure(metric) if evidence.candidate else None
        if figure is None:
            checks.append(Check(name, "missing", f"The candidate has no usable {named(metric)}."))
            continue
        reached = _upwards(metric, figure) >= _upwards(metric, floor)
        if described(metric).higher_is_better:
            judged = f"{'reaches' if reached else 'is below'} the floor of {floor:g}"
        else:
            judged = f"{'keeps within' if reached else 'is above'} the limit of {floor:g}"
        sentence = f"{_start(named(metric))} {written(metric, figure)} {judged}."
        figures = {"candidate": figure, "needed": floor}
        checks.append(Check(name, "pass" if reached else "fail", sentence, figures))
    return checks


CHECKS: tuple[Callable[[Evidence, Policy], list[Check]], ...] = (
    _complete,
    _scored,
    _unseen,
    _not_withdrawn,
    _better_than_champion,
    _better_than_baseline,
    _guardrails,
    _floors,
)


def _better(evidence: Evidence, policy: Policy, other: Sitting, min_gain: float) -> Check:
    name = f"better than the {other.name}"
    metric = policy.primary
    found = _difference(evidence, policy, other, metric)
    if found is None:
        return Check(name, "missing", f"{named(metric)} cannot be compared with the {other.name}'s.")
    needed = min_gain * abs(found["other"])
    found["needed"] = _upwards(metric, needed)
    line = _compared(policy.primary, found, evidence, policy)
    if _at_worst(metric, found) <= 0:
        return Check(name, "fail", f"Not better than the {other.name} beyond noise: {line}.", found)
    if _upwards(metric, found["difference"]) < needed:
        small = f"Better than the {other.name}, but by less than {100 * min_gain:g} %: {line}."
        return Check(name, "fail", small, found)
    return Check(name, "pass", f"Better than the {other.name} beyond noise: {line}.", found)


def _not_worse(evidence: Evidence, policy: Policy, metric: str, share: float) -> Check:
    assert evidence.champion is not None
    name = f"guardrail {named(metric)}"
    found = _difference(evidence, policy, evidence.champion, metric)
    if found is None:
        return Check(name, "missing", f"{named(metric)} cannot be compared with the champion's.")
    allowed = -share * abs(found["other"])
    found["needed"] = _upwards(metric, allowed)
    line = _compared(metric, found, evidence, policy)
    loss = f"more than {100 * share:g} % of the champion's {named(metric)}"
    if _at_worst(metric, found) < allowed:
        return Check(name, "fail", f"A loss of {loss} is not ruled out: {line}.", found)
    return Check(name, "pass", f"No loss of {loss}: {line}.", found)


def _difference(evidence: Evidence, policy: Policy, other: Sitting, metric: str) -> dict[str, float] | None:
    """candidate, other, difference, low, high; a total has no interval: low = high = difference."""
    mine, theirs = _values(evidence.candidate, metric), _values(other, metric)
    if mine is None or theirs is None or len(mine) != len(theirs):
        return None
    gaps = mine - theirs
    low, high = mean_interval(
        gaps,
        confidence=_confidence(evidence.rivals, policy),
        draws=policy.draws,
        seed=seed_from(evidence.exam_digest),
    )
    return {
        "candidate": float(mine.mean()),
        "other": float(theirs.mean()),
        "difference": float(gaps.mean()),
        "low": low,
        "high": high,
    }


def _at_worst(metric: str, found: Mapping[str, float]) -> float:
    """The gain at the interval's worse end."""
    return min(_upwards(metric, found["low"]), _upwards(metric, found["high"]))


def _start(text: str) -> str:
    """`text` as a sentence begins."""
    return text[:1].upper() + text[1:]


def _values(model: Sitting | None, metric: str) -> np.ndarray | None:
    """[units] of a per-unit metric, [1] of a total; None unless all are there and finite."""
    if model is None:
        return None
    values = np.asarray(model.per_unit.get(metric, [model.totals.get(metric, np.nan)]), dtype=np.float64)
    return values if len(values) and np.isfinite(values).all() else None


def _confidence(rivals: int, policy: Policy) -> float:
    """Bonferroni: k candidates a night get k chances to be lucky.

    k known in advance err together no more than one would. Tries handed in one after the other, each judged
    before the next, err at most 1 + 1/2 + … + 1/k times as often: three tries 1.8 times, ten 2.9 times.
    """
    return 1 - (1 - policy.confidence) / max(rivals, 1)


def _compared(metric: str, found: Mapping[str, float], evidence: Evidence, policy: Policy) -> str:
    mine, theirs = written(metric, found["candidate"]), written(metric, found["other"])
    line = f"{named(metric)} {mine} against {theirs}, {written(metric, found['difference'], '+')}"
    if found["low"] == found["high"]:
        return line
    interval = f"{100 * _confidence(evidence.rivals, policy):.4g} % interval"
    why = f"; wider than usual, as this exam has {evidence.rivals} candidates" if evidence.rivals > 1 else ""
    low, high = written(metric, found["low"], "+"), written(metric, found["high"], "+")
    return f"{line} ({interval} {low} to {high}{why})"


def _trained(evidence: Evidence) -> list[Sitting]:
    return [model for model in (evidence.candidate, evidence.champion) if model is not None]
