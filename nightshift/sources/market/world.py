"""Who lives in the market and what is for sale: latent tastes, and the true affinity between them.

The affinity of a user and an item is a dot product of two vectors of DIMENSIONS numbers (a logit: a user meets
items in proportion to its exponential):

    taste for the category + style · style + budget fit + quality + season of the category

Users and items come in blocks, the opening one and one a day; a block depends on the seed and its number alone,
so any day can be computed on its own, in any order, in any process.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TypeVar

import numpy as np

from nightshift.errors import SourceError
from nightshift.settings import Settings
from nightshift.sources.market.words import AGE_GROUPS, BRANDS, COUNTRIES, SHELVES, TIERS

# What a random stream is for; part of its seed, so that streams never meet.
ITEM_STREAM, USER_STREAM, VISIT_STREAM, CHOICE_STREAM = 1, 2, 3, 4

STYLE_DIMENSIONS = 4  # two style words each
DIMENSIONS = len(SHELVES) + STYLE_DIMENSIONS + 2  # categories, styles, price, constant

DAILY_GROWTH = 0.002  # new users and items a day, as a share of the opening day's
TASTE_CONCENTRATION = 0.4  # Dirichlet over categories: most people care for two to four of twelve
STYLE_WEIGHT = 0.55
PRICE_WEIGHT = 0.6
QUALITY_SCALE = 0.55  # exp of an exponential variable: popularity falls off like rank^-0.55 (Zipf-like)
SEASON_AMPLITUDE = 0.15  # logits; mild, so that mean prices do not move with the calendar
WANDER_DAYS = 720  # styles turn round once in two years: yesterday's model is good, last season's is not
PRICE_SPREAD = 0.5  # standard deviation of log price within a category

# The planted drift
MOVED_SHARE = 0.7  # of users, whose category tastes move
MOVED_BY = 5  # categories along the shelf
BUDGET_FALL = 1.6  # standard deviations of log price


@dataclass(frozen=True)
class Items:
    """Parallel arrays, one row per item. `category`, `material`, `noun`, `brand` index the word lists."""

    created: np.ndarray  # int64, seconds since the epoch
    category: np.ndarray  # int64
    style: np.ndarray  # float32 [n, STYLE_DIMENSIONS], standard normal
    level: np.ndarray  # float32, log price in standard deviations from its category's median
    quality: np.ndarray  # float32, logits
    material: np.ndarray
    noun: np.ndarray
    brand: np.ndarray

    def __len__(self) -> int:
        return len(self.category)


@dataclass(frozen=True)
class Users:
    """Parallel arrays, one row per user. How often, how long and on what device a user comes is independent
    of taste and of the calendar, so that a day's user-level means stand still until the planted drift."""

    registered: np.ndarray  # int64, seconds since the epoch
    taste: np.ndarray  # float32 [n, categories], logits
    style: np.ndarray  # float32 [n, 2, STYLE_DIMENSIONS]: now, and a quarter of WANDER_DAYS later
    budget: np.ndarray  # float32, wanted price level
    activity: np.ndarray  # float32, chance to come on an average day
    weekender: np.ndarray  # bool
    mobile: np.ndarray  # float32, chance that a visit is on mobile
    appetite: np.ndarray  # float32, scales how many items a visit has
    moved: np.ndarray  # bool: tastes move on the drift day
    offset: np.ndarray  # int64, with `stride`: which items this user came upon early (see visits.staples)
    stride: np.ndarray
    country: np.ndarray
    age_group: np.ndarray
    tier: np.ndarray

    def __len__(self) -> int:
        return len(self.budget)


class World:
    """The market's people and things on any day from its start."""

    def __init__(self, settings: Settings) -> None:
        self.seed = settings.market_seed % 2**32
        self.start = settings.market_start
        self.drift_day = settings.market_drift_day
        self.opening_users, self.opening_items = settings.market_users, settings.market_items
        # Bound per instance; holds what is a pure function of the settings and the day.
        self.users = lru_cache(maxsize=2)(self._users)
        self.items = lru_cache(maxsize=2)(self._items)
        self._user_block = lru_cache(maxsize=None)(self._make_users)
        self._item_block = lru_cache(maxsize=None)(self._make_items)

    def random(self, stream: int, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, *key])

    def day_number(self, day: date) -> int:
        """0 on the first day. Raises SourceError before it."""
        if day < self.start:
            raise SourceError(
                f"market: there is no {day}; the simulated world starts on {self.start} "
                "(setting NIGHTSHIFT_MARKET_START)"
            )
        return (day - self.start).days

    def drifted(self, day: date) -> bool:
        return day >= self.drift_day

    def new_rows(self, total: int, opening: int) -> slice:
        """Rows that a day of `total` rows has newly: all on the first day."""
        return slice(0 if total == opening else total - self.daily(opening), total)

    @staticmethod
    def daily(opening: int) -> int:
        return max(1, round(DAILY_GROWTH * opening))

    def _users(self, day: date) -> Users:
        return _joined([self._user_block(number) for number in range(self.day_number(day) + 1)])

    def _items(self, day: date) -> Items:
        return _joined([self._item_block(number) for number in range(self.day_number(day) + 1)])

    def _made(self, number: int, opening: int, days_before: int, random: np.random.Generator) -> np.ndarray:
        """When the rows of a block came to be: over the time before the start, or at the day's midnight."""
        midnight = seconds(self.start + timedelta(days=number))
        if number:
            return np.full(self.daily(opening), midnight)
        return np.sort(midnight - random.integers(1, days_before * 86_400, opening))

    def _make_items(self, number: int) -> Items:
        random = self.random(ITEM_STREAM, number)
        created = self._made(number, self.opening_items, 400, random)
        n = len(created)
        return Items(
            created=created,
            category=random.integers(0, len(SHELVES), n),
            style=random.standard_normal((n, STYLE_DIMENSIONS), dtype=np.float32),
            level=random.standard_normal(n, dtype=np.float32).clip(-2.5, 2.5),
            quality=QUALITY_SCALE * random.standard_exponential(n, dtype=np.float32).clip(0, 6),
            material=random.integers(0, len(SHELVES[0].materials), n),
            noun=random.integers(0, len(SHELVES[0].nouns), n),
            brand=random.integers(0, len(BRANDS), n),
        )

    def _make_users(self, number: int) -> Users:
        random = self.random(USER_STREAM, number)
        registered = self._made(number, self.opening_users, 700, random)
        n = len(registered)
        shares = random.standard_gamma(TASTE_CONCENTRATION, (n, len(SHELVES))) + 1e-9
        budget = random.standard_normal(n, dtype=np.float32)
        wealth = budget + 0.7 * random.standard_normal(n, dtype=np.float32)
        return Users(
            registered=registered,
            taste=np.log(shares / shares.sum(axis=1, keepdims=True) + 0.01).astype(np.float32),
            style=random.standard_normal((n, 2, STYLE_DIMENSIONS), dtype=np.float32),
            budget=budget,
            activity=random.beta(5, 9, n).astype(np.float32),
            weekender=random.random(n) < 0.35,
            mobile=random.beta(2.2, 1.8, n).astype(np.float32),
            appetite=random.lognormal(-0.03, 0.25, n).astype(np.float32),
            moved=random.random(n) < MOVED_SHARE,
            offset=random.integers(0, self.opening_items, n),
            stride=random.integers(1, self.opening_items, n),
            country=random.choice(len(COUNTRIES), n, p=list(COUNTRIES.values())),
            age_group=random.choice(len(AGE_GROUPS), n, p=list(AGE_GROUPS.values())),
            tier=np.searchsorted([0.2, 1.2, 2.2], wealth).clip(0, len(TIERS) - 1),
        )

    def user_vectors(self, rows: np.ndarray, day: date) -> np.ndarray:
        """float64 [len(rows), DIMENSIONS] of the users in `rows` on `day`.

        Not float32: matrix products round differently by shape and by machine, and at that precision about
        one draw in 100,000 would fall on another item.
        """
        users = self.users(day)
        taste, budget = users.taste[rows], users.budget[rows]
        if self.drifted(day):
            taste = np.where(users.moved[rows, None], np.roll(taste, MOVED_BY, axis=1), taste)
            budget = budget - BUDGET_FALL
        angle = 2 * np.pi * self.day_number(day) / WANDER_DAYS
        now, later = users.style[rows, 0], users.style[rows, 1]
        style = STYLE_WEIGHT * (np.cos(angle) * now + np.sin(angle) * later)
        constant = np.ones((len(rows), 1))
        price = PRICE_WEIGHT * budget[:, None]
        return np.concatenate([taste, style, price, constant], axis=1).astype(np.float64)

    def item_vectors(self, day: date) -> np.ndarray:
        """float64 [items on offer on `day`, DIMENSIONS]."""
        items = self.items(day)
        season = np.array([_season(shelf.peak, day) for shelf in SHELVES])[items.category]
        # -w/2 (level - budget)² without the part that depends on the user alone, which changes no ranking
        constant = items.quality + season - PRICE_WEIGHT / 2 * items.level**2
        category = np.eye(len(SHELVES))[items.category]
        return np.concatenate([category, items.style, items.level[:, None], constant[:, None]], axis=1)


def prices(items: Items) -> np.ndarray:
    """float64 [n], KRW, rounded to 100."""
    median = np.array([shelf.price for shelf in SHELVES])[items.category]
    return np.round(median * np.exp(PRICE_SPREAD * items.level.astype(np.float64)), -2)


def seconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _season(peak: int, day: date) -> float:
    return SEASON_AMPLITUDE * float(np.cos(2 * np.pi * (day.timetuple().tm_yday - peak) / 365.25))


Block = TypeVar("Block", Users, Items)


def _joined(blocks: list[Block]) -> Block:
    kind = type(blocks[0])
    return kind(**{f.name: np.concatenate([getattr(b, f.name) for b in blocks]) for f in fields(kind)})
