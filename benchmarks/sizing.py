"""What a user, an interaction, a request cost, measured; and from that what 10 thousand, 1 and 10 million users take.

    python -m benchmarks.sizing [--parts stored online events served] [--postgres URL] [--quick]

*stored*: a market's first night is taken in: bytes in the lake and of the features. *online*: users' features in a
Redis of its own, through Feast. *events*: the event log in PostgreSQL, in a schema of its own. *served*: MLflow, a
trained version and the recommender's service, asked by one client. A part whose server is not there is left out, and
said. Prints two tables, and last one line of JSON. docs/running/sizing.md explains them. --quick: small numbers, no
`served`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import OperationalError

from benchmarks.capacity import units
from benchmarks.capacity.plan import SIZES, needs
from nightshift.commands import plain, run_command
from nightshift.errors import StackError
from nightshift.settings import Settings

PARTS = ("stored", "online", "events", "served")


def market(home: Path, users: int, items: int, days: int) -> Settings:
    """A market of its own, whatever the surroundings say: nothing of the running system is touched."""
    given = {
        "home": home,
        "market_users": users,
        "market_items": items,
        "market_conversations": 0,
        "history_days": days,
        **{name: units.free_port() for name in ("mlflow_port", "serving_port")},
    }
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    return Settings(_env_file=None, **{**defaults, **given})


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The units of the parts that were asked for, and why those that are missing are."""
    quick = options.quick
    found: dict[str, float] = {}
    left_out: dict[str, str] = {}
    with TemporaryDirectory(prefix="nightshift-sizing-") as folder:
        config = market(Path(folder), *((200, 100, 3) if quick else (2_000, 1_000, 28)))
        work: dict[str, Callable[[], dict[str, float]]] = {
            "stored": lambda: units.stored(config),
            "online": lambda: units.online(config, 500 if quick else 20_000, 100 if quick else 2_000),
            "events": lambda: units.events(options.postgres, 2_000 if quick else 200_000),
            "served": lambda: units.served(config, "ials", 3_000),
        }
        for part in PARTS:
            if part not in options.parts:
                continue
            print(f"{part} …", file=sys.stderr, flush=True)
            try:
                found |= work[part]()
            except (StackError, OperationalError) as error:
                left_out[part] = " ".join(str(error).split())[:200]
    return {"unit": found, "left_out": left_out}


def show(told: dict[str, Any], console: Console) -> None:
    table = Table("unit", "measured", title="What one costs")
    for name, value in told["unit"].items():
        table.add_row(name.replace("_", " "), f"{value:,.3g}" if value < 1_000 else f"{value:,.0f}")
    console.print(table)
    sizes = Table("", *(f"{size['users']:,.0f} users" for size in told["sizes"]), title="What so many take")
    for name in told["sizes"][0]:
        values = (size[name] for size in told["sizes"])
        sizes.add_row(name.replace("_", " "), *(f"{v:,.2f}" if v < 100 else f"{v:,.0f}" for v in values))
    console.print(sizes)
    console.print(f"load of the machine meanwhile: {told['load']:.1f}")
    for part, why in told["left_out"].items():
        console.print(f"{part} left out: {why}", soft_wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sizing", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS)
    parser.add_argument(
        "--postgres", default=units.postgres(), help="SQLAlchemy URL; a schema is made and dropped"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small numbers: that it runs, not figures to keep"
    )
    options = parser.parse_args()
    if options.parts is None:
        options.parts = [part for part in PARTS if part != "served" or not options.quick]
    elif {"online", "served"} & set(options.parts):
        options.parts = sorted({"stored", *options.parts}, key=PARTS.index)  # they need its night
    told = measure(options)
    told["load"] = os.getloadavg()[
        2
    ]  # of the last quarter of an hour: latencies are as good as the machine is idle
    told["sizes"] = [needs(size, told["unit"]) for size in SIZES]
    show(told, Console())
    print(json.dumps(plain(told)))


if __name__ == "__main__":
    run_command(main)
