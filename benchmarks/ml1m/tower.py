"""Does an MLP tower earn its cost? The polished factors, and beside them a tower trained on the same softmax.

    score = user · item + bias + out · relu(hidden · relu(users[u] + items[i]))

The tower's last weights start at 0, so it starts as the polished model and can only be led away by the data.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from benchmarks.ml1m.split import Scorer
from training.factors import ials

FIRST, SECOND = 16, 8
EPOCHS, RATE, BATCH = 3, 1e-3, 128


def add_tower(start: ials.Vectors, train: csr_matrix, hyper: ials.Hyper, seed: int) -> Scorer:
    """Train the tower and the factors together for EPOCHS; the L2 of the factors is the polish's."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    users, items = train.shape
    user, item, bias = (
        nn.Parameter(torch.from_numpy(one.copy())) for one in (start.user, start.item, start.bias)
    )
    first, second = nn.Embedding(users, FIRST), nn.Embedding(items, FIRST)
    hidden, out = nn.Linear(FIRST, SECOND), nn.Linear(SECOND, 1, bias=False)
    for table in (first, second):
        nn.init.normal_(table.weight, std=0.1)
    nn.init.zeros_(out.weight)
    modules = nn.ModuleList([first, second, hidden, out])
    optimiser = torch.optim.Adam([user, item, bias, *modules.parameters()], lr=RATE, betas=ials.BETAS)
    length = torch.from_numpy(np.asarray(train.sum(axis=1)).ravel())
    people = torch.from_numpy(np.asarray(train.sum(axis=0)).ravel())

    def scores(at: Tensor) -> Tensor:
        both = torch.relu(first(at)[:, None] + second.weight)
        tower: Tensor = out(torch.relu(hidden(both))).squeeze(-1)
        return user[at] @ item.T + bias + tower

    for _ in range(EPOCHS):
        order = random.permutation(users)
        for begin in range(0, users, BATCH):
            at = torch.from_numpy(order[begin : begin + BATCH])
            wanted = torch.from_numpy(train[at.numpy()].toarray())
            loss = -(torch.log_softmax(scores(at), dim=1) * wanted).sum()
            loss = loss + hyper.l2 * (length[at] ** hyper.power * user[at].square().sum(dim=1)).sum()
            loss = loss + hyper.l2 * len(at) / users * (people**hyper.power * item.square().sum(dim=1)).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    def scorer(asked: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.concatenate(
                [scores(torch.from_numpy(some)).numpy() for some in np.array_split(asked, 4)]
            )

    return scorer
