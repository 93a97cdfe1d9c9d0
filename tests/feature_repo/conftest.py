"""A world small enough to compute by hand: three published days, three items, three users.

2026-09-01  u1: view i1 10:00, click i2 10:06, purchase i1 (100) 10:12, one session on mobile
            사용자2: rating i2 (4), no session, desktop
2026-09-02  nothing happened
2026-09-03  u1: rating i2 (5) 09:00 and view ghost 09:04 in one session on desktop, view i2 20:00 alone on mobile
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pytest

from nightshift.contracts import INTERACTIONS, ITEMS, USERS
from nightshift.lake import Lake
from nightshift.settings import Settings
from nightshift.sources import DayBatch

Row = dict[str, Any]
FIRST, EMPTY, LAST = date(2026, 9, 1), date(2026, 9, 2), date(2026, 9, 3)


def event(
    day: date, hour: int, minute: int, user: str, item: str, kind: str, value: float | None = None,
    session: str | None = None, device: str = "mobile",
) -> Row:  # fmt: skip
    at = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
    return {
        "event_id": f"{at}-{user}-{item}", "user_id": user, "item_id": item, "kind": kind, "value": value,
        "at": at, "session_id": session, "device": device, "channel": "home",
    }  # fmt: skip


def happened() -> dict[date, list[Row]]:
    return {
        FIRST: [
            event(FIRST, 10, 0, "u1", "i1", "view", session="s1"),
            event(FIRST, 10, 6, "u1", "i2", "click", session="s1"),
            event(FIRST, 10, 12, "u1", "i1", "purchase", 100.0, session="s1"),
            event(FIRST, 11, 0, "사용자2", "i2", "rating", 4.0, device="desktop"),
        ],
        EMPTY: [],
        LAST: [
            event(LAST, 9, 0, "u1", "i2", "rating", 5.0, session="s2", device="desktop"),
            event(LAST, 9, 4, "u1", "ghost", "view", session="s2", device="desktop"),
            event(LAST, 20, 0, "u1", "i2", "view", session="s3"),
        ],
    }


def known_items() -> list[Row]:
    def item(item_id: str, category: str, price: float, created: datetime) -> Row:
        return {
            "item_id": item_id,
            "title": item_id,
            "category": category,
            "price": price,
            "created_at": created,
        }

    return [
        item("i1", "food", 100.0, datetime(2026, 8, 1, 15, tzinfo=UTC)),
        item("i2", "book", 30.0, datetime(2026, 9, 1, tzinfo=UTC)),
        item("i3", "food", 50.0, datetime(2026, 9, 10, tzinfo=UTC)),  # announced, not yet on offer
    ]


def known_users() -> list[Row]:
    return [
        {"user_id": u, "registered_at": datetime(2026, 8, 1, tzinfo=UTC)} for u in ("u1", "사용자2", "u3")
    ]


def with_day(rows: list[Row], day: date) -> pa.Table:
    table = INTERACTIONS.table(rows)
    return table.append_column("day", pa.array([day] * len(rows), pa.date32()))


@pytest.fixture(scope="session")
def duck() -> ibis.BaseBackend:
    return ibis.duckdb.connect()


@pytest.fixture(scope="session")
def small_world() -> tuple[pa.Table, pa.Table, pa.Table]:
    """(interactions with `day`, items, users) of the three days."""
    interactions = pa.concat_tables([with_day(rows, day) for day, rows in happened().items()])
    return interactions, ITEMS.table(known_items()), USERS.table(known_users())


Publish = Callable[[Path, date], None]


@pytest.fixture(scope="session")
def publish_small_day() -> Publish:
    """Publish one day of the small world into the lake under a home; the first brings items and users."""

    def publish(home: Path, day: date) -> None:
        lake = Lake(home / "lake")
        first = day == FIRST
        tables = {
            "interactions": INTERACTIONS.table(happened()[day]),
            "items": ITEMS.table(known_items() if first else []),
            "users": USERS.table(known_users() if first else []),
        }
        lake.stage(DayBatch(day=day, tables=tables))
        lake.record_audit(day, {"passed": True})
        lake.publish(day)

    return publish


@pytest.fixture
def small_home(tmp_path: Path, publish_small_day: Publish) -> Settings:
    """Settings whose home holds the three days, published; no features yet."""
    for day in (FIRST, EMPTY, LAST):
        publish_small_day(tmp_path, day)
    return Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
