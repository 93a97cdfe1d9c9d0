"""MovieLens-1M in the NCF paper's split: HR@10 and NDCG@10, with the CPU seconds that it takes to reach them.

python -m benchmarks.ncf_ml1m --data ml-1m-ncf [--recbole PYTHON] [--quick]

Ours beside irspack, implicit, EASE and (in an environment of its own) RecBole, one after another on one thread.
Protocol and figures: docs/benchmarks.md. The last line is one JSON object.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.ml1m import sampled
from benchmarks.ml1m.methods import METHODS, OURS, PEER, Method
from benchmarks.ml1m.split import Split, read
from nightshift.commands import run_command

SCRIPT = Path(__file__).with_name("ml1m") / "recbole_neumf.py"
SEEDS, EPOCHS, RATE_EPOCHS = 3, 8, 3
BARS = {"hr10": 0.730, "ndcg10": 0.452, "cpu_s": 15.0, "recbole_rate_ratio": 2.0}
HOW = "uv venv FOLDER -p 3.11 && uv pip install -p FOLDER/bin/python recbole 'numpy<2' 'setuptools<81' 'scipy<1.14'"


@dataclass(frozen=True)
class Row:
    """figures: means over seeds; spread: of HR@10 over them."""

    name: str
    figures: dict[str, float]
    seconds: float
    seeds: int
    spread: float


def run(method: Method, split: Split, seeds: int) -> Row:
    """Fit and score with each seed; only the fit is timed."""
    told, seconds = [], []
    for seed in range(seeds if method.luck else 1):
        began = time.process_time()
        scorer = method.fit(split, seed)
        seconds.append(time.process_time() - began)
        told.append(split.score(scorer))
    return _row(method.name, told, float(np.mean(seconds)))


def variants(split: Split, epochs: int) -> list[Row]:
    """GMF, MLP and NeuMF with either loss, one seed, the last of `epochs`."""
    rows = []
    for towers, loss in sampled.VARIANTS:
        found = sampled.train(split, replace(sampled.HYPER, towers=towers, loss=loss), epochs, seed=0)
        name = {"gmf": "GMF", "mlp": "MLP", "neumf": "NeuMF"}[towers]
        rows.append(_row(f"{name}, sampled, {loss}", [split.score(found.scorer)], sum(found.seconds)))
    return rows


def against_recbole(
    split: Split, folder: Path, python: Path, epochs: int, rate_epochs: int
) -> tuple[Row, dict[str, float]]:
    """RecBole's NeuMF, its last epoch, and both training rates at the same sizes and batch, in turn."""
    ours, theirs = [], []
    with TemporaryDirectory() as work:
        told = _recbole(python, folder, epochs, work)
        scores = np.load(told["scores"])
        row = _row(
            f"RecBole NeuMF-8, epoch {epochs}",
            [split.score(lambda users: scores[users])],
            sum(told["seconds"]),
        )
    for seed in range(2):  # in turn, so that what else the machine does falls on both
        ours.append(sampled.train(split, replace(sampled.SMALL, loss="bce"), rate_epochs, seed).rate)
        with TemporaryDirectory() as work:
            told = _recbole(python, folder, rate_epochs, work)
        theirs.append(told["examples"] / float(np.median(told["seconds"][1:] or told["seconds"])))
    rates = {"rate": float(np.mean(ours)), "recbole_rate": float(np.mean(theirs))}
    return row, {**rates, "recbole_rate_ratio": rates["rate"] / rates["recbole_rate"]}


def _recbole(python: Path, folder: Path, epochs: int, work: str) -> dict[str, Any]:
    words = [str(python), str(SCRIPT), str(folder.resolve()), str(epochs), "0", work]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=work)
    if done.returncode:
        raise RuntimeError(f"RecBole ended with {done.returncode}: {done.stderr[-1_000:]}")
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def _row(name: str, told: list[dict[str, float]], seconds: float) -> Row:
    figures = {metric: float(np.mean([one[metric] for one in told])) for metric in told[0]}
    hits = [one["hr10"] for one in told]
    return Row(name, figures, seconds, len(told), float(np.std(hits, ddof=1)) if len(hits) > 1 else 0.0)


def show(rows: list[Row], users: int) -> None:
    table = Table(title=f"MovieLens-1M, leave one out, {users:,} users")
    for heading in ("method", "HR@10 of 100", "NDCG@10", "HR@10 of all", "NDCG@10", "CPU s", "seeds"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for row in rows:
        spread = f" ± {row.spread:.4f}" if row.seeds > 1 else ""
        figures = [f"{row.figures[name]:.4f}" for name in ("hr10", "ndcg10", "hr10_full", "ndcg10_full")]
        table.add_row(row.name, figures[0] + spread, *figures[1:], f"{row.seconds:.1f}", str(row.seeds))
    Console().print(table)


def summary(rows: list[Row], rates: dict[str, float]) -> dict[str, Any]:
    """What the last line says; a peer that did not run is null."""
    by_name = {row.name: row for row in rows}
    ours, peer = by_name[OURS], by_name[PEER]
    found: dict[str, Any] = {
        **ours.figures, "cpu_s": ours.seconds, "seeds": ours.seeds,
        "irspack_hr10": peer.figures["hr10"], "irspack_ndcg10": peer.figures["ndcg10"], "irspack_cpu_s": peer.seconds,
        "recbole_rate_ratio": rates.get("recbole_rate_ratio"), **rates,
        "methods": {row.name: {**row.figures, "cpu_s": row.seconds, "seeds": row.seeds} for row in rows},
    }  # fmt: skip
    found["bars"] = {name: _holds(name, found[name], bar) for name, bar in BARS.items()}
    return found


def _holds(name: str, figure: float | None, bar: float) -> bool | None:
    if figure is None:
        return None
    return figure <= bar if name == "cpu_s" else figure >= bar


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ncf_ml1m", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with train.csv, test.csv, test_negatives.csv"
    )
    parser.add_argument("--recbole", type=Path, help=f"a Python that has RecBole: {HOW}")
    parser.add_argument(
        "--quick", action="store_true", help="one seed, no NeuMF beyond its rate: two minutes"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    split = read(options.data)
    slow = ("… d128 with an MLP tower", "denoising autoencoder d192", "implicit BPR d64")
    rows = []
    for method in METHODS:
        if options.quick and method.name in slow:
            continue
        if method.name.startswith("implicit") and find_spec("implicit") is None:
            _say(f"{method.name} is left out: `make install` brings implicit with the extra `bench`")
            continue
        _say(method.name)
        rows.append(run(method, split, 1 if options.quick else SEEDS))
    if not options.quick:
        _say("NeuMF and its towers")
        rows += variants(split, EPOCHS)
    rates: dict[str, float] = {}
    if options.recbole:
        _say("RecBole")
        row, rates = against_recbole(
            split, options.data, options.recbole, *((2, 2) if options.quick else (EPOCHS, RATE_EPOCHS))
        )
        rows.append(row)
    else:
        _say(
            f"RecBole is left out; it needs an environment of its own: {HOW}, then --recbole FOLDER/bin/python"
        )
    show(rows, len(split.held))
    print(json.dumps(summary(rows, rates)))


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_command(main)
