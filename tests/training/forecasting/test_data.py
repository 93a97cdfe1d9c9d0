"""Windows: what an example is, in which units, and that nothing of the future is in it."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from nightshift.contracts.features import window_column
from nightshift.contracts.indicators import INDICATOR_NAMES
from training.forecasting.data import (
    SPREAD_COLUMNS,
    USUAL_COLUMNS,
    Windows,
    changes,
    split,
    typical,
    week_number,
    windows_from_rows,
)
from training.forecasting.predictor import in_spreads


def example(keys: pd.DataFrame, topic: str, week: str) -> int:
    return int(keys.index[(keys["topic"] == topic) & (keys["week"] == week)][0])


def test_an_example_is_four_weeks_oldest_first_in_spreads_from_what_is_usual(rows: pd.DataFrame) -> None:
    windows, keys = windows_from_rows(rows)
    at = example(keys, "주제 3", "2025-W20")
    row = rows[(rows["topic"] == "주제 3") & (rows["week"] == "2025-W20")].iloc[0]

    assert windows.x.shape == (len(rows), 4, 5) and windows.x.dtype == np.float32
    for place, name in enumerate(INDICATOR_NAMES):
        raw = np.array([row[window_column(name, ago)] for ago in (3, 2, 1, 0)])
        expected = (raw - row[f"{name}_usual"]) / row[f"{name}_spread"]
        np.testing.assert_allclose(windows.x[at, :, place], expected, rtol=1e-4)


def test_the_target_is_the_change_after_one_to_four_weeks(rows: pd.DataFrame) -> None:
    windows, keys = windows_from_rows(rows)
    at, later = example(keys, "주제 3", "2025-W20"), example(keys, "주제 3", "2025-W24")

    expected = keys["velocity"].to_numpy()[later] - keys["velocity"].to_numpy()[at]
    assert windows.y[at, 3] == pytest.approx(expected, abs=1e-4)
    assert windows.time[later] - windows.time[at] == 4
    assert np.isnan(windows.y[example(keys, "주제 3", str(keys["week"].max()))]).all()


def test_a_week_that_was_told_anew_is_taken_as_first_known(rows: pd.DataFrame) -> None:
    again = rows[rows["week"] == "2025-W20"].assign(velocity=99.0)
    again["event_timestamp"] += timedelta(days=14)
    before, keys_before = windows_from_rows(rows, typical(rows))
    after, keys_after = windows_from_rows(pd.concat([again, rows]), typical(rows))

    pd.testing.assert_frame_equal(keys_before, keys_after)
    np.testing.assert_array_equal(before.y, after.y)


def test_a_missing_week_leaves_a_gap_and_no_week_takes_its_place(rows: pd.DataFrame) -> None:
    windows, keys = windows_from_rows(rows[rows["week"] != "2025-W20"])
    at = example(keys, "주제 0", "2025-W16")

    assert np.isnan(windows.y[at, 3]) and np.isfinite(windows.y[at, :3]).all()


def test_what_is_usual_for_nobody_knows_is_typical(rows: pd.DataFrame) -> None:
    filled = typical(rows)
    late = rows[rows["week"] == "2025-W20"]
    bare = late.assign(**dict.fromkeys([*USUAL_COLUMNS, *SPREAD_COLUMNS], np.nan))

    assert all(filled[name] > 0 for name in SPREAD_COLUMNS)
    given = windows_from_rows(late.assign(**filled), filled)[0].x
    np.testing.assert_array_equal(windows_from_rows(bare, filled)[0].x, given)
    assert typical(bare) == dict.fromkeys(USUAL_COLUMNS, 0.0) | dict.fromkeys(SPREAD_COLUMNS, 1.0)


def test_a_series_that_never_moved_has_extreme_values_and_no_infinite_ones() -> None:
    raw = np.array([[[1.0], [2.0], [3.0], [np.nan]]])
    found = in_spreads(raw, np.array([[2.0]]), np.array([[0.0]]))

    np.testing.assert_array_equal(found[0, :, 0], [-3.0, 0.0, 3.0, np.nan])


def test_weeks_are_numbered_through_the_turn_of_a_year_of_53_weeks() -> None:
    assert np.diff(week_number(["2026-W52", "2026-W53", "2027-W01"])).tolist() == [1, 1]


def test_no_target_of_the_earlier_part_reaches_into_the_later_one(windows: Windows) -> None:
    first = int(np.median(windows.time))
    before, after = split(windows, first)

    assert (before.time + windows.horizon).max() < first == after.time.min()


def test_changes_of_a_short_or_empty_panel_are_unknown_where_they_reach_beyond_it() -> None:
    found = changes(np.array([1.0, 3.0]), np.array([0, 0]), np.array([5, 7]), 2)

    np.testing.assert_array_equal(found, [[np.nan, 2.0], [np.nan, np.nan]])
    assert changes(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64), 4).shape == (0, 4)
