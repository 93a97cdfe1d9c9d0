"""Which version answered which request, written down off the request path.

A request only leaves a row in a bounded queue; a thread of its own writes what came together once a second, and a
last time at the end. The rows are evidence about the champion, not users' data: when the event log cannot be
written or the queue is full they are dropped and counted, and no request waits for them.
Not covered: what a killed process had not written yet (a second's worth).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nightshift.errors import EventLogError
from nightshift.eventlog import EventLog
from nightshift.seats import RecommendResponse

EVERY_SECONDS = 1.0
QUEUE = 10_000  # rows: some seconds of what one worker can answer, about 5 MB
BATCH = 500  # rows per transaction: the write lock is free again after some milliseconds

log = logging.getLogger("nightshift.serving")


class Exposures:
    """Takes down answers once started; before that, and in a service that never starts it, nothing.

    counted: told ("kept" or "dropped", how many rows).
    """

    def __init__(self, events: EventLog, counted: Callable[[str, int], None], queue: int = QUEUE) -> None:
        self._events, self._counted, self._room = events, counted, queue
        self._waiting: deque[dict[str, Any]] = deque()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._away = False

    def start(self) -> None:
        self._thread = threading.Thread(target=self._follow, name="exposures", daemon=True)
        self._thread.start()

    def note(self, answer: RecommendResponse, at: datetime) -> None:
        """Take down an answer; never waits, never raises. at: by the service's clock, UTC."""
        if self._thread is None:
            return
        if len(self._waiting) >= self._room:
            self._counted("dropped", 1)
            return
        self._waiting.append(
            {
                "request_id": answer.request_id,
                "model_version": int(answer.model_version),
                "user_id": answer.user_id,
                "shown": len(answer.items),
                "at": at,
                "answered_at": datetime.now(UTC),
            }
        )

    def stop(self) -> None:
        """Write what is left and end the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    # --- inside ----------------------------------------------------------------------------------------

    def _follow(self) -> None:
        while not self._stopping.wait(EVERY_SECONDS):
            self._write()
        self._write()

    def _write(self) -> None:
        """Write what waits now, batch by batch; with the log away, one attempt is enough for all of it."""
        left = len(self._waiting)
        while left:
            batch = [self._waiting.popleft() for _ in range(min(left, BATCH))]
            left -= len(batch)
            try:
                self._events.expose(batch)
            except EventLogError as error:
                for _ in range(left):
                    self._waiting.popleft()
                self._counted("dropped", len(batch) + left)
                if not self._away:
                    log.warning("exposures are dropped until the event log can be written: %s", error)
                self._away = True
                return
            self._counted("kept", len(batch))
            self._away = False
