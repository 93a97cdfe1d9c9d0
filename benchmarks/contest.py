"""All methods on one data set's windows: fitted, forecast, and judged on the test slice."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import peer, scores
from benchmarks.series import TEST, TRAIN, VALID, Samples
from training.forecasting import conformal
from training.forecasting.data import Windows
from training.forecasting.fit import KINDS, Fitted, fit
from training.forecasting.hyper import Hyper

MIXED = ("gru", "ridge", "lightgbm")  # the mean of these is the method `mean`
BLOCK = 13  # weeks drawn together by the bootstrap over time: one wave of influenza reaches all regions
SHORT = {"lightgbm": "lgbm"}  # in the answer's keys

# The bars of this seat. Beating ridge is not one: where ridge wins, the gate seats ridge.
MOST_OF_RIDGE, MEAN_OF_RIDGE = 1.10, 1.02
COVERAGE_POINTS = 0.03

Bounds = tuple[np.ndarray, np.ndarray]  # low, high


@dataclass(frozen=True)
class Contest:
    """The test slice of a data set and what each method said of it.

    truth: float64 [n]; change: method → [seeds, n] (one row if it has no seed).
    interval, recalibrated: level → [seeds, 2, n], low and high around gru's forecasts ; the first calibrated
    once on the slice before the test, the other anew each week (empty without a calendar). seconds: to fit both
    times, the mean over seeds; a peer's include its forecasts.
    """

    samples: Samples
    truth: np.ndarray
    change: dict[str, np.ndarray]
    interval: dict[int, np.ndarray]
    recalibrated: dict[int, np.ndarray]
    seconds: dict[str, float]

    def squared(self, method: str) -> np.ndarray:
        """Squared errors [seeds, n]."""
        return np.square(self.change[method] - self.truth)


def hold(samples: Samples, *, seeds: int, hyper: Hyper, peers: tuple[str, ...] = peer.PEERS) -> Contest:
    """As the recipe does: fit on the training slice, choose and calibrate on the next, fit again on both; then test."""
    train, valid, test = (samples.windows.where(samples.rows(part)) for part in (TRAIN, VALID, TEST))
    both, rows = samples.windows.where(samples.rows(TRAIN, VALID)), samples.rows(TEST)
    change: dict[str, Any] = {kind: [] for kind in KINDS}
    around: list[dict[int, Bounds]] = []
    again: list[dict[int, Bounds]] = []
    seconds: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    for seed in range(seeds):
        for kind in KINDS:
            title = f"{samples.name}: {kind}, seed {seed}"
            found, took = _timed(title, fit, kind, train, valid, hyper, seed=seed)
            final, more = _timed(
                f"{title}, again", fit, kind, both, None, hyper, seed=seed, chosen=found.chosen
            )
            seconds[kind] += (took + more) / seeds
            forecast = final.predict(test)[:, -1]
            change[kind].append(forecast)
            if kind == "gru":
                sizes = conformal.error_sizes(_errors(found, train), train.series)
                errors = _errors(found, valid)
                around.append(conformal.calibrate(errors, valid.series, sizes).around(forecast, test.series))
                if samples.calendar:
                    again.append(_recalibrated(forecast, test, errors, valid, sizes))
    change = {kind: np.stack(forecasts) for kind, forecasts in change.items()}
    change["mean"] = sum(change[kind] for kind in MIXED) / len(MIXED)
    change |= {"last": np.zeros((1, len(rows))), "seasonal": samples.year_ago[rows][None]}
    for name in peers:
        answer, seconds[name] = _timed(f"{samples.name}: {name}", peer.forecast, name, samples, rows)
        change[name] = answer[None]
    truth = test.y[:, -1].astype(np.float64)
    return Contest(samples, truth, change, _stacked(around), _stacked(again), seconds)


def figures(contest: Contest) -> dict[str, Any]:
    """What the benchmark prints of a data set; a spread is the standard deviation over seeds."""
    last, rows = contest.squared("last")[0], contest.samples.rows(TEST)
    windows = contest.samples.windows
    found: dict[str, Any] = {
        "series": len(np.unique(windows.series)),
        "train": len(contest.samples.rows(TRAIN)),
        "test": len(rows),
        "seeds": len(contest.change["gru"]),
    }
    for method, change in contest.change.items():
        name = SHORT.get(method, method)
        squared, absolute = contest.squared(method), np.abs(change - contest.truth)
        found[f"skill_{name}"] = scores.skill(squared, last)
        found[f"spread_{name}"] = scores.spread([scores.skill(one, last) for one in squared])
        found[f"mae_skill_{name}"] = scores.skill(absolute, np.abs(contest.truth))
    gru, ridge = (contest.squared(kind).mean(axis=0) for kind in ("gru", "ridge"))
    found["mse_ratio_ridge"] = float(gru.mean() / ridge.mean())
    for method in ("transformer", "lightgbm", "mean"):
        found[f"mse_ratio_ridge_{SHORT.get(method, method)}"] = float(
            contest.squared(method).mean() / ridge.mean()
        )
    clusters = {"": windows.series[rows]}
    if contest.samples.calendar:
        clusters["_by_time"] = windows.time[rows] // BLOCK
    for suffix, cluster in clusters.items():
        low, high = scores.ratio_interval(gru, last, cluster)
        found |= {f"lower_vs_last{suffix}": low, f"upper_vs_last{suffix}": high}
        found[f"interval_vs_ridge{suffix}"] = scores.ratio_interval(gru, ridge, cluster)
    for suffix, levels in (("", contest.interval), ("_recalibrated", contest.recalibrated)):
        for level, bounds in levels.items():
            shares = [scores.coverage(contest.truth, low, high) for low, high in bounds]
            found[f"coverage{level}{suffix}"] = float(np.mean(shares))
            found[f"width{level}{suffix}"] = float((bounds[:, 1] - bounds[:, 0]).mean())
    found["seconds"] = contest.seconds
    return found


def bars(name: str, found: dict[str, Any]) -> dict[str, bool]:
    """Bar → whether the data set's figures hold it."""
    held = {
        f"MSE of gru ≤ {MOST_OF_RIDGE:.2f} × ridge": found["mse_ratio_ridge"] <= MOST_OF_RIDGE,
        f"MSE of mean ≤ {MEAN_OF_RIDGE:.2f} × ridge": found["mse_ratio_ridge_mean"] <= MEAN_OF_RIDGE,
    }
    for level in (80, 95):
        near = abs(found[f"coverage{level}"] - level / 100) <= COVERAGE_POINTS
        held[f"coverage of {level} % within ±{100 * COVERAGE_POINTS:.0f} points"] = near
    if name == "market":
        held["upper bound of MSE of gru / last value < 1"] = found["upper_vs_last"] < 1
    return held


def _recalibrated(
    forecast: np.ndarray, test: Windows, errors: np.ndarray, valid: Windows, sizes: dict[int, float]
) -> dict[int, Bounds]:
    """Around the forecasts of `test`, calibrated anew each week on the newest outcomes, as many weeks as `valid` has.

    Nightly training does that too; here the model stays the old one.
    """
    errors = np.concatenate([errors, test.y[:, -1] - forecast])
    series = np.concatenate([valid.series, test.series])
    outcome_week = np.concatenate([valid.time, test.time]) + test.horizon
    weeks = int(valid.time.max() - valid.time.min()) + 1
    found = {level: (np.empty(len(test)), np.empty(len(test))) for level in conformal.LEVELS}
    for week in np.unique(test.time):
        known = (outcome_week <= week) & (outcome_week > week - weeks)
        calibrated = conformal.calibrate(errors[known], series[known], sizes)
        now = test.time == week
        for level, bounds in calibrated.around(forecast[now], test.series[now]).items():
            for kept, bound in zip(found[level], bounds, strict=True):
                kept[now] = bound
    return found


def _errors(fitted: Fitted, windows: Windows) -> np.ndarray:
    """Outcome - forecast after HORIZON weeks."""
    errors: np.ndarray = windows.y[:, -1] - fitted.predict(windows)[:, -1]
    return errors


def _stacked(bounds: list[dict[int, Bounds]]) -> dict[int, np.ndarray]:
    return {level: np.stack([one[level] for one in bounds]) for level in bounds[0]} if bounds else {}


def _timed(title: str, call: Callable[..., Any], *given: Any, **named: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    answer = call(*given, **named)
    took = time.perf_counter() - began
    print(f"{title}: {took:.1f} s", file=sys.stderr, flush=True)
    return answer, took
