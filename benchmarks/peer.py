"""The public peer: statsforecast's AutoETS and AutoTheta, one model a series, on the same windows.

They choose their form on all that comes before the test slice, as ours fit there, and then follow the series
without being fitted again (`forward`): each forecast sees the whole past of its series, more than our four weeks.
AutoETS has no season of 52 weeks (it takes at most 24), AutoTheta has.
Documentation: https://nixtlaverse.nixtla.io/statsforecast/
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.series import YEAR, Samples
from nightshift.contracts.features import HORIZON

PEERS = ("autoets", "autotheta")


def forecast(peer: str, samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Change after HORIZON weeks, float64 [len(rows)]."""
    answer = np.empty(len(rows))
    series = samples.windows.series[rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numerics inside the library
        for number in np.unique(series):
            past = _filled(samples.history[number])
            model = _model(peer).fit(past.values[: samples.tested_from[number] - past.begin])
            for place in np.flatnonzero(series == number):
                at = samples.at[rows[place]] - past.begin
                ahead = model.forward(past.values[: at + 1], h=HORIZON)["mean"][HORIZON - 1]
                answer[place] = ahead - past.values[at]
    return answer


@dataclass(frozen=True)
class _Past:
    """values: without gaps, from the first known one, which stands at place `begin` of the series."""

    values: np.ndarray
    begin: int


def _filled(history: np.ndarray) -> _Past:
    """Where a value is unknown, the last known one stands."""
    begin = int(np.flatnonzero(np.isfinite(history))[0])
    return _Past(pd.Series(history[begin:]).ffill().to_numpy(np.float64), begin)


def _model(peer: str) -> Any:
    from statsforecast.models import AutoETS, AutoTheta

    if peer == "autoets":
        return AutoETS(season_length=1)
    return AutoTheta(
        season_length=YEAR, decomposition_type="additive"
    )  # the series are logarithms and scores
