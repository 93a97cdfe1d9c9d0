"""The topics of the simulated market: when a week is told, and that what is said to be planted is there."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import wasserstein_distance

from nightshift import velocity
from nightshift.contracts import INDICATORS
from nightshift.contracts.indicators import (
    INDICATOR_NAMES,
    has_ended,
    known,
    last_complete_week,
    monday,
    week_of,
    weeks_after,
)
from nightshift.settings import Settings
from nightshift.sources.market.indicators import HISTORY_WEEKS, LAGS, REGIME_WEEKS, Indicators
from nightshift.sources.market.words import MOST_TOPICS, topic_name

START, DRIFT = date(2026, 9, 1), date(2026, 10, 14)
FUNDING, PATENTS, LEARNING, SEARCH, POLICY = INDICATOR_NAMES
BOOM_WEEK = week_of(DRIFT)
DAYS = [START + timedelta(days=n) for n in range(100)]


def market_of(**changes: object) -> Indicators:
    values = {"market_start": START, "market_drift_day": DRIFT, **changes}
    return Indicators(Settings(_env_file=None, **values))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def told() -> dict[date, pa.Table]:
    market = market_of()
    return {day: market.told(day) for day in DAYS}


@pytest.fixture(scope="module")
def figures(told: dict[date, pa.Table]) -> dict[str, pd.DataFrame]:
    """Indicator → weeks × topics, as known at the end."""
    rows = known(pa.concat_tables(told.values()))
    return {name: rows.pivot(index="week", columns="topic", values=name) for name in INDICATOR_NAMES}


# --- when --------------------------------------------------------------------------------------------------


def test_the_first_day_tells_five_years_and_then_each_wednesday_a_week(told: dict[date, pa.Table]) -> None:
    opening = told[START].to_pandas()
    newest = "2026-W34"  # week 35 is due on the Wednesday after
    assert (opening.week.min(), opening.week.max()) == (weeks_after(newest, 1 - HISTORY_WEEKS), newest)
    assert opening.topic.nunique() == 120 and len(opening) > 0.999 * 120 * HISTORY_WEEKS
    for day in DAYS[1:]:
        rows = told[day].to_pandas()
        if day.weekday() != 2:
            assert rows.empty
            continue
        assert (rows.week == last_complete_week(day)).sum() > 100
        assert rows.week.min() >= weeks_after(last_complete_week(day), -4)


def test_every_day_follows_the_contract_and_tells_a_topics_week_once(told: dict[date, pa.Table]) -> None:
    for day, table in told.items():
        assert table.schema.equals(INDICATORS.schema)
        rows = table.to_pandas()
        assert not rows.duplicated(["topic", "week"]).any()
        assert all(has_ended(week, day) for week in rows.week.unique())
        assert not rows[list(INDICATOR_NAMES)].isna().all(axis=1).any(), "a row tells something"
    assert all(INDICATORS.fits(row) for row in told[START].slice(0, 3_000).to_pylist())


def test_some_values_are_missing_some_weeks_late_and_some_figures_revised(told: dict[date, pa.Table]) -> None:
    rows = pd.concat([table.to_pandas().assign(day=pd.Timestamp(day)) for day, table in told.items()])
    rows = rows[rows.week.between("2026-W35", "2026-W44")]  # all their revisions came by the last day
    pairs = rows.groupby(["topic", "week"])
    first, again = rows[pairs.cumcount() == 0], rows[pairs.cumcount() == 1]
    assert len(first) == 1_200 and len(rows) == len(first) + len(again), "told once, revised once at most"
    missing = first[list(INDICATOR_NAMES)].isna().to_numpy().mean()
    due = pd.to_datetime(first.week.map(monday)) + pd.Timedelta(days=9)
    weeks_late = (first.day - due) / pd.Timedelta(weeks=1)
    assert 0.005 < missing < 0.02
    assert set(weeks_late) == {0, 1, 2} and 0.01 < (weeks_late > 0).mean() < 0.03
    assert 0.06 < len(again) / len(first) < 0.13
    both = again.merge(first, on=["topic", "week"], suffixes=("", "_first"))
    assert ((both.day - both.day_first) == pd.Timedelta(weeks=2)).all()
    assert (both[list(INDICATOR_NAMES)].notna().sum(axis=1) == 1).all(), "the other figures stay"
    change = {name: (both[name] - both[f"{name}_first"]).abs().dropna() for name in INDICATOR_NAMES}
    assert change[POLICY].empty and all(
        change[name].min() > 0 for name in (FUNDING, PATENTS, LEARNING, SEARCH)
    )
    assert change[SEARCH].mean() < 0.02 and change[PATENTS].max() < 10, "small ones"


# --- determinism ---------------------------------------------------------------------------------------


def test_a_day_is_the_same_in_any_order_and_any_process(told: dict[date, pa.Table]) -> None:
    market = market_of()
    for day in (DAYS[64], DAYS[1], START):
        assert market.told(day).equals(told[day])
    program = (
        "import hashlib; from datetime import date; from nightshift.settings import Settings;"
        "from nightshift.sources.market.indicators import Indicators;"
        "told = Indicators(Settings(_env_file=None)).told(date(2026, 9, 23));"
        "print(hashlib.sha256(repr(told.to_pydict()).encode()).hexdigest())"
    )
    threads = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "5"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=threads
    )
    here = repr(told[date(2026, 9, 23)].to_pydict())
    assert done.stdout.strip() == hashlib.sha256(here.encode()).hexdigest()


def test_a_market_of_more_topics_has_the_same_first_ones(told: dict[date, pa.Table]) -> None:
    more = market_of(market_topics=200).told(START).to_pandas()
    names = {topic_name(number) for number in range(120)}
    pd.testing.assert_frame_equal(
        more[more.topic.isin(names)].reset_index(drop=True), told[START].to_pandas().reset_index(drop=True)
    )


def test_a_later_opening_and_another_drift_day_change_no_week_before(told: dict[date, pa.Table]) -> None:
    rows = known(told[START]).set_index(["topic", "week"])
    later = market_of(market_start=START + timedelta(weeks=20), market_drift_day=date(2030, 1, 1))
    other = known(later.told(later.opening)).set_index(["topic", "week"])
    both = rows.index[rows.index.get_level_values("week") < "2026-W30"].intersection(other.index)
    assert len(both) > 25_000
    pd.testing.assert_frame_equal(rows.loc[both], other.loc[both])


def test_another_seed_is_another_world(told: dict[date, pa.Table]) -> None:
    assert not market_of(market_seed=8).told(START).equals(told[START])


def test_topics_have_names_in_korean_and_english_and_no_two_the_same() -> None:
    names = [topic_name(number) for number in range(MOST_TOPICS)]
    assert len(set(names)) == MOST_TOPICS == 20_000
    assert names[0] == "배터리 재활용 · battery recycling"
    assert names[-1].startswith("호주 ") and names[-1].count(" · ") == 1


def test_a_thousand_topics_open_in_a_second_or_so() -> None:
    began = time.process_time()
    assert market_of(market_topics=1_000).told(START).num_rows > 250_000
    assert time.process_time() - began < 3  # measured 0.4


# --- what is planted -----------------------------------------------------------------------------------


def lead(figures: dict[str, pd.DataFrame], indicator: str, weeks: int) -> float:
    """Correlation of search with `indicator` so many weeks later, within topics, before the boom."""
    before = {name: frame[frame.index < BOOM_WEEK] for name, frame in figures.items()}
    within = {name: (frame - frame.mean()) / frame.std() for name, frame in before.items()}
    later = within[indicator].shift(-weeks)
    return float((within[SEARCH] * later).stack().mean())


@pytest.mark.parametrize(("indicator", "lag"), list(zip(INDICATOR_NAMES, LAGS, strict=True)))
def test_search_leads_each_indicator_by_its_lag(
    figures: dict[str, pd.DataFrame], indicator: str, lag: int
) -> None:
    if indicator == SEARCH:
        return
    sign = -1 if indicator == POLICY else 1
    strength = {weeks: sign * lead(figures, indicator, weeks) for weeks in range(14)}
    best = max(strength, key=lambda weeks: strength[weeks])
    assert best == lag
    assert strength[best] > 0.25


def test_growth_persists(figures: dict[str, pd.DataFrame]) -> None:
    assert lead(figures, SEARCH, 1) > lead(figures, SEARCH, 6) + 0.1 > lead(figures, SEARCH, 20) + 0.2


def test_each_topic_has_its_season_and_all_together_have_none(figures: dict[str, pd.DataFrame]) -> None:
    search = figures[SEARCH][figures[SEARCH].index < BOOM_WEEK]
    angle = 2 * np.pi * np.arange(len(search)) / (365.25 / 7)
    waves = np.stack([np.cos(angle), np.sin(angle)]) @ search.fillna(0).to_numpy() * 2 / len(search)
    amplitude = np.hypot(*waves) / 0.06  # in units of interest
    assert 0.4 < np.median(amplitude) < 1.1
    assert np.hypot(*waves.mean(axis=1)) / 0.06 < 0.15


def test_topics_change_their_level_and_volatility_at_dates_of_their_own() -> None:
    market = market_of()
    weeks = REGIME_WEEKS * 1_350 + np.arange(2 * REGIME_WEEKS)
    mean, volatility = market._regimes(weeks)
    changed = np.diff(mean, axis=0) != 0
    assert (changed.sum(axis=0) == 2).mean() > 0.9, "once in each 78 weeks"
    assert changed.sum(axis=1).max() < 12, "not all at once"
    assert volatility.max() > 2 * volatility.min()


def test_the_boom_shows_in_search_and_learning_at_once_and_no_quiet_week_alarms(
    figures: dict[str, pd.DataFrame],
) -> None:
    """By the watch's own measure: the newest week of all topics against the year before."""
    weeks = list(figures[SEARCH].index)
    boom = weeks.index(BOOM_WEEK)
    limit = 0.1 + 2.5 * np.sqrt(1 / 120 + 1 / 5_000)

    def moved(week: int) -> list[str]:
        found = []
        for name, frame in figures.items():
            before = frame.iloc[week - 56 : week - 4].stack()
            if wasserstein_distance(before, frame.iloc[week].dropna()) / before.std() > limit:
                found.append(name)
        return found

    quiet = [moved(week) for week in range(60, boom)]
    assert max(map(len, quiet)) <= 1 and sum(map(len, quiet)) <= 2, "two of five are drift"
    assert moved(boom) == [LEARNING, SEARCH]


def test_funding_patents_and_policy_follow_the_boom_after_their_lags(
    figures: dict[str, pd.DataFrame],
) -> None:
    level = {name: frame.mean(axis=1) for name, frame in figures.items()}
    weeks = list(level[SEARCH].index)
    boom, last = weeks.index(BOOM_WEEK), len(weeks)
    usual = slice(boom - 52, boom)
    for name, lag in zip(INDICATOR_NAMES, LAGS, strict=True):
        start = boom + (0 if name in (SEARCH, LEARNING) else lag)
        if start >= last:
            continue  # patents follow after the days looked at here
        step = abs(level[name].iloc[start : start + 3].mean() - level[name].iloc[usual].mean())
        assert step > 3 * level[name].iloc[usual].std() / np.sqrt(3), name
        assert abs(level[name].iloc[boom - 1] - level[name].iloc[usual].mean()) < step, name


def test_the_velocity_can_be_forecast_from_the_leads_and_not_from_itself_alone(
    figures: dict[str, pd.DataFrame],
) -> None:
    """Skill against the last value, of ridge on the last weeks; figures of benchmarks are measured elsewhere."""
    panel = np.stack([figures[name].to_numpy() for name in INDICATOR_NAMES], axis=2)  # [weeks, topics, 5]
    inputs, alone, changes = [], [], []
    smoothed = [velocity.smooth(panel[:, topic]) for topic in range(panel.shape[1])]
    boom = list(figures[SEARCH].index).index(BOOM_WEEK)
    for topic, means in enumerate(smoothed):
        usual, spread = velocity.usual(means)
        windows = np.stack([panel[t - 3 : t + 1, topic] for t in range(104, boom)])
        score, _ = velocity.score(windows, usual[104:boom], spread[104:boom])
        distance = (windows - usual[104:boom, None]) / spread[104:boom, None]
        inputs.append(np.c_[distance.reshape(len(windows), -1), score - 50][:-4])
        alone.append(score[:-4, None] - 50)
        changes.append(score[4:] - score[:-4])

    def skill(columns: list[np.ndarray]) -> float:
        x = np.nan_to_num(np.stack(columns))  # [topics, weeks, inputs]
        y = np.nan_to_num(np.stack(changes))
        train, test = slice(0, -40), slice(-36, None)
        a = np.c_[x[:, train].reshape(-1, x.shape[2]), np.ones(y[:, train].size)]
        weights = np.linalg.solve(a.T @ a + 10 * np.eye(a.shape[1]), a.T @ y[:, train].ravel())
        b = np.c_[x[:, test].reshape(-1, x.shape[2]), np.ones(y[:, test].size)]
        return 1 - float(((y[:, test].ravel() - b @ weights) ** 2).mean() / (y[:, test] ** 2).mean())

    assert 0.3 < skill(inputs) < 0.65
    assert skill(alone) < 0.2
