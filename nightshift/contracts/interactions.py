"""What users do with items: the data contract of the recommender seat.

Ids are opaque strings in any language. Times are UTC. A day's rows are those taken in by that night;
an event that arrives late keeps its own `at` and joins the night that first saw it.
"""

from datetime import UTC, datetime

import pyarrow as pa

from nightshift.contracts.table import TIMESTAMP, Column, Contract

KINDS = ("view", "click", "add_to_cart", "purchase", "like", "share", "rating")
DEVICES = ("mobile", "desktop", "tablet", "unknown")
CHANNELS = ("search", "home", "recommendation", "email", "unknown")
LOW_RATING = 2.0  # of 5 stars: this and less is no recommendation

INTERACTIONS = Contract(
    name="interactions",
    meaning="One thing that one user did with one item.",
    key=("event_id",),
    time="at",
    order=("user_id",),
    columns=(
        Column(
            "event_id",
            pa.string(),
            "Unique id; the same id twice is the same event.",
            unique=True,
            max_length=128,
        ),
        Column("user_id", pa.string(), "Who.", max_length=128),
        Column("item_id", pa.string(), "With what.", max_length=128),
        Column("kind", pa.string(), "What was done.", allowed=KINDS),
        Column(
            "value",
            pa.float64(),
            "rating: 1..5 stars; purchase: amount paid, ≥ 0; else null.",
            nullable=True,
            minimum=0,
        ),
        Column("at", TIMESTAMP, "When it happened, UTC."),
        Column(
            "session_id", pa.string(), "The visit it belongs to, if known.", nullable=True, max_length=128
        ),
        Column("device", pa.string(), "On what device.", allowed=DEVICES),
        Column("channel", pa.string(), "Through which door.", allowed=CHANNELS),
    ),
    sample=(
        {
            "event_id": "e1",
            "user_id": "u1",
            "item_id": "i1",
            "kind": "click",
            "value": None,
            "at": datetime(2026, 9, 1, 9, 30, tzinfo=UTC),
            "session_id": "s1",
            "device": "mobile",
            "channel": "home",
        },
        {
            "event_id": "e2",
            "user_id": "u1",
            "item_id": "i1",
            "kind": "purchase",
            "value": 12900.0,
            "at": datetime(2026, 9, 1, 9, 34, tzinfo=UTC),
            "session_id": "s1",
            "device": "mobile",
            "channel": "home",
        },
        {
            "event_id": "e3",
            "user_id": "사용자2",
            "item_id": "i2",
            "kind": "rating",
            "value": 4.0,
            "at": datetime(2026, 9, 1, 21, 5, tzinfo=UTC),
            "session_id": None,
            "device": "unknown",
            "channel": "unknown",
        },
    ),
)

USERS = Contract(
    name="users",
    meaning="A user as known on the day the row was written; a later row for the same id replaces it.",
    key=("user_id",),
    time="registered_at",
    may_be_empty=True,
    columns=(
        Column("user_id", pa.string(), "Opaque id.", unique=True, max_length=128),
        Column("registered_at", TIMESTAMP, "First seen, UTC."),
        Column("country", pa.string(), "Country or region.", nullable=True, max_length=64),
        Column("age_group", pa.string(), "Such as 20s.", nullable=True, max_length=32),
        Column("tier", pa.string(), "Customer tier.", nullable=True, max_length=32),
    ),
    sample=(
        {
            "user_id": "u1",
            "registered_at": datetime(2026, 8, 1, tzinfo=UTC),
            "country": "KR",
            "age_group": "30s",
            "tier": "gold",
        },
        {
            "user_id": "사용자2",
            "registered_at": datetime(2026, 9, 1, tzinfo=UTC),
            "country": None,
            "age_group": None,
            "tier": None,
        },
    ),
)

ITEMS = Contract(
    name="items",
    meaning="An item as known on the day the row was written; a later row for the same id replaces it.",
    key=("item_id",),
    time="created_at",
    may_be_empty=True,
    columns=(
        Column("item_id", pa.string(), "Opaque id.", unique=True, max_length=128),
        Column("title", pa.string(), "Shown to people, any language.", max_length=500),
        Column("description", pa.string(), "Longer text.", nullable=True, max_length=5_000),
        Column("category", pa.string(), "One category.", max_length=128),
        Column("brand", pa.string(), "Brand.", nullable=True, max_length=128),
        Column("price", pa.float64(), "Current price, ≥ 0.", minimum=0),
        Column("tags", pa.list_(pa.string()), "Free tags.", nullable=True),
        Column("created_at", TIMESTAMP, "First on offer, UTC."),
    ),
    sample=(
        {
            "item_id": "i1",
            "title": "제주 감귤 초콜릿",
            "description": None,
            "category": "food",
            "brand": "한라",
            "price": 12900.0,
            "tags": ["선물"],
            "created_at": datetime(2026, 8, 1, tzinfo=UTC),
        },
        {
            "item_id": "i2",
            "title": "Linen notebook",
            "description": "A5, dotted",
            "category": "stationery",
            "brand": None,
            "price": 7.5,
            "tags": None,
            "created_at": datetime(2026, 8, 2, tzinfo=UTC),
        },
    ),
)


def tells_taste(kind: str, value: float | None) -> bool:
    """Whether who did this may like such items: everything but a low rating, for who looks has at least chosen."""
    return kind != "rating" or value is None or value > LOW_RATING
