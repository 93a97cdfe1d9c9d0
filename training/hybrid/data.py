"""What the hybrid learns from beside the meetings: what items say of themselves, who users are, and each moment.

**Cases** are what the weights are learnt from: an item that a user met for the first time, with what had happened since
the components' last day and the moment. What somebody met because it was recommended is no case: the exam does not
count it either, for the champion chose it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Self

import numpy as np
import pandas as pd

from nightshift.contracts.interactions import CHANNELS, DEVICES
from nightshift.lake import Lake
from training.exams.recommender import STEERED
from training.hybrid.predictor import HOUR_BLOCK, MAX_RECENT
from training.meetings import Meetings, read_meetings

ATTRIBUTES = ("country", "age_group", "tier")
TOLD = ("description", "brand", "price", "tags")  # of an item, beside its title and category
BLOCKS = 24 // HOUR_BLOCK


@dataclass(frozen=True)
class Window(Meetings):
    """One training window with content, attributes and moments. Ids of users and items are 1-based, as in Meetings.

    told: TOLD of every item, None or NaN where it is not known. who: ATTRIBUTES of every user, as known at the end.
    event_user, event_item, event_day int64 [e]: every event of the window, in order of time; event_moment int64 [e, 3]:
    the rows of its hour block, device and channel among all moments (parts.MOMENTS), -1 = unknown; event_steered
    bool [e]: came by a recommendation.
    """

    told: pd.DataFrame
    who: pd.DataFrame
    event_user: np.ndarray
    event_item: np.ndarray
    event_day: np.ndarray
    event_moment: np.ndarray
    event_steered: np.ndarray

    def until(self, cut: int) -> Self:
        """The first `cut` days alone, as if read on the morning after them. Ids keep their numbers."""
        early = self.event_day < cut
        return replace(
            super().until(cut),
            told=self.told.iloc[: int(self.offered[cut - 1])],
            event_user=self.event_user[early],
            event_item=self.event_item[early],
            event_day=self.event_day[early],
            event_moment=self.event_moment[early],
            event_steered=self.event_steered[early],
        )


def read_window(lake: Lake, start: date, end: date, met_from: date | None = None) -> Window:
    """The published days start..end; `met_from` as for `read_meetings`.

    Raises:
        LakeError: nobody did anything in the window.
    """
    meetings = read_meetings(lake, start, end, met_from)
    columns = ["user_id", "item_id", "at", "day", "device", "channel"]
    events = lake.read("interactions", start, end).select(columns).to_pandas()
    events = events.sort_values(["day", "at", "user_id", "item_id"], ignore_index=True)
    items, users = lake.latest("items", end).to_pandas(), lake.latest("users", end).to_pandas()
    return Window(
        **vars(meetings),
        told=items.set_index("item_id")[list(TOLD)].reindex(meetings.items["item_id"]).reset_index(drop=True),
        who=users.set_index("user_id")[list(ATTRIBUTES)].reindex(meetings.users).reset_index(drop=True),
        event_user=pd.Index(meetings.users).get_indexer(events["user_id"]) + 1,
        event_item=pd.Index(meetings.items["item_id"]).get_indexer(events["item_id"]) + 1,
        event_day=pd.Index(meetings.days).get_indexer(events["day"]),
        event_moment=moments(events),
        event_steered=(events["channel"] == STEERED).to_numpy(),
    )


def moments(events: pd.DataFrame) -> np.ndarray:
    """int64 [e, 3]: which block of hours, device and channel each of the rows has among all moments; -1 = unknown."""
    known_devices, known_channels = named()
    device = pd.Index(known_devices).get_indexer(pd.Index(events["device"]))
    channel = pd.Index(known_channels).get_indexer(pd.Index(events["channel"]))
    return np.stack(
        [
            events["at"].dt.hour.to_numpy(np.int64) // HOUR_BLOCK,
            np.where(device >= 0, BLOCKS + device, -1),
            np.where(channel >= 0, BLOCKS + len(known_devices) + channel, -1),
        ],
        axis=1,
    ).astype(np.int64)


def named() -> tuple[list[str], list[str]]:
    """The devices and channels that say something, in the order of their moments."""
    return [d for d in DEVICES if d != "unknown"], [c for c in CHANNELS if c != "unknown"]


MOMENTS = BLOCKS + sum(len(names) for names in named())


@dataclass(frozen=True)
class Cases:
    """First meetings, in order of time.

    user, item, day int64 [n], ids 1-based. recent: per case the items (1-based) that its user met since the cut, oldest
    first, at most MAX_RECENT. moment: int64 [n, 3].
    """

    user: np.ndarray
    item: np.ndarray
    day: np.ndarray
    recent: list[np.ndarray]
    moment: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> Cases:
        recent = [self.recent[row] for row in rows]
        return Cases(self.user[rows], self.item[rows], self.day[rows], recent, self.moment[rows])


def cases_from(window: Window, cut: int) -> Cases:
    """The first meetings on the window's days from `cut` on."""
    late = np.flatnonzero(window.event_day >= cut)
    late = late[np.argsort(window.event_user[late], kind="stable")]  # by user, each in order of time
    user, item = window.event_user[late], window.event_item[late]
    size = len(window.items) + 1
    first_day = pd.Series(window.met[:, 2], index=window.met[:, 0] * size + window.met[:, 1])
    new = first_day.loc[user * size + item].to_numpy() >= cut
    again = pd.Series(user * size + item).duplicated().to_numpy()
    kept = np.flatnonzero(new & ~again & ~window.event_steered[late])
    begins = np.searchsorted(user, user[kept])
    recent = [item[max(begin, at - 4 * MAX_RECENT) : at] for begin, at in zip(begins, kept, strict=True)]
    found = Cases(
        user[kept], item[kept], window.event_day[late][kept], recent, window.event_moment[late][kept]
    )
    return found.take(np.argsort(late[kept], kind="stable"))
