"""Gains in per cent of another's figure, as the verdict's page writes them."""

from __future__ import annotations

import math

NOTHING = 1e-9  # a figure below it is taken for zero


def shares(other: float) -> float | None:
    """What turns a difference from `other` into per cent of it; None where that is too near zero to be a measure."""
    return 100 / abs(other) if math.isfinite(other) and abs(other) > NOTHING else None


def percent(value: float, sign: bool = False) -> str:
    digits = 0 if abs(value) >= 99.95 or value == round(value) else 1
    text = f"{abs(value):,.{digits}f} %"
    if sign and float(f"{value:.{digits}f}"):
        return ("+" if value > 0 else "−") + text
    return text


def gain(value: float) -> str:
    """A gain in per cent, in words."""
    told = percent(value)
    return "equal" if abs(value) < 0.05 else f"{told} {'better' if value > 0 else 'worse'}"


def reaching(low: float, high: float) -> str:
    """An interval in per cent, in words."""
    if (low < 0) == (high < 0):
        return f"{percent(low)} to {gain(high)}"
    return f"{gain(low)} to {gain(high)}"
