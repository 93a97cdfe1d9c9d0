"""Which items come back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.ranking import best

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
