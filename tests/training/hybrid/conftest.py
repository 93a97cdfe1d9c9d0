"""A small world with planted taste: even users love books, odd ones tea, and a visit stays with one kind of thing.

Days 0 to 9. 20 items, even ones books, odd ones tea; item 19 is a tea that came on offer on the last day and nobody met
it. Users 36 to 39 come on the last two days alone. Tea is met at night on mobile, books in the morning on desktop.
"""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from training.hybrid import content
from training.hybrid.data import Window, moments
from training.hybrid.package import in_memory
from training.hybrid.parts import Hyper
from training.hybrid.predictor import MIXERS, PARTS, Hybrid
from training.hybrid.recipe import fitted, weights_from

DAYS, USERS, ITEMS, LATE_USERS, NEW_ITEM = 10, 40, 20, 4, 19
HYPER = Hyper(
    dimensions=8, shrink=1.0, group_shrink=20.0, moment_shrink=20.0, negatives=12, factors=8, epochs=20
)


def world(steered: bool = False) -> Window:
    random = np.random.default_rng(5)
    rows = []
    for day in range(DAYS):
        for user in range(USERS):
            if user >= USERS - LATE_USERS and day < DAYS - 2:
                continue
            kind = user % 2 if random.random() < 0.9 else 1 - user % 2
            pool = np.arange(kind, NEW_ITEM if kind else ITEMS, 2)
            for n, item in enumerate(random.choice(pool, 2, replace=False)):
                rows.append((day, user, item, kind, n))
    events = pd.DataFrame(rows, columns=["day", "user", "item", "kind", "n"])
    events["at"] = pd.Timestamp("2026-09-01T00:00Z") + pd.to_timedelta(
        events["day"] * 24 + np.where(events["kind"], 21, 9) + events["n"] / 60, unit="h"
    )
    events["device"] = np.where(events["kind"], "mobile", "desktop")
    events["channel"] = "recommendation" if steered else "unknown"
    events = events.sort_values("at", ignore_index=True)
    first = events.groupby(["user", "item"])["day"].min().reset_index()
    liked = events.drop_duplicates(["day", "user", "item"]).sort_values(["day", "user", "item"])
    tea = np.arange(ITEMS) % 2
    return Window(
        days=[date(2026, 9, 1) + timedelta(days=day) for day in range(DAYS)],
        users=[f"u{user:02d}" for user in range(USERS)],
        items=pd.DataFrame(
            {
                "item_id": [f"i{item:02d}" for item in range(ITEMS)],
                "title": [f"{'유기농 녹차 · Green tea' if kind else '정원 시집 · Garden poems'} {n}" for n, kind in
                          enumerate(tea)],
                "category": np.where(tea, "tea", "books"),
            }
        ),
        offered=np.array([ITEMS - 1] * (DAYS - 1) + [ITEMS]),
        user=liked["user"].to_numpy() + 1,
        item=liked["item"].to_numpy() + 1,
        day=liked["day"].to_numpy(),
        weight=np.ones(len(liked), np.float32),
        met=first.to_numpy(np.int64) + np.array([1, 1, 0]),
        told=pd.DataFrame(
            {"description": None, "brand": None, "price": np.where(tea, 5.0, 20.0), "tags": None},
            index=range(ITEMS), dtype=object,
        ),
        who=pd.DataFrame(
            {"country": ["KR", None] * (USERS // 2), "age_group": None, "tier": ["a", "b"] * (USERS // 2)}
        ),
        event_user=events["user"].to_numpy() + 1,
        event_item=events["item"].to_numpy() + 1,
        event_day=events["day"].to_numpy(),
        event_moment=moments(events),
        event_steered=(events["channel"] == "recommendation").to_numpy(),
    )  # fmt: skip


@pytest.fixture(scope="session")
def window() -> Window:
    return world()


@pytest.fixture(scope="session")
def vectors(window: Window) -> np.ndarray:
    return content.vectors(content.texts(window.items, window.told), HYPER.dimensions, seed=0)


@pytest.fixture(scope="session")
def arrays(window: Window, vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Of the whole window, with weights learnt on its last three days."""
    cut = DAYS - 3
    before = fitted(window.until(cut), vectors, HYPER, 0)
    return {**fitted(window, vectors, HYPER, 0), "weight": weights_from(window, cut, before, HYPER, 0).weight}


@pytest.fixture
def model(window: Window, arrays: dict[str, np.ndarray]) -> Hybrid:
    return in_memory(window, arrays)


@pytest.fixture
def plain(window: Window, arrays: dict[str, np.ndarray]) -> Hybrid:
    """Every part weighs 1, whoever asks."""
    weight = np.zeros((len(PARTS), len(MIXERS)), np.float32)
    weight[:, 0] = 1
    return in_memory(window, {**arrays, "weight": weight})
