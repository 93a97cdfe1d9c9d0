"""iALS, and its polish by a softmax over the whole catalogue.

**iALS** is irspack's (implicit alternating least squares; Hu et al. 2008, with the regularisation of Rendle et al.,
Revisiting the Performance of iALS on Item Recommendation Benchmarks, RecSys 2022). **The polish** starts at its vectors
and follows, for a few epochs, the gradient of

    Σ over positives of −log softmax(user · itemsᵀ + bias)[item]  +  l2 · Σ n^power · ‖vector‖²     on both sides

whose three products of matrices are written out: through autograd they cost half as much again. Users come in batches;
Adam's moments of a user's vector age with every step, also where the user is not in the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

BETAS, EPSILON = (0.9, 0.99), 1e-8


@dataclass(frozen=True)
class Hyper:
    """alpha0: weight of what was not met. reg: scaled by how often a user or an item occurs. popular: the bias starts
    at log(people), else at 0. lift: times which users' vectors start, since iALS aims at 1 and a softmax wants more."""

    factors: int = 64
    alpha0: float = 0.3
    reg: float = 0.007
    ials_epochs: int = 10
    epochs: int = 5  # of the polish; 0 = iALS alone
    lift: float = 8.0
    learning_rate: float = 3e-3
    l2: float = 1.0
    power: float = 0.5
    batch: int = 128
    popular: bool = True


@dataclass(frozen=True)
class Vectors:
    """user: float32 [users, factors]. item: float32 [items, factors]. bias: float32 [items]."""

    user: np.ndarray
    item: np.ndarray
    bias: np.ndarray


AfterEpoch = Callable[[int, float, Callable[[], Vectors]], None]


def fit(
    liked: csr_matrix, hyper: Hyper, *, seed: int, device: torch.device, after_epoch: AfterEpoch
) -> Vectors:
    """iALS and its polish on `liked`, float32 [users, items]; the same for the same seed on a CPU, with one thread.

    after_epoch(epoch, loss, vectors): of the polish; the loss in nats a positive. Epoch 0 is iALS alone, loss NaN.
    """
    start = ials(liked, hyper, seed)
    after_epoch(0, float("nan"), lambda: start)
    return (
        polish(start, liked, hyper, seed=seed, device=device, after_epoch=after_epoch)
        if hyper.epochs
        else start
    )


def ials(liked: csr_matrix, hyper: Hyper, seed: int) -> Vectors:
    """irspack's iALS with conjugate gradients, on one thread."""
    from irspack.recommenders.ials import IALSRecommender

    model = IALSRecommender(
        liked, n_components=hyper.factors, alpha0=hyper.alpha0, reg=hyper.reg, n_threads=1, random_seed=seed
    )
    model.start_learning()
    for _ in range(hyper.ials_epochs):  # its own loop would draw a bar
        model.run_epoch()
    user, item = np.array(model.get_user_embedding()), np.array(model.get_item_embedding())
    return Vectors(user, item, np.zeros(len(item), np.float32))


def polish(
    start: Vectors,
    liked: csr_matrix,
    hyper: Hyper,
    *,
    seed: int,
    device: torch.device,
    after_epoch: AfterEpoch,
) -> Vectors:
    """Full-catalogue softmax from `start` on. Memory beyond the tables: [batch, items]."""
    random = np.random.default_rng(seed)
    people = np.asarray(liked.sum(axis=0)).ravel()
    bias = np.log(people + 0.5) if hyper.popular else np.zeros(len(people))
    user, item = _on(start.user * hyper.lift, device), _on(start.item, device)
    adam = _Adam(
        [user, item, _on(bias, device)], hyper.learning_rate, hyper.epochs * -(-len(user) // hyper.batch)
    )
    length = _on(np.asarray(liked.sum(axis=1)).ravel(), device)
    users_l2 = 2 * hyper.l2 * length[:, None] ** hyper.power
    items_l2 = 2 * hyper.l2 * _on(people, device)[:, None] ** hyper.power

    def now() -> Vectors:
        return Vectors(*(one.cpu().numpy().copy() for one in adam.tables))

    for epoch in range(1, hyper.epochs + 1):
        order, total = random.permutation(len(user)), torch.zeros((), device=device)
        for first in range(0, len(order), hyper.batch):
            rows = order[first : first + hyper.batch]
            at, there = torch.from_numpy(rows).to(device), liked[rows].tocoo()
            row, column = (
                torch.from_numpy(one.astype(np.int64)).to(device) for one in (there.row, there.col)
            )
            user, item, bias_ = adam.tables
            mine = user[at]
            share = torch.log_softmax(mine @ item.T + bias_, dim=1)
            total -= share[row, column].sum()
            error = share.exp_().mul_(length[at, None])
            error[row, column] -= 1.0
            adam.step(
                at,
                error @ item + users_l2[at] * mine,
                error.T @ mine + (len(rows) / len(order)) * items_l2 * item,
                error.sum(dim=0),
            )
        after_epoch(epoch, float(total) / max(liked.nnz, 1), now)
    return now()


class _Adam:
    """Adam with a cosine to 0 over `steps`: of the first table some rows have a gradient, of the two others all."""

    def __init__(self, tables: list[Tensor], rate: float, steps: int) -> None:
        self.tables, self._rate, self._steps, self._done = tables, rate, steps, 0
        self._first = [torch.zeros_like(one) for one in tables]
        self._second = [torch.zeros_like(one) for one in tables]

    def step(self, rows: Tensor, some: Tensor, *whole: Tensor) -> None:
        """some: the gradient of `rows` of the first table; whole: those of the others."""
        self._done += 1
        rate = self._rate * 0.5 * (1 + np.cos(np.pi * self._done / self._steps))
        for place, (table, first, second) in enumerate(
            zip(self.tables, self._first, self._second, strict=True)
        ):
            first.mul_(BETAS[0])
            second.mul_(BETAS[1])
            if place == 0:
                first[rows] += (1 - BETAS[0]) * some
                second[rows] += (1 - BETAS[1]) * some**2
            else:
                first.add_(whole[place - 1], alpha=1 - BETAS[0])
                second.addcmul_(whole[place - 1], whole[place - 1], value=1 - BETAS[1])
            spread = (second / (1 - BETAS[1] ** self._done)).sqrt_().add_(EPSILON)
            table.addcdiv_(first / (1 - BETAS[0] ** self._done), spread, value=-rate)


def _on(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(values, np.float32)).to(device)
