"""How sure a recommender is of an item that it shows: one door, so that what the exam judges is what serving says.

A model's scores rank items; how far apart they are means nothing between users. An item's *log-share* does: its score
less the logsumexp of the scores of everything that its user has not met, the log of a softmax. A package's
`calibration` (see `RecommenderModel`) says which chance belongs to which log-share.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def log_shares(scores: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """Log-shares of the items listed, float64 [users, k], 0 at most; NaN where a list has none.

    scores: float [users, items]; what is not finite is not in the user's ranking. lists: int64 [users, k], columns of
    `scores`, -1 = none.
    """
    there = np.isfinite(scores)
    usable = np.where(there, scores, -np.inf).astype(np.float64)
    top = np.where(there.any(axis=1), usable.max(axis=1, initial=-np.inf), 0.0)[:, None]
    with np.errstate(divide="ignore"):
        whole = top + np.log(np.exp(usable - top).sum(axis=1, keepdims=True))
    given = np.take_along_axis(usable, np.maximum(lists, 0), axis=1)
    return np.where(
        (lists >= 0) & np.isfinite(given), given - np.where(np.isfinite(whole), whole, 0.0), np.nan
    )


def confidences(calibration: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The chance of each log-share, float64 in (0, 1), the shape of `shares`; NaN stays NaN."""
    found = np.interp(shares, calibration[0], calibration[1])
    return np.where(np.isnan(shares), np.nan, found)


def checked(calibration: Any) -> np.ndarray | None:
    """A package's calibration as float64 [2, n], or None where it has none.

    Raises:
        ValueError: it is not ascending log-shares over chances that do not fall and are neither 0 nor 1.
    """
    if calibration is None:
        return None
    found = np.asarray(calibration, dtype=np.float64)
    if found.ndim != 2 or found.shape[0] != 2 or not found.shape[1] or not np.isfinite(found).all():
        raise ValueError(f"the calibration has shape {found.shape}, expected (2, n), all finite")
    if (np.diff(found[0]) <= 0).any() or (np.diff(found[1]) < 0).any():
        raise ValueError("the calibration does not ascend")
    if found[1].min() <= 0 or found[1].max() >= 1:
        raise ValueError("the calibration says 0 or 1, of which nobody can be sure")
    return found
