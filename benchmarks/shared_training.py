"""NCF trained by one process and by several that share each batch: the same exam, the same seeds.

    python -m benchmarks.shared_training --home DIR --night 2026-09-30 [--seeds 3] [--processes 2] [--quick]

DIR is a NIGHTSHIFT_HOME whose features are built up to the night. Each seed is fitted twice on the night's training
days and scored on its exam. Prints a table, and last one line of JSON. docs/benchmarks.md, "Training by several
processes", explains it. --quick: one seed, one epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recommender_scale import show
from nightshift.commands import plain, run_command
from nightshift.settings import Settings
from training.card import positive


def measure(home: Path, day: date, *, seeds: int, processes: int, epochs: int) -> list[dict[str, Any]]:
    """A row per seed and number of processes: NDCG@100 on the exam, the last epoch's loss, seconds of the fit."""
    import torch

    from nightshift import featurestore
    from nightshift.lake import open_lake
    from training.exams.ranking import score_model
    from training.exams.recommender import EXAMINER, build_exam
    from training.ncf import together
    from training.ncf.data import read_window
    from training.ncf.fit import Hyper, Inputs
    from training.ncf.model import NeuMF
    from training.ncf.package import in_memory
    from training.team import leading

    torch.set_num_threads(1)
    config = Settings(_env_file=None, home=home)  # type: ignore[call-arg]
    lake, store = open_lake(config), featurestore.open_store(config)
    night = EXAMINER.night(lake, day, config)
    window = read_window(lake, store, night.train_start, night.train_end, night.met_from)
    exam = build_exam(lake, store, night, config)
    found = []
    for seed in range(seeds):
        for size in (1, processes):
            losses: list[float] = []

            def after_epoch(
                epoch: int, loss: float, model: NeuMF, inputs: Inputs, losses: list[float] = losses
            ) -> bool:
                losses.append(loss)
                return True

            asked = config.model_copy(update={"train_processes": size})
            with leading(asked, *together.command(night)) as team:
                began = time.perf_counter()
                fitted = together.fit_together(
                    team,
                    window,
                    Hyper(),
                    epochs=epochs,
                    seed=seed,
                    device=together.CPU,
                    after_epoch=after_epoch,
                )
                seconds = time.perf_counter() - began
            ndcg = score_model(in_memory(*fitted, window), exam).means()["ndcg_at_100"]
            found.append(
                {"seed": seed, "processes": size, "ndcg_at_100": ndcg, "loss": losses[-1], "seconds": seconds}
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shared_training", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--home", type=Path, required=True, help="a NIGHTSHIFT_HOME with features")
    parser.add_argument("--night", type=date.fromisoformat, required=True)
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--processes", type=positive, default=2)
    parser.add_argument("--epochs", type=positive, default=6)
    parser.add_argument("--quick", action="store_true", help="that it runs, not figures to keep")
    options = parser.parse_args()
    seeds, epochs = (1, 1) if options.quick else (options.seeds, options.epochs)
    rows = measure(options.home, options.night, seeds=seeds, processes=options.processes, epochs=epochs)
    show("NCF by one process and by several", rows)
    by = {
        size: np.array([one["ndcg_at_100"] for one in rows if one["processes"] == size])
        for size in (1, options.processes)
    }
    told = {
        "rows": rows,
        "mean": {str(size): values.mean() for size, values in by.items()},
        "spread_over_seeds": by[1].std(ddof=1) if seeds > 1 else None,
        "most_apart_at_one_seed": np.abs(by[1] - by[options.processes]).max(),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(plain(told), ensure_ascii=False))


if __name__ == "__main__":
    run_command(main)
