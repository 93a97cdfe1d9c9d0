"""The peer: the same features by pandas, as a data scientist would write them in a notebook.

Columns that repeat (ids, kinds, categories) are read as categoricals, which is what makes pandas fit for this at all;
everything is one group-by each, none of it loops. Same columns as `nightshift.contracts.features`.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pyarrow.dataset as ds

from nightshift.contracts.features import ITEM_FEATURES, USER_FEATURES, WINDOW_DAYS
from nightshift.lake import Lake

IDS = ["user_id", "item_id", "session_id"]
READ = [*IDS, "kind", "value", "at", "device"]


def features(lake: Lake, day: date) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(users, items) at the end of `day`, indexed by id in order, with the contract's columns."""
    events = _read(lake, "interactions", READ, day)
    events = events[events["day"] > pd.Timestamp(day) - pd.Timedelta(days=WINDOW_DAYS)]
    items = _read(lake, "items", ["item_id", "category", "price", "created_at"], day)
    items = items.drop_duplicates("item_id", keep="last").set_index("item_id").sort_index()
    users = _read(lake, "users", ["user_id"], day)["user_id"].unique()
    events["category"] = events["item_id"].map(items["category"].astype(str)).astype("category")
    events["price"] = events["item_id"].astype(str).map(items["price"])
    return _users(events, users, day), _items(events, items, day)


def _read(lake: Lake, table: str, columns: list[str], day: date) -> pd.DataFrame:
    files = [str(path) for path in lake.paths(table, date.min, day)]
    found = ds.dataset(files, format="parquet", partitioning="hive").to_table([*columns, "day"])
    frame = found.to_pandas(strings_to_categorical=table == "interactions")
    return frame.assign(day=pd.to_datetime(frame["day"].astype(str)))


def _users(events: pd.DataFrame, known: np.ndarray, day: date) -> pd.DataFrame:
    last = pd.Timestamp(day)
    today = events[events["day"] == last]
    by, by_today = (frame.groupby("user_id", observed=True) for frame in (events, today))
    sessions = _sessions(events)
    minutes = sessions.groupby("user_id", observed=True)["minutes"]
    category, category_today = _categories(events), _categories(today)
    found = pd.DataFrame(index=pd.Index(sorted({*known, *events["user_id"].unique()}), name="user_id"))
    columns = {
        "interactions_28d": by.size(),
        "active_days_28d": by["day"].nunique(),
        "recency_days": (last - by["day"].max()).dt.days,
        "spend_28d": events[events["kind"] == "purchase"].groupby("user_id", observed=True)["value"].sum(),
        "purchase_share_28d": (events["kind"] == "purchase").groupby(events["user_id"], observed=True).mean(),
        "category_entropy_28d": _entropy(category),
        "session_minutes_mean_28d": minutes.mean(),
        "session_minutes_std_28d": minutes.std(ddof=0),
        "rating_mean_28d": events[events["kind"] == "rating"].groupby("user_id", observed=True)["value"].mean(),
        "favourite_category_28d": _favourite(category),
        "interactions_1d": by_today.size(),
        "category_entropy_1d": _entropy(category_today),
        "session_minutes_1d": sessions[sessions["day"] == last].groupby("user_id", observed=True)["minutes"].mean(),
        "mean_price_1d": by_today["price"].mean(),
        "mobile_share_1d": (today["device"] == "mobile").groupby(today["user_id"], observed=True).mean(),
        "purchase_share_1d": (today["kind"] == "purchase").groupby(today["user_id"], observed=True).mean(),
    }  # fmt: skip
    for name, values in columns.items():
        found[name] = values.set_axis(values.index.astype(str))
    away = ["interactions_28d", "active_days_28d", "spend_28d"]
    found[away] = found[away].fillna(0)
    return found[[feature.name for feature in USER_FEATURES]]


def _sessions(events: pd.DataFrame) -> pd.DataFrame:
    known = events[events["session_id"].notna()]
    at = known.groupby(["user_id", "day", "session_id"], observed=True)["at"]
    length = at.max() - at.min()
    return (length.dt.total_seconds() / 60).rename("minutes").reset_index()


def _categories(events: pd.DataFrame) -> pd.DataFrame:
    return events.groupby(["user_id", "category"], observed=True).size().rename("n").reset_index()


def _entropy(counts: pd.DataFrame) -> pd.Series:
    share = counts["n"] / counts.groupby("user_id", observed=True)["n"].transform("sum")
    return (-share * np.log(share)).groupby(counts["user_id"], observed=True).sum()


def _favourite(counts: pd.DataFrame) -> pd.Series:
    ordered = counts.assign(category=counts["category"].astype(str)).sort_values(
        ["n", "category"], ascending=[False, True]
    )
    return ordered.drop_duplicates("user_id").set_index("user_id")["category"]


def _items(events: pd.DataFrame, items: pd.DataFrame, day: date) -> pd.DataFrame:
    by = events.groupby("item_id", observed=True)
    rated = events[events["kind"] == "rating"].groupby("item_id", observed=True)["value"]
    columns = {
        "unique_users_28d": by["user_id"].nunique(),
        "interactions_28d": by.size(),
        "rating_mean_28d": rated.mean(),
        "recency_days": (pd.Timestamp(day) - by["day"].max()).dt.days,
    }
    found = items[["category", "price"]].copy()
    for name, values in columns.items():
        found[name] = values.set_axis(values.index.astype(str))
    met = ["unique_users_28d", "interactions_28d"]
    found[met] = found[met].fillna(0)
    found["popularity_28d"] = found["interactions_28d"] / max(1, len(events))
    mean = found.groupby("category")["interactions_28d"].transform("mean")
    found["popularity_in_category_28d"] = found["interactions_28d"] / mean.replace(0, np.nan)
    age = pd.Timestamp(day, tz="UTC") - items["created_at"].dt.normalize()
    found["age_days"] = age.dt.days.clip(lower=0)
    return found[[feature.name for feature in ITEM_FEATURES]]
