"""What a client says a user did → rows of the event log.

As strict as the audit of a day, on purpose: one event that the audit refuses would quarantine a whole night.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from nightshift.seats import FeedbackEvent, FeedbackRequest
from serving.edge import Problem

AHEAD = timedelta(minutes=5)  # clients' clocks are never quite right
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)  # before it is a broken clock, not a late event
STARS = (1.0, 5.0)


def rows(request: FeedbackRequest, now: datetime) -> list[dict[str, Any]]:
    """The events as the event log takes them; `at` in UTC, `now` where it was left out.

    Raises:
        Problem: 400, naming the event and the field.
    """
    return [
        {
            **event.model_dump(),
            "at": _at(n, event, now),
            "value": _value(n, event),
            "channel": _channel(event),
        }
        for n, event in enumerate(request.events)
    ]


def stored(rows: list[dict[str, Any]], new: set[str]) -> list[dict[str, Any]]:
    """Those of the events that the log took in; of an id that comes twice, the first one."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(row["event_id"], row)
    return [row for event_id, row in first.items() if event_id in new]


def _at(n: int, event: FeedbackEvent, now: datetime) -> datetime:
    if event.at is None:
        return now
    if event.at.tzinfo is None:
        raise _refused(n, "at", "needs a time zone, such as 2026-09-28T12:00:00+09:00 or …Z")
    try:
        at = event.at.astimezone(UTC)
    except OverflowError:
        raise _refused(n, "at", "is not a moment in UTC") from None
    if at > now + AHEAD:
        raise _refused(n, "at", f"is in the future; here it is {now.isoformat(timespec='seconds')}")
    if at < EARLIEST:
        raise _refused(n, "at", f"is before {EARLIEST.date()}")
    return at


def _channel(event: FeedbackEvent) -> str:
    """An answer to a list that we showed came through it, whether or not the client says so.

    It matters: the exam leaves out what the champion itself showed.
    """
    return "recommendation" if event.request_id and event.channel == "unknown" else event.channel


def _value(n: int, event: FeedbackEvent) -> float | None:
    if event.kind == "rating":
        if event.value is None or not STARS[0] <= event.value <= STARS[1]:
            raise _refused(n, "value", "a rating needs a value from 1 to 5 stars")
    elif event.kind != "purchase" and event.value is not None:
        raise _refused(n, "value", f"only a rating or a purchase has a value, a {event.kind} has none")
    return event.value


def _refused(n: int, field: str, msg: str) -> Problem:
    return Problem(400, f"events[{n}].{field}: {msg}", ("events", n, field), msg)
