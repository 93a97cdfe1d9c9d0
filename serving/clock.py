"""What time it is to serving.

By the data clock it is the day after the last published one, at the real time of day, however long that
day takes: so a replayed or simulated world has fresh features and its feedback joins the night that comes
next. By the wall clock it is what it is. Before anything is published there is no data time: the wall clock
stands in.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, date, datetime, timedelta

from nightshift.errors import NightshiftError
from nightshift.lake import Lake
from nightshift.settings import Settings

log = logging.getLogger("nightshift.serving")


class Clock:
    """Cheap to ask: the lake's manifest is read again only when its file has changed."""

    def __init__(self, settings: Settings) -> None:
        self._by_data = settings.clock == "data"
        self._lake = Lake(settings.lake_dir)
        self._manifest = settings.lake_dir / "manifest.json"
        self._read_at = -1
        self._today: date | None = None
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The moment, in UTC."""
        wall = datetime.now(UTC)
        if not self._by_data:
            return wall
        with self._lock:
            self._look()
            today = self._today
        return wall if today is None else datetime.combine(today, wall.timetz())

    def _look(self) -> None:
        try:
            changed_at = self._manifest.stat().st_mtime_ns
            if changed_at == self._read_at:
                return
            last = self._lake.last_day()
        except (OSError, ValueError, NightshiftError) as error:
            if self._read_at > 0:
                log.warning("lake unreadable, the data clock stays where it is: %s", error)
                self._read_at = 0
            return
        self._read_at = changed_at
        self._today = last + timedelta(days=1) if last is not None else None
