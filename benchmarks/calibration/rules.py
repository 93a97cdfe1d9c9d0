"""The rules that are compared: the gate as it is, and three that are in use elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from training.checks import contest
from training.checks.case import Case
from training.evidence import Evidence
from training.families import FAMILIES
from training.gate import Verdict, decide
from training.policy import Policy

TOLERANCE = 0.01  # share of the champion's figure that "within 1 %" lets go
RULES = {
    "ours": "the gate",
    "always": "always promote",
    "higher_wins": "higher metric wins",
    "tolerance": "within 1 % tolerance",
}


def rivals_of(seat: str) -> int:
    """How many candidates a usual night has: one a family. Each is judged with intervals as wide as that asks for."""
    return sum(family.seat == seat for family in FAMILIES.values())


def verdict_of(evidence: Evidence, policy: Policy) -> Verdict:
    return decide(evidence, policy)


def ours(evidence: Evidence, policy: Policy) -> bool:
    return decide(evidence, policy).decision == "promote"


def always(evidence: Evidence, policy: Policy) -> bool:
    return True


def higher_wins(evidence: Evidence, policy: Policy) -> bool:
    candidate, champion = _both(evidence, policy)
    return candidate > champion


def tolerance(evidence: Evidence, policy: Policy) -> bool:
    candidate, champion = _both(evidence, policy)
    return candidate >= (1 - TOLERANCE) * champion


def tolerance_and_reference(evidence: Evidence, policy: Policy) -> bool:
    """Within 1 %, and the gate's check against the frozen reference: what that check alone does for a weak rule."""
    return tolerance(evidence, policy) and all(
        check.status == "pass" for check in contest.reference(Case(evidence, policy))
    )


Rule = Callable[[Evidence, Policy], bool]
PROMOTES: dict[str, Rule] = {
    "ours": ours,
    "always": always,
    "higher_wins": higher_wins,
    "tolerance": tolerance,
}
CHEAP = ("always", "higher_wins", "tolerance")  # what needs no bootstrap


def _both(evidence: Evidence, policy: Policy) -> tuple[float, float]:
    """Candidate's and champion's figure of the primary metric, which counts upwards."""
    candidate, champion = (
        model.figure(policy.primary) if model is not None else None
        for model in (evidence.candidate, evidence.champion)
    )
    if candidate is None or champion is None:
        raise ValueError("a night of the calibration has both a candidate and a champion")
    return candidate, champion
