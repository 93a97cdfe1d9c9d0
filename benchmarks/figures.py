"""The benchmark's plots for docs/benchmarks.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import Contest
from benchmarks.series import TEST

LABELS = {
    "seasonal": "seasonal naive", "autoets": "AutoETS", "autotheta": "AutoTheta", "ridge": "ridge",
    "lgbm": "LightGBM", "gru": "GRU", "transformer": "Transformer", "mean": "mean of three",
}  # fmt: skip
COLOURS = ("#bbbbbb", "#999999", "#777777", "#c58b2a", "#6b8e4e", "#1f4e79", "#7a4e9e", "#2a9d8f")


def skills(found: dict[str, dict[str, Any]], target: Path) -> None:
    """Skill against last value by data set and method; the lines are ± one standard deviation over seeds."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(found), figsize=(3.2 * len(found), 3.6), layout="constrained", squeeze=False
    )
    for axis, (name, one) in zip(axes[0], found.items(), strict=True):
        methods = [method for method in LABELS if f"skill_{method}" in one]
        values = np.array([one[f"skill_{method}"] for method in methods])
        low = min(-0.1, float(values[1:].min()) - 0.05)  # a seasonal naive far below the rest is cut off
        colours = [COLOURS[list(LABELS).index(method)] for method in methods]
        spreads = [one[f"spread_{method}"] for method in methods]
        axis.barh([LABELS[method] for method in methods], values, xerr=spreads, color=colours)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set(title=f"{name} ({one['series']} series)", xlim=(low, max(0.05, float(values.max()) + 0.05)))
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("skill: 1 − MSE / MSE of last value, 4 weeks ahead")
    _save(figure, target)


def examples(contests: list[Contest], target: Path, *, weeks: int = 120) -> None:
    """What happened and what GRU forecast (first seed), for two series of each data set's test slice."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(contests), 2, figsize=(11, 2.2 * len(contests)), layout="constrained", squeeze=False
    )
    for line, contest in zip(axes, contests, strict=True):
        rows = contest.samples.rows(TEST)
        number = contest.samples.windows.series[rows]
        count = int(number.max()) + 1
        for axis, one in zip(line, (count // 3, 2 * count // 3), strict=True):
            mine = np.flatnonzero(number == one)[:weeks]
            week = contest.samples.windows.time[rows[mine]]
            week = week - week[0]
            for level, shade in ((95, 0.15), (80, 0.3)):
                axis.fill_between(
                    week, *contest.interval[level][0, :, mine].T,
                    color="#1f4e79", alpha=shade, linewidth=0, label=f"{level} %",
                )  # fmt: skip
            axis.plot(week, contest.truth[mine], color="black", linewidth=1, label="actual")
            axis.plot(week, contest.change["gru"][0, mine], color="#1f4e79", linewidth=1.3, label="GRU")
            axis.set(title=f"{contest.samples.name}, series {one + 1} of {count}", ylabel="change in 4 weeks")
            axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(frameon=False, ncols=4, fontsize=8)
    figure.supxlabel("week of the test slice")
    _save(figure, target)


def _save(figure: Any, target: Path) -> None:
    import matplotlib.pyplot as plt

    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=130)
    plt.close(figure)
