"""Feedback as a source: what the event log holds for a night.

It joins the source that a night takes its day from; it never decides which day is next.
"""

from __future__ import annotations

from datetime import date

from nightshift.contracts import CONTRACTS, INTERACTIONS
from nightshift.errors import SourceError
from nightshift.eventlog import EventLog
from nightshift.lake import Lake
from nightshift.settings import Settings
from nightshift.sources import DayBatch


class Events:
    """The event log of `settings.eventlog_uri`, a night at a time."""

    name = "events"

    def __init__(self, settings: Settings) -> None:
        self._log = EventLog(settings.eventlog_uri)
        self._lake = Lake(settings.lake_dir)

    def first_day(self) -> date:
        """The day of the oldest event that no night has taken. Raises SourceError if there is none."""
        day = self._log.first_pending_day()
        if day is None:
            raise SourceError("events: no event is waiting for a night")
        return day

    def next_day(self, after: date) -> date | None:
        """The first day later than `after` with an event that no night has taken."""
        return self._log.first_pending_day(after)

    def read(self, day: date) -> DayBatch:
        """The events of night `day`: late ones of earlier days too, as no night took them.

        What a day that is in quarantine had taken is free again, so no feedback is lost with it.
        A published day takes nothing more: it never changes, so its late events stay for the next night.
        """
        published = self._lake.entry(day) is not None
        given_up = self._lake.quarantined()
        rows = self._log.of_night(day) if published else self._log.claim(day, release=given_up)
        tables = {name: contract.table([]) for name, contract in CONTRACTS.items()}
        tables[INTERACTIONS.name] = INTERACTIONS.table(rows)
        return DayBatch(day=day, tables=tables, counts={"read": len(rows), "kept": len(rows)})
