"""From nights to figures, and figures to tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.calibration.ratchet import ALL
from benchmarks.calibration.rules import RULES
from benchmarks.calibration.scenarios import EVERYTHING, LIFT, STEPS, Outcome
from benchmarks.calibration.shares import average, share

BARS = {  # what the gate must hold: (key, bound, "at most" or "at least")
    "equal model promoted": ("false_promotion_equal", 0.05, "at most"),
    "truly worse model promoted": ("false_promotion_worse", 0.01, "at most"),
    "+5 % found": ("found_plus5", 0.90, "at least"),
    "broken slice caught": ("slice_caught", 0.95, "at least"),
    "lost in twenty nights of small losses": ("ratchet_loss", 0.01, "at most"),
}
TOLD = {  # key: how people read it
    "false_promotion_equal": "equal, promoted",
    "false_promotion_worse": "1 % worse, promoted",
    "false_promotion_worse2": "2 % worse, promoted",
    "false_promotion_worse5": "5 % worse, promoted",
    "found_plus1": "1 % better, found",
    "found_plus2": "2 % better, found",
    "found_plus5": "5 % better, found",
    "slice_caught": "5 % better, a slice broken: not promoted",
    "slice_caught_own": "… blocked by that slice's check",
    "ratchet_loss": "lost in 20 nights of −0.5 %",
}
LEVELS = {
    "false_promotion_equal": 0.0, "false_promotion_worse": -0.01, "false_promotion_worse2": -0.02,
    "false_promotion_worse5": -0.05, "found_plus1": 0.01, "found_plus2": 0.02, "found_plus5": 0.05,
}  # fmt: skip
BESIDE = (
    "rivals",
    "intervals",
    "slice_worst",
    "slices_left_out",
    "by_pool",
)  # what the headline is read with
GIVEN = "95 % over nights, given these {} pools: what another pool would give is not in them"
Figures = dict[str, dict[str, float]]  # rule → estimate, low, high


def figures(outcomes: list[Outcome], losses: dict[str, np.ndarray]) -> dict[str, Any]:
    """A source's figures: key → rule → estimate with its interval."""
    found: dict[str, Any] = {
        key: _shares([one for one in outcomes if one.scenario.kind == "step" and one.scenario.level == level])
        for key, level in LEVELS.items()
    }
    outright = [one for one in outcomes if one.scenario.kind == "broken" and one.scenario.loss == EVERYTHING]
    if outright:
        found["slice_caught"] = _shares(outright, caught=True)
        found["slice_caught_own"] = {"ours": share([_by_its_own(one) for one in outright])}
    found["ratchet_loss"] = {name: average(lost[:, -1]) for name, lost in losses.items() if name in RULES}
    found["ratchet_loss_reference"] = average(losses["tolerance_reference"][:, -1])
    found["ratchet_by_night"] = {name: losses[name].mean(axis=0).tolist() for name in ALL}
    found["by_step"] = [
        {"level": level, **found[key]} for key, level in sorted(LEVELS.items(), key=lambda x: x[1])
    ]
    found["by_slice"] = _by_slice(outcomes)
    if outright:
        found["slice_worst"] = min(
            (row for row in found["by_slice"] if row["loss"] == EVERYTHING),
            key=lambda row: (row["caught"]["estimate"], row["by_its_own_check"]["estimate"], row["units"]),
        )
    found["blocked_plus5"] = _blocked(outcomes)
    return found


def by_pool(parts: Iterable[tuple[list[Outcome], dict[str, np.ndarray]]]) -> dict[str, list[float]]:
    """The gate's estimates in each pool by itself: how far pools lie apart, which no interval here knows."""
    each = [figures(*part) for part in parts]
    keys = [key for key, _, _ in BARS.values()]
    return {key: [one[key]["ours"]["estimate"] for one in each if key in one] for key in keys}


def left_out(parts: Sequence[dict[str, str]]) -> dict[str, str]:
    """Slice → why nobody was broken on it, and in how many pools, if not in all."""
    found = {}
    for name in sorted({name for part in parts for name in part}):
        reasons = [part[name] for part in parts if name in part]
        found[name] = ", ".join(dict.fromkeys(reasons))
        if len(reasons) < len(parts):
            found[name] += f" (in {len(reasons)} of {len(parts)} pools)"
    return found


def bars(found: dict[str, Any]) -> dict[str, bool]:
    """Which bars the gate's estimates hold; a bar without its figure is left out."""
    held = {}
    for name, (key, bound, sense) in BARS.items():
        if key in found:
            estimate = found[key]["ours"]["estimate"]
            held[f"{name}: {sense} {100 * bound:g} %"] = (
                estimate <= bound if sense == "at most" else estimate >= bound
            )
    return held


def _shares(nights: list[Outcome], *, caught: bool = False) -> Figures:
    """How often each rule promoted; `caught`: how often it did not."""
    return {name: share([one.promoted[name] != caught for one in nights]) for name in RULES}


def _by_its_own(night: Outcome) -> bool:
    """Whether the check of the broken slice itself did not pass."""
    return f"slice {night.scenario.group}" in night.blocked


def _by_slice(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """For each slice and size of its loss: how many units, and how often ours caught it by whatever check, and by the
    slice's own."""
    kinds = sorted(
        {one.scenario for one in outcomes if one.scenario.kind == "broken"}, key=lambda s: (s.group, s.loss)
    )
    found = []
    for scenario in kinds:
        nights = [one for one in outcomes if one.scenario == scenario]
        found.append(
            {
                "slice": scenario.group,
                "loss": scenario.loss,
                "units": float(np.mean([one.units for one in nights])),
                "caught": share([not one.promoted["ours"] for one in nights]),
                "by_its_own_check": share([_by_its_own(one) for one in nights]),
            }
        )
    return found


def _blocked(outcomes: list[Outcome]) -> dict[str, float]:
    """Check → share of the nights with a candidate that is 5 % better that it did not pass, most first."""
    nights = [one for one in outcomes if one.scenario.kind == "step" and one.scenario.level == max(STEPS)]
    counts: dict[str, int] = {}
    for one in nights:
        for name in one.blocked:
            counts[name] = counts.get(name, 0) + 1
    return {name: count / len(nights) for name, count in sorted(counts.items(), key=lambda pair: -pair[1])}


def show(found: dict[str, dict[str, Any]], forecaster: list[dict[str, Any]]) -> None:
    """Tables of every source; in %, with 95 % intervals, which take the pools as given."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=120)
    for source, one in found.items():
        if "left_out" in one:
            console.print(f"{source} is left out: {one['left_out']}")
            continue
        table = Table(
            title=f"{source}: {one['exam_units']:,} users an exam, judged as one of {one['rivals']} candidates; "
            f"% of nights",
            caption=f"In brackets {one['intervals']}.",
        )
        table.add_column("candidate")
        for label in RULES.values():
            table.add_column(label, justify="right")
        for key, label in TOLD.items():
            if key in one:
                table.add_row(label, *(percent(one[key][name]) if name in one[key] else "" for name in RULES))
        console.print(table)
        _beside(console, one)
        console.print(_pairs_table(one["pairs"]))
        _lists(console, one)
    for row in forecaster:
        who = f"a model {100 * row['gain']:g} % better" if row["gain"] else "an equal model"
        console.print(
            f"forecaster, {row['topics']} topics that share {100 * row['common']:g} % of their noise, at confidence "
            f"{row['confidence']:g} as one of {row['rivals']} candidates: {who} promoted {percent(row)}"
        )


def _beside(console: Any, one: dict[str, Any]) -> None:
    """What the headline must be read with."""
    if "slice_worst" in one:
        console.print(f"Worst slice: {_slice_line(one['slice_worst'])}")
    if one["slices_left_out"]:
        for why in dict.fromkeys(one["slices_left_out"].values()):
            names = [name for name, reason in one["slices_left_out"].items() if reason == why]
            console.print(f"Slices that no candidate is broken on, {why}: {', '.join(names)}")
    each = "; ".join(
        f"{key} {', '.join(f'{100 * value:.1f}' for value in values)}"
        for key, values in one["by_pool"].items()
    )
    console.print(f"The gate in each pool by itself, %: {each}")


def _pairs_table(pairs: dict[str, dict[str, float]]) -> Any:
    from rich.table import Table

    table = Table(title="Two equal models here, and in brackets two NCF seeds of a real night")
    for column in (
        "metric",
        "level",
        "correlation by user",
        "sd of the difference / level",
        "+5 % NDCG@100 is",
    ):
        table.add_column(column, justify="right")
    for metric, row in pairs.items():
        cells = (
            f"{row[name]:.3f} ({row[f'real_{name}']:.3f})" for name in ("level", "correlation", "relative_sd")
        )
        table.add_row(metric, *cells, f"{100 * row['at_plus5']:+.1f} %")
    return table


def _lists(console: Any, one: dict[str, Any]) -> None:
    for row in one["by_slice"]:
        console.print(_slice_line(row))
    told = ", ".join(f"{name} {100 * rate:.1f} %" for name, rate in list(one["blocked_plus5"].items())[:8])
    console.print(f"What stood in the way of +{100 * LIFT:g} %: {told or 'nothing'}")
    console.print(
        f"Within 1 % and the frozen reference: {percent(one['ratchet_loss_reference'])} lost in 20 nights"
    )
    for bar, held in one["bars"].items():
        console.print(f"{bar}: {'holds' if held else 'FAILS'}")


def _slice_line(row: dict[str, Any]) -> str:
    what = "random lists" if row["loss"] == EVERYTHING else f"{100 * row['loss']:.0f} % lost"
    return (
        f"{row['slice']}, {row['units']:.0f} users, {what}: not promoted {percent(row['caught'])}, "
        f"blocked by its own check {percent(row['by_its_own_check'])}"
    )


def percent(figure: dict[str, float]) -> str:
    low, estimate, high = (100 * figure[name] for name in ("low", "estimate", "high"))
    return f"{estimate:.1f} ({low:.1f} to {high:.1f})"


def merged(parts: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The chains of several pools as of one."""
    kept = list(parts)
    return {name: np.concatenate([part[name] for part in kept]) for name in kept[0]}
