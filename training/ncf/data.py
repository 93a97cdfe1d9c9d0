"""What NeuMF is trained on: positives with the features known at the start of their day, and negatives.

**Positives.** One per user, item and day. How much it counts depends on the strongest thing the user did
(`WEIGHT`): buying says more than looking. A rating of 1 or 2 stars alone is no positive; nor is it a special
negative, for one who rates has at least chosen.
**Features** are read by Feast's point-in-time join as of 00:00 UTC of the day, so they know what was
published through the day before and nothing of the day itself.
**Negatives** are drawn evenly from what was on offer that day, not from what came later, and never from the
user's own positives; a whole epoch at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nightshift import featurestore
from nightshift.contracts.features import ITEM_FEATURES, ITEM_VIEW, USER_FEATURES, USER_VIEW, numeric
from nightshift.errors import LakeError
from nightshift.lake import Lake

if TYPE_CHECKING:
    from feast import FeatureStore

# By the strongest kind of the day. Mild, because the exam asks for any first meeting, not only for sales.
WEIGHT = {
    "view": 1.0, "click": 1.0, "rating": 1.0, "share": 1.25, "like": 1.25, "add_to_cart": 1.25, "purchase": 1.5,
}  # fmt: skip
LOW_RATING = 2.0  # of 5 stars: this and less is no recommendation
USER_COLUMNS, ITEM_COLUMNS = numeric(USER_FEATURES), numeric(ITEM_FEATURES)


@dataclass(frozen=True)
class Window:
    """One training window as arrays. Ids are 1-based: 0 is the unknown user, item or category.

    days: published days; `day` is an index into them.
    items: item_id, title, category, in the order in which they came on offer; `offered[day]` = how many had.
    user, item, day [p] int64 and weight [p] float32: the positives, in order of day.
    user_raw [r, fu] float64 with user_row [p] → its row; item_raw [days + 1, items, fi]: NaN = missing, the
    last day being the morning after the window, which the packaged model serves with.
    met: every (user, item, first day) met in the window, positives or not: int64 [m, 3], sorted.
    """

    days: list[date]
    users: list[str]
    items: pd.DataFrame
    category: np.ndarray
    offered: np.ndarray
    user: np.ndarray
    item: np.ndarray
    day: np.ndarray
    weight: np.ndarray
    user_raw: np.ndarray
    user_row: np.ndarray
    item_raw: np.ndarray
    met: np.ndarray

    def until(self, cut: int) -> Window:
        """The first `cut` days alone, as if read on the morning after them. Ids keep their numbers."""
        positives, items = self.day < cut, int(self.offered[cut - 1])
        return replace(
            self,
            days=self.days[:cut],
            items=self.items.iloc[:items],
            category=self.category[:items],
            offered=self.offered[:cut],
            user=self.user[positives],
            item=self.item[positives],
            day=self.day[positives],
            weight=self.weight[positives],
            user_row=self.user_row[positives],
            item_raw=self.item_raw[: cut + 1, :items],
            met=self.met[self.met[:, 2] < cut],
        )


def read_window(lake: Lake, store: FeatureStore, start: date, end: date) -> Window:
    """The published days start..end.

    Raises:
        LakeError: nobody did anything in the window.
        FeatureError: features are not built for these days.
    """
    columns = ["user_id", "item_id", "kind", "value", "day"]
    events = lake.read("interactions", start, end).select(columns).to_pandas()
    if events.empty:
        raise LakeError(f"training window {start}..{end}: no interactions; ingest more days first")
    days = [day for day in lake.days() if start <= day <= end]
    items, offered = _on_offer(lake.latest("items", end).to_pandas(), events, days)
    users = sorted(events["user_id"].unique())
    events["user"] = pd.Index(users).get_indexer(events["user_id"]) + 1
    events["item"] = pd.Index(items["item_id"]).get_indexer(events["item_id"]) + 1
    events["day_number"] = pd.Index(days).get_indexer(events["day"])
    met = events.groupby(["user", "item"], sort=True)["day_number"].min().reset_index()
    positives = _positives(events)
    user_raw, user_row = _user_features(store, positives["user_id"], positives["day"])
    return Window(
        days=days,
        users=users,
        items=items[["item_id", "title", "category"]],
        category=pd.factorize(items["category"], sort=True)[0].astype(np.int64) + 1,
        offered=offered,
        user=positives["user"].to_numpy(np.int64),
        item=positives["item"].to_numpy(np.int64),
        day=positives["day_number"].to_numpy(np.int64),
        weight=positives["weight"].to_numpy(np.float32),
        user_raw=user_raw,
        user_row=user_row,
        item_raw=_item_features(store, items["item_id"].tolist(), [*days, end + timedelta(days=1)]),
        met=met.to_numpy(np.int64),
    )


def _positives(events: pd.DataFrame) -> pd.DataFrame:
    """One row per user, item and day, in order of day, with the weight of the strongest kind."""
    low = (events["kind"] == "rating") & (events["value"] <= LOW_RATING)
    kept = events[~low]
    kept = kept.assign(weight=kept["kind"].map(WEIGHT))
    keys = ["day_number", "user", "item", "day", "user_id", "item_id"]
    return kept.groupby(keys, sort=True)["weight"].max().reset_index()


def _on_offer(known: pd.DataFrame, events: pd.DataFrame, days: list[date]) -> tuple[pd.DataFrame, np.ndarray]:
    """Items in the order in which they came on offer, and how many were on offer on each day.

    An item that was met before it was listed, or never listed, is on offer from when it was met.
    """
    met = events.groupby("item_id")["day"].min()
    known = known.assign(since=known["created_at"].dt.date)
    strange = sorted(set(met.index) - set(known["item_id"]))
    unlisted = pd.DataFrame({"item_id": strange, "title": strange, "category": "unknown"})
    unlisted["since"] = [met[item] for item in strange]
    columns = ["item_id", "title", "category", "since"]
    items = pd.concat([frame[columns] for frame in (known, unlisted) if len(frame)], ignore_index=True)
    first = items["item_id"].map(met)
    items["since"] = items["since"].where(first.isna() | (items["since"] <= first.fillna(date.max)), first)
    items = items.sort_values(["since", "item_id"], ignore_index=True)
    return items, np.searchsorted(items["since"].to_numpy(), np.array(days), side="right")


def _midnight(day: date) -> pd.Timestamp:
    return pd.Timestamp(datetime.combine(day, time(), UTC))


def _user_features(store: FeatureStore, users: pd.Series, days: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Features [r, f] of the distinct (user, day) pairs, and each row's place among them."""
    pairs = pd.DataFrame({"user_id": users.to_numpy(), "day": days.to_numpy()})
    distinct = pairs.drop_duplicates(ignore_index=True)
    place = distinct.reset_index().rename(columns={"index": "place"})
    row = pairs.merge(place, on=["user_id", "day"], how="left")["place"].to_numpy(np.int64)
    entities = distinct.assign(event_timestamp=distinct["day"].map(_midnight)).drop(columns="day")
    found = featurestore.historical(store, entities, [f"{USER_VIEW}:{name}" for name in USER_COLUMNS])
    return found[USER_COLUMNS].to_numpy(np.float64), row


def _item_features(store: FeatureStore, items: list[str], days: list[date]) -> np.ndarray:
    """Features [days, items, f] of every item on the morning of every day."""
    entities = pd.DataFrame(
        {
            "item_id": items * len(days),
            "event_timestamp": np.repeat(np.array([_midnight(day) for day in days]), len(items)),
        }
    )
    found = featurestore.historical(store, entities, [f"{ITEM_VIEW}:{name}" for name in ITEM_COLUMNS])
    return found[ITEM_COLUMNS].to_numpy(np.float64).reshape(len(days), len(items), len(ITEM_COLUMNS))


def reference_rows(
    store: FeatureStore, window: Window, random: np.random.Generator, limit: int = 5_000
) -> pd.DataFrame:
    """A sample of active user-days with every numeric user feature, as published at the end of the day.

    The watch compares a new day with these: it too sees the users who came that day, at its end.
    """
    active = np.unique(np.stack([window.day, window.user], axis=1), axis=0)
    kept = active[np.sort(random.choice(len(active), size=min(limit, len(active)), replace=False))]
    entities = pd.DataFrame(
        {
            "user_id": [window.users[user - 1] for user in kept[:, 1]],
            "event_timestamp": [_midnight(window.days[day] + timedelta(days=1)) for day in kept[:, 0]],
        }
    )
    found = featurestore.historical(store, entities, [f"{USER_VIEW}:{name}" for name in USER_COLUMNS])
    return found[USER_COLUMNS].astype(np.float64).reset_index(drop=True)


def draw_negatives(
    user: np.ndarray,
    offered: np.ndarray,
    taken: np.ndarray,
    items: int,
    count: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Negatives [p, count] int64 (1-based) for the positives' `user` [p], from items 1..offered[p].

    taken: sorted codes user · (items + 1) + item of what must not be drawn. What still collides after three
    draws (a user who met nearly everything) is left as it is.
    """
    drawn = (random.random((len(user), count)) * offered[:, None]).astype(np.int64) + 1
    base = user[:, None] * (items + 1)
    for _ in range(3):
        codes = (base + drawn).ravel()
        at = np.minimum(np.searchsorted(taken, codes), len(taken) - 1)
        wrong = np.flatnonzero(taken[at] == codes)
        if not len(wrong):
            break
        limit = offered[wrong // count]
        drawn.ravel()[wrong] = (random.random(len(wrong)) * limit).astype(np.int64) + 1
    return drawn
