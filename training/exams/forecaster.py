"""The forecaster's exam: the changes of velocity whose end came to be known in the last weeks.

A question is a topic's row of four weeks, as first known; the answer is the velocity four weeks later, as first
known, minus that of the row. The newest EXAM_WEEKS weeks are kept as answers, so nobody may train on a change that
ends in one of them: training ends with the week before. That week's Sunday is the night's `train_end`.

New weeks come once a week, so seven nights sit much the same exam: the gate learns nothing new on six of them, and
seats nobody whom it did not seat on the first (the same data give the same models, on CPU to the last digit).
Topics share the weeks, so an event that moved all of them at once counts once, not once a topic; the interval over
topics does not know that.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from nightshift import featurestore
from nightshift.contracts.features import HORIZON, TOPIC_VIEW
from nightshift.contracts.indicators import INDICATORS, monday, week_of, weeks_after
from nightshift.errors import ContractError, LakeError, NoDataError
from nightshift.lake import Lake
from nightshift.settings import Settings
from training.baselines.naive import LastValue, SeasonalNaive
from training.exams import EmptyExamError, Scores
from training.recipe import Night

if TYPE_CHECKING:
    from feast import FeatureStore

EXAM_WEEKS = 8  # two rounds of answers that do not overlap; more would keep the newest weeks from training
HISTORY_WEEKS = 260  # five years
# Velocity needs half a year to begin with; a year of its changes is the least that shows a season.
LEAST_WEEKS = 26 + HORIZON + 52 + EXAM_WEEKS
SMOKE_WEEKS = 104
PER_TOPIC = ("mse", "mae")
LEVELS = (80, 95)
METRICS = (
    *PER_TOPIC,
    "skill",
    *(f"{what}_{level}" for what in ("coverage", "miss") for level in LEVELS),
    "width_80",
)
ANSWER = ("change", *(f"{end}_{level}" for level in LEVELS for end in ("low", "high")))


@dataclass(frozen=True)
class Exam:
    """topic [n] int64 indexes `topics`, in the order of `rows` [n]; change [n] float64 is what came, in points."""

    topics: list[str]
    topic: np.ndarray
    rows: pd.DataFrame
    change: np.ndarray
    start: date
    end: date
    digest: str

    def __len__(self) -> int:
        return len(self.topics)


class Velocity:
    """Examiner of the forecaster seat: how will a topic's velocity have changed in four weeks?"""

    unit = "topics"
    metrics = METRICS

    def night(self, lake: Lake, day: date, settings: Settings, *, smoke: bool = False) -> Night:
        """Weeks as days: a Monday starts them and a Sunday ends them."""
        if lake.entry(day) is None:
            raise LakeError(f"night {day} is not published; run `nightshift ingest --night {day}` first")
        first, newest = told_weeks(lake, day)
        weeks = (monday(newest) - monday(first)).days // 7 + 1
        if weeks < LEAST_WEEKS:
            raise NoDataError(
                f"night {day}: indicators of {weeks} weeks ({first} to {newest}) are in the lake, "
                f"{LEAST_WEEKS} are needed for a forecaster: the seat is left out tonight"
            )
        exam_start = monday(weeks_after(newest, 1 - EXAM_WEEKS))
        history = SMOKE_WEEKS if smoke else HISTORY_WEEKS
        start = max(monday(first), exam_start - timedelta(weeks=history))
        return Night(
            night=day, train_start=start, train_end=exam_start - timedelta(days=1), exam_start=exam_start
        )

    def digest(self, lake: Lake, night: Night) -> str:
        """Over all indicators published up to the night: an older week may have been told on any of its days."""
        return lake.digest(lake.days()[0], night.night, tables=(INDICATORS.name,))

    def set(self, lake: Lake, settings: Settings, night: Night) -> Exam:
        first = night.exam_start - timedelta(weeks=HORIZON)
        rows = rows_of_weeks(featurestore.open_store(settings), first, night.night, night.night)
        return build_exam(rows, night)

    def baselines(self, lake: Lake, settings: Settings, night: Night) -> dict[str, Any]:
        store = featurestore.open_store(settings)
        rows = rows_of_weeks(store, night.train_start, night.train_end, night.night)
        learnt = rows.merge(answers(rows), on=["topic", "week"])
        return {"last value": LastValue(learnt), "seasonal naive": SeasonalNaive(learnt)}

    def score(self, model: Any, exam: Exam) -> Scores:
        return score_model(model, exam)

    def about(self, exam: Exam) -> str:
        return (
            f"{len(exam):,} topics, {len(exam.rows):,} changes of velocity over {HORIZON} weeks that ended in weeks "
            f"{week_of(exam.start)} to {week_of(exam.end)}, each forecast from what was known at its start"
        )


EXAMINER = Velocity()


def told_weeks(lake: Lake, day: date) -> tuple[str, str]:
    """The first week known by `day`, and the newest that at least half of the topics have told.

    Raises:
        NoDataError: no source has told of any.
    """
    days = lake.days()
    told = lake.read(INDICATORS.name, days[0], day)
    if not told.num_rows:
        raise NoDataError(
            f"night {day}: no indicators are in the lake: the forecaster seat is left out tonight"
        )
    newest = sorted(told.group_by("topic").aggregate([("week", "max")])["week_max"].to_pylist())
    return pc.min(told["week"]).as_py(), newest[len(newest) // 2 if len(newest) % 2 else len(newest) // 2 - 1]


def rows_of_weeks(store: FeatureStore, first: date, last: date, night: date) -> pd.DataFrame:
    """The rows that describe the weeks from Monday `first` to Sunday `last`, as first known, by the end of `night`.

    One per topic and week. A week's row is told some days after its Sunday: what counts is which week it is of.
    """
    moments = (datetime.combine(day, time(), UTC) for day in (first, night + timedelta(days=1)))
    rows = featurestore.rows(store, TOPIC_VIEW, *moments)
    rows = rows[(rows["week"] >= week_of(first)) & (rows["week"] <= week_of(last))]
    return rows.sort_values("event_timestamp", kind="stable").drop_duplicates(
        ["topic", "week"], ignore_index=True
    )


def answers(rows: pd.DataFrame) -> pd.DataFrame:
    """`topic`, `week` and `change`: what velocity came to be HORIZON weeks later, minus what it was."""
    known = rows.loc[rows["velocity"].notna(), ["topic", "week", "velocity"]]
    later = known.assign(
        week=known["week"].map(lambda week: weeks_after(week, -HORIZON)).astype(known["week"].dtype)
    )
    both = known.merge(later, on=["topic", "week"], suffixes=("", "_later"))
    return both.assign(change=both["velocity_later"] - both["velocity"])[["topic", "week", "change"]]


def build_exam(rows: pd.DataFrame, night: Night) -> Exam:
    """The exam of `night` from rows as first known, four weeks before the exam's first week to its last.

    Raises:
        EmptyExamError: no change of velocity ended in the exam's weeks.
    """
    ended = answers(rows)
    ended = ended[ended["week"] >= weeks_after(week_of(night.exam_start), -HORIZON)]
    asked = rows.merge(ended, on=["topic", "week"]).sort_values(["topic", "week"], ignore_index=True)
    if asked.empty:
        raise EmptyExamError(
            f"exam from {week_of(night.exam_start)}: no topic's velocity is known both then and {HORIZON} weeks before"
        )
    topics = sorted(asked["topic"].unique())
    change = asked.pop("change").to_numpy(np.float64)
    last = monday(weeks_after(asked["week"].max(), HORIZON)) + timedelta(days=6)
    known = asked.drop(columns="event_timestamp")
    content = pd.util.hash_pandas_object(known, index=False).to_numpy().tobytes() + change.tobytes()
    return Exam(
        topics=topics,
        topic=pd.Index(topics).get_indexer(asked["topic"]).astype(np.int64),
        rows=known,
        change=change,
        start=night.exam_start,
        end=last,
        digest=hashlib.sha256(content).hexdigest(),
    )


def score_model(model: Any, exam: Exam) -> Scores:
    """MSE and MAE per topic (mean over its changes), in points; skill against last value; the intervals' coverage.

    `miss_80` is how far the 80 % interval's coverage is from 0.80; `width_80` its mean width in points.

    Raises:
        ContractError: the forecast does not have a row per question and the protocol's columns.
    """
    given = model.forecast(exam.rows.copy())
    missing = [name for name in ANSWER if name not in given]
    if missing or len(given) != len(exam.rows):
        raise ContractError(
            f"the model gave {len(given)} rows with {list(given)}, expected {len(exam.rows)} with {list(ANSWER)}"
        )
    error = given["change"].to_numpy(np.float64) - exam.change
    topics, count = len(exam), np.bincount(exam.topic, minlength=len(exam))

    def by_topic(values: np.ndarray) -> np.ndarray:
        return np.bincount(exam.topic, weights=values, minlength=topics) / count

    mse, last_value = by_topic(error**2), by_topic(exam.change**2)
    totals = {"skill": float(1 - mse.mean() / last_value.mean()) if last_value.any() else 0.0}
    for level in LEVELS:
        low, high = (given[f"{end}_{level}"].to_numpy(np.float64) for end in ("low", "high"))
        covered = float(((low <= exam.change) & (exam.change <= high)).mean())
        totals |= {f"coverage_{level}": covered, f"miss_{level}": abs(covered - level / 100)}
        if level == LEVELS[0]:
            totals["width_80"] = float((high - low).mean())
    return Scores({"mse": mse, "mae": by_topic(np.abs(error))}, totals)
