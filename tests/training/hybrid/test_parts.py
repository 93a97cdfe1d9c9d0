"""The parts of the score as they are fitted on one window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix

from tests.training.hybrid.conftest import HYPER, ITEMS, NEW_ITEM
from training.hybrid.data import MOMENTS, Window
from training.hybrid.parts import fit, likeness


def test_an_item_that_nobody_met_borrows_the_neighbours_of_what_reads_alike(
    arrays: dict[str, np.ndarray],
) -> None:
    near = arrays["near_weight"], arrays["near_item"], arrays["near_start"]
    speaks_for_new = csr_matrix(near, shape=(ITEMS, ITEMS)).toarray()[:, NEW_ITEM]
    assert speaks_for_new[1::2].mean() > 1.5 * speaks_for_new[0::2].mean()
    assert arrays["unmet"].tolist() == [0] * NEW_ITEM + [1]


def test_an_items_nearest_texts_share_its_weight() -> None:
    found = likeness(np.array([[1, 0], [0.9, 0.436], [0, 1]], np.float32), count=1).toarray()
    assert found.tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]
    assert likeness(np.ones((1, 2), np.float32), 5).nnz == 0


def test_popularity_is_a_pace_so_that_a_day_on_offer_is_not_held_against_a_new_item(
    window: Window, vectors: np.ndarray
) -> None:
    # ten people met the new item on its only day; others took ten days for some eighteen
    met = np.arange(1, 11)
    busy = replace(
        window,
        user=np.concatenate([window.user, met]),
        item=np.concatenate([window.item, np.full(10, NEW_ITEM + 1)]),
        day=np.concatenate([window.day, np.full(10, 9)]),
        weight=np.ones(len(window.user) + 10, np.float32),
    )
    found = fit(busy, vectors, HYPER)
    assert found["popularity"].argmax() == NEW_ITEM
    assert found["newness"].argmax() == NEW_ITEM and np.isfinite(found["trend"]).all()


def test_what_is_met_more_of_late_is_on_the_rise(window: Window, vectors: np.ndarray) -> None:
    early = window.day < 7
    kept = early & (window.item != 1) | ~early  # item 0 was met on the last days alone
    fewer = replace(window, user=window.user[kept], item=window.item[kept], day=window.day[kept])
    assert fit(fewer, vectors, HYPER)["trend"].argmax() == 0


def test_a_group_lifts_what_its_people_met_and_an_unknown_group_nothing(
    arrays: dict[str, np.ndarray],
) -> None:
    tier = arrays["user_group"][:, 2]
    assert (arrays["group_lift"][tier[0], 0::2] > 0).all() and (
        arrays["group_lift"][tier[1], 1:18:2] > 0
    ).all()
    assert arrays["user_group"][1, 0] == -1 and not arrays["group_lift"][-1].any()


def test_moments_lift_categories_and_an_unknown_one_nothing(arrays: dict[str, np.ndarray]) -> None:
    books, tea = arrays["moment_category"][[9 // 4, 21 // 4]]
    assert books[0] > 0 > books[1] and tea[1] > 0 > tea[0]
    assert len(arrays["moment_category"]) == MOMENTS + 1 and not arrays["moment_category"][-1].any()


def test_prices_that_are_not_told_are_taken_to_be_the_middle_one(window: Window, vectors: np.ndarray) -> None:
    told = window.told.assign(price=[None] * 5 + window.told["price"].tolist()[5:])
    found = fit(replace(window, told=told), vectors, HYPER)
    assert np.isfinite(found["price"]).all() and (found["price"][:5] == 0).all()
    without = fit(replace(window, told=window.told.assign(price=np.nan)), vectors, HYPER)
    assert not without["price"].any()


def test_what_was_met_long_ago_counts_less(window: Window, vectors: np.ndarray) -> None:
    found = fit(window, vectors, replace(HYPER, half_life=2.0))
    last = {}
    for item, day in zip(window.item[window.user == 1], window.day[window.user == 1], strict=True):
        last[item - 1] = max(last.get(item - 1, 0), day)
    bounds = slice(*found["history_start"][:2])
    given = dict(zip(found["history_item"][bounds].tolist(), found["history_weight"][bounds], strict=True))
    assert given.keys() == last.keys()
    np.testing.assert_allclose(
        [given[item] for item in last], [0.5 ** ((9 - day) / 2) for day in last.values()]
    )


def test_standing_counts_each_person_who_met_it_liked_or_not(window: Window, vectors: np.ndarray) -> None:
    unloved = replace(
        window, **{name: getattr(window, name)[:0] for name in ("user", "item", "day", "weight")}
    )
    found = fit(unloved, vectors, HYPER)
    people = np.array([len({*window.event_user[window.event_item == item + 1]}) for item in range(NEW_ITEM)])
    assert found["people"].tolist() == [0] * ITEMS
    assert np.corrcoef(found["standing"][:NEW_ITEM], np.log(people))[0, 1] > 0.98  # the rest is the prior
