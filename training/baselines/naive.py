"""The baselines that sit every forecaster's exam: nothing changes, and it changes as it did a year ago.

Both follow the seat's protocol (`nightshift.seats.ForecasterModel`), so the gate scores them as it scores a
candidate. Their intervals are the quantiles of the errors they would have made in the newest year.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from nightshift.contracts.features import TOPIC_VIEW
from training.forecasting import conformal
from training.forecasting.data import typical

YEAR_AGO = "velocity_change_year_ago"
NEWEST_WEEKS = 52
ANYTHING = 100.0  # points: a score of 0 to 100 cannot change by more


class LastValue:
    """Velocity stays what it is.

    learnt: rows of `topic_features` (`topic`, `week` and features) with `change`, what velocity changed in the four
    weeks after. Without any, the intervals hold whatever may come.
    """

    def __init__(self, learnt: pd.DataFrame) -> None:
        self.features = [f"{TOPIC_VIEW}:{YEAR_AGO}"]
        self.topics: list[str] = sorted(learnt["topic"].unique())
        self.typical = typical(learnt)
        weeks = sorted(learnt["week"].unique())[-NEWEST_WEEKS:]
        newest = learnt[learnt["week"].isin(weeks)]
        errors = newest["change"].to_numpy(np.float64) - self._change(newest)
        self._intervals = conformal.calibrate(errors if len(errors) else np.array([-ANYTHING, ANYTHING]))

    def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
        change = self._change(rows)
        answer = {"change": change}
        for level, (low, high) in self._intervals.around(change).items():
            answer |= {f"low_{level}": low, f"high_{level}": high}
        return pd.DataFrame(answer)

    def _change(self, rows: pd.DataFrame) -> np.ndarray:
        return np.zeros(len(rows))


class SeasonalNaive(LastValue):
    """Velocity changes as in the same four weeks a year ago; where that is unknown, not at all."""

    def _change(self, rows: pd.DataFrame) -> np.ndarray:
        given = rows.reindex(columns=[YEAR_AGO])[YEAR_AGO]
        change = pd.to_numeric(given, errors="coerce").to_numpy(np.float64)
        return np.where(np.isfinite(change), change, 0.0)
