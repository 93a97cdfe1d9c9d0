"""What forecasters learn from: windows of the last weeks, what is known around them, and what came after.

The core (`Windows`, `split`) knows no indicator's meaning: any panel of weekly series fits, the M4 competition's
too. `windows_from_rows` makes windows of the topics' feature rows.

**Units.** A topic's indicators enter as spreads from what is usual for that topic, both as known at the row's time.
The target is a *change*, so the last value is where a forecast starts from; the velocity's own level is no input,
for it follows from the window.
**Point in time.** A topic and week is one example: the first row that described the week, so an example knows what
was known then, and later revisions change neither it nor its target.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nightshift.contracts.features import HORIZON, TOPIC_VIEW, TOPIC_WINDOW, window_column
from nightshift.contracts.indicators import INDICATOR_NAMES, monday
from nightshift.velocity import score
from training.forecasting.predictor import in_spreads

WINDOW_COLUMNS = [
    window_column(name, ago) for ago in reversed(range(TOPIC_WINDOW)) for name in INDICATOR_NAMES
]
USUAL_COLUMNS = [f"{name}_usual" for name in INDICATOR_NAMES]
SPREAD_COLUMNS = [f"{name}_spread" for name in INDICATOR_NAMES]
CONTEXT_COLUMNS = [
    "velocity_change_4w",
    "velocity_change_13w",
    "velocity_change_year_ago",
    "season_sin",
    "season_cos",
]
FEATURES = [
    f"{TOPIC_VIEW}:{name}" for name in [*WINDOW_COLUMNS, *USUAL_COLUMNS, *SPREAD_COLUMNS, *CONTEXT_COLUMNS]
]


@dataclass(frozen=True)
class Windows:
    """n examples of a panel of weekly series.

    x: float32 [n, weeks, C], oldest first, each channel in spreads from what is usual for its series; NaN = unknown.
    context: float32 [n, F], anything else known at the time; NaN = unknown; F may be 0.
    y: float32 [n, H], the change after 1..H weeks, in target units; NaN = not known.
    series, time: int64 [n], whose it is, and the number of the window's last week (`week_number`).
    scale: float32 [n], the size of a typical change of the series in target units, from its past alone. Errors are
        fitted in this unit; all 1 where the target's unit already means the same for every series.
    """

    x: np.ndarray
    context: np.ndarray
    y: np.ndarray
    series: np.ndarray
    time: np.ndarray
    scale: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    @property
    def horizon(self) -> int:
        return int(self.y.shape[1])

    def where(self, rows: np.ndarray) -> Windows:
        """The examples that a mask or an array of indices picks."""
        return replace(self, **{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    @property
    def complete(self) -> Windows:
        """The examples whose change after H weeks is known."""
        return self.where(np.isfinite(self.y[:, -1]))


def week_number(weeks: Iterable[str]) -> np.ndarray:
    """Consecutive numbers of ISO weeks, int64: that of a week is one more than that of the week before."""
    codes, names = pd.factorize(np.asarray(list(weeks), dtype=object))
    return np.array([monday(name).toordinal() // 7 for name in names], dtype=np.int64)[codes]


def split(windows: Windows, first: int) -> tuple[Windows, Windows]:
    """(before, from) the week numbered `first`: the earlier examples' targets end before the later ones begin."""
    return windows.where(windows.time + windows.horizon < first), windows.where(windows.time >= first)


def typical(rows: pd.DataFrame) -> dict[str, float]:
    """What an indicator's usual value and spread are taken to be where nobody knows: the median of all rows'."""
    columns = [*USUAL_COLUMNS, *SPREAD_COLUMNS]
    neutral = dict.fromkeys(USUAL_COLUMNS, 0.0) | dict.fromkeys(SPREAD_COLUMNS, 1.0)
    medians = rows.reindex(columns=columns).astype(np.float64).median().to_dict()
    return {name: float(medians[name]) if np.isfinite(medians[name]) else neutral[name] for name in columns}


def first_known(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a topic and week, in that order: the first that described it."""
    ordered = rows.sort_values(["topic", "week", "event_timestamp"], kind="stable")
    return ordered.drop_duplicates(["topic", "week"], ignore_index=True)


def of_nobody(rows: pd.DataFrame, filled: dict[str, float]) -> pd.DataFrame:
    """The rows as if only their windows were known: a typical topic's pace, velocity by that pace, no context."""
    bare = rows.assign(**filled, **dict.fromkeys(CONTEXT_COLUMNS, np.nan))
    usual, spread = ([filled[name] for name in names] for names in (USUAL_COLUMNS, SPREAD_COLUMNS))
    return bare.assign(velocity=score(_raw(rows), np.array(usual), np.array(spread))[0])


def windows_from_rows(
    rows: pd.DataFrame, filled: dict[str, float] | None = None
) -> tuple[Windows, pd.DataFrame]:
    """Examples of the topics' feature rows, in order of topic and week, and their `topic`, `week`, `velocity`.

    rows: of the view `topic_features`, with `topic` and `event_timestamp`; several may describe the same week.
    filled: what stands for a usual value or spread that is unknown; `typical(rows)` by default.
    """
    filled = filled or typical(rows)
    first = first_known(rows)
    usual = first[USUAL_COLUMNS].astype(np.float64).fillna(filled).to_numpy()
    spread = first[SPREAD_COLUMNS].astype(np.float64).fillna(filled).to_numpy()
    series, time = pd.factorize(first["topic"])[0].astype(np.int64), week_number(first["week"])
    windows = Windows(
        x=in_spreads(_raw(first), usual, spread).astype(np.float32),
        context=first[CONTEXT_COLUMNS].to_numpy(np.float32),
        y=changes(first["velocity"].to_numpy(np.float64), series, time, HORIZON),
        series=series,
        time=time,
        scale=np.ones(len(first), dtype=np.float32),
    )
    return windows, first[["topic", "week", "velocity"]]


def _raw(rows: pd.DataFrame) -> np.ndarray:
    """The indicators of the weeks, float64 [n, weeks, C], oldest first."""
    return rows[WINDOW_COLUMNS].to_numpy(np.float64).reshape(len(rows), TOPIC_WINDOW, len(INDICATOR_NAMES))


def changes(value: np.ndarray, series: np.ndarray, time: np.ndarray, horizon: int) -> np.ndarray:
    """What each value changes in the 1..horizon weeks after it, float32 [n, horizon]; NaN where that is unknown."""
    if not len(value):
        return np.empty((0, horizon), dtype=np.float32)
    start = time.min()
    grid = np.full((series.max() + 1, time.max() - start + 1 + horizon), np.nan)
    grid[series, time - start] = value
    later = np.stack([grid[series, time - start + ahead] for ahead in range(1, horizon + 1)], axis=1)
    return (later - value[:, None]).astype(np.float32)
