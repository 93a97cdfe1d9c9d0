"""What time it is to serving.

By the data clock it is the day after the last published one, at the real time of day, however long that
day takes: so a replayed or simulated world has fresh features and its feedback joins the night that comes
next. By the wall clock it is what it is. Before anything is published there is no data time: the wall clock
stands in.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable
from datetime import UTC, date, datetime, timedelta

from nightshift.errors import NightshiftError
from nightshift.lake import open_lake
from nightshift.settings import Settings

log = logging.getLogger("nightshift.serving")


FIRST_SECONDS = 5.0  # that a service's first question waits for a bucket; it may be away


class Clock:
    """Cheap to ask: the lake's manifest is read again only when it has changed.

    Of a lake in a bucket a thread asks whether it has, each second, so that no request waits for the network.
    """

    def __init__(self, settings: Settings) -> None:
        self._by_data = settings.clock == "data"
        self._lake = open_lake(settings)
        self._stamp: Hashable | None = None
        self._away = False
        self._today: date | None = None
        self._lock = threading.Lock()
        self._far = settings.store_url is not None
        self._pause = settings.champion_poll_seconds
        self._asked = threading.Event()
        self._thread: threading.Thread | None = None

    def now(self) -> datetime:
        """The moment, in UTC."""
        wall = datetime.now(UTC)
        if not self._by_data:
            return wall
        with self._lock:
            if not self._far:
                self._look()
            elif self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="clock", daemon=True)
                self._thread.start()
                self._asked.wait(FIRST_SECONDS)
            today = self._today
        return wall if today is None else datetime.combine(today, wall.timetz())

    def _follow(self) -> None:
        while True:
            self._look()
            self._asked.set()
            time.sleep(self._pause)

    def _look(self) -> None:
        try:
            stamp = self._lake.stamp()
            if stamp is None or (stamp == self._stamp and not self._away):
                return
            last = self._lake.last_day()
        except (OSError, ValueError, NightshiftError) as error:
            if not self._away:
                log.warning("lake unreadable, the data clock stays where it is: %s", error)
            self._away = True
            return
        self._stamp, self._away = stamp, False
        self._today = last + timedelta(days=1) if last is not None else None
