"""All topics, ranked by forecast: made off the request path, so that a request only takes the first k.

A thread makes the ranking anew when another champion sits, when the feature store was written, and when a new day
begins (topics grow too old). Until it is made, the ranking before it is served whole, under its own version. If it
cannot be made, that stays so, a note says why, and it is tried again. A feature store that is away changes nothing
but the note either: the rows that were read last are ranked. Nobody waits for the thread, not even the service's start.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from nightshift import featurestore, partitions
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
RANK_AGAIN_SECONDS = 60.0  # after a model could not rank them; each try costs all its forecasts
NOT_READ = "the feature store cannot be reached: ranked by what it had before"
NOT_RANKED = "the topics could not be ranked anew: this ranking is the one before; it is tried again"
NOTHING = "no topic can be forecast: of all that are known the indicators are too old or too few"

log = logging.getLogger("nightshift.serving")


@dataclass(frozen=True)
class Ranking:
    """trends: the best MOST, best first. topics: how many were forecast, left_out: how many were not.

    made_at: by the wall clock, so that a client can tell one that is not made anew any more.
    """

    trends: tuple[Trend, ...]
    topics: int
    left_out: int
    made_at: datetime
    version: int
    note: str | None

    def best(self, k: int) -> TrendsResponse:
        return TrendsResponse(
            trends=list(self.trends[:k]),
            topics=self.topics,
            left_out=self.left_out,
            made_at=self.made_at,
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
        made_at=datetime.now(UTC),
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
        self._written = featurestore.Written(settings)
        self._made_for: Any = None
        self._failed_for: Any = None
        self._ranked_for: Any = None
        self._known: list[tuple[str, Row]] | None = None  # None: nothing was ever read
        self._away = False
        self._retry_at = 0.0
        self._stopping = False
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="trends", daemon=True)

    def start(self) -> None:
        """Rank what there is soon, and keep up from then on."""
        self.wake()
        self._thread.start()

    def wake(self) -> None:
        """Look now: another champion sits, say."""
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
        due = (bundle.version.number, self._written.stamp(), now.date())
        if due == self._made_for or (due == self._failed_for and time.monotonic() < self._retry_at):
            return
        note = None if self._read(bundle, now) else NOT_READ
        pause = RETRY_SECONDS
        try:
            self._rank(bundle, now, note)
        except Exception:  # of the model, on some topic
            if due != self._failed_for:
                log.exception("the topics could not be ranked; the ranking before stays")
            note, pause = NOT_RANKED, RANK_AGAIN_SECONDS
            self._say(note)
        self._made_for, self._failed_for = (None, due) if note else (due, None)
        self._retry_at = time.monotonic() + pause

    # --- inside ----------------------------------------------------------------------------------------

    def _rank(self, bundle: Bundle[Forecasting], now: datetime, note: str | None) -> None:
        """Rank what is known by now; with a note, the rows that were ranked before: not twice for the same."""
        ranked_for = (bundle.version.number, now.date())
        if self._known is not None and (note is None or ranked_for != self._ranked_for):
            self.ranking = rank(bundle, self._known, now, self._features.max_age_days, note)
            self._ranked_for = ranked_for
        else:
            self._say(note)

    def _say(self, note: str | None) -> None:
        if self.ranking is not None:
            self.ranking = replace(self.ranking, note=note)

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
                log.warning(
                    "the trends cannot be read from the feature store: %s", str(error) or type(error).__name__
                )
            self._away = True
            return False
        self._away = False
        return True

    def _told_of(self, now: datetime) -> frozenset[str]:
        """Topics that the champion may not have learnt from, by the feature files where they are at hand."""
        try:
            _, newest = partitions.newest(self._settings, TOPIC_VIEW, now.date())
        except FeatureError:
            return frozenset()
        return frozenset(newest[VIEWS[TOPIC_VIEW].key])


def _changes(ready: Forecasting, topics: Topics) -> Iterable[np.ndarray]:
    for start in range(0, len(topics.numbers), FORECAST_AT_ONCE):
        yield forecast(ready, topics.take(slice(start, start + FORECAST_AT_ONCE)))[:, 0]


def _trends(ready: Forecasting, names: list[str], topics: Topics) -> Iterable[Trend]:
    for start in range(0, len(names), EXPLAINED_AT_ONCE):
        some = topics.take(slice(start, start + EXPLAINED_AT_ONCE))
        explained = explain(ready, some)
        for place in range(len(some.numbers)):
            yield trend(start + place + 1, names[start + place], some, explained, place)
