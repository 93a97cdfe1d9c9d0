"""How good is what serves? The Production model, judged by the first day that it could not have seen.

python -m training.next_day recommender --night 2011-11-01                               the Production model
python -m training.next_day recommender --night 2011-11-01 --version 1 --version 4       these instead

After night D's gate, the next published day sets an exam like the gate's own: what each user met for the first
time that day, ranked over the full catalogue, features as known when that day began. Popularity, counted up to
that moment, stands beside it. Intervals are 95 % bootstrap intervals over users. Of versions that are asked for,
every user's values are kept too (`values_path`), so that they can be compared user by user.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from nightshift.commands import emit, run_command, step_path
from nightshift.errors import LakeError, RegistryError, SettingsError
from nightshift.featurestore import open_store
from nightshift.lake import open_lake
from nightshift.registry import Registry, Version
from nightshift.seats import RECOMMENDER, Seat, find_seat
from nightshift.settings import Settings, settings
from training.exams import Scores
from training.exams.ranking import METRICS, PER_USER, Exam, score_model
from training.exams.recommender import EXAMINER, build_exam
from training.intervals import mean_interval, seed_from

CONFIDENCE, DRAWS = 0.95, 4_000
KEPT = ("hr_at_10", "ndcg_at_10", "ndcg_at_100")  # of every user, for whoever compares versions


def next_day(config: Settings, seat: Seat, night: date) -> dict[str, Any]:
    """Score the champion on the first published day after `night`.

    With an empty seat, `version` and its figures are None and popularity is scored alone: a night without a
    champion is a fact about that night, not an error.

    Raises:
        LakeError: no later day is published, or nobody met anything new on it.
        RegistryError: the champion has seen that day in training, so it says nothing about it.
        SettingsError: the seat's model does not answer for days.
    """
    day = _day_after(config, seat, night)
    registry = Registry(config)
    champion = registry.champion(seat)
    if champion is not None:
        _must_not_have_seen(champion, day)
    exam, baseline = _exam_of(config, day)
    scores = score_model(registry.load(seat, champion.number), exam) if champion else None
    return {
        "night": night,
        "scored_day": day,
        "version": champion.number if champion else None,
        "users": len(exam.users),
        "digest": exam.digest,
        **figures("", scores, exam.digest),
        **figures("popularity_", baseline, exam.digest),
    }


def judge(
    config: Settings, seat: Seat, night: date, numbers: Sequence[int]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Score these versions on the first published day after `night`, all on the same exam.

    Returns the step's result (`versions`: number → figures), and every user's values: one row per version and user,
    columns night, version, user_id and KEPT.

    Raises:
        LakeError, SettingsError: as `next_day`. RegistryError: no such version, or one has seen that day.
    """
    day = _day_after(config, seat, night)
    registry = Registry(config)
    for version in [registry.get(seat, number) for number in numbers]:
        _must_not_have_seen(version, day)
    exam, baseline = _exam_of(config, day)
    scores = {number: score_model(registry.load(seat, number), exam) for number in sorted(set(numbers))}
    rows = [
        pd.DataFrame(
            {"night": night.isoformat(), "version": number, "user_id": exam.users}
            | {metric: scored.per_unit[metric] for metric in KEPT}
        )
        for number, scored in scores.items()
    ]
    result = {
        "night": night,
        "scored_day": day,
        "users": len(exam.users),
        "digest": exam.digest,
        "versions": {str(number): figures("", scored, exam.digest) for number, scored in scores.items()},
        **figures("popularity_", baseline, exam.digest),
    }
    return result, pd.concat(rows, ignore_index=True)


def values_path(config: Settings, night: date, seat: Seat) -> Path:
    """Where `judge`'s values per user are kept, beside the step's result."""
    return step_path(config, night, f"judged-{seat.name}").with_suffix(".parquet")


def _day_after(config: Settings, seat: Seat, night: date) -> date:
    if seat.name != RECOMMENDER.name:
        raise SettingsError(f"only the {RECOMMENDER.name} is judged by the next day, not the {seat.name}")
    later = [day for day in open_lake(config).days() if day > night]
    if not later:
        raise LakeError(f"no day after {night} is published yet; run `nightshift ingest` for the next one")
    return later[0]


def _exam_of(config: Settings, day: date) -> tuple[Exam, Scores]:
    """The exam that this one day sets, and how popularity does on it."""
    lake = open_lake(config)
    alone = config.model_copy(update={"exam_days": 1, "exam_users": 0, "exam_users_after_drift": 0})
    window = EXAMINER.night(lake, day, alone)
    exam = build_exam(lake, open_store(config), window, config)
    return exam, score_model(EXAMINER.baselines(lake, config, window)["popularity"], exam)


def figures(prefix: str, scores: Scores | None, digest: str) -> dict[str, Any]:
    """Every metric's mean, and `<metric>_interval` [low, high] of each per-user one; None without scores.

    None, too, for a metric that the model has no figure of.
    """
    result: dict[str, Any] = {}
    for metric in METRICS:
        result[f"{prefix}{metric}"] = scores.means().get(metric) if scores else None
    for metric in PER_USER:
        result[f"{prefix}{metric}_interval"] = (
            mean_interval(scores.per_unit[metric], confidence=CONFIDENCE, draws=DRAWS, seed=seed_from(digest))
            if scores
            else None
        )
    return result


def _must_not_have_seen(version: Version, day: date) -> None:
    train_end = version.tags.get("train_end", "")
    if not train_end or train_end >= day.isoformat():
        known = f"data up to {train_end}" if train_end else "data of unknown age"
        raise RegistryError(
            f"version {version.number} was trained on {known}: day {day} cannot judge it; "
            "score each night before the next one promotes"
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.next_day", description=__doc__)
    parser.add_argument("seat")
    parser.add_argument("--night", type=date.fromisoformat, required=True)
    parser.add_argument(
        "--version", type=int, action="append", dest="versions", help="instead of the champion"
    )
    given = parser.parse_args(arguments)
    config = settings()
    seat = find_seat(given.seat)
    if not given.versions:
        emit(config, given.night, f"next-day-{seat.name}", next_day(config, seat, given.night))
        return
    result, values = judge(config, seat, given.night, given.versions)
    path = values_path(config, given.night, seat)
    path.parent.mkdir(parents=True, exist_ok=True)
    values.to_parquet(path, index=False)  # first: the step's result says that the values are there
    emit(config, given.night, f"judged-{seat.name}", result)


if __name__ == "__main__":
    run_command(main)
