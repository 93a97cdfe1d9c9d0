"""The two networks in torch, all members of an ensemble side by side.

Small matrices cost more in calls than in arithmetic, so the members go through as one batched product. The names of
the parameters are those that `predictor.py` reads.

Both add to a linear part, which is the ridge's own solution and stays as it is: their last layer starts at zero, so
training starts from the ridge's error, and early stopping may end there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from training.forecasting.hyper import Hyper
from training.forecasting.predictor import HEADS


class Affine(nn.Module):
    """A linear layer for each member: [m, n, inputs] → [m, n, outputs], initialised as torch.nn.Linear."""

    def __init__(self, members: int, inputs: int, outputs: int, *, zero: bool = False) -> None:
        super().__init__()
        bound = 0.0 if zero else 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, values, self.weight)


class Norm(nn.Module):
    """LayerNorm with each member's own gain and bias."""

    def __init__(self, members: int, size: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(members, 1, size))
        self.bias = nn.Parameter(torch.zeros(members, 1, size))

    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.layer_norm(values, values.shape[-1:]) * self.gain + self.bias


class GRU(nn.Module):
    def __init__(self, members: int, channels: int, weeks: int, size: int) -> None:
        super().__init__()
        self.step = Affine(members, channels, 3 * size)
        self.state = Affine(members, size, 3 * size)
        self.size = size

    def forward(self, steps: Tensor) -> Tensor:
        """steps [m, n, weeks, C] → the state after the last week [m, n, size]"""
        members, n, weeks, channels = steps.shape
        given = self.step(steps.reshape(members, n * weeks, channels)).view(members, n, weeks, -1)
        state = steps.new_zeros(members, n, self.size)
        for week in range(weeks):
            kept = self.state(state).split([2 * self.size, self.size], dim=-1)
            now = given[:, :, week].split([2 * self.size, self.size], dim=-1)
            reset, update = torch.sigmoid(now[0] + kept[0]).chunk(2, dim=-1)
            new = torch.tanh(now[1] + reset * kept[1])
            state = new + update * (state - new)
        return state


class Transformer(nn.Module):
    """One pre-norm layer; only the last week's token asks and is read."""

    def __init__(self, members: int, channels: int, weeks: int, size: int) -> None:
        super().__init__()
        self.step = Affine(members, channels, size)
        self.position = nn.Parameter(torch.randn(members, 1, weeks, size) * 0.1)
        self.norm_1, self.norm_2 = Norm(members, size), Norm(members, size)
        self.mix = Affine(members, size, 3 * size)
        self.out = Affine(members, size, size)
        self.wide, self.narrow = Affine(members, size, 2 * size), Affine(members, 2 * size, size)

    def forward(self, steps: Tensor) -> Tensor:
        """steps [m, n, weeks, C] → the last week's token [m, n, size]"""
        members, n, weeks, channels = steps.shape
        tokens = self.step(steps.reshape(members, n * weeks, channels))
        tokens = tokens.view(members, n, weeks, -1) + self.position
        size = tokens.shape[-1]
        mixed = self.mix(self.norm_1(tokens.reshape(members, n * weeks, size)))
        mixed = mixed.view(members, n, weeks, 3, HEADS, size // HEADS)
        query, key, value = (part.transpose(2, 3) for part in mixed.unbind(3))
        weight = torch.softmax(query[..., -1:, :] @ key.mT / math.sqrt(size // HEADS), dim=-1)
        last = tokens[:, :, -1] + self.out((weight @ value).reshape(members, n, size))
        return last + self.narrow(torch.relu(self.wide(self.norm_2(last))))


class Network(nn.Module):
    """An encoder of the window, and a head that sees the context beside it."""

    def __init__(
        self, kind: str, hyper: Hyper, channels: int, weeks: int, context: int, horizon: int
    ) -> None:
        super().__init__()
        members, size = hyper.members, hyper.size
        encoder = {"gru": GRU, "transformer": Transformer}[kind]
        self.encoder = encoder(members, channels, weeks, size)
        self.norm = Norm(members, size)
        self.hidden = Affine(members, size + context, size)
        self.out = Affine(members, size, horizon, zero=True)

    def forward(self, steps: Tensor, context: Tensor) -> Tensor:
        """steps [m, n, weeks, C], context [m, n, F + 1] → what is added to the linear part [m, n, H]"""
        encoded = self.norm(self.encoder(steps))
        result: Tensor = self.out(torch.relu(self.hidden(torch.cat([encoded, context], dim=-1))))
        return result
