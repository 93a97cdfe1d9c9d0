"""MovieLens-1M by the large path and by the same network under dense Adam: does what makes it cheap make it worse?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.scale.rivals import fit
from training.ncf.large import Hyper, Network
from training.ncf.shards import ROW, Shards, joined, write_set

TOP = 10
ADAM_RATES = (1e-3, 3e-3)  # tried on validation; the better one is reported


@dataclass(frozen=True)
class Split:
    """rows: of ROW, to fit on. seen: bool [users, items], left out of the ranking. held: [users], the item to find."""

    rows: np.ndarray
    seen: np.ndarray
    held: np.ndarray


def splits(folder: Path, seed: int = 0) -> dict[str, Split]:
    """`validation`: of each user's training items one at random; `test`: all of them, and the paper's held-out item.

    The paper's file is in order of item, not of time: which of the training items is the newest it does not tell.
    """
    train = pd.read_csv(folder / "train.csv")
    test = pd.read_csv(folder / "test.csv").sort_values("user")["item"].to_numpy()
    held = train.groupby("user").sample(1, random_state=seed)
    users, items = int(train["user"].max()) + 1, int(max(train["item"].max(), test.max())) + 1

    def split(rows: pd.DataFrame, wanted: np.ndarray) -> Split:
        told = np.empty(len(rows), ROW)
        told["user"], told["item"], told["weight"] = rows["user"] + 1, rows["item"], 1.0
        seen = np.zeros((users, items), dtype=bool)
        seen[rows["user"], rows["item"]] = True
        return Split(told, seen, wanted)

    return {
        "validation": split(train.drop(held.index), held.sort_values("user")["item"].to_numpy()),
        "test": split(train, test),
    }


def ndcg(network: Network, split: Split) -> tuple[float, float]:
    """Mean over users of NDCG@10 over the full catalogue, and its standard error; a tie counts against the model."""
    weights = (network.user.weight[1:].float() @ network.item.weight.float().T).numpy()
    scores = weights + network.bias.weight[:, 0].numpy()
    scores[split.seen] = -np.inf
    own = np.take_along_axis(scores, split.held[:, None], axis=1)
    place = np.count_nonzero(scores >= own, axis=1) - 1
    gains = np.where(place < TOP, 1 / np.log2(place + 2.0), 0.0)
    return float(gains.mean()), float(gains.std() / np.sqrt(len(gains)))


def shards_of(split: Split, folder: Path) -> Shards:
    users, items = split.seen.shape
    random = np.random.default_rng(0)
    counts = write_set(folder, "ml1m", [split.rows], number=1, users=users, items=items, random=random)
    return joined(folder, {"ml1m": counts}, 1)


def curve(
    name: str, split: Split, hyper: Hyper, epochs: int, seed: int, rate: float = 1e-3
) -> dict[str, Any]:
    """NDCG@10 after each epoch, the last one's standard error, CPU seconds and positives per CPU second."""
    found: list[tuple[float, float]] = []
    with TemporaryDirectory() as folder:
        shards = shards_of(split, Path(folder))
        taken = fit(
            name, shards, hyper, epochs=epochs, seed=seed, rate=rate,
            after_epoch=lambda epoch, network: found.append(ndcg(network, split)),
        )  # fmt: skip
    return {
        "ndcg10": [value for value, _ in found],
        "standard_error": found[-1][1],
        "cpu_s": taken,
        "positives_per_cpu_s": len(split.rows) * epochs / taken,
    }


def measure(folder: Path, *, epochs: int, seeds: int) -> dict[str, Any]:
    """Epochs (and Adam's rate) by validation with seed 0, then the test once per seed, fitted on all training items."""
    told, hyper = splits(folder), replace(Hyper(), dtype="fp32")
    ways: dict[str, tuple[str, Hyper, tuple[float, ...]]] = {
        "large fp32": ("rowwise_adagrad", hyper, (1e-3,)),
        "large bf16": ("rowwise_adagrad", replace(hyper, dtype="bf16"), (1e-3,)),
        "dense Adam": ("adam", hyper, ADAM_RATES),
    }
    found: dict[str, Any] = {}
    for way, (name, settings, rates) in ways.items():
        tried = {rate: curve(name, told["validation"], settings, epochs, 0, rate) for rate in rates}
        rate = max(tried, key=lambda one: max(tried[one]["ndcg10"]))
        best = 1 + int(np.argmax(tried[rate]["ndcg10"]))
        tests = [curve(name, told["test"], settings, best, seed, rate) for seed in range(seeds)]
        found[way] = {
            "epochs": best,
            "rate": rate if len(rates) > 1 else settings.learning_rate,
            "validation_ndcg10": tried[rate]["ndcg10"][best - 1],
            "test_ndcg10": [one["ndcg10"][-1] for one in tests],
            "standard_error": tests[0]["standard_error"],
            "cpu_s": float(np.mean([one["cpu_s"] for one in tests])),
            "positives_per_cpu_s": float(np.mean([one["positives_per_cpu_s"] for one in tests])),
        }
    return found
