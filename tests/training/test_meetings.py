"""What every recommender family learns from: what counts as a meeting, and since when an item was on offer."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest

from nightshift.lake import Lake
from nightshift.settings import Settings
from training.meetings import Meetings, on_offer, positives, read_meetings
from training.recipe import Night


@pytest.fixture(scope="module")
def window(featured_home: Settings, tiny_night: Night) -> Meetings:
    return read_meetings(Lake(featured_home.lake_dir), tiny_night.train_start, tiny_night.train_end)


def test_one_positive_per_user_item_and_day_weighs_as_its_strongest_kind() -> None:
    rows = [
        (1, 1, "view", None), (1, 1, "purchase", 9.0), (1, 2, "view", None),
        (1, 3, "rating", 2.0), (1, 4, "rating", 2.0), (1, 4, "click", None), (1, 5, "rating", 3.0),
    ]  # fmt: skip
    events = pd.DataFrame(rows, columns=["user", "item", "kind", "value"]).assign(day_number=0)

    assert positives(events).set_index("item")["weight"].to_dict() == {1: 1.5, 2: 1.0, 4: 1.0, 5: 1.0}


def test_an_item_is_on_offer_from_its_listing_or_from_when_it_was_first_met() -> None:
    days = [date(2026, 9, n) for n in (1, 2, 3)]
    known = pd.DataFrame(
        {
            "item_id": ["late", "early", "met first"],
            "title": "t",
            "category": "c",
            "created_at": pd.to_datetime(["2026-09-03", "2026-08-01", "2026-09-03"], utc=True),
        }
    )
    events = pd.DataFrame({"item_id": ["met first", "unlisted"], "day": [days[1], days[0]]})

    items, offered = on_offer(known, events, days)

    assert items["item_id"].tolist() == ["early", "unlisted", "met first", "late"]
    assert offered.tolist() == [2, 3, 4]
    assert items.loc[1, "category"] == "unknown"


def test_what_was_met_before_the_learnt_days_is_known_and_not_learnt_from(
    featured_home: Settings, tiny_night: Night
) -> None:
    lake = Lake(featured_home.lake_dir)
    whole = read_meetings(lake, tiny_night.train_start, tiny_night.train_end)
    short = read_meetings(lake, whole.days[-2], tiny_night.train_end, tiny_night.train_start)
    assert short.days == whole.days[-2:] and short.users == whole.users
    assert {(u, i) for u, i, _ in short.met} == {(u, i) for u, i, _ in whole.met}
    assert set(short.day) == {0, 1} and short.met[:, 2].min() == -1
    assert len(short.user) == (whole.day >= len(whole.days) - 2).sum()
