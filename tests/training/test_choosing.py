"""Of several candidates the best that its service carries wins; the others are told why not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.registry import Version
from tests.training.cases import BASE, evidence, policy, sitting
from training.choosing import WON, Judged, choose
from training.evidence import Measured
from training.gate import decide
from training.policy import Policy

PLAIN = policy()
TRIED = policy(infra={"p99_ms": 100})
FAST, SLOW = Measured({"p99_ms": 10.0}), Measured({"p99_ms": 900.0})


def judged(gains: dict[str, float], asked: Policy) -> list[Judged]:
    """Candidates by family and gain over the champion."""
    found = []
    for number, (family, gain) in enumerate(gains.items(), start=1):
        case = replace(
            evidence(sitting("candidate", BASE + gain), sitting("champion", BASE)), rivals=len(gains)
        )
        version = Version("recommender", number, f"run{number}", datetime(2026, 9, 28, tzinfo=UTC))
        found.append(Judged(family, version, case, decide(case, asked)))
    return found


def decisions(chosen: list[Judged]) -> dict[str, str]:
    return {one.family: one.verdict.decision for one in chosen}


def no_trial(one: Judged) -> Measured:
    raise AssertionError(f"{one.family} was tried, and the policy asks for no trial")


def test_of_two_that_pass_the_better_wins_and_both_are_told_of_the_other() -> None:
    chosen = choose(judged({"gru": 0.1, "ridge": 0.2}, PLAIN), PLAIN, no_trial)
    assert decisions(chosen) == {"ridge": "promote", "gru": "keep"}
    winner, second = chosen
    assert "next is version 1 (gru): gain 0.5015 against 0.4015, beyond noise" in winner.verdict.reason
    assert second.beaten_by == 2 and "version 2 (ridge) did better still" in second.verdict.reason


def test_who_fails_by_itself_keeps_its_own_reason() -> None:
    chosen = choose(judged({"gru": -0.1, "ridge": 0.2}, PLAIN), PLAIN, no_trial)
    assert decisions(chosen) == {"ridge": "promote", "gru": "keep"}
    assert "Not better than the champion" in chosen[1].verdict.reason and chosen[1].beaten_by is None
    assert "next is" not in chosen[0].verdict.reason


def test_only_who_would_win_is_tried_in_its_service() -> None:
    tried: list[str] = []

    def trial(one: Judged) -> Measured:
        tried.append(one.family)
        return FAST

    chosen = choose(judged({"gru": 0.1, "ridge": 0.2, "naive": -0.2}, TRIED), TRIED, trial)
    assert tried == ["ridge"]
    assert decisions(chosen) == {"ridge": "promote", "gru": "keep", "naive": "keep"}
    assert all(check.status == "pass" for check in chosen[1].verdict.checks)


def test_who_fails_in_its_service_gives_way_to_the_next_best() -> None:
    trials = {"ridge": SLOW, "gru": FAST}
    chosen = choose(judged({"gru": 0.1, "ridge": 0.2}, TRIED), TRIED, lambda one: trials[one.family])
    assert decisions(chosen) == {"gru": "promote", "ridge": "keep"}
    assert "above the limit of 100" in chosen[1].verdict.reason
    none = choose(judged({"gru": 0.1, "ridge": 0.2}, TRIED), TRIED, lambda one: SLOW)
    assert decisions(none) == {"gru": "keep", "ridge": "keep"}


@given(
    gains=st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=4),
    fit=st.lists(st.booleans(), min_size=4, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_at_most_one_wins_it_comes_first_and_nobody_is_lost(gains: list[float], fit: list[bool]) -> None:
    families = {f"f{n}": gain for n, gain in enumerate(gains)}
    before = judged(families, TRIED)
    after = choose(before, TRIED, lambda one: FAST if fit[int(one.family[1:])] else SLOW)
    assert sorted(one.family for one in after) == sorted(families)
    winners = [one for one in after if one.verdict.decision in WON]
    assert len(winners) <= 1
    if winners:
        assert after[0] is winners[0]
        rivals = [
            n for n, one in enumerate(before) if fit[n] and families[one.family] > families[winners[0].family]
        ]
        assert not rivals
