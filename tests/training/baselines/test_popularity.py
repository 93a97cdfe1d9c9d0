from __future__ import annotations

import numpy as np
import pandas as pd

from training.baselines.popularity import Popularity

ITEMS = pd.DataFrame({"item_id": ["c", "a", "b"], "title": ["C", "A", "B"], "category": ["x", "y", "z"]})


def model(rows: list[tuple[str, str]]) -> Popularity:
    return Popularity(pd.DataFrame(rows, columns=["user_id", "item_id"]), ITEMS)


def order(popularity: Popularity) -> list[str]:
    scores = popularity.score(pd.DataFrame({"user_id": ["whoever"]}))[0]
    return [popularity.items[i] for i in np.argsort(-scores)]


def test_one_fan_is_one_voice() -> None:
    assert order(model([("u1", "a")] * 9 + [("u1", "b"), ("u2", "b")])) == ["b", "a", "c"]


def test_ties_and_items_nobody_met_go_by_id() -> None:
    assert order(model([("u1", "c")])) == ["c", "a", "b"]


def test_everybody_gets_the_same_finite_row_for_every_item() -> None:
    scores = model([("u1", "a")]).score(pd.DataFrame({"user_id": ["u1", "new"]}))

    assert scores.shape == (2, 3) and scores.dtype == np.float32 and np.isfinite(scores).all()
    assert (scores[0] == scores[1]).all()


def test_it_remembers_what_a_user_met_and_nothing_of_strangers() -> None:
    popularity = model([("u1", "c"), ("u1", "a"), ("u1", "a"), ("u1", "gone")])

    assert [popularity.items[i] for i in popularity.seen("u1")] == ["a", "c"]
    assert popularity.seen("u1").dtype == popularity.seen("nobody").dtype == np.int64
    assert not popularity.known("u1") and len(popularity.seen("nobody")) == 0


def test_the_reason_counts_people() -> None:
    assert model([("u1", "a"), ("u2", "a")]).reason("u1", 0) == "popular: 2 people met it lately"
