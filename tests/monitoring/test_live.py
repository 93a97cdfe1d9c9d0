"""The judgement on live outcomes: how often it is wrong, what it finds, and that it cannot be rushed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from monitoring.live import Policy, Requests, judge

POLICY = Policy()
NIGHTS = 400


def people(random: np.random.Generator, rate: float, users: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    """How often each comes (a few come very often), and how often they like what they are shown."""
    coming = random.pareto(1.5, users) + 0.2
    return coming / coming.sum(), random.beta(4 * rate, 4 * (1 - rate), users)


def asked(
    random: np.random.Generator,
    world: tuple[np.ndarray, np.ndarray],
    effect: float,
    count: int = POLICY.requests,
) -> Requests:
    coming, taste = world
    users = np.searchsorted(np.cumsum(coming)[:-1], random.random(count))
    return Requests(users, random.random(count) < taste[users] * effect)


def found(rate: float, effect: float, nights: int) -> Counter[int]:
    """How many of `nights` new champions are found worse, by the number of the look that finds them."""
    random, looks = np.random.default_rng(5), Counter[int]()
    for _ in range(nights):
        world = people(random, rate)
        judgement = judge(asked(random, world, effect), asked(random, world, 1.0), POLICY)
        looks[len(judgement.looks)] += judgement.verdict == "worse"
    return looks


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_an_equal_champion_is_rolled_back_in_one_percent_of_cases_at_most(rate: float) -> None:
    expected = POLICY.alpha * NIGHTS
    assert sum(found(rate, 1.0, NIGHTS).values()) <= expected + 2 * expected**0.5


def test_half_the_clicks_are_noticed_mostly_at_the_first_look() -> None:
    looks = found(0.3, 0.5, 100)
    assert looks[1] >= 65 and sum(looks.values()) >= 98


def outcomes(count: int, engaged: int, users: int | None = None) -> Requests:
    """`count` requests, every `count/engaged`-th with an outcome, of `users` who take turns."""
    hits = (np.arange(count) * engaged // count) != (np.arange(1, count + 1) * engaged // count)
    return Requests(np.mod(np.arange(count), users or count), hits)


def together(one: Requests, other: Requests) -> Requests:
    return Requests(np.concatenate([one.users, other.users]), np.concatenate([one.engaged, other.engaged]))


def test_a_loss_that_is_certain_but_small_rolls_nothing_back() -> None:
    judgement = judge(outcomes(4_000, 3_720), outcomes(4_000, 4_000), POLICY)
    assert judgement.looks[-1].p is not None and judgement.looks[-1].p < POLICY.alpha_per_look
    assert judgement.verdict == "not worse" and judgement.looks[-1].rate == 0.93


def test_the_test_is_welchs() -> None:
    random = np.random.default_rng(0)
    new, old = (asked(random, people(random, 0.3), effect) for effect in (0.8, 1.0))
    expected = stats.ttest_ind(new.per_user(), old.per_user(), equal_var=False, alternative="less").pvalue
    assert judge(new, old, Policy(looks=(4_000,))).looks[0].p == pytest.approx(expected)


@pytest.mark.parametrize(
    ("new", "old", "why"),
    [
        (outcomes(249, 0), outcomes(1_000, 400), "249 requests count so far, the first look is at 250"),
        (outcomes(1_000, 0), outcomes(249, 100), "the champion before answered 249 requests that count"),
        (outcomes(4_000, 0, users=1), outcomes(4_000, 1_600), "1 users on one side, 50 are needed"),
        (outcomes(4_000, 0), outcomes(4_000, 0), "nobody did anything with the former answers either"),
        (outcomes(0, 0), outcomes(0, 0), "0 requests count so far"),
    ],
)
def test_missing_evidence_rolls_nothing_back_and_is_named(new: Requests, old: Requests, why: str) -> None:
    judgement = judge(new, old, POLICY)
    assert judgement.verdict == "no evidence" and why in judgement.reason


def test_one_who_asks_all_the_time_counts_as_one_user() -> None:
    """A load test sends most of the requests and clicks on nothing; 100 customers like it as before."""
    customers = outcomes(1_200, 480, users=100)
    tester = Requests(np.full(2_800, 100), np.zeros(2_800, bool))
    new, order = together(customers, tester), np.random.default_rng(0).permutation(4_000)
    mixed = Requests(new.users[order], new.engaged[order])
    judgement = judge(mixed, outcomes(4_000, 1_600, users=300), POLICY)
    assert judgement.verdict == "not worse"
    assert judgement.looks[-1].rate == pytest.approx(0.4, abs=0.01)


def test_the_former_champion_is_looked_at_right_before_the_move_as_far_as_the_new_one() -> None:
    golden_days, recent = outcomes(750, 750), outcomes(250, 50)
    judgement = judge(outcomes(300, 60), together(golden_days, recent), POLICY)
    assert (judgement.verdict, len(judgement.looks)) == ("not worse so far", 1)
    assert judgement.looks[0].rate_before == judgement.looks[0].rate == 0.2


def test_a_former_champion_with_few_requests_allows_the_looks_it_can_answer_for() -> None:
    judgement = judge(outcomes(4_000, 1_200), outcomes(600, 180), POLICY)
    assert judgement.verdict == "not worse so far" and len(judgement.looks) == 2
    assert "the champion before has only 600" in judgement.reason


def at_random(seed: int, count: int, rate: float, users: int) -> Requests:
    random = np.random.default_rng(seed)
    return Requests(np.asarray(random.integers(0, users, count)), random.random(count) < rate)


some_requests = st.builds(
    at_random, st.integers(0, 10_000), st.integers(0, 4_500), st.floats(0, 1), st.integers(1, 1_000)
)


@settings(deadline=None, max_examples=60)
@given(some_requests, some_requests, st.integers(0, 4_500))
def test_when_and_how_often_it_is_asked_changes_nothing(new: Requests, old: Requests, earlier: int) -> None:
    before, after = judge(new.first(earlier), old, POLICY), judge(new, old, POLICY)
    assert after.looks[: len(before.looks)] == before.looks
    if before.verdict == "worse":
        assert after == before
    if len(new) >= POLICY.requests:
        assert judge(together(new, outcomes(50, 0)), old, POLICY) == after


@settings(deadline=None, max_examples=60)
@given(some_requests, some_requests)
def test_worse_is_only_what_has_fewer_outcomes_by_the_margin(new: Requests, old: Requests) -> None:
    judgement = judge(new, old, POLICY)
    for look in judgement.looks:
        if look.worse:
            assert look.rate <= 0.9 * look.rate_before
            assert look.p is not None and look.p < POLICY.alpha / 5
    assert (judgement.verdict == "worse") == any(look.worse for look in judgement.looks)
