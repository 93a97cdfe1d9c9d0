"""When drift asks for a retrain: monotone in the evidence, silent without any, and not twice."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from monitoring.triggers import ColumnScore, Decision, Policy, Request, covering, decide

DAY = date(2026, 10, 12)
POLICY = Policy(min_share=0.3, cooldown_days=3)

distances = st.none() | st.floats(0, 1_000)
columns = st.lists(
    st.builds(ColumnScore, st.text("abc", min_size=1), distances, st.floats(0.1, 2), st.just("")), max_size=8
)
policies = st.builds(Policy, min_share=st.floats(0, 1), cooldown_days=st.integers(0, 10))


def six(*scores: float | None) -> list[ColumnScore]:
    padded = [*scores, *[0.0] * (6 - len(scores))]
    return [ColumnScore(f"c{n}", score, 0.2, "no values") for n, score in enumerate(padded)]


def test_one_moved_column_of_six_is_news_and_two_are_drift() -> None:
    one, two = decide(six(0.9), POLICY, DAY), decide(six(0.9, 0.2), POLICY, DAY)
    assert (one.drift, two.drift, two.request) == (False, True, True)
    assert one.reason == "no drift: 1 of 6 columns moved: c0 0.90 ≥ 0.20"
    assert two.reason == "drift: 2 of 6 columns moved: c0 0.90 ≥ 0.20, c1 0.20 ≥ 0.20"
    assert two.share == 2 / 6


@given(columns, policies, st.data())
def test_a_higher_score_never_turns_drift_into_none(
    scores: list[ColumnScore], policy: Policy, data: st.DataObject
) -> None:
    raised = [
        ColumnScore(
            c.name, c.score if c.score is None else c.score + data.draw(st.floats(0, 10)), c.threshold
        )
        for c in scores
    ]
    before, after = decide(scores, policy, DAY), decide(raised, policy, DAY)
    assert after.share >= before.share
    assert after.drift >= before.drift


@given(columns, policies, st.data())
def test_losing_a_score_never_turns_none_into_drift(
    scores: list[ColumnScore], policy: Policy, data: st.DataObject
) -> None:
    lost = [ColumnScore(c.name, None, c.threshold) if data.draw(st.booleans()) else c for c in scores]
    assert decide(lost, policy, DAY).drift <= decide(scores, policy, DAY).drift


@given(columns, policies)
def test_the_share_is_a_share_and_the_reason_one_line(scores: list[ColumnScore], policy: Policy) -> None:
    decision = decide(scores, policy, DAY)
    assert 0 <= decision.share <= 1
    assert decision.reason and "\n" not in decision.reason
    assert decision.drift <= any(column.drifted for column in scores)


@given(st.lists(st.builds(ColumnScore, st.text("abc", min_size=1), st.none(), st.just(0.2))), policies)
def test_no_evidence_never_triggers_and_is_said(scores: list[ColumnScore], policy: Policy) -> None:
    decision = decide(scores, policy, DAY)
    assert decision == Decision(False, 0.0, False, decision.reason)
    assert "nothing could be compared" in decision.reason
    assert all(column.name in decision.reason for column in scores)


def test_a_column_that_could_not_be_compared_is_named_with_its_reason() -> None:
    assert decide(six(0.9, 0.9, None), POLICY, DAY).reason.endswith("not compared: c2 (no values)")


def test_the_same_champion_and_day_are_requested_once() -> None:
    again = decide(six(0.9, 0.9), POLICY, DAY, [Request(DAY, champion=4)])
    assert (again.drift, again.already_requested, again.request) == (True, True, False)
    assert "requested for 2026-10-12 (champion v4)" in again.reason


def test_one_request_covers_three_days_whatever_the_champion() -> None:
    history = [Request(DAY, champion=4), Request(DAY - timedelta(days=9), champion=5)]
    covered = [bool(covering(DAY + timedelta(days=n), POLICY, history)) for n in range(-1, 5)]
    assert covered == [False, True, True, True, False, False]
    assert covering(DAY, POLICY, [*history, Request(DAY, 4)]).startswith(
        "a retrain was requested for 2026-10-12"
    )


def test_lasting_drift_is_requested_again_when_the_cooldown_is_over() -> None:
    asked = [Request(DAY, champion=4)]
    days = [DAY + timedelta(days=n) for n in range(-1, 5)]
    assert [decide(six(0.9, 0.9), POLICY, day, asked).request for day in days] == [
        True,  # the day before: a later request does not cover it
        False,
        False,
        False,
        True,
        True,
    ]


@given(columns, policies, st.lists(st.builds(Request, st.dates(), st.integers(1, 99))))
def test_a_day_that_was_requested_is_never_requested_again(
    scores: list[ColumnScore], policy: Policy, history: list[Request]
) -> None:
    decision = decide(scores, policy, DAY, [*history, Request(DAY, 1)])
    assert not (decision.request and policy.cooldown_days > 0)


def test_without_drift_an_old_request_is_not_mentioned() -> None:
    decision = decide(six(0.9), POLICY, DAY, [Request(DAY, 1)])
    assert (decision.drift, decision.already_requested) == (False, False)
    assert "requested" not in decision.reason
