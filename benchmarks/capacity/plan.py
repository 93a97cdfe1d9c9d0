"""From what one of each costs to what so many cost: arithmetic alone, with its assumptions in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.ncf.memory import Shape, budget

GIB = 2**30
DAY = 86_400


@dataclass(frozen=True)
class Business:
    """A service of so many users. What is assumed of them stands here and nowhere else.

    active: share of the users who come on a day; interactions, requests: of one of them on it.
    busiest_hour: share of a day's requests that its busiest hour has. full: how much of a core is planned for.
    lake_days, event_days: how long days and events are kept. Nothing expires by itself.
    """

    users: int
    items: int
    active: float = 0.1
    interactions: float = 10.0
    requests: float = 5.0
    busiest_hour: float = 0.15
    full: float = 0.5
    lake_days: int = 365
    event_days: int = 90

    @property
    def interactions_a_day(self) -> float:
        return self.users * self.active * self.interactions

    @property
    def requests_a_second(self) -> float:
        """In the busiest hour."""
        return self.users * self.active * self.requests * self.busiest_hour / 3_600


SIZES = (Business(10_000, 1_000), Business(1_000_000, 100_000), Business(10_000_000, 1_000_000))


def needs(business: Business, unit: dict[str, float]) -> dict[str, float]:
    """What it takes, from the units that were measured; what was not is left out.

    A night's tables are of the recommender's large path (GMF 64, row-wise Adagrad, float32), computed.
    """
    found = {
        "users": float(business.users),
        "items": float(business.items),
        "interactions_a_day": business.interactions_a_day,
        "requests_a_second": business.requests_a_second,
        "training_gib": budget(Shape(business.users, business.items, 64)).gib,
    }
    if "lake_bytes_per_interaction" in unit:
        day = business.interactions_a_day * unit["lake_bytes_per_interaction"]
        features = (
            business.users * unit["feature_bytes_per_user_day"]
            + business.items * unit["feature_bytes_per_item_day"]
        )
        found["lake_gib"] = day * business.lake_days / GIB
        found["features_gib_a_day"] = features / GIB
        found["features_gib"] = features * business.lake_days / GIB
    if "redis_bytes_per_user" in unit:
        found["redis_gib"] = business.users * unit["redis_bytes_per_user"] / GIB
        found["online_write_minutes"] = (
            business.users * unit["online_write_cpu_seconds_per_million"] / 1e6 / 60
        )
    if "eventlog_bytes_per_event" in unit:
        kept = business.interactions_a_day * business.event_days
        found["eventlog_gib"] = kept * unit["eventlog_bytes_per_event"] / GIB
        found["events_a_second"] = business.interactions_a_day * business.busiest_hour / 3_600
    if "artifact_bytes_per_user_and_item" in unit:
        rows = business.users + business.items
        found["version_gib"] = rows * unit["artifact_bytes_per_user_and_item"] / GIB
    if "requests_per_cpu_second" in unit:
        cores = business.requests_a_second / (unit["requests_per_cpu_second"] * business.full)
        found["serving_cores"] = float(max(1, math.ceil(cores)))
    return found
