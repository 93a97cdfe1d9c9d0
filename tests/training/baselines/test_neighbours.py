"""Item-kNN's fit: similarities, neighbours and popularity, checked against the dense formula."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.baselines import neighbours
from training.baselines.neighbours import Hyper, fit, in_memory, places
from training.meetings import Meetings

MET = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=30)


def window(met: set[tuple[int, int]], users: int = 6, items: int = 7, disliked: int = 0) -> Meetings:
    """Meetings of one day; the last `disliked` are no positives."""
    pairs = np.array(sorted(met), dtype=np.int64).reshape(-1, 2) + 1
    liked = pairs[: len(pairs) - disliked]
    return Meetings(
        days=[date(2026, 9, 1)],
        users=[f"u{n}" for n in range(users)],
        items=pd.DataFrame(
            {
                "item_id": [f"i{n}" for n in range(items)],
                "title": [f"Item {n}" for n in range(items)],
                "category": ["tea" if n % 2 else "books" for n in range(items)],
            }
        ),
        offered=np.array([items]),
        user=liked[:, 0],
        item=liked[:, 1],
        day=np.zeros(len(liked), np.int64),
        weight=np.ones(len(liked), np.float32),
        met=np.column_stack([pairs, np.zeros(len(pairs), np.int64)]),
    )


def dense(met: set[tuple[int, int]], shrink: float, users: int = 6, items: int = 7) -> np.ndarray:
    """Similarities [items, items] by the formula; 0 on the diagonal."""
    matrix = np.zeros((users, items))
    matrix[tuple(np.array(sorted(met)).T)] = 1
    both, length = matrix.T @ matrix, np.sqrt(matrix.sum(0))
    alike = both / np.maximum(np.outer(length, length) + shrink, 1e-12)
    np.fill_diagonal(alike, 0)
    return alike


def similarities(arrays: dict[str, np.ndarray], items: int = 7) -> np.ndarray:
    found = np.zeros((items, items))
    for item in range(items):
        bounds = slice(*arrays["near_start"][item : item + 2])
        found[item, arrays["near_item"][bounds]] = arrays["near_weight"][bounds]
    return found


@given(met=MET, shrink=st.sampled_from([0.0, 1.0, 20.0]), at_once=st.sampled_from([1, 9, 10_000]))
def test_similarities_are_those_of_the_formula_however_many_are_counted_at_once(
    met: set[tuple[int, int]], shrink: float, at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "AT_ONCE", at_once)
        arrays = fit(window(met), Hyper(neighbours=7, shrink=shrink))
    np.testing.assert_allclose(similarities(arrays), dense(met, shrink), atol=1e-6)


@given(met=MET, count=st.integers(1, 6))
def test_each_item_keeps_its_nearest_neighbours_nearest_first(met: set[tuple[int, int]], count: int) -> None:
    arrays = fit(window(met), Hyper(neighbours=count, shrink=1.0))
    every = dense(met, 1.0)
    for item in range(7):
        kept = arrays["near_weight"][slice(*arrays["near_start"][item : item + 2])]
        expected = np.sort(every[item])[::-1][:count]
        np.testing.assert_allclose(kept, expected[expected > 0], atol=1e-6)


@given(met=MET)
def test_a_score_is_the_mean_over_what_was_met_and_a_place_by_popularity(met: set[tuple[int, int]]) -> None:
    hyper = Hyper(neighbours=7, shrink=1.0, tie_break=0.5)
    model, matrix = in_memory(window(met), hyper), np.zeros((6, 7))
    matrix[tuple(np.array(sorted(met)).T)] = 1
    people = matrix.sum(0)
    category = np.array(["books", "tea", "books", "tea", "books", "tea", "books"])
    expected = matrix @ dense(met, 1.0).T + 0.5 * places(people, category)
    scores = model.score(pd.DataFrame({"user_id": [f"u{n}" for n in range(6)]}))
    np.testing.assert_allclose(scores, expected / np.maximum(matrix.sum(1), 1)[:, None], atol=1e-5)


def test_places_go_by_people_then_by_how_much_the_category_is_met_then_by_number() -> None:
    people = np.array([0, 0, 5, 9, 0])
    category = np.array(["tea", "books", "tea", "books", "tea"])
    place = places(people, category)
    assert np.argsort(-place).tolist() == [3, 2, 1, 0, 4], "books are met more than tea"
    assert place.max() == 1 and place.min() > 0 and len(set(place)) == 5
    assert len(places(np.zeros(0), np.zeros(0, dtype=str))) == 0


def test_what_was_only_rated_low_says_nothing_of_taste_and_is_left_out_all_the_same() -> None:
    met = {(0, 1), (0, 2), (1, 1), (1, 2), (5, 1)}  # the last: u5 disliked item 1
    model = in_memory(window(met, disliked=1))
    assert not model.known("u5") and model.seen("u5").tolist() == [1]
    assert model.known("u0") and model.seen("u0").tolist() == [1, 2]
    scores = model.score(pd.DataFrame({"user_id": ["u5", "nobody"]}))
    np.testing.assert_array_equal(scores[0], scores[1])


def test_memory_stays_with_what_is_kept_when_everybody_met_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbours, "AT_ONCE", 50_000)
    everything = {(user, item) for user in range(20) for item in range(600)}
    runs = neighbours._handfuls(np.full(600, 20 * 600.0))
    assert all(last - first == 4 for first, last in runs) and runs[-1][1] == 600
    arrays = fit(window(everything, users=20, items=600), Hyper(neighbours=5))
    assert len(arrays["near_item"]) == 600 * 5
