"""The forecaster's exam: the changes of velocity whose end came to be known in the last weeks.

A question is a topic's row of four weeks, as first known; the answer is the velocity four weeks later, as first
known, minus that of the row. The newest EXAM_WEEKS weeks are kept as answers. Training ends with the week before the
first *question*, HORIZON weeks earlier than the first answer: a velocity looks back over four weeks, so a model that
had seen the weeks between would know part of the answers (one that only repeats a topic's last velocity would score
a skill of 0.29 on the market). That week's Sunday is the night's `train_end`, the Monday after it `exam_start`.

New weeks come once a week, so seven nights sit much the same exam. Equal data, code and seed give the equal model on
CPU, and the gate counts every other one as a further try at the same exam.
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

from nightshift import featurestore
from nightshift.contracts.features import HORIZON, TOPIC_VIEW, VIEWS
from nightshift.contracts.indicators import (
    INDICATOR_NAMES,
    INDICATORS,
    known,
    monday,
    week_of,
    weeks_after,
)
from nightshift.errors import ContractError, LakeError, NoDataError
from nightshift.lake import Lake
from nightshift.settings import Settings
from nightshift.velocity import told_enough
from training.baselines.naive import LastValue, SeasonalNaive
from training.exams import EmptyExamError, Scores
from training.recipe import Night

if TYPE_CHECKING:
    from feast import FeatureStore

EXAM_WEEKS = 8  # two rounds of answers that do not overlap; more would keep the newest weeks from training
HISTORY_WEEKS = 260  # five years
# Velocity needs half a year to begin with; a year of its changes is the least that shows a season.
LEAST_WEEKS = 26 + HORIZON + 52 + HORIZON + EXAM_WEEKS
SMOKE_WEEKS = 104
PER_TOPIC = ("mse", "mae", "interval_score_80")
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
        exam_start = monday(weeks_after(newest, 1 - EXAM_WEEKS - HORIZON))
        history = SMOKE_WEEKS if smoke else HISTORY_WEEKS
        start = max(monday(first), exam_start - timedelta(weeks=history))
        return Night(
            night=day, train_start=start, train_end=exam_start - timedelta(days=1), exam_start=exam_start
        )

    def digest(self, lake: Lake, night: Night) -> str:
        """Over all indicators published up to the night: an older week may have been told on any of its days."""
        return lake.digest(lake.days()[0], night.night, tables=(INDICATORS.name,))

    def set(self, lake: Lake, settings: Settings, night: Night) -> Exam:
        store = featurestore.open_store(settings)
        return build_exam(rows_of_weeks(store, night.exam_start, night.night, night.night), night)

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
            f"{week_of(exam.start + timedelta(weeks=HORIZON))} to {week_of(exam.end)}, each forecast from what was "
            "known at its start by models that were trained on earlier weeks"
        )


EXAMINER = Velocity()


def told_weeks(lake: Lake, day: date) -> tuple[str, str]:
    """The first week told by `day`, and the newest that more than half of the topics have told that still are told of.

    A week is told as it is to the features: once half of the velocity's weight is known of it. Topics that ended
    long ago must not hold the exam back.

    Raises:
        NoDataError: no source has told of any, or of none lately.
    """
    days = lake.days()
    told = lake.read(INDICATORS.name, days[0], day)
    if not told.num_rows:
        raise NoDataError(
            f"night {day}: no indicators are in the lake: the forecaster seat is left out tonight"
        )
    weeks = known(told)
    weeks = weeks[told_enough(weeks[list(INDICATOR_NAMES)].to_numpy())]
    if weeks.empty:
        raise NoDataError(
            f"night {day}: of no topic's week is half of the velocity's weight known: "
            "the forecaster seat is left out tonight"
        )
    last = weeks["week"].max()
    oldest = week_of(day - timedelta(days=VIEWS[TOPIC_VIEW].ttl_days))
    newest = sorted(week for week in weeks.drop_duplicates("topic", keep="last")["week"] if week >= oldest)
    if not newest:
        raise NoDataError(
            f"night {day}: no topic has told of a week since {last}: the forecaster seat is left out tonight"
        )
    return weeks["week"].min(), newest[(len(newest) - 1) // 2]


def rows_of_weeks(store: FeatureStore, first: date, last: date, night: date) -> pd.DataFrame:
    """The rows that describe the weeks from Monday `first` to Sunday `last`, as first known, told by `night`.

    One per topic and week. A week's row is told some days after its Sunday: what counts is which week it is of. And
    when it was told: a topic that opens later brings rows of earlier weeks, which a night that is run again must not
    see.
    """
    moments = (datetime.combine(day, time(), UTC) for day in (first, night + timedelta(days=1)))
    rows = featurestore.rows(store, TOPIC_VIEW, *moments)
    rows = rows[(rows["week"] >= week_of(first)) & (rows["week"] <= week_of(last))]
    rows = rows[rows["told_on"] <= night.isoformat()]
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
    """The exam of `night` from rows as first known, of the week of its `exam_start` and later.

    Raises:
        EmptyExamError: no change of velocity ended in the exam's weeks.
    """
    ended = answers(rows)
    ended = ended[ended["week"] >= week_of(night.exam_start)]
    asked = rows.merge(ended, on=["topic", "week"]).sort_values(["topic", "week"], ignore_index=True)
    if asked.empty:
        raise EmptyExamError(
            f"exam from {week_of(night.exam_start)}: no topic's velocity is known both then and {HORIZON} weeks later"
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
    """MSE and MAE per topic (mean over its changes), in points; skill against last value; how good the intervals are.

    `miss_80` is how far the 80 % interval's coverage is from 0.80; `width_80` its mean width in points;
    `interval_score_80` is the width plus 10 times how far outside the change was (Gneiting & Raftery 2007, eq. 43):
    lower is better, and neither too wide nor too narrow pays.

    Raises:
        ContractError: the forecast does not have a row per question and the protocol's columns, or an interval is
            no interval.
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
    per_topic = {"mse": mse, "mae": by_topic(np.abs(error))}
    for level in LEVELS:
        low, high = (given[f"{end}_{level}"].to_numpy(np.float64) for end in ("low", "high"))
        if not (np.isfinite(low) & np.isfinite(high) & (low <= high)).all():
            raise ContractError(
                f"the model gave a {level} % interval that is not one: upside down or not finite"
            )
        covered = float(((low <= exam.change) & (exam.change <= high)).mean())
        totals |= {f"coverage_{level}": covered, f"miss_{level}": abs(covered - level / 100)}
        if level == LEVELS[0]:
            outside = np.maximum(low - exam.change, 0) + np.maximum(exam.change - high, 0)
            per_topic["interval_score_80"] = by_topic(high - low + 2 / (1 - level / 100) * outside)
            totals["width_80"] = float((high - low).mean())
    return Scores(per_topic, totals)
