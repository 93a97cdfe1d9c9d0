"""A regression on a slice blocks if it is real; luck and smallness do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.cases import evidence, policy, sitting, status
from training.evidence import Evidence
from training.gate import Verdict, decide

POLICY = policy(slices={"min_units": 30, "min_loss": 0.05}, floors={}, guardrails={})
UNITS = 600


def tonight(loss: float, size: int, *, slices: int = 1, seed: int = 0) -> Evidence:
    """A candidate better by 0.1 everywhere but on the first slice, where it loses `loss`; all slices of `size`."""
    random = np.random.default_rng(seed)
    champion = random.normal(0.5, 0.1, UNITS)
    candidate = champion + random.normal(0.1, 0.1, UNITS)
    candidate[:size] = champion[:size] - loss + random.normal(0, 0.1, size)
    places = {f"country: {n}": np.arange(n * size, (n + 1) * size) % UNITS for n in range(slices)}

    def cut(values: np.ndarray) -> dict[str, np.ndarray]:
        outside = np.full(UNITS, np.nan)
        return {name: replace_at(outside, where, values) for name, where in places.items()}

    return evidence(
        sitting("candidate", candidate, slices=cut(candidate), slice_metric="gain"),
        sitting("champion", champion, slices=cut(champion), slice_metric="gain"),
    )


def replace_at(values: np.ndarray, where: np.ndarray, given_values: np.ndarray) -> np.ndarray:
    changed = values.copy()
    changed[where] = given_values[where]
    return changed


def failing(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.failing()]


def test_a_candidate_that_is_better_on_the_whole_but_broken_on_a_slice_is_kept_out_and_the_slice_is_named() -> (
    None
):
    verdict = decide(tonight(0.2, 60), POLICY)
    assert verdict.decision == "keep" and failing(verdict) == ["slice country: 0"]
    assert verdict.reason.startswith(
        "A real regression on a slice: country: 0, 60 users: gain 0.2960 against 0.50"
    )


def test_a_real_but_small_regression_is_no_reason_to_forgo_a_gain() -> None:
    flat = tonight(0.0, 300)
    champion, candidate = flat.champion, flat.candidate
    assert champion is not None
    assert candidate is not None
    name = "country: 0"
    slightly = {name: champion.slices[name] * 0.97}
    sure = replace(flat, candidate=replace(candidate, slices=slightly))
    verdict = decide(sure, POLICY)
    assert verdict.decision == "promote" and status(verdict, f"slice {name}") == "pass"


def test_an_exam_of_which_no_slice_can_be_judged_is_missing_evidence() -> None:
    verdict = decide(tonight(0.5, 29), POLICY)
    assert verdict.decision == "not blessed" and "No slice has the 30 users" in verdict.reason


def test_a_slice_too_small_to_judge_is_listed_and_blocks_nothing() -> None:
    small = tonight(0.5, 29)
    assert small.candidate is not None
    assert small.champion is not None
    whole = [
        replace(m, slices={**m.slices, "users: all": m.per_unit["gain"]})
        for m in (small.candidate, small.champion)
    ]
    verdict = decide(replace(small, candidate=whole[0], champion=whole[1]), POLICY)
    assert verdict.decision == "promote"
    assert (
        "too small to judge: country: 0 (29)"
        in next(c for c in verdict.checks if c.name == "slices").sentence
    )


def test_the_more_slices_are_looked_at_the_surer_each_must_be() -> None:
    few, many = decide(tonight(0.07, 30), POLICY), decide(tonight(0.07, 30, slices=20), POLICY)
    widths = [
        next(c for c in verdict.checks if c.name == "slice country: 0").figures for verdict in (few, many)
    ]
    assert widths[1]["high"] - widths[1]["low"] > widths[0]["high"] - widths[0]["low"]


def test_two_equal_models_are_seldom_blocked_by_a_slice_however_many_there_are() -> None:
    random = np.random.default_rng(0)
    blocked, nights = 0, 300
    for _ in range(nights):
        champion = random.normal(0.5, 0.2, UNITS)
        candidate = champion + random.normal(0, 0.2, UNITS)
        groups = random.integers(0, 12, UNITS)
        cut = [np.where(groups == n, values, np.nan) for values in (candidate, champion) for n in range(12)]
        names, gain = [f"category: {n}" for n in range(12)], {"slice_metric": "gain"}
        case = evidence(
            sitting("candidate", candidate, slices=dict(zip(names, cut[:12], strict=True)), **gain),
            sitting("champion", champion, slices=dict(zip(names, cut[12:], strict=True)), **gain),
        )
        blocked += any(name.startswith("slice ") for name in failing(decide(case, POLICY)))
    assert blocked / nights <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / nights)


@given(loss=st.floats(0, 0.4), more=st.floats(0.001, 0.3))
@settings(max_examples=30, deadline=None)
def test_a_greater_loss_on_a_slice_never_turns_a_block_into_a_promotion(loss: float, more: float) -> None:
    before, after = decide(tonight(loss, 60), POLICY), decide(tonight(loss + more, 60), POLICY)
    assert (before.decision, after.decision) != ("keep", "promote")


@pytest.mark.parametrize(
    "change",
    [
        {"slices": {}},
        {"slices": {"country: 0": np.full(UNITS, np.nan)}},
        {"slices": {"country: 1": np.ones(UNITS)}},
        {"slice_metric": "mse"},
    ],
)
def test_slices_that_the_candidate_lacks_or_tells_in_another_metric_are_missing_evidence(
    change: dict[str, object],
) -> None:
    whole = tonight(0.0, 60)
    assert whole.candidate is not None
    verdict = decide(replace(whole, candidate=replace(whole.candidate, **change)), POLICY)  # type: ignore[arg-type]
    assert verdict.decision == "not blessed" and status(verdict, "slices") == "missing"


@pytest.mark.parametrize("who", ["candidate", "champion"])
def test_an_exam_that_cannot_be_told_apart_by_slices_is_missing_evidence(who: str) -> None:
    blind = tonight(0.0, 60)
    verdict = decide(replace(blind, **{who: replace(getattr(blind, who), slices={})}), POLICY)  # type: ignore[arg-type]
    assert verdict.decision == "not blessed" and status(verdict, "slices") == "missing"
