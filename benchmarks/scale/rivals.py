"""The large path's network and loss under torch's own optimisers, at equal batches: row-wise Adagrad's rivals."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.ncf.large import STRANGER, Hyper, Network, Sampler, Step, sampled_softmax
from training.ncf.shards import Shards

CPU = torch.device("cpu")
ADAM_RATE = 1e-3


class Rival:
    """`training.ncf.large.Step` with `adam` (dense) or `sparse_adam` in the place of row-wise Adagrad."""

    def __init__(self, name: str, network: Network, sampler: Sampler, hyper: Hyper, rate: float) -> None:
        self.sampler, self.hyper, self.sparse = sampler, hyper, name == "sparse_adam"
        self.tables = [torch.nn.Parameter(one.weight) for one in (network.user, network.item, network.bias)]
        kind: Any = torch.optim.SparseAdam if self.sparse else torch.optim.Adam
        self.optimiser = kind(self.tables, lr=rate, **({} if self.sparse else {"fused": True}))

    def __call__(
        self, rows: np.ndarray, negatives: np.ndarray, rate: float, random: np.random.Generator
    ) -> Tensor:
        user = rows["user"].astype(np.int64)
        user[random.random(len(user)) < self.hyper.drop_user] = STRANGER
        users, items, others = map(torch.from_numpy, (user, rows["item"].astype(np.int64), negatives))
        both = torch.cat([items, others])
        own = self._rows(self.tables[0], users)
        item, other = self._rows(self.tables[1], both).split([len(items), len(others)])
        bias, other_bias = self._rows(self.tables[2], both)[:, 0].split([len(items), len(others)])
        log_q, clash = self.sampler.log_q, items[:, None] == others[None, :]
        weight = torch.from_numpy(rows["weight"].copy())
        loss = sampled_softmax(
            own, item, bias, other, other_bias, log_q[items], log_q[others], clash, weight, self.hyper.l2
        )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()

    def _rows(self, table: Tensor, ids: Tensor) -> Tensor:
        return torch.nn.functional.embedding(ids, table, sparse=self.sparse)


def step_of(name: str, network: Network, sampler: Sampler, hyper: Hyper, rate: float = ADAM_RATE) -> Any:
    if name == "rowwise_adagrad":
        return Step(network, sampler, hyper, CPU)
    return Rival(name, network, sampler, hyper, rate)


def fit(
    name: str,
    shards: Shards,
    hyper: Hyper,
    *,
    epochs: int,
    seed: int,
    after_epoch: Callable[[int, Network], None],
    rate: float = ADAM_RATE,
) -> float:
    """As `training.ncf.large.fit`, by the optimiser of that name; CPU seconds without `after_epoch`."""
    network, random = Network(shards.users, shards.items, hyper, seed, CPU), np.random.default_rng(seed)
    sampler = Sampler(shards.counts, hyper.popular, CPU)
    step, taken = step_of(name, network, sampler, hyper, rate), 0.0
    for epoch in range(1, epochs + 1):
        began = process_time()
        for block in shards.blocks(random):
            for start in range(0, len(block), hyper.batch):
                rows = block[start : start + hyper.batch]
                negatives = sampler.draw(block["item"], hyper.negatives, random)
                step(rows, negatives, hyper.learning_rate, random)
        taken += process_time() - began
        after_epoch(epoch, network)
    return taken
