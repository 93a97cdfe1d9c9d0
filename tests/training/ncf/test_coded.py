from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nightshift.contracts import INTERACTIONS
from nightshift.errors import LakeError
from nightshift.lake import Lake
from tests.conftest import TINY_START, publish_day, tiny_day
from training.meetings import read_meetings
from training.ncf import coded
from training.ncf.coded import Window, code, size

KEYS = ["day", "user_id", "item_id"]
START, END = TINY_START + timedelta(days=2), TINY_START + timedelta(days=6)


@pytest.fixture(scope="module")
def window(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    """Four days together at most, so that they are coded in several goes; users known from the first day on."""
    with code(lake, START, END, tmp_path_factory.mktemp("coded"), met_from=TINY_START) as found:
        yield found


def in_order(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[[*KEYS, "weight"]].sort_values(KEYS, ignore_index=True).astype({"weight": float})


def test_its_positives_are_those_of_every_other_family(window: Window, lake: Lake) -> None:
    meetings = read_meetings(lake, START, END, TINY_START)
    pd.testing.assert_frame_equal(in_order(window.sample(0)), in_order(meetings.rows()))
    assert window.users == len(meetings.users) and window.items == len(meetings.items)


def test_coding_few_days_at_a_time_changes_nothing(
    window: Window, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coded, "EVENTS_AT_ONCE", 150)
    with code(lake, START, END, tmp_path, met_from=TINY_START) as found:
        query = 'SELECT * FROM coded ORDER BY day, "user", item'
        expected, told = (one.database.execute(query).df() for one in (window, found))
    pd.testing.assert_frame_equal(told, expected)


def test_what_users_met_before_the_window_is_met_and_no_positive(window: Window, lake: Lake) -> None:
    meetings = read_meetings(lake, START, END, TINY_START)
    pairs = np.concatenate(list(window.seen()))
    names = window.database.execute("SELECT item_id FROM items ORDER BY code").df()["item_id"].tolist()
    told = {(meetings.users[user - 1], names[item]) for user, item in pairs}
    items = meetings.items["item_id"].tolist()
    assert told == {(meetings.users[user - 1], items[item - 1]) for user, item, _ in meetings.met}
    assert (meetings.met[:, 2] == -1).any()


def test_shards_hold_the_days_that_they_were_asked_for(window: Window, tmp_path: Path) -> None:
    rows = window.sample(0)
    days = [day.isoformat() for day in window.days]
    early = window.write_shards("early", 0, 2, np.random.default_rng(0))
    late = window.write_shards("late", 2, len(window.days), np.random.default_rng(0))
    assert early.items.sum() == rows["day"].isin(days[:2]).sum()
    assert early.items.sum() + late.items.sum() == len(rows) and late.users[0] == 0


def test_ids_are_numbered_in_their_own_order(window: Window) -> None:
    users = window.database.execute("SELECT user_id FROM users ORDER BY code").df()["user_id"].tolist()
    assert users == sorted(users) and window.user_id(1) == users[0]


def test_random_user_days_are_days_on_which_the_user_was_there(window: Window) -> None:
    rows = window.sample(0)
    there = set(zip(rows["user_id"], rows["day"], strict=True))
    found = window.active(3, limit=20)
    assert len(found) == 20
    assert {(user, day.isoformat()) for user, day in found.itertuples(index=False)} <= there


def test_the_size_counts_interactions_users_and_all_items_listed(lake: Lake) -> None:
    found = size(lake, START, END)
    events = lake.read("interactions", START, END).to_pandas()
    assert (found.rows, found.users, found.days) == (len(events), events["user_id"].nunique(), 5)
    assert found.items == lake.latest("items", END).num_rows


@pytest.mark.parametrize("listed", [True, False])
def test_an_item_that_was_never_listed_is_named_by_its_id(tmp_path: Path, listed: bool) -> None:
    lake, day = Lake(tmp_path / "lake"), tiny_day(TINY_START)
    rows = day.tables["interactions"].to_pylist()
    rows[0]["item_id"] = "a stranger's"
    tables: dict[str, Any] = {**day.tables, "interactions": INTERACTIONS.table(rows)}
    if not listed:
        tables["items"] = tables["items"].slice(0, 0)
    publish_day(lake, type(day)(day=day.day, tables=tables, counts=day.counts))
    with code(lake, TINY_START, TINY_START, tmp_path / "coded") as found:
        names = found.database.execute("SELECT item_id, title, category FROM items").df().set_index("item_id")
    assert names.loc["a stranger's"].tolist() == ["a stranger's", "unknown"]
    other = rows[1]["item_id"]
    assert names.loc[other, "title"] == (f"상품 {int(other[1:])}" if listed else other)


def test_a_window_in_which_nobody_did_anything_is_refused(lake: Lake, tmp_path: Path) -> None:
    with (
        pytest.raises(LakeError, match="no interactions"),
        code(lake, date(2020, 1, 1), date(2020, 1, 2), tmp_path),
    ):
        pass
