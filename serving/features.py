"""What is known of a user or a topic now: online features from Feast, with our own check of their age.

Feast keeps a value until it is overwritten and enforces no TTL online. Whatever is wrong with the store, a request
hears of it in time; what is answered without features is the service's to say.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from nightshift.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore

BUDGET_SECONDS = 0.25  # p50 is 1 ms; a store that needs longer is treated as absent
OPEN_SECONDS = 60.0
RETRY_SECONDS = 5.0  # after a failure nobody waits for the store for this long
AT_ONCE = 100  # rows of a bulk read; all Python, so that a request waits for one handful of rows at most
AWAY = "the feature store cannot be reached"

log = logging.getLogger("nightshift.serving")

Row = tuple[dict[str, Any], datetime | None]  # features by bare name, and their event time


@dataclass(frozen=True)
class Found:
    """Features to score with, by bare name, and their event time; or none, what is wrong, and a note that says it."""

    values: dict[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    note: str | None = None
    wrong: Literal["unknown", "stale", "away"] | None = None


def judge(row: Row, now: datetime, max_age_days: int, whose: str = "user") -> Found:
    """What may be used of what the store has: nothing that is older than `max_age_days`."""
    values, at = row
    if at is None:
        return Found(note=f"no features are known of this {whose}", wrong="unknown")
    age = now - at
    if age > timedelta(days=max_age_days):
        note = f"features of {at.date()} are {age.days} days old (at most {max_age_days}): not used"
        return Found(note=note, wrong="stale")
    return Found(values, at)


class OnlineFeatures:
    """Reads in a thread of its own, so that a store that hangs holds up nobody.

    key: whose features these are, as Feast names it. max_age_days: older ones are not used.
    """

    def __init__(self, settings: Settings, key: str, max_age_days: int) -> None:
        self.max_age_days = max_age_days
        self.whose = key.removesuffix("_id")
        self._settings, self._key = settings, key
        self._store: FeatureStore | None = None
        self._opening = threading.Lock()
        self._away_until = 0.0
        self._away = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="features")

    def start(self) -> None:
        """Import Feast (seconds, once per process) and open the store if it is there."""
        import feast  # noqa: F401

        self.open()

    def open(self) -> None:
        """Open the store if it is there and not open yet: seconds, so never on the path of a request."""
        try:
            self._thread.submit(self._opened).result(OPEN_SECONDS)
            self._away_until = 0.0
        except Exception as error:  # noqa: BLE001 - Feast and its stores raise anything; serving starts anyway
            self._failed(error)

    async def of(self, name: str, features: Sequence[str], now: datetime) -> Found:
        """The features (references such as `user_features:spend_28d`) of one user or topic, fit for use at `now`."""
        if not features:
            return Found()
        if time.monotonic() < self._away_until:
            return Found(note=AWAY, wrong="away")
        reading = asyncio.get_running_loop().run_in_executor(self._thread, self._read, [name], features)
        try:
            (row,) = await asyncio.wait_for(reading, BUDGET_SECONDS)
        except Exception as error:  # noqa: BLE001 - Feast and its stores raise anything; we answer without
            self._failed(error)
            return Found(note=AWAY, wrong="away")
        if self._away:
            self._away = False
            log.warning("the feature store answers again")
        return judge(row, now, self.max_age_days, self.whose)

    def of_many(self, names: Sequence[str], features: Sequence[str]) -> Iterator[tuple[str, Row]]:
        """What the store has of many, whatever its age, each with its name. For a thread that nobody waits for.

        Raises:
            Exception: whatever Feast and its stores raise. Requests go on by their own account.
        """
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            yield from zip(some, self._read(some, features), strict=True)

    def _read(self, names: Sequence[str], features: Sequence[str]) -> list[Row]:
        from nightshift import featurestore

        table, times = featurestore.online(self._opened(), names, features, self._key)
        columns = [str(name) for name in table.columns]
        rows = zip(*(table[name].tolist() for name in columns), strict=True)
        return [(dict(zip(columns, row, strict=True)), at) for row, at in zip(rows, times, strict=True)]

    def _opened(self) -> FeatureStore:
        with self._opening:
            if self._store is None:
                from nightshift import featurestore

                self._store = featurestore.open_store(self._settings)
            return self._store

    def _failed(self, error: Exception) -> None:
        if not self._away:
            log.warning("no online features for now, answers go without: %s", error or type(error).__name__)
        self._away = True
        self._away_until = time.monotonic() + RETRY_SECONDS
        self._store = None  # opened again next time: it may have been built, or moved, since
