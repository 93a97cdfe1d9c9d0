"""Figures against limits: both directions, and what is not known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.cases import CLEARLY_BETTER, policy
from training.checks.case import Case
from training.checks.limits import behaviour, floors
from training.evidence import Evidence, Measured
from training.gate import decide

POLICY = policy(behaviour={"strangers_served": 1, "not_finite": 0})


def found(figures: dict[str, float], problem: str = "") -> dict[str, str]:
    case = Case(replace(CLEARLY_BETTER, behaviour=Measured(figures, problem)), POLICY)
    return {check.metric: check.status for check in behaviour(case)}


@given(share=st.floats(0, 1))
def test_more_is_better_where_the_metric_says_so_and_less_where_it_does_not(share: float) -> None:
    assert found({"strangers_served": share, "not_finite": share}) == {
        "strangers_served": "pass" if share >= 1 else "fail",
        "not_finite": "pass" if share <= 0 else "fail",
    }


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), None])
def test_a_figure_that_is_none_is_missing_and_says_why(figure: float | None) -> None:
    figures = {"strangers_served": 1.0} | ({} if figure is None else {"not_finite": figure})
    case = Case(replace(CLEARLY_BETTER, behaviour=Measured(figures, "ValueError: boom")), POLICY)
    missing = next(check for check in behaviour(case) if check.metric == "not_finite")
    assert missing.status == "missing" and "ValueError: boom" in missing.sentence


# --- a total that not every model has: confidences came later than the first champions -------------------

ERROR = "calibration_error_at_10"


def told(candidate: float | None, champion: float | None = None) -> Evidence:
    """The case of a candidate and a champion of which each may say how sure it is, or not."""
    assert CLEARLY_BETTER.candidate is not None and CLEARLY_BETTER.champion is not None
    pair = {
        "candidate": (CLEARLY_BETTER.candidate, candidate),
        "champion": (CLEARLY_BETTER.champion, champion),
    }
    return replace(
        CLEARLY_BETTER,
        **{
            name: replace(one, totals={**one.totals, **({} if error is None else {ERROR: error})})
            for name, (one, error) in pair.items()
        },
    )


@pytest.mark.parametrize(("error", "status"), [(0.01, "pass"), (0.03, "fail"), (None, "missing")])
def test_a_limit_on_the_calibration_error_is_not_reached_by_saying_nothing(
    error: float | None, status: str
) -> None:
    asked = policy(floors={ERROR: 0.02})
    (check,) = floors(Case(told(error), asked))
    assert check.status == status
    assert (decide(told(error), asked).decision == "promote") == (status == "pass")


@pytest.mark.parametrize("group", ["guardrails", "reference"])
def test_where_a_policy_compares_it_a_champion_of_before_is_missing_evidence_and_no_crash(group: str) -> None:
    asked = policy(**{"guardrails": {}, group: {ERROR: 0.5}})
    evidence = told(0.01)
    evidence = replace(evidence, reference=evidence.champion)
    assert decide(evidence, asked).decision == "not blessed"
    both = told(0.01, 0.01)
    assert decide(replace(both, reference=both.champion), asked).decision == "promote"


def test_where_no_policy_asks_for_it_it_stands_in_nobodys_way() -> None:
    for evidence in (told(None, 0.01), told(0.01), told(None)):
        assert decide(evidence, policy()).decision == "promote"
