"""May this candidate take the seat? A pure decision over plain evidence: `decide(evidence, policy)`.

Every check passes, fails, or is missing its evidence; the seat changes hands only if all pass:

    something missing                    → not blessed (never a pass)
    something failed, a champion sits    → keep
    something failed, the seat is empty  → not blessed
    all passed                           → promote, or hold where the policy wants a person's yes

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
no guarantee: with 3 % and 10.4 % instead, 7.6 % pass at 100 users and 4.0 % at 300. How the whole gate errs, every
check of it, is measured by `python -m benchmarks.gate_calibration`.

The trial in the real service costs a service's start, so it is asked of those alone whom every other check passes:
`awaits_trial` says so of a verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from training.checks import contest, limits
from training.checks.case import Case, Check, values_of
from training.checks.lineage import lineage
from training.checks.slices import slices
from training.evidence import Evidence, Sitting
from training.intervals import cautious_intervals, seed_from
from training.policy import Policy

Decision = Literal["promote", "hold", "keep", "not blessed"]

# From cause to consequence: what else is missing follows from the first that is.
CHECKS: tuple[Callable[[Case], list[Check]], ...] = (
    contest.complete,
    contest.same_exam,
    contest.unseen,
    contest.not_withdrawn,
    contest.better_than_champion,
    contest.better_than_baselines,
    limits.floors,
    contest.guardrails,
    slices,
    contest.reference,
    limits.behaviour,
    lineage,
)


@dataclass(frozen=True)
class Verdict:
    """reasons: the sentences of the checks that decided it. policy: the digest of the policy that it was reached by."""

    decision: Decision
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    policy: str = ""

    @property
    def reason(self) -> str:
        return " ".join(self.reasons)

    def failing(self) -> list[Check]:
        """What stands in the way, missing evidence first."""
        return sorted((c for c in self.checks if c.status != "pass"), key=lambda c: c.status != "missing")

    def flags(self) -> list[Check]:
        """What passed, but a reader should know."""
        return [check for check in self.checks if check.flag]


def decide(evidence: Evidence, policy: Policy) -> Verdict:
    """The verdict on tonight's candidate. Equal evidence gives an equal verdict, to the last digit."""
    case = Case(evidence, policy)
    checks = tuple(check for examine in CHECKS for check in examine(case))
    if all(check.status == "pass" for check in checks):
        checks += tuple(limits.infra(case))
    missing = [check.sentence for check in checks if check.status == "missing"]
    failed = [check.sentence for check in checks if check.status == "fail"]
    if missing:
        return Verdict("not blessed", (missing[0], *failed), checks, policy.digest)
    if failed:
        kept: Decision = "keep" if evidence.champion is not None else "not blessed"
        return Verdict(kept, tuple(failed), checks, policy.digest)
    better = evidence.champion or evidence.best_of(policy.baselines.beat, policy.primary)
    won = next(check.sentence for check in checks if check.name == f"better than the {better.name}")
    flags = tuple(check.sentence for check in checks if check.flag)
    if policy.hold == "always" or (policy.hold == "flagged" and flags):
        asked = "The policy wants a person's yes: nightshift approve, or reject."
        return Verdict("hold", (won, asked, *flags), checks, policy.digest)
    return Verdict("promote", (won,), checks, policy.digest)


def awaits_trial(verdict: Verdict) -> bool:
    """Whether nothing stands in the way but that the package was not tried in its service yet."""
    return bool(verdict.failing()) and all(
        check.group == "infra" and check.status == "missing" for check in verdict.failing()
    )


def beyond_noise(better: Sitting, other: Sitting, policy: Policy, rivals: int) -> bool:
    """Whether the interval of the two's difference in the primary metric leaves out zero; rivals: see Evidence."""
    mine, theirs = values_of(better, policy.primary), values_of(other, policy.primary)
    if mine is None or theirs is None or len(mine) != len(theirs):
        return False
    confidence = 1 - (1 - policy.exam.confidence) / max(rivals, 1)
    seed = seed_from(better.exam_digest)
    (low,), (high,) = cautious_intervals(
        (mine - theirs)[:, None], confidence=confidence, draws=policy.exam.draws, seed=seed
    )
    return not low <= 0 <= high
