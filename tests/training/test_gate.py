"""The gate's decision: what promotes, what never does, and how often it errs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nightshift.seats import SEATS
from training.exams import EXAMINERS, examiner
from training.gate import METRICS, POLICIES, Evidence, Policy, Sitting, Verdict, decide

START, END = date(2026, 9, 28), date(2026, 9, 28)
POLICY = Policy(
    primary="gain", guardrails={"hits": 0.1, "spread": 0.3}, floors={"hits": 0.05}, draws=400, min_units=30
)
UNIT = st.floats(0, 1, allow_nan=False, width=32)


def sitting(name: str, gain: np.ndarray, *, hits: np.ndarray | None = None, spread: float = 0.5) -> Sitting:
    hits = np.full(len(gain), 0.5) if hits is None else hits
    return Sitting(name, "exam", {"gain": gain, "hits": hits}, {"spread": spread}, date(2026, 9, 27))


def evidence(candidate: Sitting | None, champion: Sitting | None, **changes: object) -> Evidence:
    users = len(candidate.per_unit["gain"]) if candidate and candidate.per_unit else 60
    baseline = sitting("popularity baseline", np.zeros(users))
    return replace(Evidence("exam", START, END, candidate, champion, (baseline,)), **changes)  # type: ignore[arg-type]


def sitters(evidence: Evidence) -> dict[str, Sitting]:
    """Everyone who sat the exam, by role."""
    assert evidence.candidate is not None and evidence.champion is not None
    (baseline,) = evidence.baselines
    return {"candidate": evidence.candidate, "champion": evidence.champion, "baseline": baseline}


def seated(evidence: Evidence, changed: dict[str, Sitting]) -> Evidence:
    """The same evidence with some of its sitters changed."""
    now = {**sitters(evidence), **changed}
    return replace(
        evidence, candidate=now["candidate"], champion=now["champion"], baselines=(now["baseline"],)
    )


def noisy(seed: int, mean: float, users: int = 200) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).normal(mean, 0.1, users), 0, 1)


def status(verdict: Verdict, name: str) -> str:
    return next(check.status for check in verdict.checks if check.name == name)


BASE = noisy(0, 0.3)
CLEARLY_BETTER = evidence(sitting("candidate", BASE + 0.1), sitting("champion", BASE))


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


def test_a_candidate_that_beats_the_champion_but_not_the_baseline_does_not_take_the_seat() -> None:
    strong = sitting("popularity baseline", BASE + 0.2)
    verdict = decide(replace(CLEARLY_BETTER, baselines=(strong,)), POLICY)
    assert verdict.decision == "keep"
    assert [check.name for check in verdict.failing()] == ["better than the popularity baseline"]


def test_a_sure_gain_smaller_than_the_smallest_worth_a_change_keeps_the_champion() -> None:
    tiny = evidence(sitting("candidate", BASE * 1.005), sitting("champion", BASE))
    verdict = decide(tiny, POLICY)
    assert verdict.decision == "keep"
    assert "by less than 1 %" in verdict.reason
    assert decide(tiny, replace(POLICY, min_gain=0.001)).decision == "promote"


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"hits": np.full(200, 0.44)}, "guardrail hits"),
        ({"spread": 0.3}, "guardrail spread"),
        ({"hits": np.full(200, 0.04)}, "floor of hits"),
    ],
)
def test_a_gain_paid_for_with_another_metric_keeps_the_champion(
    change: dict[str, object], check: str
) -> None:
    candidate = sitting("candidate", BASE + 0.1, **change)  # type: ignore[arg-type]
    verdict = decide(replace(CLEARLY_BETTER, candidate=candidate), POLICY)
    assert verdict.decision == "keep"
    assert status(verdict, check) == "fail"


def test_a_guardrail_that_noise_alone_could_have_hidden_does_not_pass() -> None:
    ragged = np.random.default_rng(1).permutation(np.repeat([0.0, 1.0], 100))
    candidate = sitting("candidate", BASE + 0.1, hits=ragged)
    verdict = decide(replace(CLEARLY_BETTER, candidate=candidate), POLICY)
    assert status(verdict, "guardrail hits") == "fail"
    assert "not ruled out" in verdict.reason


MISSING = {
    "no candidate": {"candidate": None},
    "an absent family": {"absent": ("gru",)},
    "a model that could not be scored": {"champion": Sitting("champion", "exam", problem="no such file")},
    "a stored result of another exam": {"champion": replace(CLEARLY_BETTER.champion, exam_digest="other")},  # type: ignore[type-var]
    "unknown training days": {"candidate": replace(CLEARLY_BETTER.candidate, trained_until=None)},  # type: ignore[type-var]
    "a metric that is not there": {"candidate": replace(CLEARLY_BETTER.candidate, totals={})},  # type: ignore[type-var]
    "a total that is not a number": {"candidate": sitting("candidate", BASE + 0.1, spread=float("nan"))},
    "fewer users for one": {"champion": sitting("champion", BASE[:100])},
    "no user at all": {
        "candidate": sitting("candidate", BASE[:0]),
        "champion": sitting("champion", BASE[:0]),
        "baselines": (sitting("popularity baseline", BASE[:0]),),
    },
    "too few users": {
        "candidate": sitting("candidate", BASE[:29] + 0.1),
        "champion": sitting("champion", BASE[:29]),
        "baselines": (sitting("popularity baseline", np.zeros(29)),),
    },
}


@pytest.mark.parametrize("case", MISSING)
@pytest.mark.filterwarnings("error")
def test_missing_evidence_is_not_blessed_and_says_what_is_missing(case: str) -> None:
    verdict = decide(replace(CLEARLY_BETTER, **MISSING[case]), POLICY)  # type: ignore[arg-type]
    assert verdict.decision == "not blessed"
    assert verdict.failing()[0].status == "missing" and verdict.reason


@given(
    who=st.sampled_from(["candidate", "champion", "baseline"]),
    at=st.integers(0, 199),
    value=st.sampled_from([float("nan"), float("inf"), float("-inf")]),
)
@settings(max_examples=30, deadline=None)
def test_one_figure_that_is_not_a_number_is_not_blessed(who: str, at: int, value: float) -> None:
    model = sitters(CLEARLY_BETTER)[who]
    spoilt = model.per_unit["gain"].copy()
    spoilt[at] = value
    broken = replace(model, per_unit={**model.per_unit, "gain": spoilt})
    assert decide(seated(CLEARLY_BETTER, {who: broken}), POLICY).decision == "not blessed"


@pytest.mark.parametrize("who", ["candidate", "champion"])
def test_whoever_was_trained_on_the_exam_makes_it_no_exam(who: str) -> None:
    cheat = replace(getattr(CLEARLY_BETTER, who), trained_until=START)
    verdict = decide(replace(CLEARLY_BETTER, **{who: cheat}), POLICY)  # type: ignore[arg-type]
    assert verdict.decision == "keep"
    assert f"The {who} was trained on data up to 2026-09-28" in verdict.reason


def test_a_version_that_a_person_took_out_is_not_seated_again() -> None:
    verdict = decide(replace(CLEARLY_BETTER, withdrawn="mina: shows sold-out items"), POLICY)
    assert verdict.decision == "keep"
    assert "mina: shows sold-out items" in verdict.reason


@given(values=arrays(np.float64, 40, elements=UNIT), digest=st.text(max_size=5))
@settings(max_examples=40, deadline=None)
def test_identical_models_never_promote(values: np.ndarray, digest: str) -> None:
    one, other = sitting("candidate", values), sitting("champion", values.copy())
    same = evidence(replace(one, exam_digest=digest), replace(other, exam_digest=digest), exam_digest=digest)
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
    mixed = evidence(sitting("candidate", noisy(5, 0.4)), sitting("champion", BASE))
    renamed = replace(
        mixed,
        exam_digest="x",
        candidate=replace(mixed.candidate, exam_digest="x"),  # type: ignore[type-var]
        champion=replace(mixed.champion, exam_digest="x"),  # type: ignore[type-var]
        baselines=(replace(mixed.baselines[0], exam_digest="x"),),
    )
    assert decide(mixed, POLICY).reason != decide(renamed, POLICY).reason


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
        (skewed, POLICIES["recommender"].min_units, 0.065),
    ],
)
def test_a_model_no_better_than_the_champion_is_promoted_in_about_one_night_of_twenty_at_most(
    draw: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]], users: int, allowed: float
) -> None:
    random = np.random.default_rng(users)
    policy = Policy(primary="gain", guardrails={}, floors={}, draws=400, min_gain=0.0)
    nights, promoted = 600, 0
    for night in range(nights):
        one, other = draw(random, users)
        tonight = evidence(sitting("candidate", one), sitting("champion", other))
        tonight = replace(tonight, baselines=(sitting("popularity baseline", np.full(users, -1.0)),))
        seeded = {who: replace(model, exam_digest=str(night)) for who, model in sitters(tonight).items()}
        tonight = seated(replace(tonight, exam_digest=str(night)), seeded)
        promoted += decide(tonight, policy).decision == "promote"
    sampling_error = 2 * np.sqrt(allowed * (1 - allowed) / nights)
    assert 0 < promoted / nights <= allowed + sampling_error


def test_the_recommenders_gate_does_not_decide_on_an_exam_so_small_that_skew_passes_for_a_gain() -> None:
    policy = replace(POLICY, min_units=POLICIES["recommender"].min_units)
    sat = {
        users: decide(
            evidence(sitting("candidate", noisy(1, 0.6, users)), sitting("champion", noisy(2, 0.3, users))),
            policy,
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


def test_every_seat_that_has_a_policy_asks_for_metrics_that_the_scorer_gives() -> None:
    assert set(POLICIES) == set(SEATS) == set(EXAMINERS)
    for seat in SEATS.values():
        policy, scored = POLICIES[seat.name], set(examiner(seat.name).metrics)
        assert policy.primary == seat.primary_metric
        assert {policy.primary, *policy.guardrails, *policy.floors} <= scored <= set(METRICS)
        assert METRICS[policy.primary].higher_is_better is seat.higher_is_better


FORECASTS = Policy(primary="mse", guardrails={"mae": 0.05}, floors={"miss_80": 0.1}, draws=400, min_units=30)


def forecaster(name: str, mse: np.ndarray, mae: float = 5.0, miss: float = 0.02) -> Sitting:
    errors = {"mse": mse, "mae": np.full(len(mse), mae)}
    return Sitting(name, "exam", errors, {"miss_80": miss}, date(2026, 9, 27))


def forecasts(candidate: Sitting, champion: Sitting | None) -> Evidence:
    topics = len(candidate.per_unit["mse"])
    cheap = (
        forecaster("last value baseline", np.full(topics, 90.0)),
        forecaster("seasonal naive baseline", np.full(topics, 70.0)),
    )
    return Evidence("exam", START, END, candidate, champion, cheap, unit="topics")


ERRORS = 40 + 10 * noisy(0, 0.5)


def test_where_lower_is_better_the_lower_error_wins_and_the_higher_does_not() -> None:
    low, high = forecaster("candidate", ERRORS - 4), forecaster("champion", ERRORS)
    won = decide(forecasts(low, high), FORECASTS)
    assert won.decision == "promote"
    assert "MSE 41.0" in won.reason and "against 45.0" in won.reason and "-4.00" in won.reason
    assert "the same 200 topics" in won.checks[1].sentence
    lost = decide(forecasts(replace(high, name="candidate"), replace(low, name="champion")), FORECASTS)
    assert lost.decision == "keep" and "Not better than the champion beyond noise" in lost.reason


def test_a_gain_of_less_than_the_smallest_worth_a_change_is_one_in_errors_too() -> None:
    champion = forecaster("champion", ERRORS)
    verdict = decide(forecasts(forecaster("candidate", ERRORS * 0.995), champion), FORECASTS)
    assert verdict.decision == "keep" and "by less than 1 %" in verdict.reason


def test_of_several_baselines_the_best_must_be_beaten() -> None:
    between = decide(forecasts(forecaster("candidate", ERRORS + 35), None), FORECASTS)
    assert between.decision == "not blessed"
    assert [check.name for check in between.failing()] == ["better than the seasonal naive baseline"]


def test_an_error_that_grows_too_much_or_stands_above_its_limit_blocks() -> None:
    champion = forecaster("champion", ERRORS)
    costly = decide(forecasts(forecaster("candidate", ERRORS - 4, mae=5.4), champion), FORECASTS)
    assert [check.name for check in costly.failing()] == ["guardrail MAE"]
    off = decide(forecasts(forecaster("candidate", ERRORS - 4, miss=0.11), champion), FORECASTS)
    assert "is above the limit of 0.1" in off.reason and off.decision == "keep"


@given(gap=st.floats(-20, 20), noise=st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_turning_a_metric_upside_down_turns_nothing_else(gap: float, noise: int) -> None:
    upwards = Policy(primary="gain", guardrails={}, floors={}, draws=200, min_units=30, min_gain=0.0)
    downwards = replace(upwards, primary="mse")
    one, other = ERRORS, ERRORS + gap + 5 * noisy(noise, 0)

    def verdict(policy: Policy, sign: float) -> str:
        mine, theirs, cheap = (
            Sitting(name, "exam", {policy.primary: sign * values}, {}, date(2026, 9, 27))
            for name, values in (("candidate", one), ("champion", other), ("cheap baseline", one + 50))
        )
        return decide(Evidence("exam", START, END, mine, theirs, (cheap,)), policy).decision

    assert verdict(downwards, 1.0) == verdict(upwards, -1.0)
