"""What a forecaster's own judging weeks say of it, for its run's page. The seat's exam is `training.exams`."""

from __future__ import annotations

import numpy as np

from training.forecasting import conformal
from training.forecasting.data import Windows

LEAST_ERRORS = 100  # that calibrate: fewer say nothing of a share of 95 %


def judge(windows: Windows, forecast: np.ndarray) -> dict[str, float]:
    """Errors of forecasts [n] that the model was not fitted to, in points: means over topics, as the exam's are."""
    outcome = windows.y[:, -1].astype(np.float64)
    at = np.unique(windows.series, return_inverse=True)[1]

    def mean(values: np.ndarray) -> float:
        return float(np.mean(np.bincount(at, weights=values) / np.bincount(at)))

    squared, still = mean(np.square(outcome - forecast)), mean(np.square(outcome))
    return {
        "mse": squared,
        "mae": mean(np.abs(outcome - forecast)),
        "skill": 1 - squared / still if still else 0.0,
    }


def held(windows: Windows, forecast: np.ndarray, scale: dict[int, float]) -> dict[str, float]:
    """Which share of the outcomes the intervals held; nothing where too few errors calibrate them.

    Judged on the newer half of the weeks, calibrated on the older one: to measure them on what they were calibrated
    on would prove nothing.
    """
    errors = windows.y[:, -1] - forecast
    middle = np.median(windows.time)
    older, newer = windows.time < middle - windows.horizon, windows.time >= middle
    if older.sum() < LEAST_ERRORS:
        return {}
    half = conformal.calibrate(errors[older], windows.series[older], scale)
    covered = conformal.coverage(half, np.zeros(newer.sum()), errors[newer], windows.series[newer])
    return {f"coverage_{level}": share for level, share in covered.items()}
