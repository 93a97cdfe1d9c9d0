"""A small panel of topics whose search leads everything, as feature rows and as the windows of them."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import numpy as np
import pandas as pd
import pytest

from nightshift import velocity
from nightshift.contracts.features import TOPIC_WINDOW, window_column
from nightshift.contracts.indicators import INDICATOR_NAMES, monday, weeks_after
from training.forecasting.data import Windows, windows_from_rows
from training.forecasting.fit import Fitted, fit
from training.forecasting.hyper import Hyper
from training.forecasting.recipe import Parts, cut

FIRST_WEEK, WEEKS, TOPICS = "2023-W01", 150, 12
SMALL = Hyper(members=2, size=8, max_epochs=3, max_trees=15)
LAGS = (4, 8, 2, 0, 1)  # weeks after interest, by indicator


def topic_rows(
    topics: int = TOPICS, weeks: int = WEEKS, seed: int = 0, *, uneven: bool = False, counts: bool = False
) -> pd.DataFrame:
    """Rows of `topic_features`, one a topic and week, known from the Monday after the week.

    uneven: each topic's figures have a level and a size of their own. counts: the last indicator is whole numbers.
    """
    random = np.random.default_rng(seed)
    interest = np.zeros((topics, weeks + max(LAGS)))
    for week in range(1, interest.shape[1]):
        interest[:, week] = 0.9 * interest[:, week - 1] + 0.4 * random.standard_normal(topics)
    felt = np.stack([interest[:, max(LAGS) - lag :][:, :weeks] for lag in LAGS], axis=2)
    values = felt * velocity.SIGNS + 0.3 * random.standard_normal(felt.shape)
    if uneven:
        values *= np.exp(0.5 * random.normal(size=(topics, 1, 5)))
        values += random.normal(size=(topics, 1, 5))
    if counts:
        values[..., -1] = np.round(2 * values[..., -1])
    values[random.random(values.shape) < 0.01] = np.nan
    usual, spread = velocity.usual(velocity.smooth(values))
    padded = np.concatenate([np.full((topics, TOPIC_WINDOW - 1, 5), np.nan), values], axis=1)
    window = np.stack([padded[:, n : n + weeks] for n in range(TOPIC_WINDOW)], axis=2)
    score, coverage = velocity.score(window, usual, spread)
    names = [weeks_after(FIRST_WEEK, n) for n in range(weeks)]
    angle = 2 * np.pi * np.arange(weeks) / 52.18
    columns: dict[str, object] = {
        "topic": np.repeat([f"주제 {n}" for n in range(topics)], weeks),
        "week": names * topics,
        "event_timestamp": [
            datetime.combine(monday(week), time(), UTC) + timedelta(weeks=1) for week in names
        ]
        * topics,
        "velocity": score.ravel(),
        "coverage": coverage.ravel(),
        "velocity_change_4w": _since(score, 4).ravel(),
        "velocity_change_13w": _since(score, 13).ravel(),
        "velocity_change_year_ago": np.full(score.size, np.nan),
        "season_sin": np.tile(np.sin(angle), topics),
        "season_cos": np.tile(np.cos(angle), topics),
        "velocity_definition": velocity.DEFINITION,
    }
    for place, name in enumerate(INDICATOR_NAMES):
        for ago in range(TOPIC_WINDOW):
            columns[window_column(name, ago)] = window[:, :, TOPIC_WINDOW - 1 - ago, place].ravel()
        columns[f"{name}_usual"] = usual[:, :, place].ravel()
        columns[f"{name}_spread"] = spread[:, :, place].ravel()
    return pd.DataFrame(columns)


def _since(score: np.ndarray, weeks: int) -> np.ndarray:
    before = np.full_like(score, np.nan)
    before[:, weeks:] = score[:, :-weeks]
    return score - before


@pytest.fixture(scope="package")
def rows() -> pd.DataFrame:
    return topic_rows()


@pytest.fixture(scope="package")
def windows(rows: pd.DataFrame) -> Windows:
    return windows_from_rows(rows)[0].complete


@pytest.fixture(scope="package")
def parts(windows: Windows) -> Parts:
    return cut(windows)


@pytest.fixture(scope="package", params=["gru", "transformer", "ridge", "lightgbm"])
def fitted(request: pytest.FixtureRequest, parts: Parts) -> Fitted:
    """Each kind, fitted small."""
    return fit(request.param, parts.fitted, parts.valid, SMALL, seed=1)
