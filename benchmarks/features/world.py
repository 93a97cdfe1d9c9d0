"""A lake of any number of interactions, for what the feature pipelines take: one day at a time is in memory.

Items are met by Zipf's law (exponent ZIPF), mostly those of a user's own categories; users are active by a gentler law
(a user of rank k as k ** -0.5), one day a week and in few visits. One event of ten has no session, times have
microseconds, prices cents: what the pipelines have to tell apart and to add up is there.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.contracts import INTERACTIONS, ITEMS, USERS
from nightshift.contracts.features import WINDOW_DAYS
from nightshift.contracts.interactions import CHANNELS, DEVICES
from nightshift.lake import Lake
from nightshift.sources import DayBatch

START = date(2026, 9, 1)
LAST = START + timedelta(days=WINDOW_DAYS - 1)
PER_USER, PER_ITEM = 25, 100  # interactions to one of either: both grow with the interactions
CATEGORIES = 200
ZIPF, OWN = 0.8, 0.7  # OWN: share of what users meet that is of their own three categories
KINDS = {"view": 0.5, "click": 0.3, "add_to_cart": 0.08, "purchase": 0.06, "rating": 0.06}
SESSION_SECONDS = 1_800


def write_lake(root: Path, interactions: int, seed: int = 0) -> Lake:
    """A published lake of WINDOW_DAYS days; all users and items are told on the first, some items anew each day."""
    users, items = max(20, interactions // PER_USER), max(20, interactions // PER_ITEM)
    names = _names("u", users), _names("i", items)
    lake, random = Lake(root), np.random.default_rng(seed)
    for number, count in enumerate(_shares(interactions, WINDOW_DAYS)):
        day = START + timedelta(days=number)
        told = (
            np.arange(items) if number == 0 else np.unique(random.integers(items, size=max(10, items // 100)))
        )
        tables = {
            "interactions": _interactions(day, number, count, names, random),
            "users": _users(names[0]) if number == 0 else USERS.table([]),
            "items": _items(names[1], told, random),
        }
        lake.stage(DayBatch(day=day, tables=tables, counts={"read": count, "kept": count}))
        lake.record_audit(day, {"passed": True})
        lake.publish(day)
    return lake


def _shares(total: int, parts: int) -> list[int]:
    return [total // parts + (n < total % parts) for n in range(parts)]


def _interactions(
    day: date, number: int, count: int, names: tuple[pa.Array, pa.Array], random: np.random.Generator
) -> pa.Table:
    user = _on(number, (len(names[0]) * random.random(count) ** 2).astype(np.int64), len(names[0]))
    item = _own(user, _zipf(len(names[1]), count, random), len(names[1]), random)
    kind = random.choice(len(KINDS), count, p=list(KINDS.values()))
    value = np.full(count, np.nan)
    value[kind == 3] = np.round(random.lognormal(3, 1, int((kind == 3).sum())), 2)
    value[kind == 4] = random.integers(1, 6, int((kind == 4).sum()))
    visit = random.integers(0, 2, count)  # a user's morning and evening
    second = (user * 61 + visit * 40_000) % 80_000 + random.random(count) * SESSION_SECONDS
    at = np.datetime64(day, "us") + (second * 1e6).astype("timedelta64[us]")
    session = pc.binary_join_element_wise(_text(user), f"{number}", _text(visit), "-")
    unknown = pa.array(random.random(count) < 0.1)
    columns = {
        "event_id": pc.binary_join_element_wise(f"{number}", _text(np.arange(count)), "-"),
        "user_id": names[0].take(pa.array(user)),
        "item_id": names[1].take(pa.array(item)),
        "kind": _one_of(tuple(KINDS), kind),
        "value": pa.array(value, from_pandas=True),
        "at": pa.array(at).cast(INTERACTIONS.schema.field("at").type),
        "session_id": pc.if_else(unknown, None, session),
        "device": _one_of(DEVICES, random.integers(len(DEVICES), size=count)),
        "channel": _one_of(CHANNELS, random.integers(len(CHANNELS), size=count)),
    }
    return pa.table(columns).cast(INTERACTIONS.schema)


def _on(number: int, user: np.ndarray, users: int) -> np.ndarray:
    """The user next to each who comes on this day of the week."""
    return np.minimum(user - user % 7 + number % 7, users - 1)


def _own(user: np.ndarray, item: np.ndarray, items: int, random: np.random.Generator) -> np.ndarray:
    """`item`, or with the chance OWN the one of about its rank that is of one of its user's categories."""
    category = (user * 17 + random.integers(3, size=len(user))) % CATEGORIES
    own = item - item % CATEGORIES + category
    return np.where((random.random(len(user)) < OWN) & (own < items), own, item)


def _zipf(items: int, count: int, random: np.random.Generator) -> np.ndarray:
    """Ranks from 0, drawn as rank ** -ZIPF (the continuous law's inverse, cut to whole numbers)."""
    power = 1 - ZIPF
    rank = (1 + random.random(count) * ((items + 1) ** power - 1)) ** (1 / power)
    return np.minimum(rank.astype(np.int64) - 1, items - 1)


def _users(names: pa.Array) -> pa.Table:
    moment = datetime(START.year, START.month, START.day, tzinfo=UTC)
    told = {"user_id": names, "registered_at": pa.array([moment]).take(pa.array(np.zeros(len(names), int)))}
    return USERS.cast(pa.table(told))


def _items(names: pa.Array, told: np.ndarray, random: np.random.Generator) -> pa.Table:
    price = np.round(random.lognormal(3, 1, len(told)), 2)
    born = np.datetime64(START, "us") - (told % 400).astype("timedelta64[D]")
    table = {
        "item_id": names.take(pa.array(told)),
        "title": names.take(pa.array(told)),
        "category": pc.binary_join_element_wise("category", _text(told % CATEGORIES), " "),
        "price": pa.array(price),
        "created_at": pa.array(born).cast(ITEMS.schema.field("created_at").type),
    }
    return ITEMS.cast(pa.table(table))


def _names(letter: str, count: int) -> pa.Array:
    return pc.binary_join_element_wise(letter, pc.utf8_lpad(_text(np.arange(count)), 9, "0"), "")


def _text(numbers: np.ndarray) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def _one_of(names: tuple[str, ...], numbers: np.ndarray) -> pa.Array:
    return pa.array(names).take(pa.array(numbers))
