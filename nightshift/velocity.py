"""The velocity of a topic: how fast it moves against its own usual pace, as a score of 0 to 100. Pure NumPy.

For indicator k (order of INDICATOR_NAMES), week t, and whatever is known of the weeks up to t:

    m_k(t)       mean of the values known of weeks t-3..t; unknown if fewer than 2 are
    usual_k(t)   median of m_k over the 104 weeks strictly before t; unknown if fewer than 26 of them are known
    spread_k(t)  1.4826 x their median absolute deviation; where that is 0, 1.2533 x their mean absolute deviation
    z_k(t)       (m_k - usual_k) / spread_k, cut to -3..3; where the spread is 0: -3, 0 or 3, by the sign
    V(t)         50 + 50/3 x sum(s_k w_k z_k) / sum(w_k), both sums over the indicators whose z is known;
                 unknown where their weight, the coverage, is under a half

50 is the usual pace; 100 means that all that is known moves three spreads in the topic's favour. Weights w:
funding 0.25, patents 0.20, learning 0.20, search 0.25, policy 0.10; signs s: +1, but -1 for policy, whose changes
mean instability. 1.4826 and 1.2533 make both deviations estimate the standard deviation of a normal distribution
(P. J. Rousseeuw, C. Croux, "Alternatives to the Median Absolute Deviation", JASA 1993).

Unknown is NaN; an infinite value counts as unknown. An indicator's unit does not matter. Each week is computed by
itself, in a fixed order of addition: alone or among a thousand topics it is the same to the last bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nightshift.contracts.indicators import INDICATOR_NAMES

# Changes with the formula and with any constant here: scores by two definitions cannot be compared.
DEFINITION = "velocity-1"

WINDOW = 4  # weeks that a mean is taken over
WINDOW_KNOWN = 2
PAST = 104  # weeks that are the usual: two years, so that each season counts twice
PAST_KNOWN = 26
MOST = 3.0  # spreads
LEAST_COVERAGE = 0.5

_WEIGHT = {
    "funding_volume_growth": 0.25,
    "patent_filing_rate": 0.20,
    "learning_demand_growth": 0.20,
    "search_volume_growth": 0.25,
    "policy_change_frequency": 0.10,
}
_SIGN = {"policy_change_frequency": -1.0}

Floats = NDArray[np.float64]
WEIGHTS: Floats = np.array([_WEIGHT[name] for name in INDICATOR_NAMES])
SIGNS: Floats = np.array([_SIGN.get(name, 1.0) for name in INDICATOR_NAMES])

# A mean of three equal numbers and one of four may differ in their last bits. Such a difference is none.
_ROUNDING = 1e-9


def smooth(values: Floats) -> Floats:
    """m: values[..., weeks, 5], oldest first, one row per calendar week → the same shape."""
    values = np.asarray(values, np.float64)
    before = np.full((*values.shape[:-2], WINDOW - 1, values.shape[-1]), np.nan)
    padded = np.concatenate([before, values], axis=-2)
    weeks = values.shape[-2]
    return _mean([padded[..., ago : ago + weeks, :] for ago in range(WINDOW)])


def usual(smoothed: Floats) -> tuple[Floats, Floats]:
    """(usual, spread) of every week: smoothed[..., weeks, 5] → the same shape, twice."""
    smoothed = np.asarray(smoothed, np.float64)
    middle, spread = np.full_like(smoothed, np.nan), np.full_like(smoothed, np.nan)
    for week in range(PAST_KNOWN, smoothed.shape[-2]):
        past = smoothed[..., max(0, week - PAST) : week, :]
        middle[..., week, :], spread[..., week, :] = usual_of(past)
    return middle, spread


def usual_of(past: Floats) -> tuple[Floats, Floats]:
    """(usual, spread) of the one week that follows `past` (m of at most PAST weeks): past[..., weeks, 5] → [..., 5]."""
    past = np.asarray(past, np.float64)
    if past.shape[-2] > PAST:
        raise ValueError(f"past: at most {PAST} weeks, found {past.shape[-2]}")
    # Always PAST places, unknown ones last, so that sums are added in the same order however much there is.
    places = np.full((*past.shape[:-2], past.shape[-1], PAST), np.nan)
    places[..., : past.shape[-2]] = np.moveaxis(past, -2, -1)
    known = np.isfinite(places)
    places[~known] = np.nan
    places.sort(axis=-1)  # NaN comes last
    count = known.sum(axis=-1)
    with np.errstate(over="ignore", invalid="ignore"):
        middle = _median(places, count)
        away = np.abs(places - middle[..., None])
        away[away <= _ROUNDING * np.abs(middle)[..., None]] = 0.0
        away.sort(axis=-1)
        spread = 1.4826 * _median(away, count)
        mean_away = np.nansum(away, axis=-1) / np.maximum(count, 1)
        spread = np.where(spread == 0.0, 1.2533 * mean_away, spread)
    enough = count >= PAST_KNOWN
    return np.where(enough, middle, np.nan), np.where(enough, spread, np.nan)


def score(window: Floats, usual: Floats, spread: Floats) -> tuple[Floats, Floats]:
    """(velocity, coverage) of weeks whose last four are window[..., 4, 5], oldest first; usual, spread [..., 5].

    Shapes broadcast; both answers have the leading one. velocity: 0..100 or NaN. coverage: 0..1, never NaN.
    """
    window = np.asarray(window, np.float64)
    if window.shape[-2:] != (WINDOW, len(INDICATOR_NAMES)):
        raise ValueError(f"window: expected [..., {WINDOW}, {len(INDICATOR_NAMES)}], found {window.shape}")
    z = _standardised(_mean([window[..., ago, :] for ago in range(WINDOW)]), usual, spread)
    known = np.isfinite(z)
    weight = _total(np.where(known, WEIGHTS, 0.0))
    pull = _total(np.where(known, SIGNS * WEIGHTS * z, 0.0))
    coverage = _coverage(known)
    enough = coverage >= LEAST_COVERAGE
    velocity = 50.0 + (50.0 / MOST) * pull / np.where(enough, weight, 1.0)
    return np.where(enough, np.clip(velocity, 0.0, 100.0), np.nan), coverage


def told_enough(values: Floats) -> NDArray[np.bool_]:
    """Whether what is known of one week holds LEAST_COVERAGE of the weight: values[..., 5] → [...]."""
    return _coverage(np.isfinite(np.asarray(values, np.float64))) >= LEAST_COVERAGE


def _coverage(known: NDArray[np.bool_]) -> Floats:
    weight = _total(np.where(known, WEIGHTS, 0.0))
    return np.round(weight, 6)  # else 0.2 + 0.2 + 0.1 could be less than a half


def _standardised(mean: Floats, usual: Floats, spread: Floats) -> Floats:
    """z, NaN where the mean or what is usual is unknown."""
    usual, spread = (np.where(np.isfinite(given), given, np.nan) for given in (usual, spread))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        away = mean - usual
        z = np.clip(away / spread, -MOST, MOST)
        odd = np.where(np.abs(away) <= _ROUNDING * np.abs(usual), 0.0, MOST * np.sign(away))
    return np.where(spread == 0.0, odd, z)


def _mean(weeks: list[Floats]) -> Floats:
    """The mean of what is known, week by week oldest first; NaN if too little is."""
    total, count = np.zeros_like(weeks[0]), np.zeros(weeks[0].shape)
    with np.errstate(over="ignore"):
        for values in weeks:
            known = np.isfinite(values)
            total = total + np.where(known, values, 0.0)
            count = count + known
    enough = (count >= WINDOW_KNOWN) & np.isfinite(total)
    return np.where(enough, total / np.maximum(count, 1.0), np.nan)


def _median(ascending: Floats, count: NDArray[np.int64]) -> Floats:
    """The median of the first `count` along the last axis; of nothing, whatever stands first."""
    low = np.take_along_axis(ascending, np.maximum((count - 1) // 2, 0)[..., None], axis=-1)[..., 0]
    high = np.take_along_axis(ascending, (count // 2).clip(max=PAST - 1)[..., None], axis=-1)[..., 0]
    return low + (high - low) / 2


def _total(values: Floats) -> Floats:
    total = np.zeros(values.shape[:-1])
    for indicator in range(values.shape[-1]):
        total = total + values[..., indicator]
    return total
