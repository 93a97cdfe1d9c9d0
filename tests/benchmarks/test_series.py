"""Loaders and windows of the forecaster's benchmark: what a row may know, and where the slices end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from benchmarks.series import (
    CONTEXT,
    TEST,
    TRAIN,
    UNUSED,
    VALID,
    Samples,
    Series,
    borders,
    ili,
    m4,
    market,
    slices,
    windows,
)
from nightshift.contracts.features import HORIZON
from nightshift.errors import SourceError
from nightshift.settings import Settings

WEEKS = 300


def walk(seed: int = 0, weeks: int = WEEKS) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(0.01, 0.1, weeks))


def cut(*values: np.ndarray) -> Samples:
    names = [str(number) for number in range(len(values))]
    return windows("some", Series(names, list(values), [0] * len(values)))


@given(count=st.integers(60, 600))
def test_no_target_of_a_slice_reaches_into_the_next(count: int) -> None:
    weeks = np.arange(count)
    part, (trained_until, tested_from) = slices(weeks, count), borders(count)
    assert weeks[part == TRAIN].max() + HORIZON < trained_until == weeks[part == VALID].min()
    assert weeks[part == VALID].max() + HORIZON < tested_from == weeks[part == TEST].min()
    assert (part == UNUSED).sum() == 2 * HORIZON
    assert (part == TEST).sum() >= count // 5


@hypothesis_settings(max_examples=20)
@given(week=st.integers(211, WEEKS - 1), other=st.integers(1, 1_000))
def test_a_row_knows_nothing_of_the_weeks_after_it(week: int, other: int) -> None:
    values, changed = walk(), walk()
    changed[week + 1 :] = walk(other)[week + 1 :]
    trained_until, _ = borders(WEEKS)
    changed[:trained_until] = values[:trained_until]  # its scale is that of the training slice
    before, after = cut(values), cut(changed)
    known = before.at <= week
    for name in ("x", "context"):
        a, b = getattr(before.windows, name), getattr(after.windows, name)
        np.testing.assert_array_equal(a[known], b[known])


def test_the_scale_is_the_spread_of_the_training_slices_changes() -> None:
    values = walk()
    samples = cut(values)
    trained = samples.windows.y[samples.rows(TRAIN), -1]
    full = (values[HORIZON:] - values[:-HORIZON])[: borders(WEEKS)[0] - HORIZON]
    assert trained.std() == pytest.approx(1, abs=0.02)
    assert samples.history[0] * full.std() == pytest.approx(values)


def test_inputs_and_targets_are_what_they_say() -> None:
    samples = cut(walk())
    history, row = samples.history[0], int(np.flatnonzero(samples.at == 100)[0])
    made = samples.windows
    np.testing.assert_allclose(made.x[row, :, 0], np.diff(history)[96:100], rtol=1e-5)
    np.testing.assert_allclose(made.y[row], history[101:105] - history[100], rtol=1e-5)
    expected = [history[100] - history[96], history[100] - history[87], history[52] - history[48]]
    np.testing.assert_allclose(made.context[row, :3], expected, rtol=1e-4)


def test_a_series_that_repeats_each_year_is_forecast_exactly_by_the_year_ago_change() -> None:
    samples = cut(np.tile(walk(weeks=52), 6))
    rows = samples.rows(TEST)
    np.testing.assert_allclose(samples.year_ago[rows], samples.windows.y[rows, -1], atol=1e-4)


def test_a_flat_series_has_no_scale_and_is_left_out() -> None:
    samples = cut(np.ones(WEEKS), walk())
    assert len(samples.history) == len(samples.tested_from) == 1
    assert set(samples.windows.series) == {0}


def test_an_unknown_week_takes_its_windows_with_it_and_no_others() -> None:
    values = walk()
    values[150] = np.nan
    gone = set(cut(walk()).at) - set(cut(values).at)
    assert gone == {146, *range(150, 155)}  # its target, and the growths that it is part of
    context = cut(values).windows.context[:, CONTEXT.index("change_13w")]
    assert np.isnan(context).sum() == np.isnan(cut(walk()).windows.context[:, 1]).sum() + 1


def test_m4_series_end_with_their_test_weeks(tmp_path: Path) -> None:
    (tmp_path / "Weekly-train.csv").write_text('"V1","V2","V3","V4"\n"W1","1","2",\n"W2","1","2","3"\n')
    (tmp_path / "Weekly-test.csv").write_text('"V1","V2","V3"\n"W1","4","8"\n"W2","4","5"\n')
    series = m4(tmp_path)
    assert series.names == ["W1", "W2"]
    np.testing.assert_allclose(np.exp(series.values[0]), [1, 2, 4, 8])
    assert len(series.some(1).names) == 1


def test_a_folder_without_m4_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"Weekly-train\.csv is not there"):
        m4(tmp_path)


ILI = """REGION,YEAR,WEEK,% WEIGHTED ILI
Region 1,2002,39,0
Region 2,2002,39,1.5
Region 1,2002,40,2.5
Region 2,2002,40,X
Region 1,2002,41,3.5
Region 2,2002,41,4.5
"""


@pytest.mark.parametrize("title", ["", "PERCENTAGE OF VISITS FOR INFLUENZA-LIKE-ILLNESS\n"])
def test_influenza_is_read_by_region_and_what_was_not_reported_is_unknown(tmp_path: Path, title: str) -> None:
    path = tmp_path / "ILINet.csv"
    path.write_text(title + ILI)
    series = ili(path, until=200240)
    assert series.names == ["Region 1", "Region 2"]
    np.testing.assert_allclose(np.exp(series.values), [[np.nan, 2.5], [1.5, np.nan]])


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n"])
def test_a_file_that_is_not_of_influenza_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(SourceError, match=r"other\.csv is no ILINet\.csv"):
        ili(path)


def test_the_markets_windows_are_those_of_its_velocity(tmp_path: Path) -> None:
    samples = market(Settings(_env_file=None, home=tmp_path, market_topics=10))
    made, rows = samples.windows, samples.rows(TEST)
    assert len(samples.history) == 10
    assert made.x.shape[1:] == (4, 5)
    moved = [
        samples.history[s][a + HORIZON] - samples.history[s][a]
        for s, a in zip(made.series, samples.at, strict=True)
    ]
    np.testing.assert_allclose(made.y[:, -1], moved, atol=1e-3)
    first, last = made.time[samples.rows(TRAIN)].max(), made.time[samples.rows(VALID)].min()
    assert first + HORIZON < last
    assert made.time[samples.rows(VALID)].max() + HORIZON < made.time[rows].min()
    assert not list(tmp_path.iterdir())  # it stores nothing
