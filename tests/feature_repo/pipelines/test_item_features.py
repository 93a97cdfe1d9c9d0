"""Item features against values computed by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa
import pytest

from feature_repo.pipelines.item import item_features, met_by

DAY = date(2026, 9, 3)


def computed(duck: ibis.BaseBackend, interactions: pa.Table, items: pa.Table, day: date = DAY) -> pa.Table:
    return duck.to_pyarrow(item_features(met_by(ibis.memtable(interactions), day), ibis.memtable(items), day))


def rows(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["item_id"]: row for row in table.to_pylist()}


def test_every_known_item_gets_the_values_computed_by_hand(duck, small_world) -> None:
    interactions, items, _ = small_world
    moment = datetime(2026, 9, 4, tzinfo=UTC)
    assert rows(computed(duck, interactions, items)) == {
        "i1": {
            "item_id": "i1", "event_timestamp": moment, "unique_users_28d": 1, "interactions_28d": 2,
            "rating_mean_28d": None, "popularity_28d": pytest.approx(2 / 7),
            "popularity_in_category_28d": 2, "age_days": 33, "recency_days": 2, "price": 100,
        },
        "i2": {
            "item_id": "i2", "event_timestamp": moment, "unique_users_28d": 2, "interactions_28d": 4,
            "rating_mean_28d": 4.5, "popularity_28d": pytest.approx(4 / 7),
            "popularity_in_category_28d": 1, "age_days": 2, "recency_days": 0, "price": 30,
        },
        "i3": {
            "item_id": "i3", "event_timestamp": moment, "unique_users_28d": 0, "interactions_28d": 0,
            "rating_mean_28d": None, "popularity_28d": 0, "popularity_in_category_28d": 0,
            "age_days": 0, "recency_days": None, "price": 50,
        },
    }  # fmt: skip


def test_a_category_that_nobody_met_has_no_popularity_to_compare_with(duck, small_world) -> None:
    interactions, items, _ = small_world
    found = rows(computed(duck, interactions.slice(0, 0), items))
    assert {row["popularity_in_category_28d"] for row in found.values()} == {None}
    assert {row["popularity_28d"] for row in found.values()} == {0}


def test_an_item_that_is_not_in_the_catalogue_gets_no_row_but_counts_in_the_total(duck, small_world) -> None:
    interactions, items, _ = small_world
    found = rows(computed(duck, interactions, items))
    assert "ghost" not in found
    assert sum(row["popularity_28d"] for row in found.values()) == pytest.approx(6 / 7)


def test_what_is_published_later_or_before_the_window_is_not_seen(duck, small_world) -> None:
    interactions, items, _ = small_world
    far = interactions.drop_columns(["day"])
    extra = [
        far.append_column("day", pa.array([day] * far.num_rows, pa.date32()))
        for day in (DAY + timedelta(days=1), DAY - timedelta(days=28))
    ]
    assert computed(duck, pa.concat_tables([interactions, *extra]), items).equals(
        computed(duck, interactions, items)
    )


def test_the_order_of_the_rows_does_not_change_a_bit(duck, small_world) -> None:
    interactions, items, _ = small_world
    backwards = interactions.take(pa.array(range(interactions.num_rows - 1, -1, -1)))
    assert computed(duck, backwards, items).equals(computed(duck, interactions, items))
