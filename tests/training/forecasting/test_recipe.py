"""The recipe: how the weeks are cut, what it says of itself, and when it declines."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from nightshift import velocity
from nightshift.contracts.features import HORIZON
from nightshift.contracts.indicators import INDICATOR_NAMES, week_of, weeks_after
from nightshift.errors import NoDataError
from nightshift.lake import Lake
from nightshift.settings import Settings
from tests.training.forecasting.conftest import SMALL, topic_rows
from training.exams.forecaster import EXAMINER
from training.forecasting import recipe
from training.forecasting.conformal import calibrate
from training.forecasting.data import WINDOW_COLUMNS, Windows, week_number
from training.forecasting.fit import Fitted, fit
from training.forecasting.predictor import Forecaster
from training.forecasting.recipe import ForecastRecipe, Parts, cut, held, judge
from training.recipe import Night, Trained

NIGHT = Night(date(2026, 1, 1), date(2023, 1, 2), date(2025, 11, 2), date(2025, 11, 3))


def train(kind: str, rows: pd.DataFrame, folder: Path, smoke: bool = False) -> Trained:
    return ForecastRecipe(kind).train_rows(
        rows, NIGHT, folder, SMALL, smoke=smoke, seed=0, log_epoch=lambda epoch, metrics: None
    )


def of_weeks(store: pd.DataFrame, first: date, last: date, night: date) -> pd.DataFrame:
    """As `training.exams.forecaster.rows_of_weeks`, of a frame."""
    return store[(store["week"] >= week_of(first)) & (store["week"] <= week_of(last))].reset_index(drop=True)


def shaken(rows: pd.DataFrame, parts: Parts) -> pd.DataFrame:
    """The first topic's velocity jumps between both ends in the weeks that judge."""
    judged = week_number(rows["week"]) >= parts.judge.time.min()
    wild = np.where(np.arange(len(rows)) // 4 % 2, 0.0, 100.0)
    hit = judged & (rows["topic"] == "주제 0").to_numpy()
    return rows.assign(velocity=np.where(hit, wild, rows["velocity"]))


def config(trained: Trained) -> dict[str, Any]:
    return dict(json.loads(trained.package.artifacts["config"].read_text()))


def loaded(trained: Trained) -> Forecaster:
    model = Forecaster()
    paths = {name: str(path) for name, path in trained.package.artifacts.items()}
    model.load_context(SimpleNamespace(artifacts=paths))
    return model


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Fitted]:
    """What was fitted, in order: the model that is judged, then the one for everything."""
    made: list[Fitted] = []

    def noted(*given: Any, **named: Any) -> Fitted:
        made.append(fit(*given, **named))
        return made[-1]

    monkeypatch.setattr(recipe, "fit", noted)
    return made


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


def test_what_it_hands_over_is_complete(tmp_path: Path) -> None:
    trained = train("ridge", topic_rows(topics=20), tmp_path)

    assert set(trained.figures) == {
        f"{name}.png"
        for name in ("learning_curve", "forecasts", "error_by_horizon", "error_by_topic", "shap")
    }
    covered = {f"{whose}coverage_{level}" for whose in ("", "bare_") for level in (80, 95)}
    assert set(trained.metrics) == {"mse", "mae", "skill"} | covered
    assert trained.metrics["skill"] > 0.2
    assert list(trained.data) == ["topic", "week", "velocity", "change"] and trained.table == "indicators"
    assert trained.params["examples"] == len(trained.data)
    assert trained.reference.shape == (20 * 52, 6) and trained.reference["week"].nunique() == 52


def test_the_model_that_is_judged_was_not_fitted_to_those_weeks(
    rows: pd.DataFrame, parts: Parts, tmp_path: Path, fits: list[Fitted]
) -> None:
    """Whatever happens in them moves their figures, but not the model that they judge."""
    tame, wild = train("ridge", rows, tmp_path), train("ridge", shaken(rows, parts), tmp_path)

    assert wild.metrics["mse"] > 2 * tame.metrics["mse"]
    for name, array in fits[0].arrays.items():
        np.testing.assert_array_equal(fits[2].arrays[name], array)


def test_the_package_holds_the_model_that_was_fitted_again_on_everything(
    rows: pd.DataFrame, windows: Windows, tmp_path: Path, fits: list[Fitted]
) -> None:
    trained = train("ridge", rows, tmp_path)
    searched, final = fits
    packaged = load_file(trained.package.artifacts["weights"])

    assert trained.params["examples"] == len(windows)
    np.testing.assert_array_equal(packaged["linear"], final.arrays["linear"])
    assert not np.array_equal(packaged["linear"], searched.arrays["linear"])


def test_the_ridge_that_sits_every_exam_is_the_one_that_a_night_would_package(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    trained = train("ridge", rows, tmp_path)  # ridge has the same settings in SMALL
    standing = ForecastRecipe("ridge").in_memory(rows, NIGHT)

    answer = standing.forecast(trained.package.input_example)
    pd.testing.assert_frame_equal(answer, trained.package.output_example)
    assert standing.topics == sorted(set(trained.data["topic"])) and not answer.isna().any(axis=None)


def test_the_intervals_are_of_errors_that_the_model_made_on_weeks_it_was_not_fitted_to(
    rows: pd.DataFrame, parts: Parts, tmp_path: Path, fits: list[Fitted]
) -> None:
    made = config(train("ridge", rows, tmp_path))
    sizes = {int(topic.split()[1]): size for topic, size in made["error_size"].items()}
    number = {series: int(topic.split()[1]) for series, topic in enumerate(made["topics"])}
    errors = parts.judge.y[:, -1] - fits[0].predict(parts.judge)[:, -1]
    expected = calibrate(errors, np.array([number[series] for series in parts.judge.series]), sizes)

    for level, bounds in expected.bounds.items():
        assert made["bounds"][str(level)] == pytest.approx(bounds)


def test_how_erratic_a_topic_is_is_told_by_the_weeks_before_those_that_calibrate(
    rows: pd.DataFrame, parts: Parts, tmp_path: Path
) -> None:
    tame, wild = (config(train("ridge", told, tmp_path)) for told in (rows, shaken(rows, parts)))

    assert wild["bounds"]["80"] != tame["bounds"]["80"]
    assert wild["error_size"] == tame["error_size"] and len(set(tame["error_size"].values())) == 12


def test_a_window_alone_is_held_as_often_as_promised(tmp_path: Path) -> None:
    """Topics of all sizes, of whose next weeks only the windows are told: judged by a typical topic's pace."""
    rows = topic_rows(topics=80, weeks=250, seed=1, uneven=True)
    weeks = sorted(rows["week"].unique())
    trained = train("ridge", rows[rows["week"] < weeks[200]], tmp_path)
    model = loaded(trained)
    later = rows[rows["week"] >= weeks[200]]
    usual, spread = (
        np.array([model.typical[f"{name}_{part}"] for name in INDICATOR_NAMES])
        for part in ("usual", "spread")
    )
    told = later[WINDOW_COLUMNS].to_numpy().reshape(80, 50, 4, 5)
    pace = velocity.score(told, usual, spread)[0]
    change = (pace[:, 4:] - pace[:, :-4]).ravel()
    found = model.forecast(later[WINDOW_COLUMNS])
    known = np.isfinite(change)

    for level in (80, 95):
        low, high = (
            found[f"{end}_{level}"].to_numpy().reshape(80, 50)[:, :-4].ravel() for end in ("low", "high")
        )
        inside = ((low <= change) & (change <= high))[known].mean()
        assert inside == pytest.approx(level / 100, abs=0.03)
        assert trained.metrics[f"bare_coverage_{level}"] == pytest.approx(level / 100, abs=0.05)


def test_nothing_of_the_weeks_after_the_nights_last_one_is_learnt(
    rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither as a window nor as a target: what is packaged stays the same to the last byte."""
    night = Night(date(2025, 11, 20), date(2023, 1, 2), date(2025, 9, 7), date(2025, 10, 6))
    after = rows["week"] > week_of(night.train_end)
    numbers = rows.select_dtypes("number").columns
    poisoned = rows.assign(**rows[numbers].mask(after, 7 * rows[numbers] + 90.0))
    made = []
    for number, store in enumerate((rows, poisoned)):
        monkeypatch.setattr(recipe.featurestore, "open_store", lambda settings, store=store: store)
        monkeypatch.setattr(recipe, "rows_of_weeks", of_weeks)
        made.append(
            ForecastRecipe("ridge").train(
                night,
                Settings(_env_file=None, home=tmp_path),  # type: ignore[call-arg]
                tmp_path / str(number),
                smoke=True,
                seed=0,
                log_epoch=lambda epoch, metrics: None,
            )
        )

    clean, other = made
    assert after.any()
    assert weeks_after(clean.data["week"].max(), HORIZON) == week_of(night.train_end)
    assert clean.metrics == other.metrics and clean.reference.equals(other.reference)
    for name, path in clean.package.artifacts.items():
        assert path.read_bytes() == other.package.artifacts[name].read_bytes()


def test_on_a_real_store_no_change_ends_after_the_nights_last_week(
    topics_home: Settings, tmp_path: Path
) -> None:
    lake = Lake(topics_home.lake_dir)
    night = EXAMINER.night(lake, lake.days()[-1], topics_home, smoke=True)
    trained = ForecastRecipe("ridge").train(
        night, topics_home, tmp_path, smoke=True, seed=0, log_epoch=lambda epoch, metrics: None
    )

    assert weeks_after(trained.data["week"].max(), HORIZON) == week_of(night.train_end)


def test_what_was_revised_later_is_not_learnt(rows: pd.DataFrame, tmp_path: Path) -> None:
    again = rows.assign(event_timestamp=rows["event_timestamp"] + timedelta(days=14))
    numbers = again.select_dtypes("number").columns
    revised = pd.concat([again.assign(**(3 * again[numbers] + 5)), rows])
    made = [
        train("ridge", told, tmp_path / str(n)).package.artifacts for n, told in enumerate((rows, revised))
    ]

    for name, path in made[0].items():
        assert path.read_bytes() == made[1][name].read_bytes()


@pytest.mark.parametrize("gap", [slice(60, 120), slice(100, 140), slice(30, 90), slice(90, 145)])
def test_a_gap_in_the_weeks_leaves_something_in_every_part(
    gap: slice, rows: pd.DataFrame, tmp_path: Path
) -> None:
    silent = sorted(rows["week"].unique())[gap]
    trained = train("ridge", rows[~rows["week"].isin(silent)], tmp_path)

    for part in ("fitted", "valid", "judge"):
        assert trained.params[f"examples_{part}"] >= 4 * 12
    assert np.isfinite(list(trained.metrics.values())).all()


def test_weeks_that_leave_a_part_empty_are_too_few(windows: Windows) -> None:
    weeks = np.unique(windows.time)
    for few in (1, 2, 5, 8):
        with pytest.raises(NoDataError, match=rf"known for {few} weeks; a forecaster needs 40"):
            cut(windows.where(windows.time >= weeks[-few]))


def test_coverage_is_not_told_where_too_few_errors_calibrate_it(tmp_path: Path) -> None:
    """The least that a forecaster needs: its newest fifth is too short to be halved."""
    trained = train("ridge", topic_rows(weeks=75), tmp_path)

    assert set(trained.metrics) == {"mse", "mae", "skill"}


def test_a_topic_without_a_known_change_is_not_among_the_learnt_ones(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    silent = rows.assign(velocity=rows["velocity"].where(rows["topic"] != "주제 0"))
    made = config(train("ridge", silent, tmp_path))

    assert made["topics"] == sorted(set(rows["topic"]) - {"주제 0"})
    assert set(made["error_size"]) == set(made["topics"])


def test_too_little_data_is_said_with_what_there_is_and_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match=r"known for \d+ examples in 9 weeks .* needs 200 in 40"):
        train("ridge", topic_rows(weeks=40), tmp_path)


def test_smoke_is_quick_and_whole(rows: pd.DataFrame, tmp_path: Path) -> None:
    trained = train("gru", rows, tmp_path, smoke=True)
    assert trained.params["epochs"] <= SMALL.max_epochs and trained.package.artifacts["weights"].exists()


def panel(y: np.ndarray, time: np.ndarray, series: np.ndarray) -> Windows:
    """Examples of which only the change after four weeks matters, y [n]."""
    n = len(y)
    return Windows(
        np.zeros((n, 4, 1), np.float32), np.zeros((n, 0), np.float32),
        np.repeat(y[:, None], 4, axis=1).astype(np.float32), series, time, np.ones(n, np.float32),
    )  # fmt: skip


def test_coverage_is_judged_on_weeks_that_did_not_calibrate_it() -> None:
    """Errors that are small in the older half and large in the newer: an honest figure is low."""
    time, series = np.repeat(np.arange(40), 25), np.tile(np.arange(25), 40)
    y = np.random.default_rng(0).normal(size=1_000) * np.where(time < 20, 1, 10)

    assert held(panel(y, time, series), np.zeros(1_000), {})["coverage_95"] < 0.3


def test_no_change_that_calibrates_ends_in_the_weeks_that_judge() -> None:
    """The four weeks between are wild: had they calibrated, everything after would be inside."""
    time, series = np.repeat(np.arange(40), 25), np.tile(np.arange(25), 40)
    y = np.random.default_rng(0).normal(size=1_000) * np.where((time >= 16) & (time < 20), 100, 1)

    assert held(panel(y, time, series), np.zeros(1_000), {})["coverage_80"] == pytest.approx(0.8, abs=0.05)


def test_each_topic_counts_once_in_its_figures_as_in_the_exam() -> None:
    """One with ninety changes of 1 point, one with ten of 3, forecast as nothing and as 1."""
    series = np.repeat([0, 1], [90, 10])
    windows = panel(np.where(series == 0, 1.0, 3.0), np.arange(100), series)

    figures = judge(windows, np.ones(100))
    assert figures == {"mse": 2.0, "mae": 1.0, "skill": pytest.approx(1 - 2 / 5)}
    assert judge(windows, np.zeros(100))["skill"] == 0.0
