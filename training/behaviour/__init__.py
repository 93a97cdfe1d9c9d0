"""How a model answers, whatever it scores: what its users would notice, and what its service would stumble over.

A probe asks a candidate, in this process and of the exam's own units, and gives figures whose limits are in the seat's
policy. Not covered: the packaged model in its real service (`training.trial`), and whether the answers are good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from training.evidence import Measured
from training.intervals import seed_from

NUDGE = 0.01  # share by which inputs are moved: less than anybody would call another user, or another week


class NothingToAskError(LookupError):
    """The exam has nobody, or nothing, that a probe could try."""


def measured(probes: Sequence[Callable[[], Mapping[str, float]]]) -> Measured:
    """The figures of every probe that a model got through; where its code raised, that is the problem."""
    figures: dict[str, float] = {}
    problems = []
    for probe in probes:
        try:
            figures |= probe()
        except NothingToAskError as error:
            problems.append(str(error))
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            problems.append(f"{type(error).__name__}: {error}")
    return Measured(figures, "; ".join(dict.fromkeys(problems)))


def drawn_from(digest: str) -> np.random.Generator:
    """The same draws for everyone who sits an exam."""
    return np.random.default_rng(seed_from(digest))


def sample(random: np.random.Generator, count: int, at_most: int) -> np.ndarray:
    """Rows 0..count-1, or as many of them as allowed, in order."""
    return np.sort(random.choice(count, size=min(at_most, count), replace=False))


def nudged(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """float64, each value NUDGE larger or smaller, by chance; a missing one stays missing."""
    return values * (1 + NUDGE * random.choice([-1.0, 1.0], size=values.shape))


def largest_change(before: np.ndarray, after: np.ndarray) -> float:
    """The largest absolute difference of two arrays of one shape.

    What is no number in both does not differ; what is one in one of them alone differs by its size, and by 1 at least.
    """
    there, now = np.isfinite(before), np.isfinite(after)
    gap = np.abs(np.where(there, before, 0.0) - np.where(now, after, 0.0))
    gap = np.where(there != now, np.maximum(gap, 1.0), gap)
    return float(gap.max()) if gap.size else 0.0
