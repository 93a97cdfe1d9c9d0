from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.exams.lists import Background, best, jensen_shannon

SCORES = st.lists(st.sampled_from([-np.inf, np.nan, 0.0, 1.0, 2.0, 3.0]), min_size=1, max_size=25)


@given(SCORES, st.integers(0, 12))
def test_the_best_are_those_that_come_first_when_all_are_sorted(scores: list[float], k: int) -> None:
    usable = [n for n, score in enumerate(scores) if np.isfinite(score)]
    expected = sorted(usable, key=lambda n: (-scores[n], n))[:k]
    found = best(np.array([scores, scores]), k)
    assert found.shape == (2, min(k, len(scores)))
    for row in found:
        assert row[row >= 0].tolist() == sorted(expected)


SHARES = st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4).filter(lambda shares: sum(shares) > 0.1)


@given(SHARES, SHARES)
def test_the_distance_of_two_mixes_is_symmetric_and_between_none_and_one(
    some: list[float], others: list[float]
) -> None:
    p, q = (np.array([shares]) / sum(shares) for shares in (some, others))
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p)) and 0 <= jensen_shannon(p, q)[0] <= 1
    assert jensen_shannon(p, p) == pytest.approx([0.0], abs=1e-7)


def test_mixes_that_share_nothing_are_as_far_apart_as_can_be() -> None:
    assert jensen_shannon(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])) == pytest.approx([1.0])


def test_shares_sum_to_one_and_a_new_item_is_novel_but_not_beyond_all_bounds() -> None:
    known = Background(["a", "b", "new"], {"a": "x", "b": "y"}, {"a": 6, "b": 1, "gone": 50})
    assert known.share.sum() == pytest.approx(1) and known.overall.sum() == pytest.approx(1)
    assert known.share == pytest.approx([0.7, 0.2, 0.1])
    bits = known.novelty(np.array([[2, -1], [0, 1], [-1, -1]]))
    assert bits == pytest.approx([-np.log2(0.1), -(np.log2(0.7) + np.log2(0.2)) / 2, 0.0])


def test_who_met_nothing_is_compared_with_what_people_meet_and_an_empty_list_is_like_nothing() -> None:
    items = [f"i{n}" for n in range(10)]
    known = Background(items, {item: "x" if n < 5 else "y" for n, item in enumerate(items)}, {})
    mixed, lopsided, empty = known.miscalibration(
        np.array([[0, 1, 5, 6], [0, 1, 2, 3], [-1, -1, -1, -1]]), [[], [], []]
    )
    assert mixed == pytest.approx(0.0, abs=1e-7) and 0.3 < lopsided < 1 and empty == 1
