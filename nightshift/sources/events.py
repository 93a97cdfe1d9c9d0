"""Feedback as a source: what the event log holds for a night, of what users did and of what they said.

It joins the source that a night takes its day from; it never decides which day is next.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from nightshift.contracts import CONTRACTS, CONVERSATIONS, INTERACTIONS
from nightshift.errors import SourceError
from nightshift.eventlog import EventLog
from nightshift.lake import open_lake
from nightshift.settings import Settings
from nightshift.sources import DayBatch


class Events:
    """The event log of `settings.eventlog_uri`, a night at a time."""

    name = "events"

    def __init__(self, settings: Settings) -> None:
        self._log = EventLog(settings.eventlog_uri)
        self._lake = open_lake(settings)

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
        """The events and conversations of night `day`: late ones of earlier days too, as no night took them.

        What a day that is in quarantine had taken is free again, so no feedback is lost with it.
        An event that breaks the contract is left out, and counted: the service refuses such events, so one that
        is in the log all the same must not send day after day to quarantine.
        A published day takes nothing more: it never changes, so its late events stay for the next night.
        """
        published = self._lake.entry(day) is not None
        given_up = self._lake.quarantined()
        if published:
            rows, said = self._log.of_night(day), self._log.conversations_of(day)
        else:
            rows = self._log.claim(day, release=given_up)
            said = self._log.claim_conversations(day, release=given_up)
        sound = [row for row in rows if INTERACTIONS.fits(row) and _is_rating_or_not(row)]
        counts = {"read": len(rows) + len(said), "kept": len(sound) + len(said)}
        if len(sound) < len(rows):
            counts["breaks_contract"] = len(rows) - len(sound)
        tables = {name: contract.table([]) for name, contract in CONTRACTS.items()}
        tables[INTERACTIONS.name] = INTERACTIONS.table(sound)
        tables[CONVERSATIONS.name] = CONVERSATIONS.table(said)
        return DayBatch(day=day, tables=tables, counts=counts)


def _is_rating_or_not(row: dict[str, Any]) -> bool:
    """A rating has 1 to 5 stars; anything else has none to check."""
    return row["kind"] != "rating" or (row["value"] is not None and 1 <= row["value"] <= 5)
