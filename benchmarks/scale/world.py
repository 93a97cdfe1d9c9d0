"""A lake of any size with tastes in it: users like the items of their own cluster, and some items far more than others.

    python -m benchmarks.scale.world --home DIR [--users 50000 --items 100000 --per-day 150000 --days 6]

It is there for what training takes, not for how well anything ranks.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.commands import run_command
from nightshift.contracts import INTERACTIONS, ITEMS, USERS
from nightshift.lake import Lake
from nightshift.sources import DayBatch
from training.card import positive
from training.ncf.shards import ROW

START = date(2026, 9, 1)
CLUSTERS = 50
OWN = 0.8  # share of what users meet that is of their cluster


def pairs(users: int, items: int, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(user, item) int64 [count], from 0: a cluster is the number mod CLUSTERS; low numbers are the popular ones."""
    user = random.integers(users, size=count)
    item = (items * random.random(count) ** 3).astype(np.int64)
    own = item - item % CLUSTERS + user % CLUSTERS
    return user, np.where((random.random(count) < OWN) & (own < items), own, item)


def rows(users: int, items: int, count: int, seed: int, batch: int = 1 << 20) -> Iterator[np.ndarray]:
    """The same as rows of shards, never whole in memory."""
    random = np.random.default_rng(seed)
    for start in range(0, count, batch):
        found = np.empty(min(batch, count - start), ROW)
        user, item = pairs(users, items, len(found), random)
        found["user"], found["item"], found["weight"] = user + 1, item, 1.0
        yield found


def write_lake(root: Path, users: int, items: int, per_day: int, days: int, seed: int = 0) -> Lake:
    """A published lake of `days` days; all users and items are told on the first."""
    lake, random = Lake(root), np.random.default_rng(seed)
    for number in range(days):
        day = START + timedelta(days=number)
        batch = _day(day, users, items, per_day, random, first=number == 0)
        lake.stage(batch)
        lake.record_audit(day, {"passed": True})
        lake.publish(day)
    return lake


def _day(
    day: date, users: int, items: int, count: int, random: np.random.Generator, *, first: bool
) -> DayBatch:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    user, item = pairs(users, items, count, random)
    second = np.sort(random.integers(86_400, size=count))
    at = np.datetime64(midnight.replace(tzinfo=None), "us") + second.astype("timedelta64[s]")
    interactions = pa.table(
        {
            "event_id": pc.binary_join_element_wise(f"{day}", _text(np.arange(count)), "-"),
            "user_id": _names("u", user),
            "item_id": _names("i", item),
            "kind": np.full(count, "click"),
            "value": pa.nulls(count, pa.float64()),
            "at": pa.array(at, pa.timestamp("us")).cast(INTERACTIONS.schema.field("at").type),
            "session_id": pa.nulls(count, pa.string()),
            "device": np.full(count, "mobile"),
            "channel": np.full(count, "home"),
        }
    ).cast(INTERACTIONS.schema)
    tables = {"interactions": interactions, "users": USERS.table([]), "items": ITEMS.table([])}
    if first:
        people = [{"user_id": f"u{n:08d}", "registered_at": midnight} for n in range(users)]
        things = [
            {
                "item_id": f"i{n:08d}",
                "title": f"item {n}",
                "category": f"cluster {n % CLUSTERS}",
                "price": 10.0,
                "created_at": midnight,
            }
            for n in range(items)
        ]
        tables |= {"users": USERS.table(people), "items": ITEMS.table(things)}
    return DayBatch(day=day, tables=tables, counts={"read": count, "kept": count})


def _names(letter: str, numbers: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(letter, pc.utf8_lpad(_text(numbers), 8, "0"), "")


def _text(numbers: np.ndarray) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale.world", description="Write a lake of many users and items."
    )
    parser.add_argument("--home", type=Path, required=True, help="as NIGHTSHIFT_HOME; the lake goes under it")
    parser.add_argument("--users", type=positive, default=50_000)
    parser.add_argument("--items", type=positive, default=100_000)
    parser.add_argument("--per-day", type=positive, default=150_000, help="interactions")
    parser.add_argument("--days", type=positive, default=6)
    options = parser.parse_args()
    lake = write_lake(options.home / "lake", options.users, options.items, options.per_day, options.days)
    print(lake.last_day())


if __name__ == "__main__":
    run_command(main)
