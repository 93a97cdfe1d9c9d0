"""Weekly series for the forecaster's benchmark, cut into the windows that its recipe trains on.

A set of plain series (M4, influenza) knows one indicator, the weekly growth of its logarithm; what is forecast is
how far the logarithm moves in the next HORIZON weeks. Everything is divided by the series' own scale, the standard
deviation of that move in its training slice, so that each series counts alike. The context is what the topic view
has for a velocity score: the change of 4 and 13 weeks, what followed this week a year ago, the time of year.

Sources: M4 competition, Makridakis, Spiliotis & Assimakopoulos 2020, doi 10.1016/j.ijforecast.2019.04.014;
influenza-like illness by region, CDC FluView (https://gis.cdc.gov/grasp/fluview/fluportaldashboard.html).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_repo.pipelines.topic import topic_features
from nightshift.contracts.features import HORIZON, TOPIC_WINDOW
from nightshift.errors import SourceError
from nightshift.settings import Settings
from nightshift.sources.market.indicators import Indicators
from training.forecasting.data import CONTEXT_COLUMNS, Windows, windows_from_rows

YEAR = 52  # weeks
TRAIN, VALID, TEST, UNUSED = 0, 1, 2, -1
TRAIN_SHARE, VALID_SHARE = 0.70, 0.10
CONTEXT = ("change_4w", "change_13w", "change_year_ago", "season_sin", "season_cos")


@dataclass(frozen=True)
class Series:
    """What is forecast, week by week: `values` [weeks] per name, NaN where unknown; `start` its first week's number.

    calendar: whether a number means the same week in every series.
    """

    names: list[str]
    values: list[np.ndarray]
    start: list[int]
    calendar: bool = True

    def some(self, count: int) -> Series:
        """About so many of them, spread over all."""
        every = slice(None, None, max(1, len(self.values) // count))
        return Series(self.names[every], self.values[every], self.start[every], self.calendar)


@dataclass(frozen=True)
class Samples:
    """Windows of one data set with what judges them.

    part: int8 [n], which slice a row belongs to. A row is TRAIN or VALID only if its target lies in the slice too,
        so HORIZON weeks between two slices are UNUSED.
    year_ago: float64 [n], the change that the seasonal naive forecast names, 0 where a year ago is not known.
    at: int64 [n], the row's place in its series' `history`, where the past ends that a forecast may look at.
    history: the series in the units of the target; tested_from: the place where its test slice begins.
    calendar: whether the windows' `time` means the same week in every series.
    """

    name: str
    windows: Windows
    part: np.ndarray
    year_ago: np.ndarray
    at: np.ndarray
    history: list[np.ndarray]
    tested_from: list[int]
    calendar: bool

    def rows(self, *parts: int) -> np.ndarray:
        return np.flatnonzero(np.isin(self.part, parts))


def m4(folder: Path) -> Series:
    """The weekly series of M4, each with its 13 test weeks behind it. The files give no dates.

    Raises:
        SourceError: the folder has no such files.
    """
    first, last = (_m4_file(folder / f"Weekly-{part}.csv") for part in ("train", "test"))
    values = [np.log(np.concatenate([first[name], last[name]])) for name in first]
    return Series(list(first), values, [0] * len(values), calendar=False)


def _m4_file(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        raise SourceError(
            f"{path} is not there; it is part of the M4 data set (github.com/Mcompetitions/M4-methods)"
        )
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {row[0]: np.array([float(value) for value in row[1:] if value.strip()]) for row in rows}


def ili(path: Path, until: int | None = None) -> Series:
    """Weighted share of visits for influenza-like illness, from a CSV export of CDC FluView (ILINet).

    A region is a series. 0 means that nothing was reported (the summers before 2003): unknown.
    until: the last week taken in, as year × 100 + week (202026).

    Raises:
        SourceError: the file is missing, or lacks a column.
    """
    try:
        table = pd.read_csv(path, encoding="utf-8-sig")
        if not {"YEAR", "WEEK"} <= set(table.columns):  # a full export begins with a line of title
            table = pd.read_csv(path, encoding="utf-8-sig", skiprows=1)
        table = table[["REGION", "YEAR", "WEEK", "% WEIGHTED ILI"]]
    except (OSError, KeyError, ValueError) as error:
        raise SourceError(f"{path} is no ILINet.csv of CDC FluView: {error}") from error
    number = table.YEAR * 100 + table.WEEK
    table = table[number.le(until or number.max())].copy()
    table["value"] = pd.to_numeric(table.pop("% WEIGHTED ILI"), errors="coerce")
    wide = table.set_index(["YEAR", "WEEK", "REGION"])["value"].unstack().sort_index()
    positive = wide.where(wide > 0).to_numpy()
    first = wide.index[0]
    start = pd.Timestamp.fromisocalendar(int(first[0]), int(first[1]), 1).toordinal() // 7
    return Series(list(wide.columns), list(np.log(positive.T)), [start] * wide.shape[1])


def windows(name: str, series: Series) -> Samples:
    """Cut plain series into windows.

    A series that does not move in its training slice has no scale and is left out.
    """
    cut = [_cut(values, start) for values, start in zip(series.values, series.start, strict=True)]
    kept = [one for one in cut if one is not None]
    columns = {
        key: np.concatenate([one[key] for one in kept]) for key in ("x", "context", "y", "time", "part", "at")
    }
    numbers = np.repeat(np.arange(len(kept)), [len(one["at"]) for one in kept])
    year_ago = columns["context"][:, CONTEXT.index("change_year_ago")]
    return Samples(
        name=name,
        windows=Windows(
            x=columns["x"].astype(np.float32)[:, :, None],
            context=columns["context"].astype(np.float32),
            y=columns["y"].astype(np.float32),
            series=numbers.astype(np.int64),
            time=columns["time"].astype(np.int64),
            scale=np.ones(
                len(numbers), dtype=np.float32
            ),  # x, context and y are in units of the scale already
        ),
        part=columns["part"],
        year_ago=np.nan_to_num(year_ago),
        at=columns["at"],
        history=[one["history"] for one in kept],
        tested_from=[borders(len(one["history"]))[1] for one in kept],
        calendar=series.calendar,
    )


def market_rows(settings: Settings) -> pd.DataFrame:
    """Feature rows of the five years that the market tells on its first day, as a night would build them."""
    day = settings.market_start
    told = Indicators(settings).told(day)
    told = told.append_column("day", pa.array([day] * len(told), pa.date32()))
    return topic_features(told, day).to_pandas()


def market(settings: Settings) -> Samples:
    """The velocity of the market's topics."""
    made, keys = windows_from_rows(market_rows(settings))
    velocity = keys["velocity"].to_numpy(np.float64)
    begin = made.time[np.isfinite(velocity)].min()
    at = made.time - begin
    part = slices(at, int(at.max()) + 1)
    history = np.full((made.series.max() + 1, at.max() + 1), np.nan)
    history[made.series[at >= 0], at[at >= 0]] = velocity[at >= 0]
    usable = np.flatnonzero(np.isfinite(velocity) & np.isfinite(made.y[:, -1]) & (part != UNUSED) & (at >= 0))
    year_ago = made.context[usable, CONTEXT_COLUMNS.index("velocity_change_year_ago")]
    return Samples(
        name="market",
        windows=made.where(usable),
        part=part[usable],
        year_ago=np.nan_to_num(year_ago),
        at=at[usable],
        history=list(history),
        tested_from=[borders(history.shape[1])[1]] * len(history),
        calendar=True,
    )


def _cut(values: np.ndarray, start: int) -> dict[str, np.ndarray] | None:
    """One series' rows; those whose window or last target is not known are left out."""
    weeks = np.arange(len(values))
    part = slices(weeks, len(values))
    y = np.stack([ago(values, -ahead) - values for ahead in range(1, HORIZON + 1)], axis=1)
    known = y[(part == TRAIN) & np.isfinite(y[:, -1]), -1]
    scale = known.std() if len(known) > 1 else 0.0
    if scale < 1e-6:
        return None
    growth = values - ago(values, 1)
    x = np.stack([ago(growth, weeks_ago) for weeks_ago in reversed(range(TOPIC_WINDOW))], axis=1)
    angle = 2 * np.pi * ((weeks + start) * 7 % 365.25) / 365.25
    changes = [
        values - ago(values, 4),
        values - ago(values, 13),
        ago(values, YEAR - HORIZON) - ago(values, YEAR),
    ]
    context = np.stack([*(change / scale for change in changes), np.sin(angle), np.cos(angle)], axis=1)
    usable = np.isfinite(x).all(axis=1) & np.isfinite(y[:, -1]) & (part != UNUSED)
    rows = {
        "x": x / scale,
        "context": context,
        "y": y / scale,
        "time": weeks + start,
        "part": part,
        "at": weeks,
    }
    return {key: column[usable] for key, column in rows.items()} | {"history": values / scale}


def borders(weeks: int) -> tuple[int, int]:
    """The first week after the training slice, and the first of the test slice."""
    return int(weeks * TRAIN_SHARE), int(weeks * (TRAIN_SHARE + VALID_SHARE))


def slices(at: np.ndarray, weeks: int) -> np.ndarray:
    """Which slice the rows of weeks `at` belong to, int8, in a series of so many weeks."""
    trained_until, tested_from = borders(weeks)
    part = np.full(len(at), UNUSED, dtype=np.int8)
    part[at + HORIZON < trained_until] = TRAIN
    part[(at >= trained_until) & (at + HORIZON < tested_from)] = VALID
    part[at >= tested_from] = TEST
    return part


def ago(values: np.ndarray, weeks: int) -> np.ndarray:
    """What the value was so many weeks before (after, where negative); NaN outside of the series."""
    moved = np.full(len(values), np.nan)
    if weeks > 0:
        moved[weeks:] = values[:-weeks]
    elif weeks < 0:
        moved[:weeks] = values[-weeks:]
    else:
        moved[:] = values
    return moved
