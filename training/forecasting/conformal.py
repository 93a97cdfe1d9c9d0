"""Prediction intervals with a promise: split conformal prediction, in units of each series' own errors.

The newest slice of examples, which the model was not fitted to, says how far forecasts miss. If the next weeks are
like those (exchangeable), an interval between these quantiles holds the stated share of outcomes, whatever the model
and the errors' distribution (Vovk et al. 2005; Lei et al., JASA 2018, section 5.2 for errors in units of a scale).
What it does *not* promise: the share for one topic, or for weeks unlike those of the slice, such as a boom's first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVELS = (80, 95)  # per cent
TYPICAL_WEIGHT = 20.0  # examples' worth of the typical series that each series' own error size is mixed with
OVERLAP = 4  # consecutive weeks share most of their four-week change: so many examples tell as much as one


@dataclass(frozen=True)
class Intervals:
    """scale: series → its error size, 1 = typical (and for whoever is not in it).
    bounds: level in per cent → (low, high) of an error of a typical series, in target units: low ≤ 0 ≤ high."""

    scale: dict[int, float]
    bounds: dict[int, tuple[float, float]]

    def around(
        self, forecast: np.ndarray, series: np.ndarray | None = None
    ) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Level → (low, high), each [n], around forecasts [n] of `series` [n], or of typical ones."""
        size = _sizes(self.scale, series)
        return {
            level: (forecast + size * low, forecast + size * high)
            for level, (low, high) in self.bounds.items()
        }


def error_sizes(errors: np.ndarray, series: np.ndarray) -> dict[int, float]:
    """Each series' root mean squared error ÷ that of all, drawn towards 1 the less is known of it.

    errors [n], series [n]: of examples *before* those that calibrate.
    """
    if not len(errors):
        return {}
    names, at = np.unique(series, return_inverse=True)
    typical = float(np.mean(np.square(errors)))
    if typical <= 0:
        return {}
    count = np.bincount(at) / OVERLAP
    total = np.bincount(at, weights=np.square(errors)) / OVERLAP
    mixed = (total + TYPICAL_WEIGHT * typical) / (count + TYPICAL_WEIGHT)
    return {int(name): float(size) for name, size in zip(names, np.sqrt(mixed / typical), strict=True)}


def calibrate(
    errors: np.ndarray, series: np.ndarray | None = None, scale: dict[int, float] | None = None
) -> Intervals:
    """Intervals of the errors (outcome - forecast) [n] that the newest slice had.

    series [n] and each one's error size, or neither: then all are taken for alike. Both tails on their own, for the
    errors need not be symmetric. With n too few for a level, its bound is the largest error that was seen.

    Raises:
        ValueError: there is no error.
    """
    if not len(errors):
        raise ValueError("intervals cannot be calibrated without an error")
    scale = scale or {}
    ordered = np.sort(errors / _sizes(scale, series))
    bounds = {}
    for level in LEVELS:
        tail = (1 - level / 100) / 2
        rank = int(np.ceil((len(ordered) + 1) * (1 - tail)))  # the finite-sample correction
        high = ordered[min(rank, len(ordered)) - 1]
        low = ordered[max(len(ordered) - rank, 0)]
        bounds[level] = (min(float(low), 0.0), max(float(high), 0.0))
    return Intervals(scale, bounds)


def coverage(
    intervals: Intervals, forecast: np.ndarray, outcome: np.ndarray, series: np.ndarray | None = None
) -> dict[int, float]:
    """Level → share of outcomes inside."""
    return {
        level: float(np.mean((outcome >= low) & (outcome <= high)))
        for level, (low, high) in intervals.around(forecast, series).items()
    }


def _sizes(scale: dict[int, float], series: np.ndarray | None) -> np.ndarray | float:
    return 1.0 if series is None else np.array([scale.get(int(one), 1.0) for one in series])
