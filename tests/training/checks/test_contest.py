"""The contest's checks: better, not worse where it was good, and not behind the frozen version."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.cases import (
    BASE,
    CLEARLY_BETTER,
    DAY_BEFORE,
    END,
    START,
    evidence,
    noisy,
    policy,
    sitting,
    status,
)
from training.evidence import Evidence, Sitting
from training.gate import decide

POLICY = policy()


def test_a_candidate_that_beats_the_champion_but_not_the_baseline_does_not_take_the_seat() -> None:
    strong = {"popularity": sitting("popularity baseline", BASE + 0.2)}
    verdict = decide(replace(CLEARLY_BETTER, baselines=strong), POLICY)
    assert verdict.decision == "keep"
    assert [check.name for check in verdict.failing()] == ["better than the popularity baseline"]


@pytest.mark.parametrize(
    ("gap", "spread", "decision"),
    [(0.01, 0.0, "keep"), (0.01, 0.5, "promote"), (0.0, 0.0, "promote"), (-0.01, 0.0, "promote")],
)
def test_a_baseline_that_competes_itself_need_only_be_matched_within_noise(
    gap: float, spread: float, decision: str
) -> None:
    noise = spread * np.random.default_rng(0).normal(size=200)
    baselines = {
        "popularity": sitting("popularity baseline", np.zeros(200)),
        "item-kNN": sitting("item-kNN baseline", BASE + 0.1 + gap + noise - noise.mean()),
    }
    asked = policy(baselines={"beat": ["popularity"], "match": ["item-kNN"]})
    assert decide(replace(CLEARLY_BETTER, baselines=baselines), asked).decision == decision


def test_a_metric_of_the_whole_exam_cannot_decide_for_its_noise_is_not_known() -> None:
    asked = policy(better={"metric": "spread"}, guardrails={})
    wider = evidence(sitting("candidate", BASE, spread=0.6), sitting("champion", BASE))
    verdict = decide(wider, asked)
    assert verdict.decision == "not blessed"
    assert "not by users: luck cannot be told from gain" in verdict.reason


def test_a_sure_gain_smaller_than_the_smallest_worth_a_change_keeps_the_champion() -> None:
    tiny = evidence(sitting("candidate", BASE * 1.005), sitting("champion", BASE))
    verdict = decide(tiny, POLICY)
    assert verdict.decision == "keep"
    assert "by less than 1 %" in verdict.reason
    assert decide(tiny, policy(better={"metric": "gain", "min_gain": 0.001})).decision == "promote"


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


@pytest.mark.parametrize("who", ["candidate", "champion", "reference"])
def test_whoever_was_trained_on_the_exam_makes_it_no_exam(who: str) -> None:
    both = replace(CLEARLY_BETTER, reference=sitting("frozen reference v1", BASE))
    cheat = replace(getattr(both, who), trained_until=START)
    verdict = decide(replace(both, **{who: cheat}), POLICY)  # type: ignore[arg-type]
    assert verdict.decision == "keep"
    assert f"The {cheat.name} was trained on data up to 2026-09-28" in verdict.reason


def test_a_version_that_was_taken_out_is_not_seated_again() -> None:
    verdict = decide(replace(CLEARLY_BETTER, withdrawn="mina: shows sold-out items"), POLICY)
    assert verdict.decision == "keep"
    assert "mina: shows sold-out items" in verdict.reason


@given(steps=st.lists(st.floats(-0.009, 0.02), min_size=5, max_size=40))
@settings(max_examples=40, deadline=None)
def test_small_losses_cannot_add_up_past_the_frozen_reference(steps: list[float]) -> None:
    """A gate of tolerance, with the reference alone to hold it: each candidate may lose 1 % to the champion."""
    asked = policy(
        better={"metric": "other", "min_gain": 0}, floors={}, guardrails={}, reference={"gain": 0.02}
    )
    better = np.linspace(0.5, 0.6, 200)

    def model(name: str, gain: float, other: np.ndarray) -> Sitting:
        return Sitting(name, "exam", {"gain": BASE * gain, "other": other}, trained_until=DAY_BEFORE)

    quality = 1.0
    for step in steps:
        tonight = Evidence(
            "exam", START, END,
            candidate=model("candidate", quality * (1 + step), better),
            champion=model("champion", quality, better - 0.1),
            baselines={"popularity": model("popularity baseline", 0.1, better - 0.2)},
            reference=model("frozen reference v1", 1.0, better),
        )  # fmt: skip
        if decide(tonight, asked).decision == "promote":
            quality *= 1 + step
    assert quality >= 0.98 - 1e-9


def test_who_is_behind_the_frozen_reference_is_told_by_how_much() -> None:
    asked = policy(reference={"gain": 0.02, "spread": 0.3})
    ahead = replace(CLEARLY_BETTER, reference=sitting("frozen reference v1", BASE + 0.2))
    verdict = decide(ahead, asked)
    assert verdict.decision == "keep"
    assert "behind the frozen reference v1 by more than 2 %: gain 0.40" in verdict.reason
    assert status(verdict, "not behind the frozen reference v1: spread") == "pass"


FORECASTS = policy(
    better={"metric": "mse"},
    baselines={"beat": ["last value", "seasonal naive"]},
    guardrails={"mae": 0.05},
    floors={"miss_80": 0.1},
)
ERRORS = 40 + 10 * noisy(0, 0.5)


def forecaster(name: str, mse: np.ndarray, mae: float = 5.0, miss: float = 0.02) -> Sitting:
    errors = {"mse": mse, "mae": np.full(len(mse), mae)}
    return Sitting(name, "exam", errors, {"miss_80": miss}, trained_until=DAY_BEFORE)


def forecasts(candidate: Sitting, champion: Sitting | None) -> Evidence:
    topics = len(candidate.per_unit["mse"])
    cheap = {
        "last value": forecaster("last value baseline", np.full(topics, 90.0)),
        "seasonal naive": forecaster("seasonal naive baseline", np.full(topics, 70.0)),
    }
    return Evidence("exam", START, END, candidate, champion, cheap, unit="topics")


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


def test_of_several_baselines_each_must_be_beaten_and_the_best_is_named() -> None:
    between = decide(forecasts(forecaster("candidate", ERRORS + 35), None), FORECASTS)
    assert between.decision == "not blessed"
    assert [check.name for check in between.failing()] == ["better than the seasonal naive baseline"]
    below_both = decide(forecasts(forecaster("candidate", ERRORS), None), FORECASTS)
    assert "Better than the seasonal naive baseline" in below_both.reason


def test_an_error_that_grows_too_much_or_stands_above_its_limit_blocks() -> None:
    champion = forecaster("champion", ERRORS)
    costly = decide(forecasts(forecaster("candidate", ERRORS - 4, mae=5.4), champion), FORECASTS)
    assert [check.name for check in costly.failing()] == ["guardrail MAE"]
    off = decide(forecasts(forecaster("candidate", ERRORS - 4, miss=0.11), champion), FORECASTS)
    assert "is above the limit of 0.1" in off.reason and off.decision == "keep"
