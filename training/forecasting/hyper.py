"""Every setting of the forecasters."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hyper:
    """bare: share of training examples that are shown without context, so that a window alone can be forecast.

    auxiliary: weight of the errors at 1..H-1 weeks, beside 1 at H weeks.
    """

    bare: float = 0.2
    auxiliary: float = 0.25
    # ridge: the strength is relative to the number of examples
    alphas: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    # gru, transformer
    members: int = 5
    size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    batch: int = 512
    epoch_rows: int = 32_768  # an epoch is at most this many examples for each member
    max_epochs: int = 12
    patience: int = 3
    # lightgbm
    leaves: int = 15
    tree_rate: float = 0.05
    max_trees: int = 600
    tree_patience: int = 30
    tree_rows: int = 65_536  # more are sampled down
