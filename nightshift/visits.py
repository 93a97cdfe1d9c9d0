"""Simulated customers who act on what is served: `python -m nightshift.visits --customers 200`.

Customers of the market ask the running service for recommendations and click on what they truly like; their
clicks come back as feedback and join the next night. Deterministic: the same customers, on the same day,
shown the same items, send the same events with the same ids, so nothing is stored twice. The service remembers
what they did: who comes again is shown other items.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any
from zlib import crc32

import httpx

from nightshift.commands import run_command
from nightshift.errors import LakeError, SettingsError, StackError
from nightshift.lake import open_lake
from nightshift.settings import Settings, settings
from nightshift.sources.market import Market

SHOWN = 10
BUYS_ONE_IN = 4  # clicks per purchase
BATCH = 500  # events per POST; the service takes 1,000


def visit(config: Settings, customers: int) -> dict[str, Any]:
    """Send `customers` of them to the service once and return what happened.

    Raises:
        SettingsError: the data does not come from the market, so nobody knows what its users like.
        LakeError: no day is published yet.
        StackError: the service does not answer, or has no champion.
    """
    if config.source != "market":
        raise SettingsError(f"simulated customers live in the market, but the source is {config.source}")
    lake = open_lake(config)
    last = lake.last_day()
    if last is None:
        raise LakeError("no day is published yet, so there are no customers; run `nightshift night` first")
    today, market = last + timedelta(days=1), Market(config)
    users = sorted(lake.latest("users", last)["user_id"].to_pylist())
    coming = random.Random(f"{config.market_seed} {today}").sample(users, min(customers, len(users)))  # noqa: S311
    items = lake.latest("items", last)
    price = dict(zip(items["item_id"].to_pylist(), items["price"].to_pylist(), strict=True))

    counts = {"customers": len(coming), "shown": 0, "clicked": 0, "purchased": 0}
    events: list[dict[str, Any]] = []
    with httpx.Client(base_url=config.serving_uri, timeout=10, trust_env=False) as service:
        for user in coming:
            answer = _post(service, "/recommend", {"user_id": user, "k": SHOWN})
            shown = [item["item_id"] for item in answer["items"]]
            counts["shown"] += len(shown)
            for item in market.choose(user, shown, today):
                did = list(_events(user, item, price.get(item), today, answer["request_id"]))
                counts["clicked"] += 1
                counts["purchased"] += len(did) - 1
                events += did
        told = [
            _post(service, "/feedback", {"events": events[start : start + BATCH]})
            for start in range(0, len(events), BATCH)
        ]
    return {
        **counts,
        "accepted": sum(answer["accepted"] for answer in told),
        "duplicates": sum(answer["duplicates"] for answer in told),
        "day": today.isoformat(),
    }


def _events(user: str, item: str, price: float | None, day: date, request: str) -> Iterator[dict[str, Any]]:
    """A click, and for some a purchase; without `at`, so that the service dates them by its clock."""
    visit_id = f"v{day:%Y%m%d}-{user}"
    common = {"user_id": user, "item_id": item, "session_id": visit_id, "request_id": request}
    common |= {"device": "mobile", "channel": "recommendation"}
    yield {"event_id": f"{visit_id}-{item}-click", "kind": "click", **common}
    if price is not None and crc32(f"{visit_id}-{item}".encode()) % BUYS_ONE_IN == 0:
        yield {"event_id": f"{visit_id}-{item}-purchase", "kind": "purchase", "value": price, **common}


def _post(service: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    where = f"the recommender service at {service.base_url}"
    try:
        answer = service.post(path, json=body)
    except httpx.HTTPError as error:
        raise StackError(f"{where} does not answer ({error!r:.100}); start it with `make run`") from error
    if answer.status_code != 200:
        raise StackError(f"{where} answered {path} with {answer.status_code}: {answer.text[:200]}")
    told: dict[str, Any] = answer.json()
    return told


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m nightshift.visits", description=__doc__)
    parser.add_argument("--customers", type=int, default=200, help="how many come")
    print(json.dumps(visit(settings(), parser.parse_args(arguments).customers)), flush=True)


if __name__ == "__main__":
    run_command(main)
