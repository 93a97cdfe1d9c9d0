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
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nightshift import featurestore
from nightshift.contracts.features import HORIZON, TOPIC_VIEW, VIEWS, window_column
from nightshift.contracts.indicators import (
    INDICATOR_NAMES,
    INDICATORS,
    known,
    monday,
    week_of,
    weeks_after,
)
from nightshift.errors import LakeError, NoDataError
from nightshift.lake import Lake
from nightshift.settings import Settings
from nightshift.velocity import told_enough
from training.baselines.naive import LastValue, SeasonalNaive
from training.behaviour.forecaster import try_model
from training.evidence import Measured
from training.exams import Content, EmptyExamError, Scores
from training.exams.forecasts import METRICS, Exam, score_model
from training.recipe import Night

if TYPE_CHECKING:
    from feast import FeatureStore

EXAM_WEEKS = 8  # two rounds of answers that do not overlap; more would keep the newest weeks from training
HISTORY_WEEKS = 260  # five years
# Velocity needs half a year to begin with; a year of its changes is the least that shows a season.
LEAST_WEEKS = 26 + HORIZON + 52 + HORIZON + EXAM_WEEKS
SMOKE_WEEKS = 104
YEAR = timedelta(weeks=52)
THIS_WEEK = [window_column(name, 0) for name in INDICATOR_NAMES]


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

    def content(self, lake: Lake, settings: Settings, night: Night) -> Content:
        """Every week's indicators as first known, the exam's questions and answers; what names the week left out."""
        store = featurestore.open_store(settings)
        weeks = digest_of_weeks(rows_of_weeks(store, night.train_start, night.night, night.night))
        first = week_of(night.exam_start)
        return Content(
            training={week: digest for week, digest in weeks.items() if week < first},
            exam={week: digest for week, digest in weeks.items() if week >= first},
        )

    def set(self, lake: Lake, settings: Settings, night: Night) -> Exam:
        store = featurestore.open_store(settings)
        past = rows_of_weeks(
            store, max(night.train_start, night.exam_start - YEAR), night.train_end, night.night
        )
        return build_exam(
            rows_of_weeks(store, night.exam_start, night.night, night.night), night, used_to_move(past)
        )

    def baselines(self, lake: Lake, settings: Settings, night: Night) -> dict[str, Any]:
        """Nothing changes, it changes as a year ago, and the ridge family's model, from the training weeks alone.

        Raises:
            NoDataError: too few changes of velocity are known for a ridge, and so for any forecaster.
        """
        store = featurestore.open_store(settings)
        rows = rows_of_weeks(store, night.train_start, night.train_end, night.night)
        learnt = rows.merge(answers(rows), on=["topic", "week"])
        from training.forecasting.recipe import ForecastRecipe  # reads its rows by this module's own function

        return {
            "last value": LastValue(learnt),
            "seasonal naive": SeasonalNaive(learnt),
            "ridge": ForecastRecipe("ridge").in_memory(rows, night),
        }

    def score(self, model: Any, exam: Exam) -> Scores:
        return score_model(model, exam)

    def behaviour(self, model: Any, exam: Exam) -> Measured:
        return try_model(model, exam)

    def rest(self) -> None:
        """Scoring keeps nothing."""

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


def used_to_move(past: pd.DataFrame) -> dict[str, float]:
    """Topic → mean absolute change of its velocity in four weeks, in points, over rows of weeks before the exam."""
    moved = past.assign(moved=past["velocity_change_4w"].astype(np.float64).abs())
    means = moved.groupby("topic")["moved"].mean().dropna()
    return {str(topic): float(mean) for topic, mean in means.items()}


def digest_of_weeks(rows: pd.DataFrame) -> dict[str, str]:
    """Week → sha256 of its own indicators, of all topics that told enough of it for a velocity.

    A week of which nothing but zeros is told is left out: all such weeks are alike, and say nothing.
    """
    values = rows[THIS_WEEK].to_numpy(np.float64)
    told = rows[told_enough(values) & (np.nan_to_num(values) != 0).any(axis=1)]
    found = {}
    for week, mine in told.sort_values("topic").groupby("week"):
        content = pd.util.hash_pandas_object(mine[["topic", *THIS_WEEK]], index=False).to_numpy()
        found[str(week)] = hashlib.sha256(content.tobytes()).hexdigest()
    return found


def build_exam(rows: pd.DataFrame, night: Night, moved: Mapping[str, float] | None = None) -> Exam:
    """The exam of `night` from rows as first known, of the week of its `exam_start` and later.

    moved: of any topics, how much their velocity used to move (`used_to_move`).

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
    told = {topic: moved[topic] for topic in topics if topic in moved} if moved else {}
    content = pd.util.hash_pandas_object(known, index=False).to_numpy().tobytes() + change.tobytes()
    return Exam(
        topics=topics,
        topic=pd.Index(topics).get_indexer(asked["topic"]).astype(np.int64),
        rows=known,
        change=change,
        start=night.exam_start,
        end=last,
        digest=hashlib.sha256(content + json.dumps(told).encode()).hexdigest(),
        moved=told,
    )
