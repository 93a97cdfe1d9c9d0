"""The pictures on a forecaster's page: how it learnt, how its forecasts went, where it errs, what drives it.

Forecasts and errors are those of the newest weeks of training, by the model that was not fitted to them.
"""

from __future__ import annotations

import re

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nightshift.contracts.features import TOPIC_WINDOW
from nightshift.contracts.indicators import INDICATOR_NAMES
from training.forecasting import predictor
from training.forecasting.conformal import Intervals
from training.forecasting.data import Windows
from training.forecasting.fit import Fitted

SHOWN_TOPICS = 9
EXPLAINED, ORDERS = 150, 8  # rows, and orders of their inputs (every second is the one before, backwards)
STEP_NAMES = {
    "gru": "epoch (0: the ridge that it starts from)",
    "transformer": "epoch (0: the ridge that it starts from)",
    "lightgbm": "trees",
    "ridge": "alpha, the strength of the penalty",
}


def learning_curve(fitted: Fitted) -> Figure:
    """Losses by epoch, number of trees or alpha, with what was kept."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.add_subplot()
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if fitted.kind == "ridge":
        kept, steps = fitted.chosen["alpha"], np.array([point["alpha"] for point in fitted.curve])
        axis.set_xscale("log")
    elif fitted.kind == "lightgbm":
        kept, steps = fitted.chosen["trees"][-1], np.arange(1.0, len(fitted.curve) + 1)
    else:
        kept, steps = fitted.chosen["epochs"], np.arange(0.0, len(fitted.curve))
    marker = "." if len(steps) <= 50 else None
    for name, colour, label in (
        ("loss", "tab:gray", "training examples"),
        ("val_loss", "tab:blue", "later weeks, held out"),
    ):
        values = [point.get(name, np.nan) for point in fitted.curve]
        if np.isfinite(values).any():
            axis.plot(steps, values, color=colour, marker=marker, label=label)
    axis.axvline(kept, color="tab:green", linestyle="--", label=f"kept: {kept:g}")
    axis.set_xlabel(STEP_NAMES[fitted.kind])
    axis.set_ylabel("mean squared error of standardised changes")
    axis.set_title("How it learnt, and where the held-out weeks said to stop")
    axis.legend()
    return figure


def forecasts(
    windows: Windows, forecast: np.ndarray, intervals: Intervals, velocity: np.ndarray, topics: list[str]
) -> Figure:
    """Actual velocity and what was forecast for it, with the interval of 80 %, of nine topics.

    forecast [n], velocity [n]: of the examples; plotted at the week that the change leads to. The topics lie evenly
    from the best forecast to the worst.
    """
    numbers, at = np.unique(windows.series, return_inverse=True)
    squared = np.square(windows.y[:, -1] - forecast)
    order = numbers[np.argsort(np.bincount(at, weights=squared) / np.bincount(at), kind="stable")]
    shown = order[np.linspace(0, len(order) - 1, min(SHOWN_TOPICS, len(order))).round().astype(int)]
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(3, 3, sharex=True, sharey=True, squeeze=False).ravel()
    bounds = intervals.around(forecast, windows.series)[80]
    for axis, series in zip(axes, shown, strict=False):
        mine = np.flatnonzero(windows.series == series)
        mine = mine[np.argsort(windows.time[mine], kind="stable")]
        weeks = windows.time[mine] + windows.horizon
        dates = (weeks * 7 + 1 - 719_163).astype("datetime64[D]")  # 719163 is the ordinal of 1970-01-01
        low, high = (np.clip(velocity[mine] + bound[mine], 0, 100) for bound in bounds)
        axis.fill_between(dates, low, high, color="tab:blue", alpha=0.2, linewidth=0, label="80 % interval")
        axis.plot(dates, velocity[mine] + forecast[mine], color="tab:blue", label="forecast 4 weeks before")
        axis.plot(dates, velocity[mine] + windows.y[mine, -1], color="black", linewidth=1, label="actual")
        axis.set_title(f"{_plain(topics, series)} · RMSE {np.sqrt(squared[mine].mean()):.1f}", fontsize=9)
        ticks = AutoDateLocator(minticks=3, maxticks=5)
        axis.xaxis.set_major_locator(ticks)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(ticks))
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.supylabel("velocity")
    figure.suptitle("Forecast and what came, from the topic forecast best to the one forecast worst")
    return figure


def error_by_horizon(windows: Windows, forecast: np.ndarray) -> Figure:
    """Root mean squared error after 1..H weeks beside that of no change. forecast [n, H]"""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.add_subplot()
    weeks = np.arange(1, windows.horizon + 1)
    still = np.sqrt(np.nanmean(np.square(windows.y), axis=0))
    ours = np.sqrt(np.nanmean(np.square(windows.y - forecast), axis=0))
    axis.bar(weeks - 0.2, still, 0.38, color="tab:gray", label="last value")
    bars = axis.bar(weeks + 0.2, ours, 0.38, color="tab:blue", label="forecast")
    skill = [f"−{100 * (1 - own / other):.0f} %" for own, other in zip(ours, still, strict=True)]
    axis.bar_label(bars, skill, padding=2)
    axis.set_xticks(weeks)
    axis.set_xlabel("weeks ahead")
    axis.set_ylabel("root mean squared error (points)")
    axis.set_title("Error by horizon: how much smaller than if nothing changed")
    axis.margins(y=0.12)
    axis.legend()
    return figure


def error_by_topic(windows: Windows, forecast: np.ndarray, topics: list[str]) -> Figure:
    """Each topic's error beside that of no change: below the diagonal, forecasting it is worth something."""
    numbers, at = np.unique(windows.series, return_inverse=True)
    count = np.bincount(at)
    ours = np.sqrt(np.bincount(at, weights=np.square(windows.y[:, -1] - forecast)) / count)
    still = np.sqrt(np.bincount(at, weights=np.square(windows.y[:, -1].astype(np.float64))) / count)
    figure = Figure(figsize=(6.5, 6), layout="constrained")
    axis = figure.add_subplot()
    top = 1.05 * float(max(ours.max(), still.max()))
    axis.plot([0, top], [0, top], color="tab:gray", linewidth=1)
    axis.scatter(
        still, ours, s=18, alpha=max(0.15, min(0.8, 60 / len(numbers))), color="tab:blue", linewidths=0
    )
    for place in np.argsort(still - ours)[:3]:
        axis.annotate(
            _plain(topics, numbers[place]),
            (still[place], ours[place]),
            xytext=(-4, 4),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    better = float((ours < still).mean())
    axis.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    axis.set_xlabel("root mean squared error of last value (points)")
    axis.set_ylabel("of the forecast (points)")
    axis.set_title(
        f"Error by topic: {better:.0%} of {len(numbers):,} topics lie below the line;\n"
        "named are the three that gain least"
    )
    return figure


def attributions(
    fitted: Fitted, windows: Windows, seed: int, rows: int = EXPLAINED
) -> tuple[np.ndarray, np.ndarray]:
    """Shapley values of every input cell [n, weeks, C] and of the context [n], and the rows that were explained.

    Estimated over random orders, each walked both ways (Castro et al. 2009; Mitchell et al., JMLR 2022): whatever
    the orders, the values add up to the forecast minus that of a typical window. An input that has not joined yet
    is unknown, which is what a missing value is to the model.
    """
    random = np.random.default_rng(seed)
    picked = np.sort(random.choice(len(windows), size=min(rows, len(windows)), replace=False))
    x, context = windows.x[picked], windows.context[picked]
    n, cells = len(picked), x.shape[1] * x.shape[2]
    boosters = predictor.load_trees(fitted.trees[-1:])
    values = np.zeros((n, cells + 1))
    order = np.empty(0, dtype=np.int64)
    for number in range(ORDERS):
        order = order[::-1] if number % 2 else random.permutation(cells + 1)
        joined = np.tri(cells + 2, cells + 1, -1, dtype=bool)[:, np.argsort(order)]  # [steps, players]
        seen = np.where(joined[:, None, :-1], x.reshape(n, cells), np.nan).reshape(-1, *x.shape[1:])
        around = np.where(joined[:, None, -1:], context, np.nan).reshape(-1, context.shape[1])
        told = predictor.forecast(fitted.kind, fitted.arrays, boosters, seen, around)[:, -1]
        values[:, order] += np.diff(told.reshape(cells + 2, n), axis=0).T / ORDERS
    return values * windows.scale[picked, None], picked


def shap_figure(values: np.ndarray, x: np.ndarray) -> Figure:
    """Heat maps of `attributions` [n, cells + 1] over the inputs x [n, weeks, C]: how much, and which way."""
    weeks, channels = x.shape[1:]
    effects = values[:, :-1].reshape(-1, weeks, channels)
    much = np.abs(effects).mean(axis=0)
    given = np.nan_to_num(x)
    way = (effects * given).sum(axis=0) / np.maximum(np.square(given).sum(axis=0), 1e-9)
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    limit = float(np.abs(way).max()) or 1.0
    names = [name.replace("_", " ") for name in INDICATOR_NAMES]
    for axis, shown, scale, title, text in (
        (left, much, {"cmap": "Blues", "vmin": 0}, "How much: mean |SHAP value|, points", "{:.2f}"),
        (right, way, {"cmap": "RdBu", "vmin": -limit, "vmax": limit},
         "Which way: points for one spread more", "{:+.2f}"),
    ):  # fmt: skip
        image = axis.imshow(shown.T, aspect="auto", **scale)
        dark = np.abs(shown) > 0.6 * np.abs(shown).max()
        for week, channel in np.ndindex(weeks, channels):
            colour = "white" if dark[week, channel] else "black"
            axis.text(
                week, channel, text.format(shown[week, channel]), ha="center", va="center", color=colour
            )
        axis.set_xticks(range(weeks), [f"t−{ago}" if ago else "t" for ago in reversed(range(TOPIC_WINDOW))])
        axis.set_title(title, fontsize=11)
        figure.colorbar(image, ax=axis)
    left.set_yticks(range(channels), names)
    right.set_yticks([])
    history = float(np.abs(values[:, -1]).mean())
    figure.suptitle(
        f"What drives the change forecast for t+4 (history and season together: {history:.2f} points)"
    )
    return figure


def _plain(topics: list[str], series: int) -> str:
    """What Matplotlib's own font can show of a topic's name (no Korean, and a $ starts a formula), or its number."""
    shown = max(re.split(r"[^\x20-\x7e]|[$]", topics[series]), key=len).strip()
    return shown[:30] or f"topic {series + 1}"
