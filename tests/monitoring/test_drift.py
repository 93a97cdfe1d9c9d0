"""The scores stand still when the world does, move when it moves, and say so when there is nothing to score."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import wasserstein_distance

from feature_repo.pipelines.user import user_features
from monitoring.drift import EFFECT, MAX_ROWS, compare, threshold
from monitoring.triggers import ColumnScore, Policy, decide
from nightshift.contracts.features import USER_VIEW, VIEWS
from nightshift.settings import Settings
from nightshift.sources.market import Market

DRIFT_DAY, REFERENCE_DAYS, QUIET_DAYS = date(2026, 10, 12), 7, 4


def weeks(count: int, shared: float, seed: int, topics: int = 90) -> pd.DataFrame:
    """Topic-weeks of one world; `shared` of their variance is the week's own weather."""
    random = np.random.default_rng(seed)
    own, weather = random.normal(size=(count, topics)), random.normal(size=(count, 1))
    values = np.sqrt(1 - shared) * own + np.sqrt(shared) * weather
    return pd.DataFrame({"week": np.repeat([f"w{n:03d}" for n in range(count)], topics), "a": values.ravel()})


WATCHED = list(VIEWS[USER_VIEW].watched)


def sample(rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame({"a": random.gamma(2.0, 2.0, rows) + shift, "b": random.normal(size=rows)})


def scores(current: pd.DataFrame, reference: pd.DataFrame, tmp_path: Path) -> dict[str, ColumnScore]:
    found = compare(current, reference, ["a", "b"], tmp_path / "drift.html")
    return {score.name: score for score in found}


def test_only_the_column_that_moved_is_drifted_and_the_report_is_written(tmp_path: Path) -> None:
    found = scores(sample(500, 1, shift=2.0), sample(5_000, 2), tmp_path)
    assert (found["a"].drifted, found["b"].drifted) == (True, False)
    page = (tmp_path / "drift.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert len(page) > 1_000_000, "it holds its own scripts, so it opens without a network"


def test_the_score_is_the_distance_in_standard_deviations_of_the_reference(tmp_path: Path) -> None:
    current, reference = sample(500, 1, shift=2.0), sample(5_000, 2)
    expected = wasserstein_distance(reference["a"], current["a"]) / reference["a"].std(ddof=0)
    assert scores(current, reference, tmp_path)["a"].score == pytest.approx(expected)


def test_a_small_group_must_move_further_than_a_large_one() -> None:
    assert threshold(50, 5_000) > threshold(500, 5_000) > threshold(20_000, 20_000) > EFFECT


@pytest.mark.parametrize(
    ("current", "words"),
    [
        (sample(500, 1).drop(columns="a"), "the day has no such column"),
        (sample(500, 1).assign(a=np.nan), "the day has 0 values"),
        (sample(500, 1).assign(a="많음"), "the day has 0 values"),
        (sample(500, 1).assign(a=np.inf), "the day has 0 values"),
        (sample(500, 1).assign(a=[1.0] * 29 + [np.nan] * 471), "the day has 29 values, 30 are needed"),
    ],
)
def test_a_column_that_cannot_be_compared_says_why_and_the_others_are_scored(
    current: pd.DataFrame, words: str, tmp_path: Path
) -> None:
    found = scores(current, sample(500, 2), tmp_path)
    assert (found["a"].score, found["a"].drifted) == (None, False)
    assert words in found["a"].note
    assert found["b"].score is not None


def test_a_reference_without_the_column_is_told_from_a_day_without_it(tmp_path: Path) -> None:
    found = scores(sample(500, 1), sample(500, 2).drop(columns="a"), tmp_path)
    assert found["a"].note == "the champion's reference has no such column"


def test_an_empty_day_is_scored_nowhere_and_writes_no_report(tmp_path: Path) -> None:
    found = scores(sample(0, 1), sample(500, 2), tmp_path)
    assert all(score.score is None and score.note for score in found.values())
    assert not (tmp_path / "drift.html").exists()


def test_values_that_went_missing_are_pointed_out_though_the_rest_stands_still(tmp_path: Path) -> None:
    current = sample(1_000, 1)
    current.loc[:499, "a"] = np.nan
    found = scores(current, sample(5_000, 2), tmp_path)
    assert not found["a"].drifted
    assert found["a"].note == "50% of the day's values are missing, 0% of the reference's"


def test_large_days_are_sampled_the_same_way_each_time(tmp_path: Path) -> None:
    current, reference = sample(MAX_ROWS * 3, 1), sample(500, 2)
    first, second = scores(current, reference, tmp_path), scores(current, reference, tmp_path)
    assert first == second
    assert first["a"].threshold == threshold(MAX_ROWS, 500)


# --- calibration: the market, whose truth is known --------------------------------------------------------


@pytest.fixture(scope="module")
def market() -> pd.DataFrame:
    """Watched features of 600 users, with `day`: a reference week, quiet days, and the planted drift's first."""
    start = DRIFT_DAY - timedelta(days=REFERENCE_DAYS + QUIET_DAYS)
    source = Market(Settings(_env_file=None, market_users=600, market_items=300, market_start=start))  # type: ignore[call-arg]
    connection, items, parts = ibis.duckdb.connect(), [], []
    for day in (start + timedelta(days=n) for n in range(REFERENCE_DAYS + QUIET_DAYS + 1)):
        tables = source.read(day).tables
        items.append(tables["items"])
        met = tables["interactions"].append_column("day", pa.array([day] * len(tables["interactions"])))
        features = user_features(
            ibis.memtable(met), ibis.memtable(pa.concat_tables(items)), ibis.memtable(tables["users"]), day
        )
        parts.append(connection.to_pyarrow(features).to_pandas()[WATCHED].assign(day=day))
    return pd.concat(parts).dropna(subset="interactions_1d")


def test_no_column_of_the_market_alarms_on_quiet_days_and_most_do_on_the_drift_day(
    market: pd.DataFrame, tmp_path: Path
) -> None:
    days = sorted(market["day"].unique())
    reference = market[market["day"].isin(days[:REFERENCE_DAYS])]
    drifted = {}
    for day in days[REFERENCE_DAYS:]:
        found = compare(market[market["day"] == day], reference, WATCHED, tmp_path / "drift.html")
        drifted[day] = sum(score.drifted for score in found)
        assert decide(found, Policy(), day).drift == (day == DRIFT_DAY)
    assert drifted.pop(DRIFT_DAY) >= 5
    assert set(drifted.values()) == {0}


def test_what_moves_all_topics_of_a_week_now_and_then_is_no_drift_and_a_lasting_move_is(
    tmp_path: Path,
) -> None:
    reference = weeks(52, 0.2, seed=1)
    following = weeks(20, 0.2, seed=2)
    alarms = [
        compare(week[["a"]], reference, ["a"], tmp_path / "drift.html")[0].drifted
        for _, week in following.groupby("week")
    ]
    alone = [
        compare(week[["a"]], reference[["a"]], ["a"], tmp_path / "drift.html")[0].drifted
        for _, week in following.groupby("week")
    ]
    assert sum(alarms) <= 1 < sum(alone), "as if the topics of a week were independent, it would alarm often"
    boom = compare(following[["a"]].head(90) + 2.0, reference, ["a"], tmp_path / "drift.html")
    assert boom[0].drifted
