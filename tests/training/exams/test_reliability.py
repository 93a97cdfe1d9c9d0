"""Whether what is said comes true: the groups, their intervals and the error that luck alone would make."""

from __future__ import annotations

import numpy as np
import pytest

from training.exams.reliability import reliability, wilson


def test_chances_that_come_true_show_no_more_error_than_luck_alone_would_make() -> None:
    random = np.random.default_rng(0)
    said = random.beta(1, 12, 20_000)
    errors, lucks = [], []
    for _ in range(40):
        found = reliability(said, random.random(len(said)) < said)
        errors.append(found.error)
        lucks.append(found.luck)
    assert np.mean(errors) == pytest.approx(np.mean(lucks), rel=0.1)
    assert np.mean(errors) < 0.005


def test_who_is_twice_as_sure_as_comes_true_is_wrong_by_half_of_what_was_said() -> None:
    random = np.random.default_rng(1)
    said = random.uniform(0.1, 0.5, 50_000)
    found = reliability(said, random.random(len(said)) < said / 2)
    assert found.error == pytest.approx(said.mean() / 2, rel=0.05)
    assert (np.diff(found.said) > 0).all() and (found.high < found.said).all()
    assert found.count.tolist() == [5_000] * 10


def test_what_was_said_alike_is_one_group_and_the_order_changes_nothing() -> None:
    random = np.random.default_rng(2)
    said = np.repeat([0.02, 0.1], [900, 100])
    true = random.random(1_000) < said
    found = reliability(said, true)
    assert found.count.tolist() == [900, 100]
    order = random.permutation(1_000)
    assert reliability(said[order], true[order]).error == found.error
    assert reliability(np.array([0.3]), np.array([False])).error == pytest.approx(0.3)


def test_the_interval_holds_the_truth_about_as_often_as_it_says_and_has_a_width_where_nothing_came_true() -> (
    None
):
    random = np.random.default_rng(3)
    low, high = wilson(random.binomial(400, 0.03, 4_000) / 400, np.full(4_000, 400))
    assert 0.93 < ((low <= 0.03) & (high >= 0.03)).mean() < 0.97
    assert wilson(np.array([0.0]), np.array([50]))[1][0] == pytest.approx(0.0713, abs=1e-3)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_interval_holds_its_share_even_where_none_or_all_came_true(share: float) -> None:
    count = np.arange(1, 500)
    low, high = wilson(np.full(len(count), share), count)
    assert (low <= share).all() and (high >= share).all()
