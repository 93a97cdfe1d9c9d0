"""What the hybrid learns from: first meetings, with what had happened until then."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nightshift.lake import Lake
from nightshift.settings import Settings
from tests.training.hybrid.conftest import DAYS, ITEMS, world
from training.hybrid.data import BLOCKS, Window, cases_from, moments, read_window
from training.recipe import Night


def test_a_case_is_a_first_meeting_and_knows_what_came_before_it_since_the_cut(window: Window) -> None:
    cut = DAYS - 2
    cases = cases_from(window, cut)
    first = {(user, item): day for user, item, day in window.met}
    events = list(zip(window.event_day, window.event_user, window.event_item, strict=True))
    assert len(cases) == sum(day >= cut for day in first.values()) > 20
    for row in range(len(cases)):
        user, item = int(cases.user[row]), int(cases.item[row])
        assert first[user, item] == cases.day[row] >= cut
        mine = [what for day, who, what in events if who == user and day >= cut]
        assert cases.recent[row].tolist() == mine[: mine.index(item)]


def test_what_was_met_because_it_was_recommended_is_no_case() -> None:
    assert len(cases_from(world(steered=True), DAYS - 2)) == 0


def test_until_a_day_nothing_of_later_days_is_left(window: Window) -> None:
    early = window.until(4)
    assert early.event_day.max() == 3 and len(early.event_item) == len(early.event_user)
    assert len(early.told) == len(early.items) == ITEMS - 1
    assert len(early.event_moment) == len(early.event_steered) == len(early.event_day)


def test_a_moment_is_a_block_of_hours_a_device_and_a_channel_and_unknown_ones_say_nothing() -> None:
    at = pd.to_datetime(["2026-09-01T00:10Z", "2026-09-01T23:59Z"])
    events = pd.DataFrame({"at": at, "device": ["mobile", "unknown"], "channel": ["home", "unknown"]})
    assert moments(events).tolist() == [[0, BLOCKS, BLOCKS + 4], [BLOCKS - 1, -1, -1]]


def test_a_window_of_the_lake_has_every_event_in_order_and_everything_told(
    featured_home: Settings, tiny_night: Night
) -> None:
    lake = Lake(featured_home.lake_dir)
    found = read_window(lake, tiny_night.train_start, tiny_night.train_end)
    events = lake.read("interactions", tiny_night.train_start, tiny_night.train_end)
    assert len(found.event_user) == events.num_rows and (np.diff(found.event_day) >= 0).all()
    assert len(found.told) == len(found.items) and len(found.who) == len(found.users)
    assert found.told["price"].notna().any()
