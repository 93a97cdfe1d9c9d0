"""Which items come back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.ranking import best, best_of_each

SCORES = st.lists(
    st.one_of(st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf]), st.floats(-9, 9, width=32)), min_size=1
)


@given(SCORES, st.integers(1, 20), st.data())
def test_it_is_the_full_sort_without_what_is_left_out(
    scores: list[float], k: int, data: st.DataObject
) -> None:
    out = data.draw(st.lists(st.integers(0, len(scores) - 1)))
    usable = [n for n, score in enumerate(scores) if np.isfinite(score) and n not in out]
    expected = sorted(usable, key=lambda n: -scores[n])[:k]
    found = best(np.array(scores, np.float32), np.array(out, np.int64), k)
    assert found.tolist() == expected


def test_ties_at_the_edge_keep_the_column_order() -> None:
    assert best(np.zeros(100), np.array([0, 1]), 3).tolist() == [2, 3, 4]


def test_the_scores_given_are_left_as_they_were() -> None:
    scores = np.arange(5, dtype=np.float32)
    best(scores, np.array([4]), 2)
    assert scores.tolist() == [0, 1, 2, 3, 4]


@given(SCORES, st.integers(1, 12), st.integers(1, 4), st.data())
def test_with_a_cap_it_is_the_full_sort_without_those_whose_kind_is_full(
    scores: list[float], k: int, cap: int, data: st.DataObject
) -> None:
    scores = scores * data.draw(st.sampled_from([1, 9]))
    kind = np.array(
        data.draw(st.lists(st.integers(0, 2), min_size=len(scores), max_size=len(scores))), np.int64
    )
    out = data.draw(st.lists(st.integers(0, len(scores) - 1)))
    expected: list[int] = []
    for n in sorted(
        (n for n in range(len(scores)) if np.isfinite(scores[n]) and n not in out), key=lambda n: -scores[n]
    ):
        if sum(kind[one] == kind[n] for one in expected) < cap:
            expected.append(n)
    found = best_of_each(np.array(scores, np.float32), np.array(out, np.int64), k, kind, cap)
    assert found.tolist() == expected[:k]


def test_a_kind_that_fills_the_whole_top_leaves_room_for_those_far_below() -> None:
    kind = np.array([0] * 5_000 + [1, 2], np.int64)
    assert best_of_each(-np.arange(5_002.0), np.empty(0, np.int64), 4, kind, 1).tolist() == [0, 5_000, 5_001]
