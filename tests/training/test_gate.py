"""The gate's decision: what promotes, what never does, and how often it errs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.training.cases import (
    BASE,
    CLEARLY_BETTER,
    FINE,
    SOUND,
    evidence,
    noisy,
    policy,
    sitting,
    status,
)
from training.evidence import Evidence, Lineage, Measured, Sitting
from training.gate import awaits_trial, decide
from training.policy import Policy, policy_of

POLICY = policy()
UNIT = st.floats(0, 1, allow_nan=False, width=32)
EVERY_CHECK = policy(
    slices={"min_units": 20},
    reference={"gain": 0.02},
    behaviour={"not_finite": 0},
    lineage={"dirty": "flag"},
    infra={"p99_ms": 100},
)
COMPLETE = replace(
    evidence(
        sitting("candidate", BASE + 0.1, slices={"users: all": BASE + 0.1}, slice_metric="gain"),
        sitting("champion", BASE, slices={"users: all": BASE}, slice_metric="gain"),
    ),
    reference=sitting("frozen reference v1", BASE),
    behaviour=FINE,
    lineage=SOUND,
    infra=Measured({"p99_ms": 20.0}),
)


def test_a_clearly_better_candidate_is_promoted_and_the_reason_has_the_figures() -> None:
    verdict = decide(CLEARLY_BETTER, POLICY)
    assert verdict.decision == "promote"
    assert {check.status for check in verdict.checks} == {"pass"}
    assert verdict.reason.startswith("Better than the champion beyond noise: gain 0.40")
    assert "against 0.30" in verdict.reason and "+0.1000" in verdict.reason


def test_with_an_empty_seat_the_candidate_must_beat_the_baseline_beyond_noise() -> None:
    better = evidence(sitting("candidate", BASE), None)
    assert decide(better, POLICY).decision == "promote"
    assert "popularity baseline" in decide(better, POLICY).reason
    luck = np.zeros(200)
    luck[:2] = 1.0
    lucky = decide(evidence(sitting("candidate", luck), None), POLICY)
    assert lucky.decision == "not blessed"
    assert status(lucky, "better than the popularity baseline") == "fail"


def test_every_check_passes_and_each_one_spoilt_takes_the_promotion_away() -> None:
    assert decide(COMPLETE, EVERY_CHECK).decision == "promote"
    ragged = np.where(np.arange(200) < 100, BASE - 0.2, BASE + 0.6)
    half = np.where(np.arange(200) < 100, 1.0, np.nan)
    spoilt: dict[str, dict[str, Any]] = {
        "keep": {"behaviour": Measured({"not_finite": 0.01})},
        "keep: slice": {
            "candidate": sitting(
                "candidate", ragged, slices={"users: new": ragged * half}, slice_metric="gain"
            ),
            "champion": sitting("champion", BASE, slices={"users: new": BASE * half}, slice_metric="gain"),
        },
        "keep: reference": {"reference": sitting("frozen reference v1", BASE + 0.2)},
        "keep: lineage": {"lineage": replace(SOUND, unaudited=("2026-09-20",))},
        "keep: infra": {"infra": Measured({"p99_ms": 101.0})},
        "not blessed: behaviour": {"behaviour": None},
        "not blessed: lineage": {"lineage": None},
        "not blessed: infra": {"infra": Measured(problem="the service did not start")},
    }
    for expected, change in spoilt.items():
        verdict = decide(replace(COMPLETE, **change), EVERY_CHECK)
        assert verdict.decision == expected.partition(":")[0], expected


def test_a_check_that_the_policy_leaves_out_is_not_made() -> None:
    without = EVERY_CHECK.model_copy(update={"infra": {}, "behaviour": {}, "lineage": None, "slices": None})
    bare = replace(COMPLETE, infra=None, behaviour=None, lineage=None)
    verdict = decide(bare, without)
    assert verdict.decision == "promote"
    assert not {"infra", "behaviour", "lineage", "slices"} & {check.group for check in verdict.checks}
    assert set(without.switched_off()) == {"infra", "behaviour", "lineage", "slices"}


def test_the_trial_in_the_service_is_asked_of_those_alone_whom_all_else_passes() -> None:
    untried = decide(replace(COMPLETE, infra=None), EVERY_CHECK)
    assert untried.decision == "not blessed" and awaits_trial(untried)
    assert "not tried in its service" in untried.reason
    worse = decide(replace(COMPLETE, infra=None, candidate=sitting("candidate", BASE - 0.1)), EVERY_CHECK)
    assert not awaits_trial(worse)
    assert "infra" not in {check.group for check in worse.checks}
    assert not awaits_trial(decide(COMPLETE, EVERY_CHECK))


@pytest.mark.parametrize(
    ("hold", "dirty", "decision"),
    [
        ("never", True, "promote"),
        ("flagged", True, "hold"),
        ("flagged", False, "promote"),
        ("always", False, "hold"),
    ],
)
def test_a_policy_can_demand_a_persons_yes(hold: str, dirty: bool, decision: str) -> None:
    asked = EVERY_CHECK.model_copy(update={"hold": hold})
    verdict = decide(replace(COMPLETE, lineage=replace(SOUND, dirty=dirty)), asked)
    assert verdict.decision == decision
    assert [check.name for check in verdict.flags()] == (["code known"] if dirty else [])
    if decision == "hold":
        assert "nightshift approve" in verdict.reason


def test_a_person_is_never_asked_to_say_yes_to_what_failed() -> None:
    asked = EVERY_CHECK.model_copy(update={"hold": "always"})
    assert decide(replace(COMPLETE, candidate=sitting("candidate", BASE - 0.1)), asked).decision != "hold"


MISSING: dict[str, dict[str, Any]] = {
    "no candidate": {"candidate": None},
    "an absent family": {"absent": ("gru",)},
    "a baseline that did not sit": {"baselines": {}},
    "a model that could not be scored": {"champion": Sitting("champion", "exam", problem="no such file")},
    "a stored result of another exam": {"champion": sitting("champion", BASE, exam_digest="other")},
    "unknown training days": {"candidate": sitting("candidate", BASE + 0.1, trained_until=None)},
    "a metric that is not there": {"candidate": sitting("candidate", BASE + 0.1, totals={})},
    "a total that is not a number": {"candidate": sitting("candidate", BASE + 0.1, spread=float("nan"))},
    "fewer users for one": {"champion": sitting("champion", BASE[:100])},
    "no user at all": {
        "candidate": sitting("candidate", BASE[:0]),
        "champion": sitting("champion", BASE[:0]),
        "baselines": {"popularity": sitting("popularity baseline", BASE[:0])},
    },
    "too few users": {
        "candidate": sitting("candidate", BASE[:29] + 0.1),
        "champion": sitting("champion", BASE[:29]),
        "baselines": {"popularity": sitting("popularity baseline", np.zeros(29))},
    },
    "a reference that cannot be scored": {"reference": Sitting("frozen reference v1", "", problem="it is gone")},
    "nothing frozen": {"reference": None},
    "no behaviour": {"behaviour": None},
    "behaviour with a gap": {"behaviour": Measured({"not_finite": float("nan")})},
    "a lineage nobody could look up": {"lineage": Lineage(problem="the run is gone")},
    "a lineage with a gap": {"lineage": replace(SOUND, absent=("tag seed",))},
    "unknown code": {"lineage": replace(SOUND, commit="unknown", dirty=None)},
    "no slices": {"candidate": sitting("candidate", BASE + 0.1)},
    "a package that was not tried": {"infra": None},
}  # fmt: skip


@pytest.mark.parametrize("case", MISSING)
@pytest.mark.filterwarnings("error")
def test_missing_evidence_is_not_blessed_and_says_what_is_missing(case: str) -> None:
    verdict = decide(replace(COMPLETE, **MISSING[case]), EVERY_CHECK)
    assert verdict.decision == "not blessed"
    assert verdict.failing()[0].status == "missing" and verdict.reason


@given(taken=st.sets(st.sampled_from(sorted(MISSING)), min_size=1), more=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_whatever_evidence_is_missing_no_gain_makes_up_for_it(taken: set[str], more: float) -> None:
    changes: dict[str, Any] = {}
    for case in sorted(taken):
        changes |= MISSING[case]
    assert decide(replace(COMPLETE, **changes), EVERY_CHECK).decision == "not blessed"


@given(
    who=st.sampled_from(["candidate", "champion", "baseline"]),
    at=st.integers(0, 199),
    value=st.sampled_from([float("nan"), float("inf"), float("-inf")]),
)
@settings(max_examples=30, deadline=None)
def test_one_figure_that_is_not_a_number_is_not_blessed(who: str, at: int, value: float) -> None:
    models = {
        "candidate": CLEARLY_BETTER.candidate,
        "champion": CLEARLY_BETTER.champion,
        "baseline": CLEARLY_BETTER.baselines["popularity"],
    }
    model = models[who]
    assert model is not None
    spoilt = model.per_unit["gain"].copy()
    spoilt[at] = value
    broken = replace(model, per_unit={**model.per_unit, "gain": spoilt})
    change: dict[str, Any] = {"baselines": {"popularity": broken}} if who == "baseline" else {who: broken}
    assert decide(replace(CLEARLY_BETTER, **change), POLICY).decision == "not blessed"


@given(values=arrays(np.float64, 40, elements=UNIT), digest=st.text(max_size=5))
@settings(max_examples=40, deadline=None)
def test_identical_models_never_promote(values: np.ndarray, digest: str) -> None:
    one = sitting("candidate", values, exam_digest=digest)
    other = sitting("champion", values.copy(), exam_digest=digest)
    same = evidence(one, other, exam_digest=digest)
    assert decide(same, POLICY).decision != "promote"


@given(first=arrays(np.float64, 40, elements=UNIT), second=arrays(np.float64, 40, elements=UNIT))
@settings(max_examples=60, deadline=None)
def test_of_two_models_at_most_one_may_take_the_seat_from_the_other(
    first: np.ndarray, second: np.ndarray
) -> None:
    there = decide(evidence(sitting("candidate", first), sitting("champion", second)), POLICY)
    back = decide(evidence(sitting("candidate", second), sitting("champion", first)), POLICY)
    assert "promote" not in (there.decision, back.decision) or there.decision != back.decision
    ours, theirs = (next(c for c in v.checks if c.name == "better than the champion") for v in (there, back))
    assert ours.figures["low"] == pytest.approx(-theirs.figures["high"])


@given(seed=st.integers(0, 10_000), gap=st.floats(-0.05, 0.1), more=st.floats(1e-6, 1))
@settings(max_examples=60, deadline=None)
def test_a_better_score_for_everyone_never_turns_promote_into_keep(
    seed: int, gap: float, more: float
) -> None:
    champion = sitting("champion", noisy(seed, 0.3, 60))
    scores = noisy(seed + 1, 0.3 + gap, 60)
    before = decide(evidence(sitting("candidate", scores), champion), POLICY)
    after = decide(evidence(sitting("candidate", scores + more), champion), POLICY)
    assert (before.decision, after.decision) != ("promote", "keep")


def test_equal_evidence_gives_an_equal_verdict_and_another_exam_another_interval() -> None:
    assert decide(CLEARLY_BETTER, POLICY) == decide(CLEARLY_BETTER, POLICY)

    def told(digest: str) -> str:
        mixed = evidence(
            sitting("candidate", noisy(5, 0.4), exam_digest=digest),
            sitting("champion", BASE, exam_digest=digest),
            exam_digest=digest,
            baselines={"popularity": sitting("popularity baseline", np.zeros(200), exam_digest=digest)},
        )
        return decide(mixed, POLICY).reason

    assert told("exam") != told("x")


def test_many_rivals_in_one_night_must_each_be_surer() -> None:
    candidate = sitting("candidate", BASE + np.random.default_rng(3).normal(0.02, 0.12, 200))
    alone = evidence(candidate, sitting("champion", BASE))
    assert decide(alone, POLICY).decision == "promote"
    assert "candidates" not in decide(alone, POLICY).reason
    surer = decide(replace(alone, rivals=20), POLICY)
    assert surer.decision == "keep"
    assert "(99.75 % interval" in surer.reason and "as this exam has 20 candidates" in surer.reason


def symmetric(random: np.random.Generator, users: int) -> tuple[np.ndarray, np.ndarray]:
    """Most users find nothing in the first ten, as on a real exam; both models draw from the same figures."""
    one, other = (
        np.where(random.random(users) < 0.1, 1 / np.log2(2 + random.integers(0, 10, users)), 0.0)
        for _ in range(2)
    )
    return one, other


def skewed(random: np.random.Generator, users: int) -> tuple[np.ndarray, np.ndarray]:
    """Equal in the mean: the champion puts few users' item first, the candidate that of many tenth."""
    tenth = 1 / np.log2(11)
    candidate = np.where(random.random(users) < 0.05 / tenth, tenth, 0.0)
    return candidate, (random.random(users) < 0.05).astype(float)


@pytest.mark.parametrize(
    ("draw", "users", "allowed"),
    [
        (symmetric, 100, 0.05),
        (symmetric, 400, 0.05),
        (skewed, 300, 0.05),
        (skewed, policy_of("recommender").exam.min_units, 0.065),
    ],
)
def test_a_model_no_better_than_the_champion_is_promoted_in_about_one_night_of_twenty_at_most(
    draw: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]], users: int, allowed: float
) -> None:
    random = np.random.default_rng(users)
    lenient = policy(better={"metric": "gain", "min_gain": 0}, floors={}, guardrails={})
    nights, promoted = 600, 0
    for night in range(nights):
        one, other = draw(random, users)
        told = {"exam_digest": str(night % 20)}  # twenty sets of resamples: they do not depend on the figures
        tonight = evidence(
            sitting("candidate", one, **told),
            sitting("champion", other, **told),
            baselines={"popularity": sitting("popularity baseline", np.full(users, -1.0), **told)},
            **told,
        )
        promoted += decide(tonight, lenient).decision == "promote"
    sampling_error = 2 * np.sqrt(allowed * (1 - allowed) / nights)
    assert 0 < promoted / nights <= allowed + sampling_error


def test_the_recommenders_gate_does_not_decide_on_an_exam_so_small_that_skew_passes_for_a_gain() -> None:
    wanted = policy(exam={"min_units": policy_of("recommender").exam.min_units, "draws": 400})
    sat = {
        users: decide(
            evidence(sitting("candidate", noisy(1, 0.6, users)), sitting("champion", noisy(2, 0.3, users))),
            wanted,
        )
        for users in (99, 100)
    }
    assert (sat[99].decision, sat[100].decision) == ("not blessed", "promote")
    assert sat[99].reason.startswith("Only 99 users sat the exam; 100 are needed")


def test_a_model_that_is_truly_better_is_found_at_a_usual_exam_size() -> None:
    random = np.random.default_rng(1)
    found = 0
    for _ in range(100):
        champion = (random.random(400) < 0.10).astype(float)
        candidate = np.where(random.random(400) < 0.08, 1.0, champion)
        tonight = evidence(sitting("candidate", candidate), sitting("champion", champion))
        found += decide(tonight, POLICY).decision == "promote"
    assert found >= 95


@given(gap=st.floats(-20, 20), noise=st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_turning_a_metric_upside_down_turns_nothing_else(gap: float, noise: int) -> None:
    errors = 40 + 10 * BASE
    one, other = errors, errors + gap + 5 * noisy(noise, 0)

    def verdict(metric: str, sign: float) -> str:
        asked = policy(better={"metric": metric, "min_gain": 0}, floors={}, guardrails={})
        mine, theirs, cheap = (
            Sitting(
                name, "exam", {metric: sign * values}, trained_until=CLEARLY_BETTER.candidate.trained_until
            )  # type: ignore[union-attr]
            for name, values in (("candidate", one), ("champion", other), ("cheap baseline", one + 50))
        )
        tonight = Evidence(
            "exam", CLEARLY_BETTER.exam_start, CLEARLY_BETTER.exam_end, mine, theirs, {"popularity": cheap}
        )
        return decide(tonight, asked).decision

    assert verdict("mse", 1.0) == verdict("gain", -1.0)


def test_a_policy_is_named_by_what_it_says() -> None:
    assert isinstance(POLICY, Policy)
    assert decide(CLEARLY_BETTER, policy_of("recommender")).policy == policy_of("recommender").digest
