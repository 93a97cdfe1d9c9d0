"""The retrains that the watch asked for: facts, one object each, `triggers/<day>-<seat>-v<champion>.json` in the store.

The watch writes them. It reads them too, so as not to ask twice, and so does the recommender's examiner: right after
a drift the exam is short, so that a night soon trains on rows from after it (docs/decisions/0014).

A fact is never changed once it is written. It says how far the lake was published when it was made, and counts for
the nights after that alone: no such night can have begun to train, because a night trains once its day is published.
So the training and the gate of a night, its families, and the same night run again all see the same facts, however
late somebody asks. (Between reading how far the lake is and writing the fact lie milliseconds; between a day's
publication and its training lies the building of its features.)
Not here: whether Airflow was woken, which is the watch's own business.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from nightshift.lake import MAX_EXAM_DAYS, open_lake
from nightshift.settings import Settings
from nightshift.store import as_json, shared

FOLDER = "triggers"


@dataclass(frozen=True)
class Retrain:
    """A retrain that was asked for: after which day's features, for which seat, with which champion in it.

    published: the newest published day when it was asked for, never before `day`.
    """

    day: date
    seat: str
    champion: int
    published: date


def requested(settings: Settings, seat: str) -> list[Retrain]:
    """All that was ever asked for a seat, in order of day; read anew each time."""
    store = shared(settings)
    facts = [store.read(f"{FOLDER}/{name}") for name in store.names(FOLDER) if name.endswith(".json")]
    found = [_read(fact) for fact in facts if fact is not None]
    return [one for one in found if one.seat == seat]


def keep(settings: Settings, day: date, seat: str, champion: int, told: dict[str, Any]) -> str:
    """Write the fact that a retrain is asked for; doing it again changes nothing. `told` is kept beside it.

    Returns the name that it has in the store.
    """
    store, name = shared(settings), f"{FOLDER}/{day}-{seat}-v{champion}.json"
    if store.read(name) is None:
        published = max(day, open_lake(settings).last_day() or day)
        fact = {"fact": "RetrainRequested", "day": day, "seat": seat, "champion": champion}
        store.create(name, as_json({**told, **fact, "published": published}))
    return name


def after_drift(asked: Iterable[Retrain], days: list[date]) -> bool:
    """Whether the last of the published `days` is a night within reach of a drift.

    It is while an exam of MAX_EXAM_DAYS could still take the day of the request in, and so keep it from training;
    the days are counted as exams are, in published ones.
    """
    reach = days[-MAX_EXAM_DAYS:]
    return bool(reach) and any(reach[0] <= one.day and one.published < reach[-1] for one in asked)


def _read(content: bytes) -> Retrain:
    fact = json.loads(content)
    day = date.fromisoformat(fact["day"])
    published = date.fromisoformat(fact.get("published", fact["day"]))  # earlier facts do not say
    return Retrain(day, fact["seat"], int(fact["champion"]), published)
