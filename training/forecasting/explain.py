"""The pictures on a forecaster's page: how it learnt, how its forecasts went, where it errs, what drives it.

Forecasts and errors are those of the newest weeks of training, by the model that was not fitted to them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from math import factorial

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
EXPLAINED, PAIRS = 100, 32  # rows, and orders of their inputs: each is walked forwards and backwards
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
    change = [
        f"{100 * (own / other - 1):+.0f} %" if other else "" for own, other in zip(ours, still, strict=True)
    ]
    axis.bar_label(bars, change, padding=2)
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
    top = 1.05 * float(max(ours.max(), still.max())) or 1.0
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


@dataclass(frozen=True)
class Explained:
    """Shapley values of n forecasts, in target units; of each game they add up, with the context's, to the forecast
    minus that of a typical window.

    x: the windows [n, weeks, C]. cells [n, weeks, C]: estimates; error [n, weeks, C] their standard errors.
    weeks [n, weeks + 1], channels [n, C + 1]: exact, of whole weeks or channels, the context last.
    """

    x: np.ndarray
    cells: np.ndarray
    error: np.ndarray
    weeks: np.ndarray
    channels: np.ndarray
    context: np.ndarray


def attributions(fitted: Fitted, windows: Windows, seed: int, rows: int = EXPLAINED) -> Explained:
    """What the inputs of some examples contribute to their forecasts. One that has not joined yet is unknown,
    which is what a missing value is to the model.

    Of single cells there are too many coalitions: random orders are walked, each both ways, which cancels what two
    inputs do together (Castro et al. 2009; Mitchell et al., JMLR 2022). Of whole weeks, and of whole channels, all are.
    """
    random = np.random.default_rng(seed)
    picked = windows.where(np.sort(random.choice(len(windows), size=min(rows, len(windows)), replace=False)))
    n, weeks, channels = picked.x.shape
    players = weeks * channels + 1
    game = _Game(fitted, picked)
    draws = np.zeros((PAIRS, n, players))
    for draw in draws:
        order = random.random((n, players)).argsort(axis=1)  # each example's own
        for walked in (order, order[:, ::-1]):
            known = walked.argsort(axis=1) < np.arange(players + 1)[:, None, None]  # [steps, n, players]
            draw[np.arange(n)[:, None], walked] += np.diff(game.told(known), axis=0).T / 2
    values = draws.mean(axis=0)
    cell = np.arange(weeks * channels)
    return Explained(
        x=picked.x,
        cells=values[:, :-1].reshape(picked.x.shape),
        error=(draws[..., :-1].std(axis=0, ddof=1) / np.sqrt(PAIRS)).reshape(picked.x.shape),
        weeks=game.exact(cell // channels),
        channels=game.exact(cell % channels),
        context=values[:, -1],
    )


class _Game:
    """What a model forecasts of examples when only some inputs are known: the cells in order, then the context."""

    def __init__(self, fitted: Fitted, windows: Windows) -> None:
        self.fitted, self.windows = fitted, windows
        self.boosters = predictor.load_trees(fitted.trees[-1:])

    def told(self, known: np.ndarray) -> np.ndarray:
        """Coalitions [k, n or 1, cells + 1] → forecasts [k, n], in target units."""
        x, context = self.windows.x, self.windows.context
        cells = np.where(known[..., :-1], x.reshape(len(x), -1), np.nan).reshape(-1, *x.shape[1:])
        around = np.where(known[..., -1:], context, np.nan).reshape(len(cells), context.shape[1])
        change = predictor.forecast(self.fitted.kind, self.fitted.arrays, self.boosters, cells, around)[:, -1]
        return change.reshape(len(known), len(x)) * self.windows.scale

    def exact(self, group: np.ndarray) -> np.ndarray:
        """group [cells]: the player that each belongs to → Shapley values [n, players], the context's last."""
        players = int(group.max()) + 2
        sets = np.array(
            list(product((False, True), repeat=players))
        )  # number 0..2^players - 1, first player highest
        told = self.told(sets[:, None, [*group, players - 1]])
        values = np.zeros((told.shape[1], players))
        for player in range(players):
            without = np.flatnonzero(~sets[:, player])
            size = sets[without].sum(axis=1)
            chance = np.array([factorial(k) * factorial(players - k - 1) / factorial(players) for k in size])
            values[:, player] = chance @ (told[without + (1 << (players - 1 - player))] - told[without])
        return values


def shap_figure(explained: Explained) -> Figure:
    """Heat maps of `attributions` over the inputs: how much, and which way."""
    weeks, channels = explained.x.shape[1:]
    much = np.abs(explained.cells).mean(axis=0)
    given = np.nan_to_num(explained.x)
    way = (explained.cells * given).sum(axis=0) / np.maximum(np.square(given).sum(axis=0), 1e-9)
    whole_week, whole_channel = (
        np.abs(values).mean(axis=0) for values in (explained.weeks, explained.channels)
    )
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    limit = float(np.abs(way).max()) or 1.0
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
        axis.set_title(title, fontsize=11)
        figure.colorbar(image, ax=axis)
    ends = [f"t−{ago}" if ago else "t" for ago in reversed(range(TOPIC_WINDOW))]
    names = [name.replace("_", " ") for name in INDICATOR_NAMES]
    left.set_xticks(range(weeks), [f"{end}\nall: {whole_week[n]:.2f}" for n, end in enumerate(ends)])
    left.set_yticks(range(channels), [f"{name}\nall: {whole_channel[n]:.2f}" for n, name in enumerate(names)])
    right.set_xticks(range(weeks), ends)
    right.set_yticks([])
    error = float(np.sqrt(np.square(explained.error).mean()))
    figure.suptitle(
        f"What drives the change forecast for t+4 (history and season together: {whole_channel[-1]:.2f} points)\n"
        f"Of {len(explained.x)} forecasts. All of a week or an indicator: exact. "
        f"Cells: estimates, one forecast's ± {error:.2f}",
        fontsize=11,
    )
    return figure


def _plain(topics: list[str], series: int) -> str:
    """What Matplotlib's own font can show of a topic's name (no Korean, and a $ starts a formula), or its number."""
    shown = max(re.split(r"[^\x20-\x7e]|[$]", topics[series]), key=len).strip()
    return shown[:30] or f"topic {series + 1}"
