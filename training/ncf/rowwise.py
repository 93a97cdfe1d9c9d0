"""Embedding tables that are trained row by row, with row-wise Adagrad: what a night with millions of ids can afford.

A batch touches some thousand rows of a table, and only they are read, written and paid for. The optimiser keeps one
number a row, the running sum of its gradients' mean squares, where Adam keeps two a weight:

    s[r] += mean(g[r]²);  w[r] -= rate · g[r] / (√s[r] + ε)

Duchi et al., JMLR 2011, with the accumulator shared by a row's weights as in Mudigere et al., ISCA 2022 (section
3.2.1) and FBGEMM's EXACT_ROWWISE_ADAGRAD: a row that a batch uses twice is updated once, with the sum of its gradients.
Why none of the libraries that have it: docs/decisions/0017-tables-that-learn-by-row.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-8
FILLED = 1 << 20  # rows that a table is filled with at a time: no second table stands beside it meanwhile


class Table:
    """weight [rows, width] in float32 or bfloat16, and the optimiser's sums [rows] float32.

    Reading and updating are in float32 whatever the weights are kept in. A bfloat16 has 8 bits of mantissa: an update
    below a 256th of a weight would be rounded away each time, so it is rounded up or down at random, by how near it is
    (stochastic rounding; Gupta et al., ICML 2015), and on average nothing is lost.
    """

    def __init__(
        self,
        rows: int,
        width: int,
        *,
        std: float,
        dtype: torch.dtype,
        device: torch.device,
        random: torch.Generator,
    ) -> None:
        """Weights drawn from N(0, std²) by `random`, a generator of `device`."""
        self.weight = torch.empty(rows, width, dtype=dtype, device=device)
        self.squares = torch.zeros(rows, dtype=torch.float32, device=device)
        self._random = random
        for part in self.weight.split(FILLED):
            part.copy_(torch.randn(part.shape, device=device, generator=random).mul_(std))

    @property
    def bytes(self) -> int:
        """Of the weights and the optimiser's sums."""
        return sum(one.numel() * one.element_size() for one in (self.weight, self.squares))

    def rows(self, ids: Tensor) -> Tensor:
        """Rows [n, width] float32 of `ids` [n] int64; a copy that gradients may be asked for."""
        return self.weight[ids].float()

    def step(self, ids: Tensor, gradient: Tensor, rate: float) -> None:
        """One update by `gradient` [n, width] float32 of the rows `ids` [n]; an id may come several times."""
        distinct, place = torch.unique(ids, return_inverse=True)
        total = gradient.new_zeros(len(distinct), gradient.shape[1]).index_add_(0, place, gradient)
        sums = self.squares[distinct] + total.square().mean(dim=1)
        self.squares[distinct] = sums
        change = total.mul_((-rate / (sums.sqrt() + EPSILON)).unsqueeze(1))
        updated = change.add_(self.weight[distinct])
        if self.weight.dtype == torch.bfloat16:
            updated = stochastic_bfloat16(updated, self._random)
        self.weight[distinct] = updated


def stochastic_bfloat16(values: Tensor, random: torch.Generator) -> Tensor:
    """float32 → bfloat16, rounded up with the chance of how far the value is on the way: unbiased.

    A bfloat16 is the upper half of a float32: add random lower bits, and cut them off.
    """
    noise = torch.randint(0, 1 << 16, values.shape, dtype=torch.int32, device=values.device, generator=random)
    bits = values.view(torch.int32).add(noise).bitwise_and_(-(1 << 16))
    return bits.view(torch.float32).to(torch.bfloat16)
