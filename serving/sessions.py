"""What users did lately, so that an event changes the very next list, long before a night learns from it.

Kept in memory: accepted feedback at once; what other workers and services accepted, and what was accepted before this
service started, from the event log, read about once a second by a thread of its own. No request waits for the log; when
it is away the memory is as it was, and what was missed is read when it is back.

An item is remembered for DAYS by the service's clock (a champion knows nothing later than its training data, and an
exam takes up to a week of the newest), each user's newest ITEMS of them, and the USERS who did something last.
Not covered: an event of another machine whose clock is more than OVERLAP behind ours.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from nightshift.contracts.interactions import tells_taste
from nightshift.errors import EventLogError
from nightshift.eventlog import EventLog

DAYS = 7  # as NIGHTSHIFT_EXAM_DAYS can be at most
ITEMS = 50  # of a user
USERS = 20_000  # each with ITEMS that nobody else has are 190 MB; most users have a few
EVERY_SECONDS = 1.0
OVERLAP = timedelta(
    seconds=5
)  # an event is stamped before it is stored, which a busy log delays by 2 s at most
AT_START = 100_000  # events that are read when the service starts: 1.1 CPU-seconds
AT_ONCE = 20_000  # events that are read in one look at most; of more, the older ones are left
START_SECONDS = 5.0  # a service that starts waits no longer for the log

log = logging.getLogger("nightshift.serving")


@dataclass(frozen=True)
class Lately:
    """liked: item ids that say something of the user's taste, oldest first. met: these and all others."""

    liked: tuple[str, ...] = ()
    met: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Meeting:
    at: datetime
    liked: bool


class Sessions:
    """Remembers what it is told by `note`, and once started what comes into the event log. Safe for threads."""

    def __init__(self, events: EventLog, users: int = USERS, items: int = ITEMS) -> None:
        self._events, self._users, self._items = events, users, items
        self._known: OrderedDict[str, dict[str, _Meeting]] = (
            OrderedDict()
        )  # who did something last comes last
        self._lock = threading.Lock()
        self._read_until: datetime | None = None
        self._away = False
        self._looked = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Read what is there, for START_SECONDS at most, and follow the log from then on."""
        self._thread = threading.Thread(target=self._follow, name="sessions", daemon=True)
        self._thread.start()
        self._looked.wait(START_SECONDS)

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def note(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Remember events: user_id, item_id, kind, value, at (with a time zone). Told again, nothing changes."""
        with self._lock:
            for row in rows:
                self._note(row)

    def of(self, user_id: str, now: datetime) -> Lately:
        """What a user met in the last DAYS before `now`, by the service's clock."""
        with self._lock:
            known = self._known.get(user_id)
            meetings = list(known.items()) if known else []
        first = now - timedelta(days=DAYS)
        met = sorted(((item, one) for item, one in meetings if one.at >= first), key=lambda pair: pair[1].at)
        return Lately(tuple(item for item, one in met if one.liked), frozenset(item for item, _ in met))

    # --- inside ----------------------------------------------------------------------------------------

    def _note(self, row: Mapping[str, Any]) -> None:
        user, item, at = row["user_id"], row["item_id"], row["at"]
        liked = tells_taste(row["kind"], row["value"])
        known = self._known.setdefault(user, {})
        self._known.move_to_end(user)
        before = known.get(item)
        if before is None:
            known[item] = _Meeting(at, liked)
        else:
            before.liked = before.liked or liked
            if at > before.at:
                before.at = at
                known[item] = known.pop(item)  # of equal moments, the later told one is the newer
        if len(known) > self._items:
            del known[min(known, key=lambda one: known[one].at)]
        if len(self._known) > self._users:
            self._known.popitem(last=False)

    def _follow(self) -> None:
        self._look()
        self._looked.set()
        while not self._stopping.wait(EVERY_SECONDS):
            self._look()

    def _look(self) -> None:
        """Read what came since the last look, and a little of before it; never raises."""
        until, since = datetime.now(UTC), self._read_until
        try:
            if since is None:
                self.note(self._events.latest(AT_START))
            else:
                self.note(self._events.latest(AT_ONCE, since - OVERLAP))
        except EventLogError as error:
            if not self._away:
                log.warning("what users do is remembered from this service alone for now: %s", error)
            self._away = True
            return
        if self._away:
            log.warning("the event log answers again")
        self._away, self._read_until = False, until
