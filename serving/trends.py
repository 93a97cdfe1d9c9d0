"""All topics, ranked by forecast: made off the request path, so that a request only takes the first k.

A thread makes the ranking anew when another champion sits, when the feature store was written, and when a new day
begins (topics grow too old). Until it is made, the ranking before it is served whole, under its own version. A
feature store that is away changes nothing but a note: the rows that were read last are ranked.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from nightshift import featurestore
from nightshift.contracts.features import TOPIC_VIEW, VIEWS
from nightshift.errors import FeatureError
from nightshift.seats import Trend, TrendsResponse
from nightshift.settings import Settings
from serving.champion import Bundle
from serving.clock import Clock
from serving.features import RETRY_SECONDS, OnlineFeatures, Row, judge
from serving.forecasting import (
    FEATURES,
    Forecasting,
    Topics,
    explain,
    forecast,
    of_values,
    then,
    too_old,
    trend,
)

MOST = 1_000  # as many as a request may ask for
FORECAST_AT_ONCE, EXPLAINED_AT_ONCE = 1_000, 16  # topics a call of the model; 16 are 1,024 rows
NOT_READ = "the feature store cannot be reached: ranked by what it had before"
NOTHING = "no topic can be forecast: of all that are known the indicators are too old or too few"

log = logging.getLogger("nightshift.serving")


@dataclass(frozen=True)
class Ranking:
    """trends: the best MOST, best first. topics: how many were forecast, left_out: how many were not."""

    trends: tuple[Trend, ...]
    topics: int
    left_out: int
    version: int
    note: str | None

    def best(self, k: int) -> TrendsResponse:
        return TrendsResponse(
            trends=list(self.trends[:k]),
            topics=self.topics,
            left_out=self.left_out,
            model_version=str(self.version),
            note=self.note,
        )


def rank(
    bundle: Bundle[Forecasting],
    known: Iterable[tuple[str, Row]],
    now: datetime,
    max_age_days: int,
    note: str | None = None,
) -> Ranking:
    """Every topic whose velocity is known and not too old; ties stand in the order of their names."""
    rows = sorted((name, row) for name, row in known if row[1] is not None)
    fresh = [
        (name, values)
        for name, (values, at) in rows
        if not judge((values, at), now, max_age_days).wrong and not too_old(values, now, max_age_days)
    ]
    topics = of_values([values for _, values in fresh])
    usable = np.flatnonzero(~np.isnan(topics.velocity))
    names, topics = [fresh[place][0] for place in usable], topics.take(usable)
    change = np.concatenate([np.empty(0), *_changes(bundle.ready, topics)])
    best = np.argsort(-then(topics.velocity, change), kind="stable")[:MOST]
    return Ranking(
        tuple(_trends(bundle.ready, [names[place] for place in best], topics.take(best))),
        topics=len(names),
        left_out=len(rows) - len(names),
        version=bundle.version.number,
        note=note or (None if names else NOTHING),
    )


class Trends:
    """The ranking that serves. `ranking` is the one reference that requests read; None until there is one."""

    def __init__(
        self,
        settings: Settings,
        features: OnlineFeatures,
        clock: Clock,
        champion: Callable[[], Bundle[Forecasting] | None],
    ) -> None:
        self.ranking: Ranking | None = None
        self._settings, self._features, self._clock, self._champion = settings, features, clock, champion
        self._written = settings.home / "feast" / "written.json"
        self._made_for: Any = None
        self._unread_for: Any = None
        self._ranked_for: Any = None
        self._known: list[tuple[str, Row]] = []
        self._away = False
        self._retry_at = 0.0
        self._stopping = False
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="trends", daemon=True)

    def start(self) -> None:
        """Rank what there is now, and keep up from then on."""
        self.look()
        self._thread.start()

    def wake(self) -> None:
        """Look now: another champion sits."""
        self._woken.set()

    def stop(self) -> None:
        self._stopping = True
        self._woken.set()

    def look(self) -> None:
        """Make the ranking anew if it is due. Never raises: this is the thread's whole life."""
        bundle = self._champion()
        if bundle is None:
            return
        now = self._clock.now()
        due = (bundle.version.number, self._written_at(), now.date())
        if due == self._made_for or (due == self._unread_for and time.monotonic() < self._retry_at):
            return
        read = self._read(bundle, now)
        self._made_for, self._unread_for = (due, None) if read else (None, due)
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if not read and not self._known:
            return
        ranked_for, self._ranked_for = self._ranked_for, (bundle.version.number, now.date())
        try:
            if read or ranked_for != self._ranked_for:
                note = None if read else NOT_READ
                self.ranking = rank(bundle, self._known, now, self._features.max_age_days, note)
            elif self.ranking is not None:
                self.ranking = replace(self.ranking, note=NOT_READ)
        except Exception:  # of the model, on some topic: not tried again until something has changed
            log.exception("the topics could not be ranked; the ranking before stays")

    # --- inside ----------------------------------------------------------------------------------------

    def _follow(self) -> None:
        while not self._stopping:
            self._woken.wait(self._settings.champion_poll_seconds)
            self._woken.clear()
            if not self._stopping:
                self.look()

    def _read(self, bundle: Bundle[Forecasting], now: datetime) -> bool:
        """Whether the feature store could be read; what it had is then known."""
        try:
            names = sorted(bundle.ready.topics | self._told_of(now))
            self._known = list(self._features.of_many(names, FEATURES))
        except Exception as error:  # noqa: BLE001 - Feast and its stores raise anything
            if not self._away:
                log.warning("the trends cannot be read from the feature store: %s", error)
            self._away = True
            return False
        self._away = False
        return True

    def _told_of(self, now: datetime) -> frozenset[str]:
        """Topics that the champion may not have learnt from, by the feature files where they are at hand."""
        try:
            _, newest = featurestore.newest(self._settings, TOPIC_VIEW, now.date())
        except FeatureError:
            return frozenset()
        return frozenset(newest[VIEWS[TOPIC_VIEW].key])

    def _written_at(self) -> int | None:
        try:
            return self._written.stat().st_mtime_ns
        except OSError:
            return None


def _changes(ready: Forecasting, topics: Topics) -> Iterable[np.ndarray]:
    for start in range(0, len(topics.numbers), FORECAST_AT_ONCE):
        yield forecast(ready, topics.take(slice(start, start + FORECAST_AT_ONCE)))[:, 0]


def _trends(ready: Forecasting, names: list[str], topics: Topics) -> Iterable[Trend]:
    for start in range(0, len(names), EXPLAINED_AT_ONCE):
        some = topics.take(slice(start, start + EXPLAINED_AT_ONCE))
        explained = explain(ready, some)
        for place in range(len(some.numbers)):
            yield trend(start + place + 1, names[start + place], some, explained, place)
