"""The large path's network and training loop: matrix factorisation by sampled softmax over tables that learn by row.

    score(u, i) = p_u · q_i + b_i

It is GMF with its output weights folded in, and no tower: a tower costs batch × negatives forward passes, an index
cannot search it, and it brought nothing measurable where it was compared (benchmarks.md). Features have no part in it.

One set of negatives serves a whole batch, so scoring is one matrix product. They are drawn partly as items are met
and partly evenly, and what a candidate's chance of being drawn was is taken off its score (logQ correction; Yi et
al., RecSys 2019; the mixture: Yang et al., WWW 2020): without it popular items, which are negatives most often, would
be pushed down for being popular.

On a CUDA device the products run in bfloat16 (autocast) and the step is compiled into a CUDA graph. **That has never
been run: no GPU was at hand.** On a CPU none of it is on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.ncf.rowwise import Table
from training.ncf.shards import Shards

STRANGER = 0  # row of the vector that users without an own one share
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Hyper:
    """Chosen on MovieLens-1M's validation item (docs/benchmarks.md, "Recommender: scale")."""

    factors: int = 64
    batch: int = 2_048  # positives
    negatives: int = 1_024  # shared by a batch
    popular: float = 0.5  # of them, the share that is drawn as items are met; the others evenly
    learning_rate: float = 0.1
    std: float = 0.05  # of the initial weights
    l2: float = 0.01  # × the squared length of the vectors of a positive's user and item
    drop_user: float = 0.05  # share of positives that the shared stranger learns from
    max_epochs: int = 20
    patience: int = 2  # epochs without a better NDCG@10
    epochs_unseen: int = 5  # when there is no validation day to stop by
    dtype: str = "auto"  # of the tables: fp32, bf16, or auto, the wider one that fits


class Network:
    """user [users + 1, factors], row 0 the stranger; item [items, factors]; bias [items, 1]."""

    def __init__(self, users: int, items: int, hyper: Hyper, seed: int, device: torch.device) -> None:
        random = torch.Generator(device).manual_seed(seed)
        dtype = DTYPES.get(hyper.dtype, torch.float32)

        def table(rows: int, width: int, std: float, kind: torch.dtype) -> Table:
            return Table(rows, width, std=std, dtype=kind, device=device, random=random)

        self.user = table(users + 1, hyper.factors, hyper.std, dtype)
        self.item = table(items, hyper.factors, hyper.std, dtype)
        self.bias = table(items, 1, 0.0, torch.float32)

    def scores(self, user: int) -> np.ndarray:
        """float32 [items] of one user; row 0 is the stranger."""
        own = self.user.weight[user].to(self.item.weight.dtype)
        found: np.ndarray = (self.item.weight @ own).float().add_(self.bias.weight[:, 0]).cpu().numpy()
        return found

    @property
    def bytes(self) -> int:
        """Of all tables with their optimiser's sums."""
        return self.user.bytes + self.item.bytes + self.bias.bytes


@dataclass(frozen=True)
class Vectors:
    """What a batch reads: user, item [b, d] and bias [b] of its positives; others [s, d], other_bias [s]."""

    user: Tensor
    item: Tensor
    bias: Tensor
    others: Tensor
    other_bias: Tensor


def sampled_softmax(
    user: Tensor,
    item: Tensor,
    bias: Tensor,
    others: Tensor,
    other_bias: Tensor,
    log_q: Tensor,
    other_log_q: Tensor,
    clash: Tensor,
    weight: Tensor,
    l2: float,
) -> Tensor:
    """Sum over the batch of weight × −log of the positive's share, and of the squared lengths × l2.

    The vectors as in `Vectors`. log_q [b], other_log_q [s]: log of the chance of being drawn as a negative. clash
    [b, s] bool: the negative is the row's positive, and no candidate there.
    """
    own = (user * item).sum(dim=1) + bias - log_q
    rest = (user @ others.T).float() + (other_bias - other_log_q)
    rest = rest.masked_fill(clash, -torch.inf)
    loss = torch.logaddexp(own, torch.logsumexp(rest, dim=1)) - own
    lengths = user.square().sum(dim=1) + item.square().sum(dim=1)
    total: Tensor = (weight * loss).sum() + l2 * lengths.sum()
    return total


class Sampler:
    """Draws negatives, and knows each item's chance of being drawn.

    Popular ones are the items of random positives of the block at hand: their chance is their share of all positives,
    and no table of it has to be searched.
    """

    def __init__(self, counts: np.ndarray, popular: float, device: torch.device) -> None:
        """counts [items]: positives of each item."""
        self.items, self.popular = len(counts), popular
        # In float32 and in place: at ten million items a second float64 copy would be 80 MB.
        chance = counts.astype(np.float32)
        chance *= popular / max(float(counts.sum()), 1.0)
        chance += (1 - popular) / self.items
        self.log_q = torch.from_numpy(np.log(np.maximum(chance, 1e-12, out=chance), out=chance)).to(device)

    def draw(self, met: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
        """int64 [count]; met: items of positives, in any order."""
        popular = round(self.popular * count)
        return np.concatenate(
            [met[random.integers(len(met), size=popular)], random.integers(self.items, size=count - popular)]
        ).astype(np.int64)


def fit(
    shards: Shards,
    hyper: Hyper,
    *,
    epochs: int,
    seed: int,
    device: torch.device,
    after_epoch: Callable[[int, float, Network], bool],
) -> Network:
    """Train for at most `epochs`; `after_epoch(epoch, loss, network)` answers whether to go on.

    The same seed gives the same weights on a CPU. What is held: the tables, and one block of the shards.
    """
    network = Network(shards.users, shards.items, hyper, seed, device)
    random = np.random.default_rng(seed)
    sampler = Sampler(shards.counts, hyper.popular, device)
    step = Step(network, sampler, hyper, device)
    for epoch in range(1, epochs + 1):
        rate = hyper.learning_rate
        total, seen = torch.zeros((), device=device), 0
        for block in shards.blocks(random):
            for start in range(0, len(block), hyper.batch):
                rows = block[start : start + hyper.batch]
                total += step(rows, sampler.draw(block["item"], hyper.negatives, random), rate, random)
            seen += len(block)
        if not after_epoch(epoch, float(total) / max(seen, 1), network):
            break
    return network


class Step:
    """One batch: read its rows, the loss and its gradients, and update these rows."""

    def __init__(self, network: Network, sampler: Sampler, hyper: Hyper, device: torch.device) -> None:
        self.network, self.sampler, self.hyper, self.device = network, sampler, hyper, device
        self._loss: Any = sampled_softmax
        self._compiled: Any = None
        if device.type == "cuda":
            self._compiled = torch.compile(sampled_softmax, mode="reduce-overhead", dynamic=False)

    def __call__(
        self, rows: np.ndarray, negatives: np.ndarray, rate: float, random: np.random.Generator
    ) -> Tensor:
        """rows: of `shards.ROW`. The loss, summed over the batch; not synchronised."""
        hyper, network = self.hyper, self.network
        user = rows["user"].astype(np.int64)
        user[random.random(len(user)) < hyper.drop_user] = STRANGER
        users, items, others = (self._put(ids) for ids in (user, rows["item"].astype(np.int64), negatives))
        vectors = (
            network.user.rows(users),
            network.item.rows(items),
            network.bias.rows(items)[:, 0],
            network.item.rows(others),
            network.bias.rows(others)[:, 0],
        )
        for one in vectors:
            one.requires_grad_()
        loss, gradients = self._gradients(vectors, items, others, self._put(rows["weight"].copy()))
        user_g, item_g, bias_g, other_g, other_bias_g = gradients
        both = torch.cat([items, others])
        network.user.step(users, user_g, rate)
        network.item.step(both, torch.cat([item_g, other_g]), rate)
        network.bias.step(both, torch.cat([bias_g, other_bias_g])[:, None], rate)
        return loss.detach()

    def _gradients(
        self, vectors: tuple[Tensor, ...], items: Tensor, others: Tensor, weight: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        log_q = self.sampler.log_q
        clash = items[:, None] == others[None, :]
        # A CUDA graph is of one shape: the last, shorter batch of a block goes without.
        whole = self._compiled is not None and len(items) == self.hyper.batch
        loss_of = self._compiled if whole else self._loss
        with torch.autocast("cuda", dtype=torch.bfloat16) if self.device.type == "cuda" else nullcontext():
            loss = loss_of(*vectors, log_q[items], log_q[others], clash, weight, self.hyper.l2)
        return loss, torch.autograd.grad(loss, vectors)

    def _put(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device, non_blocking=True)
