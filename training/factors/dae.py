"""A linear denoising autoencoder with a softmax over the whole catalogue: from a history to what comes next.

    p(item | history) = softmax( (Σ encoder[liked] / n^alpha) · decoderᵀ + bias )

Each step hides half of what each user of a batch liked and asks for just that: the multinomial likelihood and the
dropout of Mult-DAE (Liang et al., Variational Autoencoders for Collaborative Filtering, WWW 2018) without its hidden
non-linearity; with the history pooled by n^alpha it is FISM (Kabbur et al., KDD 2013) under another loss. A user has no
vector of their own: whoever met anything is understood at once, a stranger in the middle of a first visit too.

**Why it leads on small shops**: NeuMF and iALS spend a vector on each user, whom a month shows a few dozen times; here
all that is learnt is about items, of which each is seen by many. benchmarks.md has the figures.
**Memory**: two tables [items, factors], their Adam states, and [batch, items] of scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix

INIT = 0.05
BETAS = (0.9, 0.99)
WARM_UP = 0.1  # share of the steps in which the rate rises


@dataclass(frozen=True)
class Hyper:
    """Chosen on two markets of other seeds and on Online Retail before 2011-10: README.md."""

    factors: int = 64
    alpha: float = 0.5  # what a longer history counts: 1 = its mean, 0 = its sum
    hidden: float = 0.5  # share of what a user liked that is hidden, and asked for
    weight_decay: float = 1.0  # AdamW's: of the tables, at each step times the rate
    learning_rate: float = 3e-3
    batch: int = 128  # users
    epochs: int = 60


@dataclass(frozen=True)
class Tables:
    """encoder, decoder: float32 [items, factors]. bias: float32 [items]."""

    encoder: np.ndarray
    decoder: np.ndarray
    bias: np.ndarray


AfterEpoch = Callable[[int, float, Callable[[], Tables]], None]


def fit(
    liked: csr_matrix, hyper: Hyper, *, seed: int, device: torch.device, after_epoch: AfterEpoch
) -> Tables:
    """Train on `liked`, float32 [users, items] of ones; the same for the same seed on a CPU.

    after_epoch(epoch, loss, tables): the loss is the mean of −log softmax of what was hidden, in nats.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    rows = np.flatnonzero(np.diff(liked.indptr) > 1)  # one thing alone cannot be both told and asked for
    people = np.asarray(liked.sum(axis=0)).ravel()
    items, batches = liked.shape[1], max(1, -(-len(rows) // hyper.batch))
    encoder = torch.nn.Parameter(torch.randn(items, hyper.factors, device=device) * INIT)
    decoder = torch.nn.Parameter(torch.randn(items, hyper.factors, device=device) * INIT)
    bias = torch.nn.Parameter(torch.tensor(np.log(people + 0.5), dtype=torch.float32, device=device))
    tables = [{"params": [encoder, decoder], "weight_decay": hyper.weight_decay}]
    optimiser = torch.optim.AdamW(
        [*tables, {"params": [bias], "weight_decay": 0.0}], lr=hyper.learning_rate, betas=BETAS
    )
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, hyper.learning_rate, total_steps=hyper.epochs * batches + 1, pct_start=WARM_UP
    )

    def now() -> Tables:
        return Tables(*(one.detach().cpu().numpy().copy() for one in (encoder, decoder, bias)))

    for epoch in range(1, hyper.epochs + 1):
        total, asked = torch.zeros((), device=device), torch.zeros((), device=device)
        order = random.permutation(rows)
        for start in range(0, len(order), hyper.batch):
            known = torch.from_numpy(liked[order[start : start + hyper.batch]].toarray()).to(device)
            told = known * (torch.rand_like(known) >= hyper.hidden)
            wanted = known - told
            pooled = told @ encoder / told.sum(dim=1, keepdim=True).clamp(min=1) ** hyper.alpha
            scores = (pooled @ decoder.T + bias).masked_fill(told > 0, -torch.inf)
            share = torch.log_softmax(scores, dim=1).masked_fill(told > 0, 0.0)
            nats, count = -(share * wanted).sum(), wanted.sum().clamp(min=1)
            optimiser.zero_grad(set_to_none=True)
            (nats / count).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            rate.step()
            total, asked = total + nats.detach(), asked + count
        after_epoch(epoch, float(total / asked.clamp(min=1)), now)
    return now()
