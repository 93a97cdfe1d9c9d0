"""The plot for docs/benchmarks.md: what each rule promotes, what the seat loses, which broken slices are caught."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.calibration.ratchet import LOSS, NIGHTS
from benchmarks.calibration.rules import RULES

COLOURS = {"ours": "#1f4e79", "always": "#999999", "higher_wins": "#c58b2a", "tolerance": "#b5493c",
           "tolerance_reference": "#b5493c"}  # fmt: skip
MARKS = {"ours": "o", "always": "s", "higher_wins": "^", "tolerance": "D"}
SHADES = ("#1f4e79", "#2a9d8f", "#6b8e4e", "#c58b2a", "#7a4e9e", "#b5493c", "#777777")


def plot(found: dict[str, dict[str, Any]], target: Path) -> None:
    """The market's three panels, and below them those of every other source that was there."""
    import matplotlib.pyplot as plt

    there = {source: one for source, one in found.items() if "left_out" not in one}
    figure, axes = plt.subplots(
        len(there), 3, figsize=(14, 4.3 * len(there)), layout="constrained", squeeze=False
    )
    for row, (source, one) in zip(axes, there.items(), strict=True):
        _promoted(row[0], source, one)
        _ratchet(row[1], one)
        _slices(row[2], one)
        for axis in row:
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(axis="y", color="#e5e5e5", linewidth=0.8)
            axis.set_axisbelow(True)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120)
    plt.close(figure)


def _promoted(axis: Any, source: str, one: dict[str, Any]) -> None:
    """Share of the nights promoted by true change."""
    levels = np.array([100 * step["level"] for step in one["by_step"]])
    for shift, (rule, label) in zip((0.0, 0.0, -0.06, 0.06), RULES.items(), strict=True):
        rates = 100 * np.array(
            [[step[rule][k] for k in ("estimate", "low", "high")] for step in one["by_step"]]
        )
        axis.errorbar(
            levels + shift, rates[:, 0], yerr=[rates[:, 0] - rates[:, 1], rates[:, 2] - rates[:, 0]],
            color=COLOURS[rule], marker=MARKS[rule], markersize=5, linewidth=1.6 if rule == "ours" else 1.1,
            capsize=2, label=label, zorder=3 if rule == "ours" else 2,
        )  # fmt: skip
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set(
        title=f"{source}: promoted, {one['exam_units']:,} users an exam", xticks=levels,
        xticklabels=[f"{level:+.0f}" if level else "0" for level in levels],
        xlabel="true change of NDCG@100, %", ylabel="nights promoted, %", ylim=(-3, 104),
    )  # fmt: skip
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(0.0, 0.68))


def _ratchet(axis: Any, one: dict[str, Any]) -> None:
    """What the seat has lost after each night."""
    nights = np.arange(NIGHTS + 1)
    for rule, lost in one["ratchet_by_night"].items():
        values = np.array([0.0, *lost]) * 100
        label = RULES.get(rule, "within 1 %, and the frozen reference")
        style = "-" if rule in RULES else "--"
        axis.plot(
            nights, -values, style, color=COLOURS[rule], linewidth=1.8 if rule == "ours" else 1.2, label=label
        )
        figure = one["ratchet_loss"].get(rule, one["ratchet_loss_reference"])
        low, high = -100 * figure["high"], -100 * figure["low"]
        axis.plot([NIGHTS, NIGHTS], [low, high], color=COLOURS[rule], linewidth=4, alpha=0.4)
    axis.set(
        title=f"A candidate {100 * LOSS:g} % worse, every night", xlabel="night",
        ylabel="true quality of the seat, %", xticks=np.arange(0, NIGHTS + 1, 5),
    )  # fmt: skip
    axis.legend(frameon=False, fontsize=8, loc="lower left")


def _slices(axis: Any, one: dict[str, Any]) -> None:
    """How often ours caught a loss, by its size, for each slice of users."""
    groups = list(dict.fromkeys(row["slice"] for row in one["by_slice"]))
    for number, group in enumerate(groups):
        several = sum(row["slice"] == group for row in one["by_slice"]) > 1
        rows = sorted((row for row in one["by_slice"] if row["slice"] == group), key=lambda row: row["loss"])
        losses = np.array([100 * row["loss"] for row in rows])
        rates = np.array([[row["caught"][k] for k in ("estimate", "low", "high")] for row in rows]) * 100
        axis.errorbar(
            losses + 0.6 * (number - len(groups) / 2), rates[:, 0],
            yerr=[rates[:, 0] - rates[:, 1], rates[:, 2] - rates[:, 0]],
            color=SHADES[number % len(SHADES)], marker="o" if several else "*", markersize=4 if several else 9,
            linewidth=1.3, capsize=2, label=f"{group}, {rows[-1]['units']:.0f} users",
        )  # fmt: skip
    axis.axhline(95, color="black", linewidth=0.8, linestyle=":")
    axis.set(
        title="5 % better on average, worse on one slice", xlabel="quality lost on the slice, %",
        ylabel="not promoted by the gate, % of nights", ylim=(-3, 104), xticks=[20, 40, 60, 80, 100],
        xticklabels=["20", "40", "60", "80", "random\nlists"],
    )  # fmt: skip
    if groups:
        axis.legend(frameon=False, fontsize=8, loc="lower right")
    else:
        axis.text(60, 50, "no slice could be broken and made up for", ha="center")
