from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from training.ncf import predictor
from training.ncf.data import USER_COLUMNS, Window
from training.ncf.fit import Inputs
from training.ncf.model import NeuMF
from training.ncf.package import config, fold, in_memory


@pytest.fixture(scope="module")
def served(window: Window, fitted: tuple[NeuMF, Inputs]) -> predictor.NeuMF:
    return in_memory(*fitted, window)


def by_hand(users: int, items: int) -> predictor.NeuMF:
    """A predictor of given vectors: user 1 met item 0; items 0 and 1 point the same way, 2 another way."""
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {
        "user_gmf": random.normal(size=(users + 1, 2)).astype(np.float32),
        "item_gmf": np.array([[1, 0], [2, 0.1], [0, 1]], dtype=np.float32)[:items],
        "item_bias": np.zeros(items, dtype=np.float32),
        "user_first": np.zeros((users + 1, 2), dtype=np.float32),
        "user_in": np.zeros((2 * len(USER_COLUMNS), 2), dtype=np.float32),
        "item_first": np.zeros((items, 2), dtype=np.float32),
        "hidden_w": np.zeros((2, 2), dtype=np.float32),
        "hidden_b": np.zeros(2, dtype=np.float32),
        "out_w": np.zeros(2, dtype=np.float32),
        "user_learnt": np.array([0, 1, 0], dtype=np.uint8)[: users + 1],
        "user_mean": np.zeros(len(USER_COLUMNS)),
        "user_std": np.ones(len(USER_COLUMNS)),
        "seen_start": np.array([0, 0, 1, 1]),
        "seen_items": np.array([0], dtype=np.int32),
    }
    frame = pd.DataFrame(
        {
            "item_id": ["i0", "i1", "i2"],
            "title": ["Red tea", "Green tea", "Hammer"],
            "category": ["tea", "tea", "tools"],
        }
    )
    model = predictor.NeuMF()
    model.set_up(config(), arrays, [f"u{n}" for n in range(1, users + 1)], frame)
    return model


def test_numpy_scores_equal_those_of_torch(window: Window, fitted: tuple[NeuMF, Inputs], served: Any) -> None:
    model, inputs = fitted
    last = {int(user): at for at, user in enumerate(window.user)}  # a positive of each user, for features
    users = [user for user in last if user in set(window.user)][:25]
    rows = [window.user_row[last[user]] for user in users]
    frame = pd.DataFrame(window.user_raw[rows], columns=USER_COLUMNS).assign(
        user_id=[window.users[user - 1] for user in users]
    )
    learnt = np.isin(np.arange(1, len(window.items) + 1), window.item)
    rows_of = np.where(learnt, np.arange(1, len(window.items) + 1) + inputs.categories, window.category)
    with torch.no_grad():
        expected = model(
            torch.tensor(users),
            inputs.user_x[rows],
            torch.from_numpy(rows_of).expand(len(users), -1),
            inputs.item_x[-1, 1:].expand(len(users), -1, -1),
        ).numpy()

    np.testing.assert_allclose(served.score(frame), expected, atol=1e-4)
    assert expected.std() > 0.1


def test_strangers_share_one_vector_and_differ_by_their_features_alone(served: Any) -> None:
    features = dict.fromkeys(USER_COLUMNS, 1.0)
    rows = [{"user_id": "s1", **features}, {"user_id": "s2", **features}, {"user_id": "s3"}]
    first, second, third = served.score(pd.DataFrame(rows))

    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, third)


def test_seen_is_everything_a_user_met_in_the_window(window: Window, served: Any, lake: Any) -> None:
    events = lake.read("interactions", window.days[0], window.days[-1]).to_pandas()
    for user, met in events.groupby("user_id")["item_id"]:
        assert {served.items[i] for i in served.seen(user)} == set(met)


def test_items_that_nobody_met_get_the_shared_new_item_not_noise(
    window: Window, fitted: tuple[NeuMF, Inputs]
) -> None:
    model, inputs = fitted
    without = replace(window, item=np.where(window.item == 4, 5, window.item))
    arrays = fold(model, inputs, without)

    assert arrays["item_bias"][3] == pytest.approx(model.item_bias.weight[0].item())
    assert arrays["item_bias"][4] == pytest.approx(model.item_bias.weight[5].item())


def test_the_reason_names_the_closest_thing_the_user_looked_at() -> None:
    model = by_hand(2, 3)

    assert model.reason("u1", 1) == "like “Red tea”, which you looked at"
    assert model.reason("u1", 2) == "picked for your taste, from tools"
    assert model.reason("u2", 2) == "popular in tools"


def test_a_user_without_positives_is_not_known_and_scored_as_a_stranger() -> None:
    model = by_hand(2, 3)
    scores = model.score(pd.DataFrame({"user_id": ["u1", "u2", "nobody"]}))

    assert [model.known(user) for user in ("u1", "u2", "nobody")] == [True, False, False]
    np.testing.assert_array_equal(scores[1], scores[2])
    assert not np.array_equal(scores[0], scores[1])


def test_predict_answers_k_items_by_row_and_ten_by_default() -> None:
    model = by_hand(2, 3)
    answer = model.predict(None, pd.DataFrame({"user_id": ["u1", "u2"], "k": [1, None]}, index=[7, 9]))

    assert [len(ids) for ids in answer["item_ids"]] == [1, 3]
    assert "i0" not in answer["item_ids"][0]
    assert len(model.predict(None, pd.DataFrame({"user_id": ["u1"]}))["item_ids"][0]) == 2


def test_missing_values_become_the_mean_and_raise_their_flag() -> None:
    raw = np.array([[np.nan, np.inf, 0.0, 1e9]])
    x = predictor.standardise(raw, np.zeros(4), np.ones(4))

    assert x.tolist() == [[0, 0, 0, 4, 1, 1, 0, 0]] and x.dtype == np.float32
