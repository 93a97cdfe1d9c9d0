"""The forecaster's recipes against last value, seasonal naive and a public peer, on the same windows in one run.

    python -m benchmarks.forecaster [--quick] [--data ../shared/data/m4-weekly] [--ili ILINet.csv] [--figures docs/img]

Each series is cut by time: 70 % to train, 10 % to choose and calibrate by, 20 % to test, and HORIZON weeks between
them that belong to none. Nothing is chosen on the test slice. Four weeks go in, the change four weeks ahead comes
out. Prints tables, and last one line of JSON: data set → figures. docs/benchmarks.md explains them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

from nightshift.commands import plain, run_command
from nightshift.errors import SourceError
from nightshift.settings import PROJECT, Settings

if TYPE_CHECKING:
    from benchmarks.series import Samples

SEEDS = 5
M4 = PROJECT.parent / "shared" / "data" / "m4-weekly"
PANDEMIC = 202026  # ILI after it is another series: distancing, then waves of their own

# --quick: to see that everything runs, not for figures to keep.
QUICK_SEEDS, QUICK_MEMBERS, QUICK_M4_SERIES = 1, 2, 60
QUICK_PEERS: tuple[str, ...] = ("autoets",)  # the other takes minutes
TOPICS = 1_000  # of the speed part


def data_sets(data: Path, ili: Path | None, *, quick: bool) -> Iterator[Samples]:
    """The sets that are there; of one that is not, a line on stderr says so."""
    from benchmarks import series

    try:
        weekly = series.m4(data)
        if quick:
            weekly = weekly.some(QUICK_M4_SERIES)
        yield series.windows("m4", weekly)
    except SourceError as error:
        print(f"m4 is left out: {error}", file=sys.stderr)
    yield series.market(_market())
    if ili is None:
        print("ili is left out: give --ili ILINet.csv, an export of CDC FluView", file=sys.stderr)
        return
    yield series.windows("ili", series.ili(ili, until=PANDEMIC))
    yield series.windows("ili_pandemic", series.ili(ili))


def _market(topics: int | None = None) -> Settings:
    """The market as it comes, whatever is set here: figures are compared between machines. It stores nothing."""
    given = {
        name: field.default for name, field in Settings.model_fields.items() if name.startswith("market_")
    }
    return Settings(home=Path(gettempdir()), **(given | ({"market_topics": topics} if topics else {})))


def show(found: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from benchmarks.figures import LABELS

    table = Table(title="Skill: 1 − MSE / MSE of last value, 4 weeks ahead (± standard deviation over seeds)")
    table.add_column("method")
    for name, one in found.items():
        table.add_column(f"{name}\n{one['series']} series, {one['test']:,} forecasts", justify="right")
    for method, label in LABELS.items():
        if all(f"skill_{method}" in one for one in found.values()):
            table.add_row(label, *(_skill(one, method) for one in found.values()))
    for key, label in (
        ("mse_ratio_ridge", "MSE of GRU / ridge"),
        ("mse_ratio_ridge_mean", "MSE of mean / ridge"),
        ("upper_vs_last", "GRU / last value, 97.5 % bound"),
        ("coverage80", "coverage of 80 %"),
        ("coverage80_recalibrated", "… calibrated each week"),
        ("coverage95", "coverage of 95 %"),
        ("coverage95_recalibrated", "… calibrated each week"),
    ):
        table.add_row(label, *(f"{one[key]:.3f}" if key in one else "–" for one in found.values()))
    console = Console(width=max(100, 30 + 30 * len(found)))
    console.print(table)
    for name, one in found.items():
        for bar, held in one["bars"].items():
            console.print(f"{name}: {bar}: {'holds' if held else 'FAILS'}")


def _skill(one: dict[str, Any], method: str) -> str:
    return f"{one[f'skill_{method}']:.3f} ±{one[f'spread_{method}']:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.forecaster", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="one seed, few series, no speed part: under 2 minutes"
    )
    parser.add_argument("--data", type=Path, default=M4, metavar="FOLDER", help=f"M4 weekly (default {M4})")
    parser.add_argument("--ili", type=Path, metavar="FILE", help="ILINet.csv, by region, from CDC FluView")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="write the plots there")
    options = parser.parse_args()

    import torch

    from benchmarks import contest, figures, speed
    from benchmarks.peer import PEERS
    from training.forecasting.hyper import Hyper

    torch.set_num_threads(1)
    seeds, peers = (QUICK_SEEDS, QUICK_PEERS) if options.quick else (SEEDS, PEERS)
    hyper = Hyper(members=QUICK_MEMBERS) if options.quick else Hyper()
    held, found = [], {}
    for samples in data_sets(options.data, options.ili, quick=options.quick):
        one = contest.hold(samples, seeds=seeds, hyper=hyper, peers=peers)
        figures_of = contest.figures(one)
        found[samples.name] = {**figures_of, "bars": contest.bars(samples.name, figures_of)}
        held.append(one)
    show(found)
    if options.figures is not None:
        figures.skills(found, options.figures / "forecaster-skill.png")
        figures.examples(held, options.figures / "forecaster-examples.png")
    result: dict[str, Any] = dict(found)
    if not options.quick:
        result["speed"] = speed.measure(_market(TOPICS))
    print(json.dumps(plain(result), ensure_ascii=False))


if __name__ == "__main__":
    run_command(main)
