"""Of several candidates that pass, who wins: the best one that its service carries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nightshift.registry import Version
from training.evidence import Evidence, Measured
from training.gate import Verdict, awaits_trial, beyond_noise, decide
from training.metrics import named, upwards, written
from training.policy import Policy

WON = ("promote", "hold")


@dataclass(frozen=True)
class Judged:
    """One candidate, all that is known of it, and what was decided."""

    family: str
    version: Version
    evidence: Evidence
    verdict: Verdict
    beaten_by: int | None = None

    def figure(self, metric: str) -> float | None:
        candidate = self.evidence.candidate
        return candidate.figure(metric) if candidate is not None else None


def choose(judged: Sequence[Judged], policy: Policy, trial: Callable[[Judged], Measured]) -> list[Judged]:
    """All of them, tonight's winner first, or who came nearest; of several that pass, only the best wins.

    The best by its figure, even if noise alone could have made the difference: somebody must take the seat, and the
    verdicts of both say so. Whoever would win is tried in its service first; if it fails there, the next best is.
    """
    metric = policy.primary

    def rank(one: Judged) -> tuple[bool, float]:
        passed = one.verdict.decision in WON or awaits_trial(one.verdict)
        figure = one.figure(metric)
        return passed, float("-inf") if figure is None else upwards(metric, figure)

    ranked = sorted(judged, key=rank, reverse=True)
    for place, one in enumerate(ranked):
        if awaits_trial(one.verdict):
            evidence = replace(one.evidence, infra=trial(one))
            ranked[place] = one = replace(one, evidence=evidence, verdict=decide(evidence, policy))
        if one.verdict.decision in WON:
            tried = ranked[:place]
            others = [_beaten(other, one, policy) for other in ranked[place + 1 :]]
            second = next((other for other in others if other.beaten_by is not None), None)
            return [_winner(one, second, policy), *tried, *others]
    return ranked


def _winner(one: Judged, second: Judged | None, policy: Policy) -> Judged:
    """The winner's verdict, with who came next if anybody else would have passed."""
    if second is None:
        return one
    said = (
        f"Of the candidates that passed it did best; next is version {second.version.number} ({second.family}): "
        f"{_compared(one, second, policy)} noise."
    )
    return replace(one, verdict=replace(one.verdict, reasons=(*one.verdict.reasons, said)))


def _beaten(other: Judged, winner: Judged, policy: Policy) -> Judged:
    """One that came behind the winner: unchanged if it did not pass by itself."""
    if other.verdict.decision not in WON and not awaits_trial(other.verdict):
        return other
    reason = (
        f"Good enough, but version {winner.version.number} ({winner.family}) did better still on this exam: "
        f"{_compared(winner, other, policy)} noise."
    )
    checks = tuple(check for check in other.verdict.checks if check.status == "pass")
    verdict = replace(other.verdict, decision="keep", reasons=(reason,), checks=checks)
    return replace(other, verdict=verdict, beaten_by=winner.version.number)


def _compared(better: Judged, other: Judged, policy: Policy) -> str:
    """Two candidates' figures in words, and whether their difference is "beyond" noise or "within" it."""
    metric = policy.primary
    mine, theirs = better.evidence.candidate, other.evidence.candidate
    if mine is None or theirs is None:  # nobody passes without having sat the exam
        raise ValueError("only candidates that sat the exam can be compared")
    figures = " against ".join(written(metric, one.figure(metric) or 0.0) for one in (better, other))
    beyond = beyond_noise(mine, theirs, policy, better.evidence.rivals)
    return f"{named(metric)} {figures}, {'beyond' if beyond else 'within'}"
