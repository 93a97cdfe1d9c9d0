"""The recipe: how the weeks are cut, what it says of itself, and when it declines."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nightshift.errors import NoDataError
from tests.training.forecasting.conftest import SMALL, topic_rows
from training.forecasting.conformal import error_sizes
from training.forecasting.data import Windows
from training.forecasting.recipe import ForecastRecipe, Parts, cut, judge
from training.recipe import Night, Trained

NIGHT = Night(date(2026, 1, 1), date(2023, 1, 2), date(2025, 11, 2), date(2025, 11, 3))


def train(kind: str, rows: pd.DataFrame, folder: Path, smoke: bool = False) -> Trained:
    return ForecastRecipe(kind).train_rows(
        rows, NIGHT, folder, SMALL, smoke=smoke, seed=0, log_epoch=lambda epoch, metrics: None
    )


def test_the_parts_follow_one_another_and_no_target_reaches_into_the_next(
    windows: Windows, parts: Parts
) -> None:
    assert (parts.fitted.time + 4).max() < parts.valid.time.min()
    assert (parts.valid.time + 4).max() < parts.judge.time.min()
    assert parts.judge.time.max() == windows.time.max()
    assert len(parts.fitted) > len(parts.judge) > len(parts.valid) > 0


def test_the_least_that_is_allowed_leaves_something_in_every_part() -> None:
    weeks = np.repeat(np.arange(1_000, 1_040), 5)
    zeros = np.zeros((200, 4), np.float32)
    windows = Windows(
        zeros[:, :, None], zeros, zeros, np.tile(np.arange(5), 40), weeks, np.ones(200, np.float32)
    )
    parts = cut(windows)

    assert min(len(parts.fitted), len(parts.valid), len(parts.judge)) >= 4 * 5


def test_what_it_hands_over_is_complete(rows: pd.DataFrame, tmp_path: Path) -> None:
    trained = train("ridge", rows, tmp_path)

    assert set(trained.figures) == {
        f"{name}.png"
        for name in ("learning_curve", "forecasts", "error_by_horizon", "error_by_topic", "shap")
    }
    assert set(trained.metrics) == {"mse", "mae", "skill", "coverage_80", "coverage_95"}
    assert trained.metrics["skill"] > 0.2
    assert list(trained.data) == ["topic", "week", "velocity", "change"] and trained.table == "indicators"
    assert trained.params["examples"] == len(trained.data)
    assert trained.reference.shape[1] == 5 and len(trained.reference) == 12 * 52


def test_judged_changes_are_those_of_weeks_that_it_was_not_fitted_to(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    """What the newest weeks say moves their figures, but not the model that they judge."""
    last = sorted(rows["week"].unique())[-5:]
    wild = rows.assign(velocity=rows["velocity"].where(~rows["week"].isin(last), 100.0))

    assert train("ridge", wild, tmp_path).params["alpha"] == train("ridge", rows, tmp_path).params["alpha"]
    assert train("ridge", wild, tmp_path).metrics["mse"] > train("ridge", rows, tmp_path).metrics["mse"]


def test_a_topic_without_a_known_change_is_not_among_the_learnt_ones(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    import json

    silent = rows.assign(velocity=rows["velocity"].where(rows["topic"] != "주제 0"))
    package = train("ridge", silent, tmp_path).package
    config = json.loads(package.artifacts["config"].read_text())

    assert config["topics"] == sorted(set(rows["topic"]) - {"주제 0"})
    assert set(config["error_size"]) == set(config["topics"])


def test_too_little_data_is_said_with_what_there_is_and_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match=r"known for \d+ examples in 9 weeks .* needs 200 in 40"):
        train("ridge", topic_rows(weeks=40), tmp_path)


def test_smoke_is_quick_and_whole(rows: pd.DataFrame, tmp_path: Path) -> None:
    trained = train("gru", rows, tmp_path, smoke=True)
    assert trained.params["epochs"] <= SMALL.max_epochs and trained.package.artifacts["weights"].exists()


def test_coverage_is_judged_on_weeks_that_did_not_calibrate_it() -> None:
    """Errors that are small in the older half and large in the newer: an honest figure is low."""
    time = np.repeat(np.arange(40), 25)
    random = np.random.default_rng(0)
    y = random.normal(size=(1_000, 4)).astype(np.float32) * np.where(time < 20, 1, 10)[:, None]
    windows = Windows(
        np.zeros((1_000, 4, 1), np.float32), np.zeros((1_000, 0), np.float32), y.astype(np.float32),
        np.tile(np.arange(25), 40), time, np.ones(1_000, np.float32),
    )  # fmt: skip

    figures = judge(windows, np.zeros(1_000), error_sizes(np.empty(0), np.empty(0)))
    assert figures["coverage_95"] < 0.3
    assert figures["skill"] == 0.0
