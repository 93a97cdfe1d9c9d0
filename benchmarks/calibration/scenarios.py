"""Nights: evidence drawn from a pool for a candidate of known worth, and what each rule makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from benchmarks.calibration.pools import PRIMARY, SLICE, TRAINED_UNTIL, Mixture, Pool, broken, levelled
from benchmarks.calibration.rules import CHEAP, PROMOTES, RULES, rivals_of, verdict_of
from training.evidence import Evidence, Lineage, Measured, Sitting
from training.policy import Policy

SEAT = "recommender"
EXAM = date(2026, 2, 1), date(2026, 2, 4)
STEPS = (-0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05)  # truly worse, equal, better
LIFT = 0.05  # how much better on average the candidate with a broken slice is
EVERYTHING = 1.0  # share of a slice's quality that is lost: the lists there are random ones
LOSSES = (0.2, 0.4, 0.6, 0.8)
# The gate resamples by the exam's digest and keeps its resamples, so nights share a few digests. That ties their
# bootstrap's own noise together (3 % of an interval's width), not the nights, whose users are drawn anew.
DIGESTS = 8


@dataclass(frozen=True)
class Scenario:
    """kind: "step" or "broken". level: the candidate's true worth against the champion's. group: the broken slice."""

    kind: str
    level: float = 0.0
    group: str = ""
    loss: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """One night. promoted: by rule. blocked: names of the gate's checks that did not pass. units: of the slice."""

    source: str
    scenario: Scenario
    promoted: Mapping[str, bool]
    blocked: tuple[str, ...]
    units: int = 0


def scenarios(pool: Pool, policy: Policy) -> list[Scenario]:
    """What a pool's nights are of: every step, and every slice that is broken outright."""
    return [*(Scenario("step", level) for level in STEPS), *broken_outright(pool, policy)]


def broken_outright(pool: Pool, policy: Policy) -> list[Scenario]:
    groups = [*breakable_groups(pool, policy), *pool.wrecks]
    return [Scenario("broken", LIFT, group, EVERYTHING) for group in groups]


def broken_in_part(pool: Pool, policy: Policy) -> list[Scenario]:
    """The curve: each slice of users, losing ever more."""
    groups = breakable_groups(pool, policy)
    return [Scenario("broken", LIFT, group, loss) for group in groups for loss in LOSSES]


def breakable_groups(pool: Pool, policy: Policy) -> list[str]:
    """Slices of users of which an exam has as many as the policy asks for on average, and whose loss the rest can make
    up for."""
    return [group for group in pool.groups if not _why_not(pool, policy, group)]


def left_out(pool: Pool, policy: Policy) -> dict[str, str]:
    """Slices of the exam that no candidate here is broken on → why."""
    reasons = {group: _why_not(pool, policy, group) for group in pool.groups}
    others = [column.removeprefix(SLICE) for column in pool.columns if column.startswith(SLICE)]
    reasons |= {name: "of items" for name in others if name not in pool.groups and name not in pool.wrecks}
    return {name: why for name, why in reasons.items() if why}


def _why_not(pool: Pool, policy: Policy, group: str) -> str:
    if policy.slices is None:
        return "the policy judges no slices"
    if pool.groups[group].mean() * pool.exam_units < policy.slices.min_units:
        return "too few to judge"
    return "" if _made_up_for(pool, group) else "too many for the rest to make up for"


def _made_up_for(pool: Pool, group: str) -> bool:
    try:
        for seed in pool.seeds:
            broken(pool, LIFT, seed=seed, group=group, loss=EVERYTHING)
    except ValueError:
        return False
    return True


def play(pool: Pool, policy: Policy, scenario: Scenario, nights: int, seed: int) -> list[Outcome]:
    """`nights` nights of a scenario. Champion, candidate and frozen reference are different seeds each night."""
    random = np.random.default_rng([seed, *scenario_key(scenario)])
    found = []
    for number in range(nights):
        champion, candidate, reference = _cast(pool, scenario, random)
        digest = f"exam {number % DIGESTS}"
        rows = random.integers(0, pool.units, pool.exam_units)
        evidence = evidence_of(pool, policy, digest, rows, (champion, candidate, reference), random)
        verdict = verdict_of(evidence, policy)
        promoted = {name: PROMOTES[name](evidence, policy) for name in CHEAP}
        promoted["ours"] = verdict.decision == "promote"
        found.append(
            Outcome(
                pool.source,
                scenario,
                {name: promoted[name] for name in RULES},
                tuple(check.name for check in verdict.failing()),
                _size(evidence.champion, scenario.group),
            )
        )
    return found


def evidence_of(
    pool: Pool,
    policy: Policy,
    digest: str,
    rows: np.ndarray,
    cast: tuple[Mixture, Mixture, Mixture],
    random: np.random.Generator,
) -> Evidence:
    """All that the gate asks for. cast: champion, candidate, frozen reference.

    Behaviour, lineage and the trial in the service are given as passed: they have no sampling noise to be wrong by.
    """
    champion, candidate, reference = (
        model.sit(name, digest, rows, random)
        for model, name in zip(cast, ("champion", "candidate", "reference"), strict=True)
    )
    return Evidence(
        exam_digest=digest,
        exam_start=EXAM[0],
        exam_end=EXAM[1],
        candidate=candidate,
        champion=champion,
        baselines=_baselines(pool, digest, rows),
        reference=reference,
        behaviour=Measured(dict(policy.behaviour)),
        lineage=Lineage(commit="0" * 40, dirty=False),
        infra=Measured(dict(policy.infra)),
        rivals=rivals_of(SEAT),
    )


def _baselines(pool: Pool, digest: str, rows: np.ndarray) -> dict[str, Sitting]:
    """Of the baselines the gate asks for the primary metric alone."""
    return {
        name: Sitting(name, digest, {PRIMARY: pool.values(model)[rows]}, trained_until=TRAINED_UNTIL)
        for name, model in pool.baselines.items()
    }


def _cast(pool: Pool, scenario: Scenario, random: np.random.Generator) -> tuple[Mixture, Mixture, Mixture]:
    first, second, third = random.permutation(pool.seeds)[:3]
    champion, reference = levelled(pool, 0.0, seed=first), levelled(pool, 0.0, seed=third)
    return champion, candidate_of(pool, scenario, second), reference


def candidate_of(pool: Pool, scenario: Scenario, seed: str) -> Mixture:
    """The candidate of a scenario: its truth is (1 + level) times the champion's, exactly."""
    if scenario.kind == "step":
        return levelled(pool, scenario.level, seed=seed)
    if scenario.group in pool.wrecks:
        return levelled(pool, scenario.level, pool.wrecks[scenario.group])
    return broken(pool, scenario.level, seed=seed, group=scenario.group, loss=scenario.loss)


def scenario_key(scenario: Scenario) -> list[int]:
    """Part of a seed: no two scenarios share their random numbers."""
    text = f"{scenario.kind} {scenario.level} {scenario.group} {scenario.loss}"
    return list(text.encode())


def _size(model: Sitting | None, group: str) -> int:
    if model is None or not group:
        return 0
    return int(np.isfinite(model.slices.get(group, np.empty(0))).sum())
