"""User features against values computed by hand, and what must hold whatever the data."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo.pipelines.user import user_features
from nightshift.contracts import INTERACTIONS, ITEMS, USERS
from nightshift.contracts.features import USER_FEATURES

DAY = date(2026, 9, 3)
World = tuple[pa.Table, pa.Table, pa.Table]
SLOW_BUT_FINE = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


def computed(duck: ibis.BaseBackend, world: World, day: date = DAY) -> pa.Table:
    interactions, items, users = (ibis.memtable(table) for table in world)
    return duck.to_pyarrow(user_features(interactions, items, users, day))


def rows(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["user_id"]: row for row in table.to_pylist()}


def test_a_busy_user_gets_the_values_computed_by_hand(duck, small_world) -> None:
    row = rows(computed(duck, small_world))["u1"]
    assert row == {
        "user_id": "u1",
        "event_timestamp": datetime(2026, 9, 4, tzinfo=UTC),
        "interactions_28d": 6,
        "active_days_28d": 2,
        "recency_days": 0,
        "spend_28d": 100,
        "purchase_share_28d": pytest.approx(1 / 6),
        "category_entropy_28d": pytest.approx(-(0.4 * math.log(0.4) + 0.6 * math.log(0.6))),
        "session_minutes_mean_28d": pytest.approx(16 / 3),  # 12, 4 and 0 minutes
        "session_minutes_std_28d": pytest.approx(math.sqrt(160 / 3 - (16 / 3) ** 2)),
        "rating_mean_28d": 5,
        "favourite_category_28d": "book",
        "interactions_1d": 3,
        "category_entropy_1d": 0,
        "session_minutes_1d": 2,
        "mean_price_1d": 30,  # the ghost has no price
        "mobile_share_1d": pytest.approx(1 / 3),
        "purchase_share_1d": 0,
    }


def test_a_user_who_is_away_today_keeps_the_window_and_has_no_day(duck, small_world) -> None:
    row = rows(computed(duck, small_world))["사용자2"]
    assert (row["interactions_28d"], row["recency_days"], row["rating_mean_28d"]) == (1, 2, 4)
    assert row["session_minutes_mean_28d"] is None and row["session_minutes_std_28d"] is None
    assert [row[f.name] for f in USER_FEATURES if f.watched] == [None] * 6


def test_a_known_user_who_did_nothing_has_zeros_and_nulls(duck, small_world) -> None:
    row = rows(computed(duck, small_world))["u3"]
    assert (row["interactions_28d"], row["active_days_28d"], row["spend_28d"]) == (0, 0, 0)
    assert {name for name, value in row.items() if value is not None} == {
        "user_id", "event_timestamp", "interactions_28d", "active_days_28d", "spend_28d"
    }  # fmt: skip


def test_a_user_who_is_not_in_the_users_table_has_a_row_too(duck, small_world) -> None:
    interactions, items, users = small_world
    assert rows(computed(duck, (interactions, items, users.slice(0, 0)))).keys() == {"u1", "사용자2"}


def test_a_window_without_interactions_gives_every_known_user_a_row(duck, small_world) -> None:
    interactions, items, users = small_world
    found = rows(computed(duck, (interactions.slice(0, 0), items, users)))
    assert {row["interactions_28d"] for row in found.values()} == {0} and len(found) == 3


def test_the_window_is_28_days_with_both_ends(duck, small_world) -> None:
    last = rows(computed(duck, small_world, date(2026, 9, 28)))["사용자2"]
    gone = rows(computed(duck, small_world, date(2026, 9, 29)))["사용자2"]
    assert (last["interactions_28d"], last["recency_days"]) == (1, 27)
    assert (gone["interactions_28d"], gone["recency_days"]) == (0, None)


def test_of_two_favourites_the_first_by_name_wins(duck, small_world) -> None:
    interactions, items, users = small_world
    two = interactions.slice(0, 2)  # food once, book once
    assert rows(computed(duck, (two, items, users)))["u1"]["favourite_category_28d"] == "book"


def test_a_session_that_crosses_published_days_counts_as_two(duck, small_world) -> None:
    interactions, items, users = small_world
    late = interactions.slice(1, 1).drop_columns(["day"]).append_column("day", pa.array([DAY], pa.date32()))
    found = rows(computed(duck, (pa.concat_tables([interactions.slice(0, 1), late]), items, users)))
    assert found["u1"]["session_minutes_mean_28d"] == 0


def test_session_lengths_with_fractions_of_seconds_add_up_the_same_in_any_order(duck, small_world) -> None:
    interactions, items, users = small_world
    random = np.random.default_rng(0)
    first = interactions.slice(0, 1).to_pylist()[0]
    later = [first["at"] + timedelta(microseconds=int(n)) for n in random.integers(3_600_000_000, size=4_000)]
    told = [
        {**first, "event_id": f"e{n}", "session_id": f"s{n // 2}", "at": at} for n, at in enumerate(later)
    ]
    lengths = np.array(
        [abs((a - b).total_seconds()) / 60 for a, b in zip(later[::2], later[1::2], strict=True)]
    )
    tables = [
        computed(duck, (pa.Table.from_pylist(rows, schema=interactions.schema), items, users))
        for rows in (told, told[::-1], [told[n] for n in random.permutation(len(told))])
    ]
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])
    row = rows(tables[0])["u1"]
    assert row["session_minutes_mean_28d"] == pytest.approx(lengths.mean(), rel=1e-9)
    assert row["session_minutes_std_28d"] == pytest.approx(lengths.std(), abs=1e-5)


def test_a_value_that_is_not_a_number_does_not_poison_the_sum(duck, small_world) -> None:
    interactions, items, users = small_world
    listed = interactions.to_pylist()
    listed.append({**listed[2], "event_id": "odd", "value": math.nan})
    odd = pa.Table.from_pylist(listed, schema=interactions.schema)
    assert rows(computed(duck, (odd, items, users)))["u1"]["spend_28d"] == 100


MOMENTS = st.integers(0, 24 * 60 - 1)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["u1", "사용자2"]),
        st.sampled_from(["i0", "i1", "i2", "i3", "ghost"]),
        st.sampled_from(["view", "purchase", "rating"]),
        st.floats(0, 1e6),
        st.integers(0, 30),  # days before DAY
        MOMENTS,
        st.sampled_from(["s1", "s2", None]),
    ),
    max_size=25,
)


def world_of(events: list[tuple[Any, ...]]) -> World:
    listed, days = [], []
    for n, (user, item, kind, value, back, minute, session) in enumerate(events):
        days.append(DAY - timedelta(days=back))
        at = datetime(*days[-1].timetuple()[:3], tzinfo=UTC) + timedelta(minutes=minute)
        listed.append(
            {
                "event_id": str(n), "user_id": user, "item_id": item, "kind": kind, "at": at,
                "value": None if kind == "view" else value, "session_id": session, "device": "mobile",
                "channel": "home",
            }
        )  # fmt: skip
    items = [
        {"item_id": f"i{n}", "title": "x", "category": f"분류{n % 3}", "price": 0.1 * n, "created_at": at0}
        for n, at0 in enumerate([datetime(2026, 8, 1, tzinfo=UTC)] * 4)
    ]
    interactions = INTERACTIONS.table(listed).append_column("day", pa.array(days, pa.date32()))
    return interactions, ITEMS.table(items), USERS.table([])


@SLOW_BUT_FINE
@given(EVENTS)
def test_shares_entropies_and_lengths_stay_within_their_bounds(duck, events) -> None:
    for row in computed(duck, world_of(events)).to_pylist():
        for name, categories in (("category_entropy_28d", 3), ("category_entropy_1d", 3)):
            assert row[name] is None or 0 <= row[name] <= math.log(categories) + 1e-6
        for name in ("purchase_share_28d", "purchase_share_1d", "mobile_share_1d"):
            assert row[name] is None or 0 <= row[name] <= 1
        assert 0 <= row["active_days_28d"] <= 28 and row["active_days_28d"] <= row["interactions_28d"]
        assert row["session_minutes_mean_28d"] is None or 0 <= row["session_minutes_mean_28d"] < 24 * 60
        assert not any(isinstance(value, float) and math.isnan(value) for value in row.values())


@SLOW_BUT_FINE
@given(EVENTS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_change_a_bit(duck, events, random) -> None:
    interactions, items, users = world_of(events)
    order = list(range(interactions.num_rows))
    random.shuffle(order)
    shuffled = interactions.take(pa.array(order, pa.int64()))
    assert computed(duck, (shuffled, items, users)).equals(computed(duck, (interactions, items, users)))


@SLOW_BUT_FINE
@given(EVENTS, EVENTS)
def test_what_is_published_later_is_not_seen(duck, events, later_events) -> None:
    interactions, items, users = world_of(events)
    later = world_of(later_events)[0]
    tomorrow = pa.array([DAY + timedelta(days=1)] * later.num_rows, pa.date32())
    more = pa.concat_tables([interactions, later.drop_columns(["day"]).append_column("day", tomorrow)])
    assert computed(duck, (more, items, users)).equals(computed(duck, (interactions, items, users)))
