"""The retrains that the watch asked for: facts, one file each, in `home/triggers/<day>-<seat>-v<champion>.json`.

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
from pathlib import Path
from typing import Any

from nightshift.lake import MAX_EXAM_DAYS, Lake, write_json
from nightshift.settings import Settings


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
    found = [_read(path) for path in sorted(_folder(settings).glob("*.json"))]
    return [one for one in found if one.seat == seat]


def keep(settings: Settings, day: date, seat: str, champion: int, told: dict[str, Any]) -> Path:
    """Write the fact that a retrain is asked for; doing it again changes nothing. `told` is kept beside it."""
    path = _folder(settings) / f"{day}-{seat}-v{champion}.json"
    if not path.exists():
        published = max(day, Lake(settings.lake_dir).last_day() or day)
        fact = {"fact": "RetrainRequested", "day": day, "seat": seat, "champion": champion}
        write_json(path, {**told, **fact, "published": published})
    return path


def after_drift(asked: Iterable[Retrain], days: list[date]) -> bool:
    """Whether the last of the published `days` is a night within reach of a drift.

    It is while an exam of MAX_EXAM_DAYS could still take the day of the request in, and so keep it from training;
    the days are counted as exams are, in published ones.
    """
    reach = days[-MAX_EXAM_DAYS:]
    return bool(reach) and any(reach[0] <= one.day and one.published < reach[-1] for one in asked)


def _read(path: Path) -> Retrain:
    fact = json.loads(path.read_text())
    day = date.fromisoformat(fact["day"])
    published = date.fromisoformat(fact.get("published", fact["day"]))  # earlier facts do not say
    return Retrain(day, fact["seat"], int(fact["champion"]), published)


def _folder(settings: Settings) -> Path:
    return settings.home / "triggers"
