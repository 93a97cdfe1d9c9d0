"""What the memory budgets of several families have in common: a card's limit, and the largest thing that fits it."""

from __future__ import annotations

import argparse
from collections.abc import Callable

GIB = 2**30
ROOM = 0.95  # of a card's free memory: the rest is lost to fragmentation
CUDA_CONTEXT = 0.55 * GIB  # assumed: context, kernels, cuBLAS workspace; torch does not count it


def most(upper: int, fits: Callable[[int], bool]) -> int:
    """The largest number of 1..upper that fits, where a smaller one always does; 0 if none."""
    low, high = 0, upper
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def room(free: float, total: float, own: float) -> float:
    """GiB for training on a card. free: that nobody has. own: that this process has, and will use again."""
    return ROOM * min(total, free + own)


def free_of(device: object) -> float:
    """GiB that a CUDA device (torch.device) has for training now."""
    import torch

    free, total = torch.cuda.mem_get_info(device)  # type: ignore[arg-type]
    own = torch.cuda.memory_reserved(device) + CUDA_CONTEXT  # type: ignore[arg-type]
    return room(free / GIB, total / GIB, own / GIB)


def positive(text: str) -> int:
    """A command's whole number of 1 and more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number
