"""What NeuMF is trained on: positives with the features known at the start of their day, and negatives.

**Positives** are those of every recommender family (`training.meetings`).
**Features** are read by a point-in-time join as of 00:00 UTC of the day, so they know what was
published through the day before and nothing of the day itself.
**Negatives** are drawn evenly from what was on offer that day, not from what came later, and never from the
user's own positives; a whole epoch at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from nightshift import featurestore
from nightshift.contracts.features import ITEM_FEATURES, ITEM_VIEW, USER_FEATURES, USER_VIEW, numeric
from nightshift.lake import Lake
from training.meetings import Meetings, midnight, read_meetings

if TYPE_CHECKING:
    from feast import FeatureStore

MOST_CELLS = 2**26  # users × items that are kept as a table of what is taken: 64 MB while an epoch is drawn
USER_COLUMNS, ITEM_COLUMNS = numeric(USER_FEATURES), numeric(ITEM_FEATURES)


@dataclass(frozen=True)
class Window(Meetings):
    """One training window with its features. Categories are 1-based too: 0 is the unknown one.

    user_raw [r, fu] float64 with user_row [p] → its row; item_raw [days + 1, items, fi]: NaN = missing, the
    last day being the morning after the window, which the packaged model serves with.
    """

    category: np.ndarray
    user_raw: np.ndarray
    user_row: np.ndarray
    item_raw: np.ndarray

    def until(self, cut: int) -> Self:
        """The first `cut` days alone, as if read on the morning after them. Ids keep their numbers."""
        positives, items = self.day < cut, int(self.offered[cut - 1])
        return replace(
            super().until(cut),
            category=self.category[:items],
            user_row=self.user_row[positives],
            item_raw=self.item_raw[: cut + 1, :items],
        )


def read_window(
    lake: Lake, store: FeatureStore, start: date, end: date, met_from: date | None = None
) -> Window:
    """The published days start..end; `met_from` as for `read_meetings`.

    Raises:
        LakeError: nobody did anything in the window.
        FeatureError: features are not built for these days.
    """
    meetings = read_meetings(lake, start, end, met_from)
    users = pd.Series(np.array(meetings.users, dtype=object)[meetings.user - 1])
    days = pd.Series(np.array(meetings.days, dtype=object)[meetings.day])
    user_raw, user_row = _user_features(store, users, days)
    mornings = [*meetings.days, end + timedelta(days=1)]
    return Window(
        **vars(meetings),
        category=pd.factorize(meetings.items["category"], sort=True)[0].astype(np.int64) + 1,
        user_raw=user_raw,
        user_row=user_row,
        item_raw=_item_features(store, meetings.items["item_id"].tolist(), mornings),
    )


def _user_features(store: FeatureStore, users: pd.Series, days: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Features [r, f] of the distinct (user, day) pairs, and each row's place among them."""
    pairs = pd.DataFrame({"user_id": users.to_numpy(), "day": days.to_numpy()})
    distinct = pairs.drop_duplicates(ignore_index=True)
    place = distinct.reset_index().rename(columns={"index": "place"})
    row = pairs.merge(place, on=["user_id", "day"], how="left")["place"].to_numpy(np.int64)
    entities = distinct.assign(event_timestamp=distinct["day"].map(midnight)).drop(columns="day")
    found = featurestore.historical(store, entities, [f"{USER_VIEW}:{name}" for name in USER_COLUMNS])
    return found[USER_COLUMNS].to_numpy(np.float64), row


def _item_features(store: FeatureStore, items: list[str], days: list[date]) -> np.ndarray:
    """Features [days, items, f] of every item on the morning of every day."""
    entities = pd.DataFrame(
        {
            "item_id": items * len(days),
            "event_timestamp": np.repeat(np.array([midnight(day) for day in days]), len(items)),
        }
    )
    found = featurestore.historical(store, entities, [f"{ITEM_VIEW}:{name}" for name in ITEM_COLUMNS])
    return found[ITEM_COLUMNS].to_numpy(np.float64).reshape(len(days), len(items), len(ITEM_COLUMNS))


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
    among = _lookup(taken, int(user.max() * (items + 1) + offered.max()) + 1)
    wrong = np.flatnonzero(among((base + drawn).ravel()))
    for _ in range(3):
        if not len(wrong):
            break
        limit = offered[wrong // count]
        drawn.ravel()[wrong] = (random.random(len(wrong)) * limit).astype(np.int64) + 1
        # Only what was drawn anew can be wrong now.
        wrong = wrong[among(base[wrong // count, 0] + drawn.ravel()[wrong])]
    return drawn


def _lookup(taken: np.ndarray, cells: int) -> Callable[[np.ndarray], np.ndarray]:
    """codes [n], all below `cells` → whether each is in `taken`, sorted. A small table is ten times as fast."""
    if cells <= MOST_CELLS:
        table = np.zeros(cells, dtype=bool)
        table[taken[taken < cells]] = True
        return lambda codes: np.asarray(table[codes])

    def search(codes: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(taken, codes), len(taken) - 1)
        return np.asarray(taken[at] == codes)

    return search
