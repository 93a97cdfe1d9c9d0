"""A user's features online, from Feast, with our own check of their age.

Feast keeps a value until it is overwritten and enforces no TTL online. Whatever is wrong with the store,
the answer comes from the model without features, in time, and says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from nightshift.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore

BUDGET_SECONDS = 0.25  # p50 is 1 ms; a store that needs longer is treated as absent
OPEN_SECONDS = 60.0
RETRY_SECONDS = 5.0  # after a failure nobody waits for the store for this long
AWAY = "the feature store cannot be reached: answered without features"

log = logging.getLogger("nightshift.serving")


@dataclass(frozen=True)
class Found:
    """Features to score with, by bare name, and their event time; or none, and a note that says why."""

    values: dict[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    note: str | None = None


def judge(values: dict[str, Any], at: datetime | None, now: datetime, max_age_days: int) -> Found:
    """What may be used of what the store has: nothing that is older than `max_age_days`."""
    if at is None:
        return Found(note="no features are known of this user")
    age = now - at
    if age > timedelta(days=max_age_days):
        return Found(
            note=f"features of {at.date()} are {age.days} days old (at most {max_age_days}): not used"
        )
    return Found(values, at)


class OnlineFeatures:
    """Reads in a thread of its own, so that a store that hangs holds up nobody."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: FeatureStore | None = None
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

    async def of(self, user_id: str, features: list[str], now: datetime) -> Found:
        """The user's features (references such as `user_features:spend_28d`) fit for use at `now`."""
        if not features:
            return Found()
        if time.monotonic() < self._away_until:
            return Found(note=AWAY)
        reading = asyncio.get_running_loop().run_in_executor(self._thread, self._read, user_id, features)
        try:
            values, at = await asyncio.wait_for(reading, BUDGET_SECONDS)
        except Exception as error:  # noqa: BLE001 - Feast and its stores raise anything; we answer without
            self._failed(error)
            return Found(note=AWAY)
        if self._away:
            self._away = False
            log.warning("the feature store answers again")
        return judge(values, at, now, self._settings.feature_max_age_days)

    def _read(self, user_id: str, features: list[str]) -> tuple[dict[str, Any], datetime | None]:
        from nightshift import featurestore

        table, times = featurestore.online(self._opened(), [user_id], features)
        return {str(name): table[name].iloc[0] for name in table.columns}, times[0]

    def _opened(self) -> FeatureStore:
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
