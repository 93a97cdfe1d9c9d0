"""The forecaster's exam: which changes it asks about, what is known at their start, and how they are scored."""

from __future__ import annotations

import os
import subprocess
import sys
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
from nightshift.contracts.indicators import INDICATOR_NAMES, monday, week_of, weeks_after
from nightshift.errors import ContractError, LakeError, NoDataError
from nightshift.lake import Lake
from nightshift.settings import Settings
from nightshift.sources import DayBatch
from tests.conftest import publish_day
from training.baselines.naive import LastValue
from training.exams import EmptyExamError
from training.exams.forecaster import (
    EXAM_WEEKS,
    EXAMINER,
    LEAST_WEEKS,
    THIS_WEEK,
    answers,
    build_exam,
    digest_of_weeks,
    told_weeks,
    used_to_move,
)
from training.exams.forecasts import ANSWER, METRICS, score_model
from training.recipe import Night

NEWEST = "2026-W38"
EXAM_START = monday(weeks_after(NEWEST, 1 - EXAM_WEEKS - 4))  # the first question's week
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
    assert [exam.topics[n] for n in exam.topic] == list(exam.rows["topic"])


def test_training_ends_before_the_first_question_so_that_no_week_it_saw_is_part_of_an_answer() -> None:
    known = rows(weeks=30)
    asked = build_exam(known, NIGHT).rows
    learnt = answers(known)
    ends = [weeks_after(week, 4) for week in learnt["week"]]
    ends = [week for week in ends if monday(week) <= NIGHT.train_end]
    assert ends and max(ends) < min(asked["week"])


class Peeker(Model):
    """Knows each topic's last velocity of the training weeks, and nothing else."""

    def __init__(self, learnt: pd.DataFrame) -> None:
        super().__init__(0.0)
        self.last = learnt.sort_values("week").groupby("topic")["velocity"].last()

    def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
        self.change = (rows["topic"].map(self.last) - rows["velocity"]).to_numpy()
        return super().forecast(rows)


def test_remembering_the_last_training_weeks_is_no_way_to_skill() -> None:
    """Velocity looks back over four weeks: neighbouring weeks share most of them, so a week between tells a lot."""
    random = np.random.default_rng(0)
    known = rows(topics=60, weeks=30).sort_values(["topic", "week"], ignore_index=True)
    noise = random.normal(50, 20, (60, 33))
    known["velocity"] = np.stack([noise[:, n : n + 30] for n in range(4)]).mean(axis=0).ravel()
    exam = build_exam(known, NIGHT)
    trained = known[[monday(week) <= NIGHT.train_end for week in known["week"]]]
    fair = score_model(Peeker(trained), exam).totals["skill"]
    later = known[known["week"] <= weeks_after(exam.rows["week"].min(), 3)]
    assert fair < 0.1 < score_model(Peeker(later), exam).totals["skill"]


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


def test_a_topic_with_few_questions_counts_as_much_as_one_with_many() -> None:
    known = rows()
    few = known[(known["topic"] != "주제 0") | (known["week"] <= weeks_after(NEWEST, -7))]
    exam = build_exam(few, NIGHT)
    assert np.bincount(exam.topic).tolist() == [1, EXAM_WEEKS, EXAM_WEEKS]
    scores = score_model(Model(exam.change + np.where(exam.topic == 0, 5.0, 0.0)), exam)
    worst = [np.mean(exam.change[exam.topic == n] ** 2) for n in range(3)]
    assert scores.totals["skill"] == pytest.approx(1 - 25 / sum(worst))


def test_coverage_counts_misses_on_both_sides_and_the_interval_score_how_far_they_are() -> None:
    exam = build_exam(rows(), NIGHT)
    off = np.resize([0.0, 0.0, 15.0, -15.0], len(exam.change))
    scores = score_model(Model(exam.change + off, width=10), exam)
    assert scores.totals["coverage_80"] == 0.5 and scores.totals["miss_80"] == pytest.approx(0.3)
    assert scores.per_unit["interval_score_80"].mean() == pytest.approx(20 + 10 * 5 / 2)
    wide = score_model(Model(exam.change + off, width=60), exam)
    assert wide.per_unit["interval_score_80"].mean() == pytest.approx(120), (
        "neither too narrow nor too wide pays"
    )


def test_every_topic_has_its_mean_error_over_the_questions_of_a_slice() -> None:
    """Worked out anew, question by question."""
    moved = {"주제 0": 3.0, "주제 1": 9.0, "주제 2": 1.0}
    exam = build_exam(rows(), NIGHT, moved)
    scores = score_model(Model(0.0), exam)
    mse = scores.per_unit["mse"]
    volatility = {"calm": 2, "middling": 0, "restless": 1}
    for name, topic in volatility.items():
        expected = [mse[n] if n == topic else np.nan for n in range(3)]
        np.testing.assert_array_equal(scores.slices[f"volatility: {name}"], expected)
    squared, velocity, weeks = exam.change**2, exam.rows["velocity"], exam.rows["week"]
    middle = sorted(set(weeks))[EXAM_WEEKS // 2]
    parts = {
        "pace: above usual": velocity > 50, "pace: usual or below": velocity <= 50,
        "weeks: earlier": weeks < middle, "weeks: later": weeks >= middle,
    }  # fmt: skip
    for name, chosen in parts.items():
        for topic in range(3):
            mine = squared[(exam.topic == topic) & chosen.to_numpy()]
            assert scores.slices[name][topic] == pytest.approx(
                mine.mean() if len(mine) else np.nan, nan_ok=True
            )
    assert set(scores.slices) == {*parts, *(f"volatility: {name}" for name in volatility)}


def test_a_topic_that_was_never_seen_to_move_is_neither_calm_nor_restless() -> None:
    exam = build_exam(rows(), NIGHT, {"주제 1": 9.0, "gone by now": 2.0})
    slices = score_model(Model(0.0), exam).slices
    assert np.isfinite(slices["volatility: calm"]).tolist() == [False, True, False]
    assert exam.digest != build_exam(rows(), NIGHT).digest, "what divides an exam is part of it"


@given(st.integers(0, 1_000))
def test_a_perfect_forecast_has_no_error_in_any_slice(seed: int) -> None:
    exam = build_exam(rows(seed=seed), NIGHT, {"주제 0": 3.0, "주제 1": 9.0, "주제 2": 1.0})
    for values in score_model(Model(exam.change), exam).slices.values():
        assert np.nan_to_num(values).tolist() == [0, 0, 0]


def test_how_much_a_topic_used_to_move_is_the_mean_of_its_changes_whichever_way() -> None:
    past = pd.DataFrame(
        {"topic": ["a", "a", "a", "b", "c"], "velocity_change_4w": [4.0, -8.0, np.nan, 1.0, np.nan]}
    )
    assert used_to_move(past) == {"a": 6.0, "b": 1.0}


def week_rows(figures: dict[tuple[str, str], list[float | None]]) -> pd.DataFrame:
    """(topic, week) → the week's own five indicators."""
    return pd.DataFrame(
        [
            {"topic": topic, "week": week, **dict(zip(THIS_WEEK, values, strict=True))}
            for (topic, week), values in figures.items()
        ]
    ).astype(dict.fromkeys(THIS_WEEK, float))


def test_two_weeks_with_the_same_figures_have_the_same_digest_whatever_they_are_called() -> None:
    one: list[float | None] = [0.1, 3.0, 0.2, 0.3, 1.0]
    other: list[float | None] = [0.1, 3.0, 0.2, 0.3, 2.0]
    found = digest_of_weeks(
        week_rows(
            {
                ("a", "2026-W01"): one, ("b", "2026-W01"): other,
                ("b", "2026-W02"): other, ("a", "2026-W02"): one,
                ("a", "2026-W03"): other, ("b", "2026-W03"): one,
            }
        )
    )  # fmt: skip
    assert found["2026-W01"] == found["2026-W02"] != found["2026-W03"]


def test_weeks_of_which_nothing_is_said_are_alike_and_yet_share_nothing() -> None:
    silent: list[float | None] = [None, None, None, None, 2.0]
    zeros: list[float | None] = [0.0, 0.0, 0.0, 0.0, 0.0]
    assert digest_of_weeks(week_rows({("a", "2026-W01"): silent, ("a", "2026-W02"): zeros})) == {}


def test_a_night_learns_from_no_week_that_its_exam_asks_about(topics_home: Settings) -> None:
    lake = Lake(topics_home.lake_dir)
    night = EXAMINER.night(lake, lake.days()[-1], topics_home)
    content = EXAMINER.content(lake, topics_home, night)
    assert max(content.training) < week_of(night.exam_start) == min(content.exam)
    assert len(content.exam) == EXAM_WEEKS + 4, "the questions' weeks and the answers'"
    assert len(content.training) > 200
    assert not set(content.training.values()) & set(content.exam.values())
    exam = EXAMINER.set(lake, topics_home, night)
    slices = EXAMINER.score(LastValue(pd.DataFrame({"topic": [], "week": [], "change": []})), exam).slices
    sizes = [np.isfinite(slices[f"volatility: {name}"]).sum() for name in ("calm", "middling", "restless")]
    assert sizes == [4, 4, 4]


@pytest.mark.parametrize("spoilt", [{"low_80": np.nan}, {"high_95": -1e9}, {"low_95": np.inf}])
def test_an_interval_that_is_none_is_no_result(spoilt: dict[str, float]) -> None:
    exam = build_exam(rows(), NIGHT)
    with pytest.raises(ContractError, match="upside down or not finite"):
        score_model(Model(0.0, **spoilt), exam)


@given(st.integers(0, 1_000), st.floats(0, 200))
def test_a_wider_interval_covers_no_less(seed: int, width: float) -> None:
    exam = build_exam(rows(seed=seed), NIGHT)
    narrow, wide = (score_model(Model(0.0, w), exam).totals for w in (width, width + 5))
    assert wide["coverage_80"] >= narrow["coverage_80"] and wide["width_80"] > narrow["width_80"]


def test_a_forecast_that_is_not_a_number_leaves_no_usable_figure() -> None:
    exam = build_exam(rows(), NIGHT)
    forecast = exam.change.copy()
    forecast[0] = np.nan
    ends = {"low_80": -1.0, "high_80": 1.0, "low_95": -2.0, "high_95": 2.0}
    assert np.isnan(score_model(Model(forecast, **ends), exam).means()["mse"])


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
    """Publish a day that tells all of topic → weeks."""
    indicators = [
        {"topic": topic, "week": week, **dict.fromkeys(INDICATOR_NAMES, 0.1)}
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


def said(lake: Lake, day: date, *rows: dict[str, Any]) -> None:
    publish_day(lake, DayBatch(day, {"indicators": INDICATORS.table(list(rows))}))


def test_a_week_of_which_one_figure_is_known_is_not_told_yet(config: Settings) -> None:
    lake = Lake(config.lake_dir)
    told(lake, date(2026, 9, 16), {"a": last(100, "2026-W37"), "b": last(100, "2026-W37")})
    counts = [{"topic": topic, "policy_change_frequency": 2.0} for topic in ("a", "b", "only counted")]
    said(lake, date(2026, 9, 20), *({**row, "week": week} for row in counts for week in ("2020-W01", NEWEST)))
    assert told_weeks(lake, date(2026, 9, 20)) == (weeks_after("2026-W37", -99), "2026-W37")
    figures = {"funding_volume_growth": 0.1, "patent_filing_rate": 3.0}
    said(lake, date(2026, 9, 23), *({"topic": topic, "week": NEWEST, **figures} for topic in ("a", "b")))
    assert told_weeks(lake, date(2026, 9, 23))[1] == NEWEST, "said in parts"
    assert told_weeks(lake, date(2026, 9, 22))[1] == "2026-W37"


def test_a_lake_that_knows_too_little_of_every_week_leaves_the_seat_out(config: Settings) -> None:
    lake = Lake(config.lake_dir)
    said(lake, date(2026, 9, 23), {"topic": "a", "week": NEWEST, "search_volume_growth": 0.1})
    with pytest.raises(NoDataError, match="of no topic's week is half of the velocity's weight known"):
        EXAMINER.night(lake, date(2026, 9, 23), config)


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


def test_topics_that_ended_long_ago_do_not_hold_the_exam_back(config: Settings) -> None:
    lake = Lake(config.lake_dir)
    ended = last(150, weeks_after(NEWEST, -30))
    told(lake, date(2026, 9, 23), {"x": ended, "y": ended, "z": ended, "a": last(150), "b": last(150)})
    assert told_weeks(lake, date(2026, 9, 23))[1] == NEWEST
    publish_day(lake, DayBatch(date(2027, 3, 1), {}))
    with pytest.raises(NoDataError, match=f"no topic has told of a week since {NEWEST}"):
        EXAMINER.night(lake, date(2027, 3, 1), config)


def test_a_night_that_is_run_again_sees_no_topic_that_opened_later(config: Settings) -> None:
    lake, night, after = Lake(config.lake_dir), date(2026, 9, 23), date(2026, 9, 24)

    def asked() -> tuple[str, list[str]]:
        build = [sys.executable, "-m", "feature_repo.build", "--night", str(lake.last_day())]
        environment = {**os.environ, "NIGHTSHIFT_HOME": str(config.home)}
        done = subprocess.run(build, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        exam = EXAMINER.set(lake, config, EXAMINER.night(lake, night, config))
        return exam.digest, exam.topics

    told(lake, night, {"a": last(120), "b": last(120)})
    first = asked()
    assert first[1] == ["a", "b"]
    told(lake, after, {"c": last(120), "b": [NEWEST]})
    assert asked() == first
