"""Fits all parts of the score (`predictor.PARTS`) but `factors` on one window: counts, similarities, lifts.

What an item has no evidence for is taken from its likeness: an item that few people met borrows the neighbours and the
pace of the items that read alike, and the less the more people met it. So a new item stands in everybody's list from
the first night.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, diags

from training.baselines.neighbours import Hyper as Nearest
from training.baselines.neighbours import nearest
from training.hybrid.data import ATTRIBUTES, MOMENTS, Window

MONTH, LATELY = 28, 3  # days whose meetings make an item popular, and trending
PRICE_BUCKETS = 5
PRICELESS = 0.0


@dataclass(frozen=True)
class Hyper:
    """neighbours, shrink: as item-kNN's. half_life: days until what was met counts half. dimensions: of the content.

    factors, epochs: of the encoder and the decoder (`factors.py`), which else have the settings of family `dae`.
    alike: how many items that read alike an item borrows from. borrow: people who met an item until its own evidence
    counts as much as what it borrows. prior_days: days of usual pace that are added to what an item shows.
    group_shrink, moment_shrink: meetings until a group's (a moment's) own counts weigh as much as everybody's.
    cases, negatives: what the weights are learnt from; l2: how they are kept near where they begin.
    """

    neighbours: int = 200
    shrink: float = 10.0
    half_life: float = 90.0
    dimensions: int = 64
    factors: int = 64
    epochs: int = 60
    alike: int = 20
    borrow: float = 5.0
    prior_days: float = 3.0
    group_shrink: float = 500.0
    moment_shrink: float = 200.0
    cases: int = 6_000
    negatives: int = 100
    l2: float = 10.0


def fit(window: Window, content: np.ndarray, hyper: Hyper) -> dict[str, np.ndarray]:
    """All arrays of `Hybrid.set_up` but `weight`, `plain`, `encoder` and `decoder`.

    content: unit vectors [at least as many items as the window has].
    """
    users, items = len(window.users), len(window.items)
    content = content[:items]
    pair = np.unique((window.user - 1) * items + window.item - 1)
    ones = np.ones(len(pair), np.float32)
    matrix = csr_matrix((ones, (pair // items, pair % items)), shape=(users, items))
    people = np.bincount(pair % items, minlength=items)
    alike = likeness(content, hyper.alike)
    return {
        "content": content,
        **_neighbours(matrix, people, alike, hyper),
        **_histories(window, hyper),
        **_popularity(window, people, alike, hyper),
        **_shelves(window, people),
        **_groups(window, pair, hyper),
        **_moments(window, hyper),
    }


def likeness(content: np.ndarray, count: int) -> csr_matrix:
    """Each item's `count` most alike others, rows sum to 1: float32 [items, items]."""
    items = len(content)
    count = min(count, items - 1)
    if count < 1:
        return csr_matrix((items, items), dtype=np.float32)
    columns, values = [], []
    for first in range(0, items, 512):
        close = content[first : first + 512] @ content.T
        close[np.arange(len(close)), np.arange(first, first + len(close))] = -1
        best = np.argpartition(-close, count - 1, axis=1)[:, :count]
        columns.append(best)
        values.append(np.maximum(np.take_along_axis(close, best, axis=1), 1e-6) ** 3)
    column, value = np.concatenate(columns), np.concatenate(values)
    value /= value.sum(axis=1, keepdims=True)
    row = np.repeat(np.arange(items), count)
    return csr_matrix((value.ravel().astype(np.float32), (row, column.ravel())), shape=(items, items))


def _neighbours(
    matrix: csr_matrix, people: np.ndarray, alike: csr_matrix, hyper: Hyper
) -> dict[str, np.ndarray]:
    """near_*: csr by what was met, of what it speaks for; what few people met borrows from what reads alike."""
    items = len(people)
    start, near, weight = nearest(
        matrix, people.astype(np.int64), Nearest(neighbours=hyper.neighbours, shrink=hyper.shrink)
    )
    own = csr_matrix((weight, near, start), shape=(items, items))  # row: the item that is scored
    borrowed = (hyper.borrow / (people + hyper.borrow)).astype(np.float32)
    needy = np.where(borrowed > 0.1, borrowed, 0).astype(np.float32)
    speaks_for = (diags(1 - needy) @ own + diags(needy) @ alike @ own).T.tocsr()
    speaks_for.sort_indices()
    return {
        "near_start": speaks_for.indptr.astype(np.int64),
        "near_item": speaks_for.indices.astype(np.int32),
        "near_weight": speaks_for.data.astype(np.float32),
    }


def _histories(window: Window, hyper: Hyper) -> dict[str, np.ndarray]:
    """history_*: what each user liked, newer things more; seen_*: all that each user met."""
    users, items = len(window.users), len(window.items)
    code = (window.user - 1) * items + window.item - 1  # in order of day: the last of each stays
    last = pd.Series(window.day).groupby(code).max()
    age = len(window.days) - 1 - last.to_numpy()
    user, item = last.index.to_numpy() // items, last.index.to_numpy() % items
    met = window.met
    return {
        "history_start": np.searchsorted(user, np.arange(users + 1)).astype(np.int64),
        "history_item": item.astype(np.int32),
        "history_weight": (0.5 ** (age / hyper.half_life)).astype(np.float32),
        "seen_start": np.searchsorted(met[:, 0], np.arange(1, users + 2)).astype(np.int64),
        "seen_item": (met[:, 1] - 1).astype(np.int32),
    }


def _popularity(window: Window, people: np.ndarray, alike: csr_matrix, hyper: Hyper) -> dict[str, np.ndarray]:
    """popularity: log people who liked it, a day on offer, a month at most; trend: the last days against that;
    standing: log people who met it, liked or not, a day on offer in the whole window; newness: below 0 by the log of
    its age; unmet: 1 where nobody liked it."""
    items, days = len(window.items), len(window.days)
    since = np.searchsorted(
        window.offered, np.arange(items), side="right"
    )  # the day on which it came on offer
    age = days - since
    month, lately = (
        _people(window, max(0, days - back)) / np.maximum(np.minimum(age, min(back, days)), 1)
        for back in (MONTH, LATELY)
    )
    exposed = np.maximum(np.minimum(age, min(MONTH, days)), 1)
    pace = _pace(month, exposed, alike, hyper)
    shown = np.minimum(exposed, LATELY)
    trend = (lately * shown + LATELY * pace) / (shown + LATELY) / pace
    event = np.unique((window.event_user - 1) * items + window.event_item - 1)
    whole = np.maximum(age, 1)
    everybody = np.bincount(event % items, minlength=items) / whole
    return {
        "popularity": np.log(pace).astype(np.float32),
        "trend": np.log(trend).astype(np.float32),
        "standing": np.log(_pace(everybody, whole, alike, hyper)).astype(np.float32),
        "newness": -np.log1p(age).astype(np.float32),
        "unmet": (people == 0).astype(np.float32),
        "people": people.astype(np.int64),
    }


def _pace(rate: np.ndarray, exposed: np.ndarray, alike: csr_matrix, hyper: Hyper) -> np.ndarray:
    """People a day, of `rate` over the days `exposed`, with some days more at the rate of what reads alike."""
    usual = np.maximum(alike @ rate, rate.mean() / 10 + 1e-6)
    found: np.ndarray = (rate * exposed + hyper.prior_days * usual) / (exposed + hyper.prior_days)
    return found


def _people(window: Window, since: int) -> np.ndarray:
    """How many people met each item from day `since` on."""
    items, late = len(window.items), window.day >= since
    pair = np.unique((window.user[late] - 1) * items + window.item[late] - 1)
    return np.bincount(pair % items, minlength=items).astype(np.float64)


def _shelves(window: Window, people: np.ndarray) -> dict[str, np.ndarray]:
    """Categories and prices; a price that is not known is the middle one."""
    category = pd.factorize(window.items["category"], sort=True)[0].astype(np.int64)
    usual = np.bincount(category, weights=people) + 1.0
    price = np.log1p(pd.to_numeric(window.told["price"], errors="coerce").to_numpy(np.float64))
    middle = np.nanmedian(price) if np.isfinite(price).any() else PRICELESS
    price = np.where(np.isfinite(price), price, middle)
    spread = price.std() or 1.0
    edges = np.quantile(price, np.linspace(0, 1, PRICE_BUCKETS + 1)[1:-1])
    return {
        "category": category,
        "usual_category": (usual / usual.sum()).astype(np.float32),
        "price": ((price - middle) / spread).astype(np.float32),
        "price_bucket": np.searchsorted(edges, price, side="right").astype(np.int64),
    }


def _groups(window: Window, pair: np.ndarray, hyper: Hyper) -> dict[str, np.ndarray]:
    """group_lift: log of an item's share in a group over its share in all, float32 [groups + 1, items], the last row 0;
    user_group: each user's rows of it, int32 [users, ATTRIBUTES]."""
    items = len(window.items)
    user, item = pair // items, pair % items
    usual = np.bincount(item, minlength=items) + 0.5
    usual /= usual.sum()
    lifts, rows, begin = [], [], 0
    for attribute in ATTRIBUTES:
        code, names = pd.factorize(window.who[attribute], sort=True)  # missing: -1
        counts = np.zeros((len(names), items))
        told = code[user] >= 0
        np.add.at(counts, (code[user[told]], item[told]), 1)
        share = (counts + hyper.group_shrink * usual) / (
            counts.sum(axis=1, keepdims=True) + hyper.group_shrink
        )
        lifts.append(np.log(share / usual))
        rows.append(np.where(code >= 0, code + begin, -1))
        begin += len(names)
    return {
        "group_lift": np.concatenate([*lifts, np.zeros((1, items))]).astype(np.float32),
        "user_group": np.stack(rows, axis=1).astype(np.int32),
    }


def _moments(window: Window, hyper: Hyper) -> dict[str, np.ndarray]:
    """moment_category, moment_price: log of a category's (price bucket's) share at a moment over its share at all,
    float32 [MOMENTS + 1, …], the last row 0."""
    shelves = _shelves(window, np.ones(len(window.items)))
    found = {}
    for name, kind in (("moment_category", shelves["category"]), ("moment_price", shelves["price_bucket"])):
        kinds = int(kind.max()) + 1
        of = kind[window.event_item - 1]
        usual = np.bincount(of, minlength=kinds) + 0.5
        usual /= usual.sum()
        counts = np.zeros((MOMENTS, kinds))
        for moment in window.event_moment.T:
            told = moment >= 0
            np.add.at(counts, (moment[told], of[told]), 1)
        share = (counts + hyper.moment_shrink * usual) / (
            counts.sum(axis=1, keepdims=True) + hyper.moment_shrink
        )
        found[name] = np.concatenate([np.log(share / usual), np.zeros((1, kinds))]).astype(np.float32)
    return found
