"""The recommender's large path: what it costs as tables and interactions grow, and whether it ranks as well.

    python -m benchmarks.recommender_scale [--data ML-1M-FOLDER] [--seeds 3] [--parts tables streams quality] [--quick]

Three parts. *Tables*: CPU time and peak memory of a step as the items grow, by row-wise Adagrad, SparseAdam and dense
Adam at equal batches; what would take more than --most-gib is left out, and said. *Stream*: peak memory as the
interactions grow, coded ones and ones from a lake. *Quality*: MovieLens-1M in the split of the NCF paper, the full
catalogue ranked, beside the same network under dense Adam. Prints tables, and last one line of JSON.
docs/benchmarks.md, "Recommender: scale", explains them. One thread. --quick: small sizes, one seed, few epochs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nightshift.commands import plain, run_command
from nightshift.settings import PROJECT
from training.card import positive
from training.ncf.coded import MEMORY
from training.ncf.memory import Shape, budget

WAYS = (
    ("rowwise_adagrad", "fp32"), ("rowwise_adagrad", "bf16"), ("sparse_adam", "fp32"), ("adam", "fp32"),
)  # fmt: skip
PARTS = ("tables", "streams", "quality")
PROCESS_GIB = 0.5  # of Python and torch beside the tables
STEPS = {100_000: 40, 1_000_000: 30, 10_000_000: 20}


def cost(kind: str, *arguments: object) -> dict[str, Any]:
    """`benchmarks.scale.cost` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale.cost", kind, *map(str, arguments)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def tables(sizes: list[int], most_gib: float) -> Iterator[dict[str, Any]]:
    from benchmarks.scale.cost import FACTORS, USERS

    for items in sizes:
        for optimiser, dtype in WAYS:
            shape = Shape(USERS, items, FACTORS, optimiser=optimiser, dtype=dtype)
            told = {"items": items, "optimiser": optimiser, "dtype": dtype}
            computed = budget(shape, context=0).gib
            if computed + PROCESS_GIB > most_gib:
                yield {**told, "computed_gib": computed, "left_out": True}
            else:
                yield {
                    **told,
                    "computed_gib": computed,
                    **cost("tables", optimiser, items, dtype, STEPS[items]),
                }


def streams(sizes: list[int], memory: str) -> Iterator[dict[str, Any]]:
    for kind in ("stream", "lake"):
        for count in sizes:
            with TemporaryDirectory(prefix="nightshift-") as folder:
                if kind == "lake":
                    cost("make", count, folder)
                yield {
                    "from": "lake" if kind == "lake" else "coded",
                    "rows": count,
                    **cost(kind, count, folder, *([memory] if kind == "lake" else [])),
                }


def show(title: str, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(title=title)
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
    Console(width=150).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(f"{one:.4f}" for one in value)
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recommender_scale", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--data", type=Path, help="folder with train.csv and test.csv of the NCF paper's split"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--epochs", type=positive, default=12, help="at most, on MovieLens-1M")
    parser.add_argument("--most-items", type=positive, default=10_000_000)
    parser.add_argument("--most-rows", type=positive, default=100_000_000)
    parser.add_argument("--most-gib", type=float, default=8.0, help="what would take more is left out")
    parser.add_argument("--lake-memory", default=MEMORY, metavar="SIZE", help="DuckDB's, on a lake")
    parser.add_argument("--quick", action="store_true", help="that it runs, not figures to keep")
    options = parser.parse_args()
    items = [100_000] if options.quick else [n for n in STEPS if n <= options.most_items]
    rows = [n for n in (1_000_000, 10_000_000, 100_000_000) if n <= options.most_rows]
    rows = rows[:1] if options.quick else rows
    found: dict[str, Any] = {}
    if "tables" in options.parts:
        found["tables"] = list(tables(items, options.most_gib))
        show("a step on growing tables", found["tables"])
    if "streams" in options.parts:
        found["streams"] = list(streams(rows, options.lake_memory))
        show("interactions that never are in memory whole", found["streams"])
    if "quality" in options.parts and options.data is None:
        print("MovieLens-1M is left out: no --data.")
    elif "quality" in options.parts:
        from benchmarks.scale import quality

        epochs, seeds = (1, 1) if options.quick else (options.epochs, options.seeds)
        found["quality"] = quality.measure(options.data, epochs=epochs, seeds=seeds)
        show("MovieLens-1M", [{"way": way, **told} for way, told in found["quality"].items()])
    print(json.dumps(plain(found), ensure_ascii=False))


if __name__ == "__main__":
    run_command(main)
