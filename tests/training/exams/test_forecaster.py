"""The forecaster's exam: which changes it asks about, what is known at their start, and how they are scored."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.contracts import INDICATORS
from nightshift.contracts.indicators import monday, week_of, weeks_after
from nightshift.errors import ContractError, LakeError, NoDataError
from nightshift.lake import Lake
from nightshift.settings import Settings
from nightshift.sources import DayBatch
from tests.conftest import publish_day
from training.exams import EmptyExamError
from training.exams.forecaster import (
    ANSWER,
    EXAM_WEEKS,
    EXAMINER,
    LEAST_WEEKS,
    METRICS,
    answers,
    build_exam,
    score_model,
    told_weeks,
)
from training.recipe import Night

NEWEST = "2026-W38"
EXAM_START = monday(weeks_after(NEWEST, 1 - EXAM_WEEKS))
NIGHT = Night(
    night=date(2026, 9, 28),
    train_start=date(2024, 1, 1),
    train_end=EXAM_START - timedelta(days=1),
    exam_start=EXAM_START,
)


def rows(topics: int = 3, weeks: int = 16, seed: int = 0) -> pd.DataFrame:
    """Rows of the topic view, as first known: a Wednesday after each week."""
    random = np.random.default_rng(seed)
    found = [
        {
            "topic": f"주제 {topic}",
            "week": week,
            "velocity": float(random.uniform(0, 100)),
            "event_timestamp": datetime.combine(monday(week) + timedelta(days=10), time(), UTC),
        }
        for topic in range(topics)
        for week in (weeks_after(NEWEST, -ago) for ago in range(weeks))
    ]
    return pd.DataFrame(found)


class Model:
    """Forecasts `change`, with an interval of `width` to either side."""

    def __init__(self, change: np.ndarray | float, width: float = 10.0, **spoilt: Any) -> None:
        self.change, self.width, self.spoilt = change, width, spoilt
        self.asked = pd.DataFrame()

    def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
        self.asked = rows
        change = np.broadcast_to(np.asarray(self.change, float), len(rows))
        ends = {
            f"{end}_{level}": change + sign * self.width
            for level in (80, 95)
            for end, sign in (("low", -1), ("high", 1))
        }
        return pd.DataFrame({"change": change, **ends, **self.spoilt})


def test_the_answers_are_the_newest_weeks_and_every_question_knows_only_its_start() -> None:
    exam = build_exam(rows(), NIGHT)
    assert len(exam) == 3 and len(exam.rows) == 3 * EXAM_WEEKS
    ends = {weeks_after(week, 4) for week in exam.rows["week"]}
    assert ends == {weeks_after(NEWEST, -ago) for ago in range(EXAM_WEEKS)}
    assert exam.start == EXAM_START and exam.end == monday(NEWEST) + timedelta(days=6)
    assert "change" not in exam.rows and "event_timestamp" not in exam.rows
    velocity = rows().set_index(["topic", "week"])["velocity"]
    for row, change in zip(exam.rows.to_dict("records"), exam.change, strict=True):
        later = velocity[row["topic"], weeks_after(row["week"], 4)]
        assert change == pytest.approx(later - row["velocity"])
        assert (
            exam.topics[
                exam.topic[
                    exam.rows.index[exam.rows["week"].eq(row["week"]) & exam.rows["topic"].eq(row["topic"])][
                        0
                    ]
                ]
            ]
            == row["topic"]
        )


def test_no_answer_is_a_change_that_training_may_learn_from() -> None:
    asked = build_exam(rows(), NIGHT).rows
    learnt = answers(rows())
    learnt = learnt[[monday(weeks_after(week, 4)) <= NIGHT.train_end for week in learnt["week"]]]
    both = asked.merge(learnt, on=["topic", "week"])
    assert len(learnt) > 0 and both.empty


def test_a_week_whose_velocity_is_unknown_is_neither_asked_about_nor_an_answer() -> None:
    holed = rows()
    holed.loc[holed["week"] == NEWEST, "velocity"] = np.nan
    holed.loc[holed["week"] == weeks_after(NEWEST, -5), "velocity"] = np.nan
    exam = build_exam(holed, NIGHT)
    weeks = set(exam.rows["week"])
    assert weeks_after(NEWEST, -4) not in weeks and weeks_after(NEWEST, -5) not in weeks
    assert np.isfinite(exam.change).all()
    with pytest.raises(EmptyExamError, match="no topic's velocity is known"):
        build_exam(rows().assign(velocity=np.nan), NIGHT)


def test_equal_questions_have_an_equal_digest_and_one_changed_figure_another() -> None:
    shuffled = rows().sample(frac=1, random_state=1)
    changed = rows()
    changed.loc[0, "velocity"] += 1e-9
    first = build_exam(rows(), NIGHT)
    assert build_exam(shuffled, NIGHT).digest == first.digest
    assert build_exam(changed, NIGHT).digest != first.digest
    assert build_exam(rows().assign(event_timestamp=pd.Timestamp(0, tz="UTC")), NIGHT).digest == first.digest


def test_a_perfect_forecast_has_no_error_and_last_value_no_skill() -> None:
    exam = build_exam(rows(), NIGHT)
    perfect, nothing = score_model(Model(exam.change), exam), score_model(Model(0.0), exam)
    assert set(perfect.means()) == set(METRICS)
    assert perfect.per_unit["mse"].tolist() == [0, 0, 0] and perfect.totals["skill"] == 1
    assert nothing.totals["skill"] == 0
    assert (perfect.totals["coverage_80"], perfect.totals["miss_80"]) == (1.0, pytest.approx(0.2))
    assert perfect.totals["width_80"] == pytest.approx(20)


def test_errors_are_means_per_topic() -> None:
    exam = build_exam(rows(), NIGHT)
    wrong = np.where(exam.topic == 1, 3.0, 0.0)
    scores = score_model(Model(exam.change + wrong), exam)
    assert scores.per_unit["mse"] == pytest.approx([0, 9, 0]) and scores.per_unit["mae"] == pytest.approx(
        [0, 3, 0]
    )


@given(st.integers(0, 1_000), st.floats(0, 200))
def test_a_wider_interval_covers_no_less(seed: int, width: float) -> None:
    exam = build_exam(rows(seed=seed), NIGHT)
    narrow, wide = (score_model(Model(0.0, w), exam).totals for w in (width, width + 5))
    assert wide["coverage_80"] >= narrow["coverage_80"] and wide["width_80"] > narrow["width_80"]


def test_a_forecast_that_is_not_a_number_leaves_no_usable_figure() -> None:
    exam = build_exam(rows(), NIGHT)
    forecast = exam.change.copy()
    forecast[0] = np.nan
    assert np.isnan(score_model(Model(forecast), exam).means()["mse"])


def test_an_answer_of_the_wrong_shape_is_named() -> None:
    exam = build_exam(rows(), NIGHT)

    class Short(Model):
        def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
            return super().forecast(rows.head(2))

    class Bare(Model):
        def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
            return super().forecast(rows)[["change"]]

    with pytest.raises(ContractError, match=r"the model gave 2 rows .* expected 24"):
        score_model(Short(0.0), exam)
    with pytest.raises(ContractError, match=ANSWER[-1]):
        score_model(Bare(0.0), exam)


# --- which weeks a night has ---------------------------------------------------------------------------


def told(lake: Lake, day: date, weeks: dict[str, list[str]]) -> None:
    """Publish a day that tells of topic → weeks."""
    indicators = [
        {"topic": topic, "week": week, "search_volume_growth": 0.1}
        for topic, known in weeks.items()
        for week in known
    ]
    publish_day(lake, DayBatch(day, {"indicators": INDICATORS.table(indicators)}))


def last(weeks: int, newest: str = NEWEST) -> list[str]:
    return [weeks_after(newest, -ago) for ago in reversed(range(weeks))]


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]


def test_a_night_trains_up_to_the_sunday_before_the_exam_weeks(config: Settings) -> None:
    lake = Lake(config.lake_dir)
    told(lake, date(2026, 9, 23), {"a": last(120), "b": last(120)})
    night = EXAMINER.night(lake, date(2026, 9, 23), config)
    assert (night.train_end, night.exam_start) == (EXAM_START - timedelta(days=1), EXAM_START)
    assert night.train_start == monday(weeks_after(NEWEST, -119))
    short = EXAMINER.night(lake, date(2026, 9, 23), config, smoke=True)
    assert short.train_start > night.train_start and replace(short, train_start=night.train_start) == night


def test_one_topic_that_runs_ahead_does_not_move_the_exam(config: Settings) -> None:
    lake = Lake(config.lake_dir)
    told(lake, date(2026, 9, 23), {"a": last(100), "b": last(100), "c": last(100)})
    told(lake, date(2026, 9, 30), {"a": [week_of(date(2026, 9, 23))]})
    assert told_weeks(lake, date(2026, 9, 30))[1] == NEWEST
    told(lake, date(2026, 10, 1), {"b": [week_of(date(2026, 9, 23))]})
    assert told_weeks(lake, date(2026, 10, 1))[1] == "2026-W39"
    assert told_weeks(lake, date(2026, 9, 30))[1] == NEWEST, "a night that is run again knows what it knew"


def test_a_lake_without_indicators_or_with_too_few_leaves_the_seat_out(config: Settings) -> None:
    lake = Lake(config.lake_dir)
    with pytest.raises(LakeError, match="not published"):
        EXAMINER.night(lake, date(2026, 9, 22), config)
    told(lake, date(2026, 9, 22), {})
    with pytest.raises(NoDataError, match="no indicators are in the lake"):
        EXAMINER.night(lake, date(2026, 9, 22), config)
    told(lake, date(2026, 9, 23), {"a": last(LEAST_WEEKS - 1)})
    with pytest.raises(
        NoDataError, match=rf"indicators of {LEAST_WEEKS - 1} weeks .* {LEAST_WEEKS} are needed"
    ):
        EXAMINER.night(lake, date(2026, 9, 23), config)


def test_the_digest_is_of_the_indicators_alone(config: Settings) -> None:
    lake = Lake(config.lake_dir)
    told(lake, date(2026, 9, 23), {"a": last(100)})
    before = EXAMINER.digest(lake, replace(NIGHT, night=date(2026, 9, 23)))
    publish_day(lake, DayBatch(date(2026, 9, 24), {}))
    assert EXAMINER.digest(lake, replace(NIGHT, night=date(2026, 9, 24))) == before
    told(lake, date(2026, 9, 25), {"a": [NEWEST]})
    assert EXAMINER.digest(lake, replace(NIGHT, night=date(2026, 9, 25))) != before
