"""The pictures on an adapter's page: how it learnt, and what it gained over its base."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure


def learning_curve(points: Sequence[Mapping[str, float]]) -> Figure:
    """Nats per token by step. points: `training.qlora.tuning.Tuned.curve`."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.add_subplot()
    for name, colour, marker, label in (
        ("loss", "tab:gray", None, "training, each step"),
        ("val_nll", "tab:blue", "o", "newer conversations, held out"),
    ):
        known = [(point["step"], point[name]) for point in points if name in point]
        if known:
            axis.plot(*zip(*known, strict=True), color=colour, marker=marker, label=label)
    axis.set_xlabel("step (0: the base)")
    axis.set_ylabel("nats per token that the assistant said")
    axis.set_title("How it learnt")
    axis.legend()
    return figure


def before_and_after(metrics: Mapping[str, float]) -> Figure:
    """Perplexity and bits per byte of the base and of the adapter; lower is better."""
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    for axis, name in zip(figure.subplots(1, 2), ("perplexity", "bits_per_byte"), strict=True):
        values = [metrics[f"base_{name}"], metrics[name]]
        bars = axis.bar(["base", "adapter"], values, color=["tab:gray", "tab:blue"])
        axis.bar_label(bars, fmt="%.3g")
        axis.set_title(name.replace("_", " "))
        if name == "perplexity" and max(values) > 20 * min(values):
            axis.set_yscale("log")
            axis.set_ylim(bottom=10 ** math.floor(math.log10(min(values))))
    figure.suptitle("What it gained on held-out conversations (lower is better)")
    return figure
