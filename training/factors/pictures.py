"""How a factor model learnt: its loss, and how the validation days ranked meanwhile."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def curve(epochs: list[int], losses: list[float], ndcg: list[float]) -> Figure:
    """Training loss and NDCG@100 of the validation days by epoch; NaN where there is none."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    left = figure.add_subplot()
    left.plot(epochs, losses, color="tab:gray", marker=".", label="training loss, nats")
    left.set_xlabel("epoch")
    left.set_ylabel("training loss, nats")
    right = left.twinx()
    right.plot(epochs, ndcg, color="tab:blue", marker=".", label="NDCG@100 on the validation days")
    right.set_ylabel("NDCG@100")
    left.set_title("How it learnt")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    lines = [*left.get_lines(), *right.get_lines()]
    figure.legend(lines, [str(line.get_label()) for line in lines], loc="outside lower center", ncols=2)
    return figure
