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
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from nightshift.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore

BUDGET_SECONDS = 0.25  # p50 is 1 ms; a store that needs longer is treated as absent
OPEN_SECONDS = 15.0  # a service that starts waits no longer; most stores are open in one
HANDFUL_SECONDS = 30.0  # of a bulk read; a store that needs longer is treated as absent
RETRY_SECONDS = 5.0  # after a failure nobody waits for the store for this long
AT_ONCE = 100  # rows of a bulk read; all Python, so that a request waits for one handful of rows at most
AWAY = "the feature store cannot be reached"

log = logging.getLogger("nightshift.serving")

T = TypeVar("T")
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
        self._files: list[Path] | None = None
        self._opened_files: list[tuple[int, int] | None] = []
        self._opening = threading.Lock()
        self._away_until = 0.0
        self._away = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="features")
        self._bulk = ThreadPoolExecutor(1, thread_name_prefix="features-bulk")

    def start(self) -> None:
        """Import Feast (seconds, once per process) and begin to open the store if it is there.

        Nobody waits for it here: who needs it open calls `open`, or is told that it is away.
        """
        from nightshift import featurestore

        featurestore.import_feast()
        self._thread.submit(self._opened)

    def open(self) -> None:
        """Open the store if it is there and not open yet: seconds, so never on the path of a request."""
        try:
            _in_time(self._thread.submit(self._opened), OPEN_SECONDS)
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
            TimeoutError: the store did not answer within HANDFUL_SECONDS.
            Exception: whatever Feast and its stores raise. Requests go on by their own account.
        """
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            found = _in_time(self._bulk.submit(self._read, some, features), HANDFUL_SECONDS)
            yield from zip(some, found, strict=True)

    def _read(self, names: Sequence[str], features: Sequence[str]) -> list[Row]:
        from nightshift import featurestore

        table, times = featurestore.online(self._opened(), names, features, self._key)
        columns = [str(name) for name in table.columns]
        rows = zip(*(table[name].tolist() for name in columns), strict=True)
        return [(dict(zip(columns, row, strict=True)), at) for row, at in zip(rows, times, strict=True)]

    def _opened(self) -> FeatureStore:
        from nightshift import featurestore

        with self._opening:
            if self._files is None:
                self._files = featurestore.files_of(featurestore.store_config(self._settings))
            there = _identities(self._files)
            if self._store is None or (None not in there and there != self._opened_files):
                self._store = featurestore.open_store(self._settings)
                self._opened_files = there
            return self._store

    def _failed(self, error: Exception) -> None:
        if not self._away:
            log.warning(
                "no online features for now, answers go without: %s", str(error) or type(error).__name__
            )
        self._away = True
        self._away_until = time.monotonic() + RETRY_SECONDS
        if self._files != []:  # servers are reached again by themselves
            self._store = None  # opened again next time: it may have been built, or moved, since


def _identities(files: list[Path]) -> list[tuple[int, int] | None]:
    """Which files stand under these names, None where there is none.

    SQLite goes on reading a file that was deleted: of a store that was built again it would never hear.
    """
    found: list[tuple[int, int] | None] = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_dev, status.st_ino))
    return found


def _in_time(job: Future[T], seconds: float) -> T:
    """What the job gave. Raises TimeoutError, and takes it out of its queue, if it takes longer."""
    try:
        return job.result(seconds)
    except TimeoutError:
        job.cancel()  # one that waits behind a job that hangs need not be done later
        raise TimeoutError(f"no answer within {seconds:g} s") from None
