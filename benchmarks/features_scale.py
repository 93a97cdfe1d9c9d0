"""A night's user and item features as interactions grow: time and peak memory, beside the same by pandas.

    python -m benchmarks.features_scale [--home DIR] [--most-rows 100000000] [--pandas-rows 10000000] [--quick]

For each size a lake of 28 days is written, one day at a time, and its last day's features are computed by the pipelines
on DuckDB and by pandas' group-bys, each in a process of its own; what they wrote is compared column by column. Prints
a table, and last one line of JSON. docs/benchmarks.md, "Features: scale", explains it. --quick: 100,000 and a million.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nightshift.commands import plain, run_command
from nightshift.settings import PROJECT
from training.card import positive

SIZES, QUICK = (1_000_000, 10_000_000, 100_000_000), (100_000, 1_000_000)
BAR_ROWS, BAR_SECONDS, BAR_GIB = 10_000_000, 60, 8
FIGURES = ("seconds", "cpu_seconds", "peak_gib")


def measure(home: Path, rows: int, *, with_pandas: bool) -> dict[str, Any]:
    """Figures of one size; what was made for it under `home` is gone afterwards."""
    folder = home / str(rows)
    try:
        cost("world", folder, rows)
        ours = cost("ours", folder)
        found = {"rows": rows, **{name: ours[name] for name in FIGURES}}
        found["cpu_seconds_per_million"] = ours["cpu_seconds"] / rows * 1e6
        if with_pandas:
            peer = cost("pandas", folder)
            found |= {f"pandas_{name}": peer[name] for name in FIGURES}
            found |= {
                "pandas_ratio": peer["seconds"] / ours["seconds"],
                "pandas_cpu_ratio": peer["cpu_seconds"] / ours["cpu_seconds"],
                "differ": cost("equal", folder)["differ"],
            }
            found["equal"] = not found["differ"]
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def cost(kind: str, home: Path, *arguments: object) -> dict[str, Any]:
    """`benchmarks.features.cost` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.features.cost", kind, str(home), *map(str, arguments)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}):\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def judged(sizes: list[dict[str, Any]]) -> dict[str, bool]:
    """The bars that these sizes can answer to.

    linear: no size takes more CPU time, or more memory, a row than the size before it.
    """
    bars = {"equal": all(one["equal"] for one in sizes if "equal" in one)}
    for one in sizes:
        if one["rows"] == BAR_ROWS:
            bars["10m_in_60_s"] = one["seconds"] <= BAR_SECONDS
            bars["10m_in_8_gib"] = one["peak_gib"] <= BAR_GIB
    pairs = [(now, then, now["rows"] / then["rows"]) for then, now in pairwise(sizes)]
    for bar, name in (("linear_time", "cpu_seconds"), ("linear_memory", "peak_gib")):
        bars[bar] = all(now[name] <= then[name] * times for now, then, times in pairs)
    return bars


def show(sizes: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = [name for name in dict.fromkeys(name for one in sizes for name in one) if name != "differ"]
    table = Table(*(name.replace("_", " ") for name in names), title="a night's user and item features")
    for one in sizes:
        table.add_row(*(_cell(one.get(name)) for name in names))
    Console(width=170).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.features_scale", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--home", type=Path, help="folder for the lakes, 3 GB at the most; default: a temporary one"
    )
    parser.add_argument("--most-rows", type=positive, default=SIZES[-1])
    parser.add_argument(
        "--pandas-rows", type=positive, default=BAR_ROWS, help="beyond them pandas is left out"
    )
    parser.add_argument("--quick", action="store_true", help="that it runs, not figures to keep")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="nightshift-", dir=options.home) as home:
        sizes = [
            measure(Path(home), rows, with_pandas=rows <= options.pandas_rows)
            for rows in (QUICK if options.quick else SIZES)
            if rows <= options.most_rows
        ]
    show(sizes)
    told = {"sizes": sizes, "bars": judged(sizes), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    print(json.dumps(plain(told), ensure_ascii=False))


if __name__ == "__main__":
    run_command(main)
