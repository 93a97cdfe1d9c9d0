"""How good is what serves? The Production model, judged by the first day that it could not have seen.

python -m training.next_day recommender --night 2011-11-01

After night D's gate, the next published day sets an exam like the gate's own: what each user met for the first
time that day, ranked over the full catalogue, features as known when that day began. Popularity, counted up to
that moment, stands beside it. Intervals are 95 % bootstrap intervals over users.
"""

from __future__ import annotations

import argparse
from datetime import date
from typing import Any

from nightshift.commands import emit, run_command
from nightshift.errors import LakeError, RegistryError, SettingsError
from nightshift.featurestore import open_store
from nightshift.lake import Lake
from nightshift.registry import Registry, Version
from nightshift.seats import RECOMMENDER, Seat
from nightshift.settings import Settings, settings
from training.examine import find_seat
from training.exams import Scores
from training.exams.ranking import METRICS, PER_USER, score_model
from training.exams.recommender import EXAMINER, build_exam
from training.intervals import mean_interval, seed_from

CONFIDENCE, DRAWS = 0.95, 4_000


def next_day(config: Settings, seat: Seat, night: date) -> dict[str, Any]:
    """Score the champion on the first published day after `night`.

    With an empty seat, `version` and its figures are None and popularity is scored alone: a night without a
    champion is a fact about that night, not an error.

    Raises:
        LakeError: no later day is published, or nobody met anything new on it.
        RegistryError: the champion has seen that day in training, so it says nothing about it.
        SettingsError: the seat's model does not answer for days.
    """
    if seat.name != RECOMMENDER.name:
        raise SettingsError(f"only the {RECOMMENDER.name} is judged by the next day, not the {seat.name}")
    lake = Lake(config.lake_dir)
    later = [day for day in lake.days() if day > night]
    if not later:
        raise LakeError(f"no day after {night} is published yet; run `nightshift ingest` for the next one")
    day = later[0]
    registry = Registry(config)
    champion = registry.champion(seat)
    if champion is not None:
        _must_not_have_seen(champion, day)
    window = EXAMINER.night(lake, day, config.model_copy(update={"exam_days": 1, "exam_users": 0}))
    exam = build_exam(lake, open_store(config), window, config)
    scores = score_model(registry.load(seat, champion.number), exam) if champion else None
    baseline = score_model(EXAMINER.baselines(lake, config, window)["popularity"], exam)
    return {
        "night": night,
        "scored_day": day,
        "version": champion.number if champion else None,
        "users": len(exam.users),
        "digest": exam.digest,
        **figures("", scores, exam.digest),
        **figures("popularity_", baseline, exam.digest),
    }


def figures(prefix: str, scores: Scores | None, digest: str) -> dict[str, Any]:
    """Every metric's mean, and `<metric>_interval` [low, high] of each per-user one; None without scores."""
    result: dict[str, Any] = {}
    for metric in METRICS:
        result[f"{prefix}{metric}"] = scores.means()[metric] if scores else None
    for metric in PER_USER:
        result[f"{prefix}{metric}_interval"] = (
            mean_interval(scores.per_unit[metric], confidence=CONFIDENCE, draws=DRAWS, seed=seed_from(digest))
            if scores
            else None
        )
    return result


def _must_not_have_seen(champion: Version, day: date) -> None:
    train_end = champion.tags.get("train_end", "")
    if not train_end or train_end >= day.isoformat():
        known = f"data up to {train_end}" if train_end else "data of unknown age"
        raise RegistryError(
            f"version {champion.number} was trained on {known}: day {day} cannot judge it; "
            "score each night before the next one promotes"
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.next_day", description=__doc__)
    parser.add_argument("seat")
    parser.add_argument("--night", type=date.fromisoformat, required=True)
    given = parser.parse_args(arguments)
    config = settings()
    seat = find_seat(given.seat)
    emit(config, given.night, f"next-day-{seat.name}", next_day(config, seat, given.night))


if __name__ == "__main__":
    run_command(main)
