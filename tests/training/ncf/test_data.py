from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.errors import LakeError
from nightshift.lake import Lake
from tests.conftest import TINY_START
from training.ncf import data
from training.ncf.data import (
    ITEM_COLUMNS,
    USER_COLUMNS,
    Window,
    draw_negatives,
    read_window,
)
from training.recipe import Night


def test_features_know_the_days_before_and_nothing_of_the_day_itself(lake: Lake, window: Window) -> None:
    events = lake.read("interactions", window.days[0], window.days[-1]).to_pandas()
    column = USER_COLUMNS.index("interactions_28d")
    for at in range(0, len(window.user), 37):
        user, day = window.users[window.user[at] - 1], window.days[window.day[at]]
        before = float(((events["user_id"] == user) & (events["day"] < day)).sum())
        known = window.user_raw[window.user_row[at], column]
        assert (0.0 if np.isnan(known) else known) == before


def test_item_features_are_those_of_each_morning_up_to_the_morning_after(lake: Lake, window: Window) -> None:
    events = lake.read("interactions", window.days[0], window.days[-1]).to_pandas()
    column = ITEM_COLUMNS.index("interactions_28d")
    mornings = [*window.days, window.days[-1] + timedelta(days=1)]
    assert window.item_raw.shape[:2] == (len(mornings), len(window.items))
    for number, morning in enumerate(mornings):
        before = events.loc[events["day"] < morning, "item_id"].value_counts()
        expected = window.items["item_id"].map(before).fillna(0).to_numpy(float)
        np.testing.assert_array_equal(np.nan_to_num(window.item_raw[number, :, column]), expected)


def test_a_window_cut_short_is_the_window_read_shorter(lake: Lake, store: Any, window: Window) -> None:
    cut, read = window.until(4), read_window(lake, store, window.days[0], window.days[3])

    ids = [np.array(w.users)[w.user - 1].tolist() for w in (cut, read)]
    assert ids[0] == ids[1]
    assert cut.items.equals(read.items)
    for name in ("offered", "item", "day", "weight", "item_raw"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(read, name))
    np.testing.assert_array_equal(cut.user_raw[cut.user_row], read.user_raw[read.user_row])
    np.testing.assert_array_equal(cut.met[:, 1:], read.met[:, 1:])


def test_a_window_without_interactions_is_refused(lake: Lake, store: Any, tiny_night: Night) -> None:
    with pytest.raises(LakeError, match="no interactions"):
        read_window(lake, store, TINY_START - timedelta(days=9), TINY_START - timedelta(days=3))


@given(
    items=st.integers(3, 60),
    count=st.integers(1, 6),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_negatives_are_on_offer_that_day_and_never_what_the_user_met(
    items: int, count: int, seed: int, data: st.DataObject
) -> None:
    rows = data.draw(st.integers(1, 30))
    random = np.random.default_rng(seed)
    user = random.integers(1, 5, rows)
    offered = random.integers(2, items + 1, rows)
    met = np.stack(
        [user, np.ones(rows, dtype=np.int64)], axis=1
    )  # everybody met item 1, at least one is left
    taken = np.unique(met[:, 0] * (items + 1) + met[:, 1])

    drawn = draw_negatives(user, offered, taken, items, count, random)

    assert drawn.shape == (rows, count)
    assert (drawn >= 1).all() and (drawn <= offered[:, None]).all()
    again = draw_negatives(user, np.full(rows, 60), taken, items, 400, random)
    assert (again == 1).mean() < 0.001


def test_negatives_are_drawn_evenly_from_what_was_not_met() -> None:
    random = np.random.default_rng(0)
    user, offered = np.ones(4_000, dtype=np.int64), np.full(4_000, 10)
    taken = np.array([1 * 11 + 3, 1 * 11 + 7])

    drawn = draw_negatives(user, offered, taken, 10, 5, random)

    counts = np.bincount(drawn.ravel(), minlength=11)[1:]
    rest = np.delete(counts, [2, 6])
    assert counts[[2, 6]].sum() / counts.sum() < 0.01
    assert rest.max() / rest.min() < 1.15


def test_a_search_draws_what_a_table_draws_to_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    users, items = 30, 12
    met = np.argwhere(np.random.default_rng(0).random((users, items)) < 0.7) + 1
    taken = np.unique(met[:, 0] * (items + 1) + met[:, 1])
    asked = (met[:, 0], np.full(len(met), items), taken, items, 6)
    table = draw_negatives(*asked, np.random.default_rng(3))
    monkeypatch.setattr(data, "MOST_CELLS", 10)
    assert np.array_equal(draw_negatives(*asked, np.random.default_rng(3)), table)
