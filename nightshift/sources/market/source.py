"""The market as a source: a day's tables by contract, simulated customers who choose, and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from zlib import crc32

import numpy as np
import pyarrow as pa

from nightshift.contracts import INTERACTIONS, ITEMS, USERS
from nightshift.contracts.interactions import CHANNELS, DEVICES, KINDS
from nightshift.contracts.table import TIMESTAMP
from nightshift.errors import SourceError
from nightshift.settings import Settings
from nightshift.sources import DayBatch
from nightshift.sources.market import words
from nightshift.sources.market.indicators import Indicators
from nightshift.sources.market.talk import Talk
from nightshift.sources.market.visits import Events, drawn, events_of
from nightshift.sources.market.world import CHOICE_STREAM, Items, World, prices

CLICK_ABOVE = 0.5  # logits above what the user usually meets: half of such items are clicked


class Market:
    """The simulated world. `read`, `truth` and `choose` are pure functions of the settings and arguments."""

    name = "market"

    def __init__(self, settings: Settings) -> None:
        self.world = World(settings)
        self.indicators = Indicators(settings)
        self.talk = Talk(settings)

    def first_day(self) -> date:
        return self.world.start

    def next_day(self, after: date) -> date:
        """The day after `after`: the market never closes."""
        return max(self.world.start, after + timedelta(days=1))

    def read(self, day: date) -> DayBatch:
        """What was done and said on the day; users and items that are new (all on the first); indicators told on it.

        Raises:
            SourceError: the day is before the market's start.
        """
        world = self.world
        world.day_number(day)
        events = events_of(world, day)
        tables = {
            "interactions": self._interactions(day, events),
            "users": self._users(day),
            "items": self._items(day),
            "indicators": self.indicators.told(day),
            "conversations": self.talk.told(day),
        }
        rows = len(events) + tables["indicators"].num_rows + tables["conversations"].num_rows
        return DayBatch(day=day, tables=tables, counts={"read": rows, "kept": rows})

    def truth(self, user_ids: Sequence[str], item_ids: Sequence[str], day: date) -> np.ndarray:
        """True affinity, float64 [len(user_ids), len(item_ids)], in logits; comparable within a row.

        Raises:
            SourceError: an id that is not in the market on `day`.
        """
        users = np.array([self._row("u", i, len(self.world.users(day)), day) for i in user_ids], dtype=int)
        items = np.array([self._row("i", i, len(self.world.items(day)), day) for i in item_ids], dtype=int)
        affinity: np.ndarray = self.world.user_vectors(users, day) @ self.world.item_vectors(day)[items].T
        return affinity

    def choose(self, user_id: str, shown_items: Sequence[str], day: date, k: int = 3) -> list[str]:
        """Which of `shown_items` this customer would click on `day`, best liked first, at most `k`.

        Liking is the true affinity above what this user usually meets, plus luck that depends on the user,
        the item and the day: a better list gets more clicks, and an item's luck does not depend on what is
        shown beside it. Items that the market does not have are never clicked.

        Raises:
            SourceError: the user is not in the market on `day`.
        """
        world = self.world
        user = np.array([self._row("u", user_id, len(world.users(day)), day)])
        vectors = world.item_vectors(day)
        tastes = world.user_vectors(user, day)
        _, usual = drawn(tastes, vectors, np.empty(0, dtype=int), np.empty(0))
        liked: dict[str, float] = {}
        for item_id in dict.fromkeys(shown_items):
            if (item := _number("i", item_id)) is None or item >= len(vectors):
                continue
            luck = world.random(CHOICE_STREAM, day.toordinal(), crc32(user_id.encode()), item).logistic()
            liking = float(tastes[0] @ vectors[item] - usual[0]) - CLICK_ABOVE + luck
            if liking > 0:
                liked[item_id] = liking
        return sorted(liked, key=lambda item_id: -liked[item_id])[:k]

    def _row(self, prefix: str, identifier: str, known: int, day: date) -> int:
        number = _number(prefix, identifier)
        if number is None or number >= known:
            kind = "user" if prefix == "u" else "item"
            raise SourceError(
                f"market: {kind} {identifier!r} is not in the market on {day}; "
                f"ids run from {_id(prefix, 0)} to {_id(prefix, known - 1)}"
            )
        return number

    def _interactions(self, day: date, events: Events) -> pa.Table:
        users, items = self.world.users(day), self.world.items(day)
        stars = np.where(events.kind == KINDS.index("purchase"), prices(items)[events.item], events.stars)
        columns = {
            "event_id": pa.array([f"m{day:%Y%m%d}-{n:06d}" for n in range(len(events))]),
            "user_id": pa.array(_ids("u", len(users))).take(pa.array(events.user)),
            "item_id": pa.array(_ids("i", len(items))).take(pa.array(events.item)),
            "kind": pa.array(KINDS).take(pa.array(events.kind)),
            "value": pa.array(stars, from_pandas=True),
            "at": pa.array(events.at).cast(TIMESTAMP),
            "session_id": pa.array([f"m{day:%Y%m%d}-s{n}" for n in range(events.visit.max() + 1)]).take(
                pa.array(events.visit)
            ),
            "device": pa.array(DEVICES).take(pa.array(events.device)),
            "channel": pa.array(CHANNELS).take(pa.array(events.channel)),
        }
        return INTERACTIONS.cast(pa.table(columns))

    def _users(self, day: date) -> pa.Table:
        users = self.world.users(day)
        new = self.world.new_rows(len(users), self.world.opening_users)
        columns = {
            "user_id": pa.array([_id("u", n) for n in range(new.start, new.stop)]),
            "registered_at": pa.array(users.registered[new] * 1_000_000).cast(TIMESTAMP),
            "country": pa.array(list(words.COUNTRIES)).take(pa.array(users.country[new])),
            "age_group": pa.array(list(words.AGE_GROUPS)).take(pa.array(users.age_group[new])),
            "tier": pa.array(words.TIERS).take(pa.array(users.tier[new])),
        }
        return USERS.cast(pa.table(columns))

    def _items(self, day: date) -> pa.Table:
        items = self.world.items(day)
        new = self.world.new_rows(len(items), self.world.opening_items)
        described = [_described(items, n) for n in range(new.start, new.stop)]
        columns = {name: pa.array([d[name] for d in described]) for name in described[0]}
        columns |= {
            "item_id": pa.array([_id("i", n) for n in range(new.start, new.stop)]),
            "price": pa.array(prices(items)[new]),
            "created_at": pa.array(items.created[new] * 1_000_000).cast(TIMESTAMP),
        }
        return ITEMS.cast(pa.table(columns))


def _described(items: Items, row: int) -> dict[str, str | list[str]]:
    """What people read about an item."""
    shelf = words.SHELVES[items.category[row]]
    direction = int(np.argmax(np.abs(items.style[row])))
    style = 2 * direction + int(items.style[row, direction] < 0)
    parts = (words.STYLES[style], shelf.materials[items.material[row]], shelf.nouns[items.noun[row]])
    korean, english = (" ".join(part[language] for part in parts) for language in (0, 1))
    brand, line = words.BRANDS[items.brand[row]], words.STYLE_LINES[style]
    return {
        "title": f"{korean} · {english}",
        "description": f"{brand[0]} {korean}. {line[0]}. / {english} by {brand[1]}. {line[1]}.",
        "category": shelf.category,
        "brand": brand[0],
        "tags": [shelf.korean, parts[0][0], parts[1][0]],
    }


def _id(prefix: str, number: int) -> str:
    return f"{prefix}{number:06d}"


def _ids(prefix: str, total: int) -> list[str]:
    return [_id(prefix, number) for number in range(total)]


def _number(prefix: str, identifier: str) -> int | None:
    """The row that an id names, or None if it is not one of ours."""
    digits = identifier.removeprefix(prefix)
    if not (identifier.startswith(prefix) and digits.isascii() and digits.isdigit()):
        return None
    return int(digits) if _id(prefix, int(digits)) == identifier else None
