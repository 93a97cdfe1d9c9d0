"""A backtest, told: its tables, its sentences (where the gate pays and where it does not) and its picture.

Everything is computed from the result alone (`nightshift.backtest.run`), so an old one can be told again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

NAMES = {
    "never": "never retrain",
    "always": "always promote",
    "newest": "newest candidate",
    "gate": "our gate",
}
COLOURS = {"never": "#888888", "always": "#c55a11", "newest": "#d9a441", "gate": "#1f4e79"}
PAIRS = (
    "gate - never",
    "gate - always",
    "gate - newest",
    "newest - always",
    "newest - never",
    "always - never",
)
MEANS = {"hr_at_10": "HR@10", "ndcg_at_10": "NDCG@10", "ndcg_at_100": "NDCG@100"}


def conclusions(result: dict[str, Any]) -> list[str]:
    """What the figures say, in sentences; a difference whose interval holds zero is not one."""
    saved = result["swaps"]["always"] - result["swaps"]["gate"]
    of = f"{saved} of {result['swaps']['always']} swaps"
    always, never = _apart(result, "gate - always"), _apart(result, "gate - never")
    exam, chosen = _apart(result, "newest - always"), _apart(result, "gate - newest")
    return [
        {
            1: f"The gate paid: it found more than always promoting, {always[1]}, and saved {of}.",
            0: f"The gate and always promoting cannot be told apart on these nights: {always[1]}; it saved {of}.",
            -1: f"The gate did not pay on these nights: always promoting found more, {always[1]}; it saved {of}.",
        }[always[0]],
        {
            1: f"Retraining under the gate paid: {never[1]} against never retraining.",
            0: f"Retraining under the gate cannot be told from never retraining: {never[1]}.",
            -1: f"Never retraining would have done better than the gate: {never[1]}.",
        }[never[0]],
        {
            1: f"Holding days back for the exam cost nothing: {exam[1]}, more than with every day to train on.",
            0: f"What holding days back for the exam costs cannot be told from noise: {exam[1]}.",
            -1: f"Holding days back for the exam has its price: {exam[1]} against training on every day.",
        }[exam[0]],
        {
            1: f"Choosing paid: the gate beat seating every candidate it saw, {chosen[1]}.",
            0: f"The gate's choices cannot be told from seating every candidate it saw: {chosen[1]}.",
            -1: f"The gate's choices cost something against seating every candidate it saw: {chosen[1]}.",
        }[chosen[0]],
    ]


def _apart(result: dict[str, Any], pair: str) -> tuple[int, str]:
    """Whether the first of the pair found more (1), less (-1) or neither beyond noise (0), and that in figures."""
    found = result["differences"][pair]
    low, high = found["hits_interval"]
    text = f"{found['hits']:+,.0f} hits [{low:+,.0f}, {high:+,.0f}]"
    if found["share"] is not None:
        text += ", {:+.1%} [{:+.1%}, {:+.1%}]".format(found["share"], *found["share_interval"])
    return (1 if low > 0 else -1 if high < 0 else 0), text


def show(result: dict[str, Any], console: Console) -> None:
    """The nights, the lives and their differences as tables, 80 columns wide, and what they say."""
    console.print(_nights(result), _lives(result), _differences(result))
    console.print(
        "hits: users and days for whom the list of ten held something that they then met for the first time.\n"
        "[…]: 95 %, paired, users resampled with all their days; other days and other seeds are not in it."
    )
    for sentence in result["conclusions"]:
        console.print(f"• {sentence}")


def _nights(result: dict[str, Any]) -> Table:
    title = f"Each night's models, judged by the next day's hits ({result['source']})"
    table = Table(title=title, title_justify="left")
    for name in ("night", "verdict", "serves", "users", "never", "always", "newest", "gate"):
        left = name in ("night", "verdict", "serves")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for past, served, told in zip(result["history"], result["served"], result["nights"], strict=True):
        seat = "nobody" if served["gate"] is None else f"v{served['gate']}"
        hits = (f"{told['hits'][name]:.0f}" for name in NAMES)
        table.add_row(past["night"], past["decision"], seat, f"{told['users']:,}", *hits)
    return table


def _lives(result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['user_days']:,} user-days, {result['users']:,} users", title_justify="left")
    table.add_column("life", no_wrap=True)
    for name in ("trained", "swaps", "hits", *MEANS.values()):
        table.add_column(name, justify="right", no_wrap=True)
    for name, label in NAMES.items():
        told = result["lives"][name]
        table.add_row(
            label, str(result["models_trained"][name]), str(result["swaps"][name]), f"{told['hits']:,.0f}",
            *(f"{told[metric]:.4f}" for metric in MEANS),
        )  # fmt: skip
    table.add_row("most popular items", "", "", f"{result['popularity_hits']:,.0f}", "", "", "", style="dim")
    return table


def _differences(result: dict[str, Any]) -> Table:
    table = Table(title="Differences", title_justify="left")
    table.add_column("", no_wrap=True)
    for name in ("hits", "of its hits", "NDCG@100"):
        table.add_column(name, justify="right", no_wrap=True)
    for pair in PAIRS:
        found = result["differences"][pair]
        low, high = found["ndcg_at_100_interval"]
        share = "–"
        if found["share"] is not None:
            share = "{:+.1%} [{:+.1%}, {:+.1%}]".format(found["share"], *found["share_interval"])
        ndcg = f"{found['ndcg_at_100']:+.4f} [{low:+.4f}, {high:+.4f}]"
        table.add_row(pair.replace(" - ", " − "), f"{found['hits']:+,.0f}", share, ndcg)
    return table


def plot(result: dict[str, Any], target: Path) -> None:
    """Cumulative hits beyond never retraining, with promotions and the drift marked; and NDCG@100 by judged day."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    days = [day[5:] for day in result["scored_days"]]
    places = list(range(len(days)))
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained", width_ratios=(3, 2))
    left.axhline(0, color=COLOURS["never"], label=NAMES["never"])
    for life in ("always", "newest", "gate"):
        lead = result["leads"][life]
        style = "--" if life == "newest" else "-"
        left.plot(places, lead["hits"], style, color=COLOURS[life], label=NAMES[life], linewidth=1.8)
        if life == "gate":
            left.fill_between(places, lead["low"], lead["high"], color=COLOURS[life], alpha=0.12, linewidth=0)
    promoted = [at for at, past in enumerate(result["history"]) if past["decision"] == "promote"]
    heights = [result["leads"]["gate"]["hits"][at] for at in promoted]
    left.plot(promoted, heights, "^", color=COLOURS["gate"], markersize=8, label="a promotion by the gate")
    left.set(title="Hits beyond never retraining, added up", xlabel="judged on", ylabel="hits")
    for life, label in NAMES.items():
        means = [told["ndcg_at_100"][life] / told["users"] for told in result["nights"]]
        right.plot(places, means, "--" if life == "newest" else "-", color=COLOURS[life], label=label)
    right.set(title="NDCG@100 of each judged day", xlabel="judged on", ylim=(0, None))
    for axis in (left, right):
        axis.set_xticks(places, days, rotation=60, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        if result["drift_day"] in result["scored_days"]:
            at = result["scored_days"].index(result["drift_day"])
            axis.axvline(at, color="#b00020", linestyle=":", label="planted drift")
        axis.legend(frameon=False, fontsize=8)
    title = f"{result['source']}: never retrain, always promote, or our gate"
    figure.suptitle(f"{title}\n{result['conclusions'][0]}", fontsize=11)
    figure.supxlabel(caption(result), fontsize=8, ha="left", x=0.01)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=130)
    plt.close(figure)


def caption(result: dict[str, Any]) -> str:
    """How the picture's figures came about."""
    return (
        f"{len(result['nights'])} nights, {result['user_days']:,} user-days of {result['users']:,} users. Each night's "
        "models are judged by the next day, which none of them has seen: what each user met for the first time, the "
        "whole catalogue ranked;\na hit is one of it in the list of ten. Always promote: a new "
        f"{result['family']} every night, trained on every day up to the night; the candidate: trained on the days "
        "before the gate's exam.\nBand: 95 %, paired bootstrap over users with all their days. One seed: other models, "
        "and other days, are not in the band."
    )
