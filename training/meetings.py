"""What users met in a training window: read once from the lake, for every recommender family and for the baselines.

**Positives.** One per user, item and day. How much it counts depends on the strongest thing the user did
(`WEIGHT`): buying says more than looking. A rating of 1 or 2 stars alone is no positive; nor is it a special
negative, for one who rates has at least chosen.
No features are read here, but for the sample that the watch compares with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from nightshift import featurestore
from nightshift.contracts.features import USER_FEATURES, USER_VIEW, numeric
from nightshift.contracts.interactions import LOW_RATING
from nightshift.errors import LakeError
from nightshift.lake import Lake

if TYPE_CHECKING:
    from feast import FeatureStore

# By the strongest kind of the day. Mild, because the exam asks for any first meeting, not only for sales.
WEIGHT = {
    "view": 1.0, "click": 1.0, "rating": 1.0, "share": 1.25, "like": 1.25, "add_to_cart": 1.25, "purchase": 1.5,
}  # fmt: skip


@dataclass(frozen=True)
class Meetings:
    """One training window as arrays. Ids are 1-based: 0 is the unknown user or item.

    days: published days; `day` is an index into them.
    items: item_id, title, category, in the order in which they came on offer; `offered[day]` = how many had.
    user, item, day [p] int64 and weight [p] float32: the positives, in order of day.
    met: every (user, item, first day) met in the window or before it (day -1), positives or not: int64 [m, 3],
        sorted.
    """

    days: list[date]
    users: list[str]
    items: pd.DataFrame
    offered: np.ndarray
    user: np.ndarray
    item: np.ndarray
    day: np.ndarray
    weight: np.ndarray
    met: np.ndarray

    def until(self, cut: int) -> Self:
        """The first `cut` days alone, as if read on the morning after them. Ids keep their numbers."""
        positives, items = self.day < cut, int(self.offered[cut - 1])
        return replace(
            self,
            days=self.days[:cut],
            items=self.items.iloc[:items],
            offered=self.offered[:cut],
            user=self.user[positives],
            item=self.item[positives],
            day=self.day[positives],
            weight=self.weight[positives],
            met=self.met[self.met[:, 2] < cut],
        )

    def rows(self) -> pd.DataFrame:
        """The positives as people read them: user_id, item_id, day, weight."""
        return pd.DataFrame(
            {
                "user_id": np.array(self.users, dtype=object)[self.user - 1],
                "item_id": self.items["item_id"].to_numpy()[self.item - 1],
                "day": np.array([day.isoformat() for day in self.days], dtype=object)[self.day],
                "weight": self.weight,
            }
        )


def read_meetings(lake: Lake, start: date, end: date, met_from: date | None = None) -> Meetings:
    """The published days start..end; with `met_from`, users and what they met are known from that day on.

    Raises:
        LakeError: nobody did anything in the window.
    """
    columns = ["user_id", "item_id", "kind", "value", "day"]
    events = lake.read("interactions", met_from or start, end).select(columns).to_pandas()
    if events.empty:
        raise LakeError(f"training window {start}..{end}: no interactions; ingest more days first")
    days = [day for day in lake.days() if start <= day <= end]
    items, offered = on_offer(lake.latest("items", end).to_pandas(), events, days)
    users = sorted(events["user_id"].unique())
    events["user"] = pd.Index(users).get_indexer(events["user_id"]) + 1
    events["item"] = pd.Index(items["item_id"]).get_indexer(events["item_id"]) + 1
    events["day_number"] = pd.Index(days).get_indexer(events["day"])
    met = events.groupby(["user", "item"], sort=True)["day_number"].min().reset_index()
    kept = positives(events[events["day_number"] >= 0])
    return Meetings(
        days=days,
        users=users,
        items=items[["item_id", "title", "category"]],
        offered=offered,
        user=kept["user"].to_numpy(np.int64),
        item=kept["item"].to_numpy(np.int64),
        day=kept["day_number"].to_numpy(np.int64),
        weight=kept["weight"].to_numpy(np.float32),
        met=met.to_numpy(np.int64),
    )


def positives(events: pd.DataFrame) -> pd.DataFrame:
    """One row per day_number, user and item, in this order, with the weight of the strongest kind."""
    low = (events["kind"] == "rating") & (events["value"] <= LOW_RATING)
    kept = events[~low]
    kept = kept.assign(weight=kept["kind"].map(WEIGHT))
    return kept.groupby(["day_number", "user", "item"], sort=True)["weight"].max().reset_index()


def on_offer(known: pd.DataFrame, events: pd.DataFrame, days: list[date]) -> tuple[pd.DataFrame, np.ndarray]:
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


def midnight(day: date) -> pd.Timestamp:
    """00:00 UTC, when a day starts."""
    return pd.Timestamp(datetime.combine(day, time(), UTC))


def reference_rows(
    store: FeatureStore, window: Meetings, random: np.random.Generator, limit: int = 5_000
) -> pd.DataFrame:
    """A sample of active user-days with every numeric user feature, as published at the end of the day.

    The watch compares a new day with these: it too sees the users who came that day, at its end.
    """
    active = np.unique(np.stack([window.day, window.user], axis=1), axis=0)
    kept = active[np.sort(random.choice(len(active), size=min(limit, len(active)), replace=False))]
    users = [window.users[user - 1] for user in kept[:, 1]]
    return reference_of(store, users, [window.days[day] for day in kept[:, 0]])


def reference_of(store: FeatureStore, users: list[str], days: list[date]) -> pd.DataFrame:
    """Every numeric feature of users as published at the end of a day of each."""
    names = numeric(USER_FEATURES)
    ends = [midnight(day + timedelta(days=1)) for day in days]
    entities = pd.DataFrame({"user_id": users, "event_timestamp": ends})
    found = featurestore.historical(store, entities, [f"{USER_VIEW}:{name}" for name in names])
    return found[names].astype(np.float64).reset_index(drop=True)
