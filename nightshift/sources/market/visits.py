"""One day of behaviour: who comes, what they meet, and what they do with it.

A visit is one session; in it a user meets some items, and each meeting runs down a funnel: view, click, add to
cart, purchase, rating, with a like or a share on the way. Nothing of an earlier day is remembered: that people
come back to things is planted as *staples*, a few items that each user returns to.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from nightshift.contracts.interactions import CHANNELS, DEVICES, KINDS
from nightshift.sources.market.world import VISIT_STREAM, World, seconds

WEEK = np.array(  # Monday to Sunday, how likely a user comes: [most people, weekenders]; means of 1
    [[1.07, 1.07, 1.07, 1.05, 1.00, 0.87, 0.87], [0.85, 0.85, 0.90, 0.95, 1.10, 1.25, 1.10]]
)
HOURS = (
    np.array(  # weight of a visit's start by UTC hour: Korean lunch (3), evening (10 to 14), night (17 to 20)
        [4, 5, 5, 6, 5, 4, 4, 4, 5, 6, 8, 9, 10, 9, 7, 4, 2, 1, 1, 1, 1, 2, 3, 3], dtype=float
    )
)
SECOND_VISIT, THIRD_VISIT = 0.27, 0.08  # chance of at least two, of three visits on a day
MAX_MEETINGS = 12  # items in a visit
STAPLE_SHARE, STAPLES, STAPLE_POOL = 0.16, 8, 64  # share of meetings; items per user; best of so many
CELLS = 2_000_000  # user × item logits held at once: 100,000 users must not need gigabytes

CLICK, CART, BUY, RATE, LIKE, SHARE = 0.60, 0.40, 0.45, 0.40, 0.09, 0.02  # each given the step before
FIT_SLOPE = 0.15  # how much a better fit raises each chance, relative
# Nobody here comes by way of a recommendation: those who do are the customers of the real service.
CHANNEL_SHARES = {"search": 0.45, "home": 0.43, "email": 0.12}


@dataclass(frozen=True)
class Habits:
    """How visits go. meetings: mean further items in a visit; minutes: mean pause between two events."""

    meetings: float
    minutes: float
    desk: float  # what remains of the chance that a visit is not on mobile


BEFORE = Habits(meetings=2.2, minutes=2.0, desk=1.0)
AFTER = Habits(meetings=1.2, minutes=0.8, desk=0.3)  # from the planted drift on


@dataclass(frozen=True)
class Events:
    """Parallel arrays, one row per event, in the order of `at`. Codes index KINDS, DEVICES, CHANNELS."""

    user: np.ndarray
    item: np.ndarray
    kind: np.ndarray
    stars: np.ndarray  # float64: 1..5 for ratings, else NaN
    at: np.ndarray  # int64, microseconds since the epoch
    visit: np.ndarray
    device: np.ndarray
    channel: np.ndarray

    def __len__(self) -> int:
        return len(self.user)


def events_of(world: World, day: date) -> Events:
    """What happened on `day`."""
    random = world.random(VISIT_STREAM, day.toordinal())
    habits = AFTER if world.drifted(day) else BEFORE
    user, visit = _visits(world, day, habits, random)  # one row per meeting
    item, fit = _met(world, day, user, random)
    fresh = np.sort(np.unique(user * (item.max() + 1) + item, return_index=True)[1])  # a thing once a day
    user, visit, item, fit = user[fresh], visit[fresh], item[fresh], fit[fresh]
    meeting, kind = np.nonzero(_funnel(fit, random))
    stars = np.where(kind == KINDS.index("rating"), _stars(fit, random)[meeting], np.nan)
    at = _times(visit[meeting], day, habits, random)
    mobile = world.users(day).mobile[user]
    device, channel = _doors(visit, 1 - habits.desk * (1 - mobile), random)
    order = np.argsort(at, kind="stable")
    row = meeting[order]
    return Events(
        user[row], item[row], kind[order], stars[order], at[order], visit[row], device[row], channel[row]
    )


def _visits(
    world: World, day: date, habits: Habits, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(user row, visit number) of every meeting, in the order of users and visits."""
    users = world.users(day)
    chance = users.activity * WEEK[users.weekender.astype(int), day.weekday()]
    reluctance = random.random(len(users)) / chance
    coming = np.flatnonzero((reluctance < 1) | (reluctance == reluctance.min()))  # never nobody at all
    luck = random.random(len(coming))
    visitor = np.repeat(coming, 1 + (luck < SECOND_VISIT) + (luck < THIRD_VISIT))
    meetings = 1 + random.poisson(habits.meetings * users.appetite[visitor])
    visit = np.repeat(np.arange(len(visitor)), meetings.clip(1, MAX_MEETINGS))
    return visitor[visit], visit


def _met(
    world: World, day: date, user: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(item row, fit) of each meeting. fit: its logit above what this user usually meets."""
    vectors = world.item_vectors(day)
    people, row = np.unique(user, return_inverse=True)
    tastes = world.user_vectors(people, day)
    item, usual = drawn(tastes, vectors, row, random.random(len(user)))
    again = np.flatnonzero(random.random(len(user)) < STAPLE_SHARE)
    which = random.integers(0, STAPLES, len(again))
    kept = staples(world, day, user[again], tastes[row[again]], vectors)
    item[again] = kept[np.arange(len(again)), which]
    return item, (tastes[row] * vectors[item]).sum(axis=1) - usual[row]


def drawn(
    tastes: np.ndarray, vectors: np.ndarray, row: np.ndarray, luck: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw an item for each `row` of `tastes` (ascending), in proportion to exp(logit).

    tastes: [n, d]; vectors: [m, d]; luck: [len(row)] uniform in [0, 1).
    Returns (item [len(row)], the expected logit of such a draw [n]).
    """
    items = len(vectors)
    item = np.empty(len(row), dtype=np.int64)
    usual = np.empty(len(tastes))
    step = max(1, CELLS // items)
    for first in range(0, len(tastes), step):
        logits = tastes[first : first + step] @ vectors.T
        weight = np.exp(logits - logits.max(axis=1, keepdims=True))
        usual[first : first + step] = (weight * logits).sum(axis=1) / weight.sum(axis=1)
        share = np.cumsum(weight, axis=1)
        share /= share[:, -1:]
        # One search for the whole chunk: row r of the flattened shares runs from r to r + 1.
        share += np.arange(len(share))[:, None]
        here = slice(*np.searchsorted(row, [first, first + step]))
        local = row[here] - first
        found = np.searchsorted(share.ravel(), local + luck[here], side="right") - local * items
        item[here] = found.clip(0, items - 1)
    return item, usual


def staples(world: World, day: date, user: np.ndarray, tastes: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Item rows [len(user), STAPLES]: of STAPLE_POOL things each user came upon early, the best liked."""
    users = world.users(day)
    pool = users.offset[user, None] + np.arange(STAPLE_POOL) * users.stride[user, None]
    pool %= world.opening_items
    liking = np.einsum("ud,upd->up", tastes, vectors[pool])
    best = np.argsort(-liking, axis=1, kind="stable")[:, :STAPLES]
    return np.take_along_axis(pool, best, axis=1)


def _funnel(fit: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """bool [meetings, KINDS]: which events a meeting has, in the funnel's order."""
    luck = random.random((6, len(fit))) / (1 + FIT_SLOPE * np.tanh(fit))
    click = luck[0] < CLICK
    cart = click & (luck[1] < CART)
    buy = cart & (luck[2] < BUY)
    happened = {
        "view": np.ones(len(fit), dtype=bool),
        "click": click,
        "add_to_cart": cart,
        "purchase": buy,
        "like": click & (luck[3] < LIKE),
        "share": click & (luck[4] < SHARE),
        "rating": buy & (luck[5] < RATE),
    }
    return np.stack([happened[kind] for kind in KINDS], axis=1)


def _stars(fit: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.rint(3.8 + 0.7 * np.tanh(fit) + 0.8 * random.standard_normal(len(fit))).clip(1, 5)


def _times(visit: np.ndarray, day: date, habits: Habits, random: np.random.Generator) -> np.ndarray:
    """int64 microseconds of each event, inside the day; `visit` ascending, events of a visit in order."""
    pause = random.exponential(60 * habits.minutes, len(visit)).clip(1, 900)  # 84 events at most: below a day
    first = np.flatnonzero(np.diff(visit, prepend=-1))
    passed = np.cumsum(pause)
    passed -= np.repeat(passed[first], np.diff(first, append=len(visit)))
    length = np.maximum.reduceat(passed, first)
    hour = random.choice(24, len(first), p=HOURS / HOURS.sum())
    start = np.minimum(3_600 * (hour + random.random(len(first))), 86_399 - length)
    second = np.repeat(start, np.diff(first, append=len(visit))) + passed
    return ((seconds(day) + second) * 1e6).astype(np.int64)


def _doors(
    visit: np.ndarray, mobile: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(device code, channel code) of each meeting; one of each per visit. mobile: chance per meeting's user."""
    visits = int(visit.max()) + 1
    luck, other = random.random(visits)[visit], random.random(visits)[visit]
    desk = np.where(other < 0.15, DEVICES.index("tablet"), DEVICES.index("desktop"))
    device = np.where(luck < mobile, DEVICES.index("mobile"), desk)
    codes = [CHANNELS.index(name) for name in CHANNEL_SHARES]
    channel = random.choice(codes, visits, p=list(CHANNEL_SHARES.values()))[visit]
    return device, channel
