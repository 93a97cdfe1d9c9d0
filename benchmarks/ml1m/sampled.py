"""NeuMF and its towers alone, by the family's own training loop with sampled negatives; without features."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandas as pd
import torch

from benchmarks.ml1m.split import Scorer, Split
from training.ncf.data import Window
from training.ncf.fit import Hyper, Inputs, fit
from training.ncf.model import NeuMF

NEGATIVES, BATCH = 4, 1_024  # positives; each brings its negatives
HYPER = replace(
    Hyper(), negatives=NEGATIVES, batch=BATCH, learning_rate=2e-3,
    l2=0.0025, drop_user=0.0, drop_item=0.0,
)  # fmt: skip
SMALL = replace(HYPER, factors=8, first=16, second=8)  # the paper's with 8 predictive factors: 32 → 16 → 8
VARIANTS = [(towers, loss) for loss in ("bce", "softmax") for towers in ("gmf", "mlp", "neumf")]


@dataclass(frozen=True)
class Sampled:
    """seconds: CPU seconds of each epoch, drawing negatives included."""

    scorer: Scorer
    seconds: list[float]
    rate: float  # training examples (positives and negatives) a CPU second, the median epoch's


def train(split: Split, hyper: Hyper, epochs: int, seed: int) -> Sampled:
    """Fit for `epochs`; the last one is scored."""
    marks = [time.process_time()]

    def after_epoch(epoch: int, loss: float, model: NeuMF, inputs: Inputs) -> bool:
        marks.append(time.process_time())
        return True

    given = window(split)
    model, _ = fit(
        given, hyper, epochs=epochs, seed=seed, device=torch.device("cpu"), after_epoch=after_epoch
    )
    seconds = np.diff(marks)
    examples = len(given.user) * (1 + hyper.negatives)
    steady = seconds[1:] if len(seconds) > 1 else seconds  # the first pays for preparing, too
    return Sampled(lambda users: _all(model, users), seconds.tolist(), examples / float(np.median(steady)))


def window(split: Split) -> Window:
    """The split as a training window of one day, without features."""
    there = split.train.tocoo()
    users, items = split.train.shape
    user, item = there.row.astype(np.int64) + 1, there.col.astype(np.int64) + 1
    day = np.zeros(len(user), np.int64)
    met = np.stack([user, item, day], axis=1)
    names = [str(n) for n in range(items)]
    return Window(
        days=[date(2000, 1, 1)],
        users=[str(n) for n in range(users)],
        items=pd.DataFrame({"item_id": names, "title": names, "category": "film"}),
        offered=np.array([items]),
        user=user, item=item, day=day, weight=np.ones(len(user), np.float32),
        met=met[np.lexsort((met[:, 1], met[:, 0]))],
        category=np.ones(items, np.int64),
        user_raw=np.empty((1, 0)),
        user_row=day,
        item_raw=np.empty((2, items, 0)),
    )  # fmt: skip


def _all(model: NeuMF, users: np.ndarray) -> np.ndarray:
    def parts() -> Iterator[np.ndarray]:
        rows = torch.arange(1, model.sizes.items + 1) + model.sizes.categories
        for some in np.array_split(users, max(1, len(users) // 25)):
            at = torch.from_numpy(some + 1)
            wide = rows.expand(len(some), -1)
            yield model(at, torch.empty(len(some), 0), wide, torch.empty(*wide.shape, 0)).numpy()

    with torch.no_grad():
        return np.concatenate(list(parts()))
