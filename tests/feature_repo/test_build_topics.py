"""The features step for topics: rows only when something was told, the newest of each online, the past left alone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from feature_repo.build import build, build_partitions, refresh_online
from nightshift.contracts import INDICATORS, INTERACTIONS
from nightshift.contracts.features import TOPIC_VIEW
from nightshift.contracts.indicators import INDICATOR_NAMES, weeks_after
from nightshift.errors import FeatureError
from nightshift.featurestore import online, open_store
from nightshift.lake import Lake
from nightshift.partitions import newest
from nightshift.settings import Settings
from nightshift.sources import DayBatch
from tests.conftest import publish_day

Row = dict[str, Any]
FIRST = date(2026, 9, 2)
NOTHING, SECOND, THIRD = FIRST + timedelta(days=1), FIRST + timedelta(days=7), FIRST + timedelta(days=14)
W35, W36, W37 = (f"2026-W{n}" for n in (35, 36, 37))
Days = dict[date, list[Row] | None]


def said(topic: str, week: str, value: float = 0.1) -> Row:
    return {"topic": topic, "week": week, **dict.fromkeys(INDICATOR_NAMES, abs(value))}


def history(topic: str, weeks: int = 40) -> list[Row]:
    random = np.random.default_rng(sum(topic.encode()))
    return [
        said(topic, weeks_after(W35, -ago), value) for ago, value in enumerate(random.random(weeks).tolist())
    ]


def days() -> Days:
    return {
        FIRST: [*history("로봇"), *history("battery")],
        NOTHING: None,
        SECOND: [said("로봇", W36), said("battery", W36)],
        THIRD: [said("로봇", W37), said("로봇", W35, 0.7)],
    }


def publish(settings: Settings, told: Days) -> None:
    for day, rows in told.items():
        tables = {"interactions": INTERACTIONS.table([])}
        if rows is not None:
            tables["indicators"] = INDICATORS.table(rows)
        publish_day(Lake(settings.lake_dir), DayBatch(day=day, tables=tables))


def at_home(home: Path) -> Settings:
    return Settings(_env_file=None, home=home)  # type: ignore[call-arg]


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """Four published days, three of which tell of topics; no features yet."""
    settings = at_home(tmp_path)
    publish(settings, days())
    return settings


def partition(settings: Settings, day: date) -> Path:
    return settings.features_dir / TOPIC_VIEW / f"day={day}.parquet"


def written(settings: Settings) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (settings.features_dir / TOPIC_VIEW).glob("day=*")}


def all_rows(settings: Settings) -> pd.DataFrame:
    files = sorted((settings.features_dir / TOPIC_VIEW).glob("day=*"))
    return pd.concat([pq.ParquetFile(path).read().to_pandas() for path in files])


def online_weeks(settings: Settings, *topics: str) -> list[tuple[str | None, datetime | None]]:
    table, times = online(open_store(settings), list(topics), [f"{TOPIC_VIEW}:week"], key="topic")
    return list(zip(table["week"].tolist(), times, strict=True))


def midnight_after(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def test_a_partition_has_rows_on_the_days_that_told_of_topics(home) -> None:
    assert [build(home, day)["topics"] for day in days()] == [80, 0, 2, 1]
    rows = pq.ParquetFile(partition(home, THIRD)).read().to_pylist()
    assert [(row["topic"], row["week"], row["event_timestamp"]) for row in rows] == [
        ("로봇", W37, midnight_after(THIRD))
    ]


def test_nights_one_by_one_and_all_at_once_give_the_same_bytes(tmp_path, home) -> None:
    build_partitions(home, THIRD)
    other = at_home(tmp_path / "other")
    for day, rows in days().items():
        publish(other, {day: rows})
        before = written(other)
        build_partitions(other, day)
        assert written(other).items() >= before.items()  # what was written stays as it was
    assert written(other) == written(home)


def test_a_second_build_changes_no_byte_and_says_so(home) -> None:
    build(home, THIRD)
    files = [*home.features_dir.rglob("*.parquet"), *(home.home / "feast").iterdir()]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    assert build(home, THIRD)["message"] == "nothing new"
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files} == before


def test_a_home_from_before_there_were_topics_gets_theirs_and_keeps_the_rest(home) -> None:
    build(home, THIRD)
    whole = written(home)
    for path in (home.features_dir / TOPIC_VIEW).iterdir():
        path.unlink()
    rest = {path: path.stat().st_mtime_ns for path in home.features_dir.rglob("day=*")}
    assert build_partitions(home, THIRD) == list(days())
    assert written(home) == whole
    assert {path: path.stat().st_mtime_ns for path in rest} == rest


def test_online_has_the_newest_row_of_each_topic_and_gets_what_is_new(home) -> None:
    assert build(home, FIRST)["materialized"] == 2
    opened = datetime(2026, 8, 31, tzinfo=UTC)
    assert online_weeks(home, "로봇", "battery", "?") == [(W35, opened), (W35, opened), (None, None)]
    assert build(home, SECOND)["materialized"] == 2
    assert build(home, THIRD)["materialized"] == 1  # nothing was told of batteries
    expected = [(W37, midnight_after(THIRD)), (W36, midnight_after(SECOND))]
    assert online_weeks(home, "로봇", "battery") == expected
    assert build(home, FIRST)["materialized"] == 0 and online_weeks(home, "로봇", "battery") == expected


def test_a_week_told_in_parts_is_first_known_by_most_of_its_figures_and_not_by_one(tmp_path) -> None:
    parts, whole = at_home(tmp_path / "parts"), at_home(tmp_path / "whole")
    sunday = SECOND - timedelta(days=3)
    policy = INDICATOR_NAMES[-1]
    counts = [{"topic": "로봇", "week": W36, policy: 0.9}]
    rest = [{**said("로봇", W36, 0.9), policy: None}]
    publish(parts, {FIRST: history("로봇"), sunday: counts, SECOND: rest})
    publish(whole, {FIRST: history("로봇"), sunday: None, SECOND: [said("로봇", W36, 0.9)]})
    build(parts, sunday)
    assert online_weeks(parts, "로봇") == [(W35, datetime(2026, 8, 31, tzinfo=UTC))]  # still the week before
    build(parts, SECOND)
    build(whole, SECOND)
    assert online_weeks(parts, "로봇") == [(W36, midnight_after(SECOND))]
    assert (all_rows(parts)["week"] == W36).sum() == 1  # training and exams go by a week's first row
    assert written(parts) == written(whole)


def test_a_lost_online_store_gets_every_topic_back_from_whichever_day_has_it(home) -> None:
    build(home, THIRD)
    (home.home / "feast" / "online.db").unlink()
    assert build(home, THIRD)["materialized"] == 2
    assert [week for week, _ in online_weeks(home, "로봇", "battery")] == [W37, W36]


def test_a_topic_that_nothing_was_told_of_for_too_long_is_not_written_again(home) -> None:
    far = THIRD + timedelta(days=50)  # the batteries' newest row is 57 days old by then
    for day, count in ((far, 2), (far + timedelta(days=10), 1)):
        publish(home, {day: [said("로봇", weeks_after(W37, (day - THIRD).days // 7))]})
        build_partitions(home, day)
        (home.home / "feast" / "online.db").unlink(missing_ok=True)
        assert refresh_online(home) == count


def test_a_day_that_is_published_late_moves_nothing_back(home) -> None:
    build(home, THIRD)
    before, online_before = written(home), online_weeks(home, "로봇", "battery")
    late = SECOND + timedelta(days=1)
    publish(home, {late: [said("로봇", W36, 0.9), said("해운", W36)]})
    assert build(home, THIRD)["materialized"] == 1  # the topic that nobody had told of
    assert written(home).items() > before.items()
    assert online_weeks(home, "로봇", "battery") == online_before
    assert online_weeks(home, "해운") == [(W36, datetime(2026, 9, 7, tzinfo=UTC))]


def test_an_opening_that_is_published_late_gives_no_moment_two_rows(home) -> None:
    build(home, THIRD)
    before = written(home)
    early = FIRST - timedelta(days=1)
    publish(home, {early: [*history("로봇", 45), said("해운", W35)]})
    build(home, THIRD)
    assert written(home).items() > before.items()
    assert not all_rows(home).duplicated(["topic", "event_timestamp"]).any()
    late = pq.ParquetFile(partition(home, early)).read().to_pandas()
    assert late["topic"].value_counts().to_dict() == {"로봇": 5, "해운": 1}  # weeks that nobody had told of


def test_a_lake_that_tells_of_no_topic_gives_empty_partitions_and_nothing_online(tmp_path) -> None:
    settings = at_home(tmp_path)
    publish(settings, {FIRST: None, NOTHING: []})
    assert build(settings, NOTHING)["topics"] == 0
    assert pq.ParquetFile(partition(settings, FIRST)).read().num_rows == 0
    assert online_weeks(settings, "로봇") == [(None, None)]
    with pytest.raises(FeatureError, match=r"topic_features: no features; run `nightshift features`"):
        newest(settings, TOPIC_VIEW)


def test_velocities_by_two_formulas_are_not_mixed(home, monkeypatch) -> None:
    build(home, SECOND)
    monkeypatch.setattr("nightshift.velocity.DEFINITION", "velocity-2")
    for _ in range(2):  # nor when it is tried again
        with pytest.raises(FeatureError, match=r"velocities by velocity-1, and now it is velocity-2; move"):
            build(home, THIRD)
    (home.features_dir / TOPIC_VIEW).rename(home.home / "aside")
    assert build(home, THIRD)["materialized"] > 0
    assert set(all_rows(home)["velocity_definition"]) == {"velocity-2"}
