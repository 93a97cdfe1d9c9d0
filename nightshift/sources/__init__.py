"""Where data comes from. A source reads one day at a time and counts what it kept and what it did not.

Sources are named here and imported on use: to add one, write a module with a `Source` and add a line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from importlib import import_module
from typing import Protocol

import pyarrow as pa

from nightshift.settings import Settings

SOURCES = {
    "market": "nightshift.sources.market:Market",
    "online_retail": "nightshift.sources.online_retail:OnlineRetail",
    "files": "nightshift.sources.files:Files",
    "events": "nightshift.sources.events:Events",
    "feeds": "nightshift.sources.rss:Feeds",
}


@dataclass(frozen=True)
class DayBatch:
    """One day as a source gives it.

    tables: contract name → rows that follow the contract (`users`, `items`: new or changed ones only); without
        `interactions` where the day has no such thing, which is not the same as none of them.
    counts: what was read, kept, and left out by reason; `read` = `kept` + all the others. Beside them, once it is
        cleaned, `masked_<kind>`: pieces of personal data that were masked in what was kept.
    """

    day: date
    tables: dict[str, pa.Table]
    counts: dict[str, int] = field(default_factory=dict)


class Source(Protocol):
    """One place data comes from. `Source(settings)` makes it; it holds no state between days."""

    name: str

    def first_day(self) -> date:
        """The first day there is. Raises SourceError if there is none."""
        ...

    def next_day(self, after: date) -> date | None:
        """The first day later than `after` that has data now, or None."""
        ...

    def read(self, day: date) -> DayBatch:
        """That day's rows. Raises SourceError (no such day, unreadable) or ContractError (wrong data)."""
        ...


def open_source(name: str, settings: Settings) -> Source:
    """The source registered as `name`."""
    module, _, attribute = SOURCES[name].partition(":")
    source: Source = getattr(import_module(module), attribute)(settings)
    return source
