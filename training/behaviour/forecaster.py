"""How a forecaster answers: `try_model`. Asked are the exam's own rows, as they are and changed a little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from nightshift.contracts.features import TOPIC_FEATURES, numeric
from nightshift.seats import ForecasterModel
from training.behaviour import drawn_from, largest_change, measured, nudged, sample
from training.evidence import Measured
from training.exams.forecasts import Exam, answered

TRIED = 1_000  # rows
ALONE = 100  # rows that are asked about one by one
NUMBERS = numeric(TOPIC_FEATURES)


def try_model(model: ForecasterModel, exam: Exam) -> Measured:
    """Figures of `training.metrics`; a probe in which the model's code raises gives none, but a problem.

    not_finite: share of the answers' numbers that are none. order_dependence: largest change of any of them, in points,
    when rows are asked in another order, one by one, or with their columns in another order. crossed_intervals: share
    of rows whose 80 % interval is not within the 95 % one, or either is upside down. missing_answered: of the rows
    answered in finite numbers, the share that still are with some or all of their numbers missing. nudged_change: mean
    absolute change of the forecast, in points, when its row's numbers move by 1 %.
    """
    trial = _Trial(model, exam)
    return measured([trial.answers, trial.order, trial.missing, trial.nudge])


@dataclass(frozen=True)
class _Trial:
    model: ForecasterModel
    exam: Exam

    def answers(self) -> Mapping[str, float]:
        given = self._given
        crossed = (
            (given["low_80"] < given["low_95"])
            | (given["high_80"] > given["high_95"])
            | (given["low_80"] > given["high_80"])
            | (given["low_95"] > given["high_95"])
        )
        return {
            "not_finite": float((~np.isfinite(given.to_numpy())).mean()),
            "crossed_intervals": float(crossed.mean()),
        }

    def order(self) -> Mapping[str, float]:
        asked, given, random = self._asked, self._given.to_numpy(), self._random
        rows, columns = random.permutation(len(asked)), random.permutation(asked.shape[1])
        few = sample(random, len(asked), ALONE)
        others = [
            (given[rows], answered(self.model, asked.iloc[rows].reset_index(drop=True))),
            (given, answered(self.model, asked.iloc[:, columns])),
            (given[few], pd.concat([answered(self.model, asked.iloc[[row]]) for row in few])),
        ]
        return {"order_dependence": max(largest_change(before, after.to_numpy()) for before, after in others)}

    def missing(self) -> Mapping[str, float]:
        """Each row lacks a share of its own of its numbers; every tenth one all of them."""
        there = np.isfinite(self._given.to_numpy()).all(axis=1)
        if not there.any():
            return {}
        share = self._random.random((len(self._asked), 1))
        share[::10] = 1.0
        holed = self._asked.copy()
        gone = self._random.random((len(holed), len(self._numbers))) < share
        holed[self._numbers] = holed[self._numbers].astype(np.float64).mask(gone)
        finite = np.isfinite(answered(self.model, holed).to_numpy()).all(axis=1)
        return {"missing_answered": float(finite[there].mean())}

    def nudge(self) -> Mapping[str, float]:
        moved = self._asked.copy()
        moved[self._numbers] = nudged(moved[self._numbers].to_numpy(np.float64), self._random)
        change = answered(self.model, moved)["change"].to_numpy() - self._given["change"].to_numpy()
        known = change[np.isfinite(change)]
        return {"nudged_change": float(np.abs(known).mean())} if len(known) else {}

    @cached_property
    def _asked(self) -> pd.DataFrame:
        rows = sample(self._random, len(self.exam.rows), TRIED)
        return self.exam.rows.iloc[rows].reset_index(drop=True)

    @cached_property
    def _given(self) -> pd.DataFrame:
        return answered(self.model, self._asked)

    @property
    def _numbers(self) -> list[str]:
        return [name for name in NUMBERS if name in self._asked]

    @property
    def _random(self) -> np.random.Generator:
        """Fresh, so that no probe's draws hang on which were made before."""
        return drawn_from(f"{self.exam.digest} behaviour")
