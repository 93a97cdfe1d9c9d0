"""Figures against limits: both directions, and what is not known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.cases import CLEARLY_BETTER, policy
from training.checks.case import Case
from training.checks.limits import behaviour
from training.evidence import Measured

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
