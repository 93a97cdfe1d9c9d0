"""One model's forecast of topics, and which indicators drove it: no server in it.

What an input contributes is its Shapley value (L. S. Shapley, "A Value for n-Person Games", 1953), exact: the players
are the indicators and `history` (all else that the model goes by), and all 2^6 coalitions are forecast in one call.
An indicator that is left out of a coalition is unknown to the model, and counts as usual in the velocity; history
that is left out is that of a typical topic. So what is not known anyway has no effect, and base + the sum
of the effects = change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import factorial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nightshift.contracts import INDICATORS
from nightshift.contracts.features import (
    TOPIC_FEATURES,
    TOPIC_VIEW,
    TOPIC_WINDOW,
    VIEWS,
    numeric,
    window_column,
)
from nightshift.contracts.indicators import INDICATOR_NAMES, monday
from nightshift.seats import Driver, ForecasterModel, ForecastResponse, Interval, Trend
from nightshift.velocity import LEAST_COVERAGE, score
from serving.champion import Bundle
from serving.edge import Problem

Floats = NDArray[np.float64]
FEATURES = [f"{TOPIC_VIEW}:{feature.name}" for feature in TOPIC_FEATURES]
NUMBERS = numeric(TOPIC_FEATURES)
KEY = VIEWS[TOPIC_VIEW].key
TEXTS = [KEY, *(feature.name for feature in TOPIC_FEATURES if feature.name not in NUMBERS)]
ANSWER = ("change", "low_80", "high_80", "low_95", "high_95")
LARGEST = 1e9  # where the contract of the indicators names no limit
BORROWED = "its own history is too short: the usual pace is that of a typical topic"
UNLEARNT = "the model did not learn from this topic"
OF_NOBODY = "a window of no topic: the usual pace is that of a typical topic"

_PLACE = {name: place for place, name in enumerate(NUMBERS)}
_WINDOW = np.array(
    [[_PLACE[window_column(name, ago)] for name in INDICATOR_NAMES] for ago in reversed(range(TOPIC_WINDOW))]
)
_USUAL = np.array([_PLACE[f"{name}_usual"] for name in INDICATOR_NAMES])
_SPREAD = np.array([_PLACE[f"{name}_spread"] for name in INDICATOR_NAMES])
_VELOCITY, _COVERAGE = _PLACE["velocity"], _PLACE["coverage"]

PLAYERS = (*INDICATOR_NAMES, "history")
# [coalitions, players]: the first is empty, the last is everybody.
_MEMBERS = ((np.arange(2 ** len(PLAYERS))[:, None] >> np.arange(len(PLAYERS))) & 1).astype(bool)


# Per player: the coalitions without it, the same with it, and how often a random order of joining meets that step.
_BEFORE = np.array([np.flatnonzero(~_MEMBERS[:, player]) for player in range(len(PLAYERS))])
_AFTER = _BEFORE + (1 << np.arange(len(PLAYERS)))[:, None]
_CHANCE = np.array(
    [
        factorial(size) * factorial(len(PLAYERS) - size - 1) / factorial(len(PLAYERS))
        for size in _MEMBERS[_BEFORE[0]].sum(axis=1)
    ]
)


def _absent() -> NDArray[np.bool_]:
    """[coalitions, NUMBERS]: what the model is not told. Velocity and coverage are computed for each instead."""
    absent = np.repeat(~_MEMBERS[:, -1:], len(NUMBERS), axis=1)
    for player in range(len(INDICATOR_NAMES)):
        absent[:, _WINDOW[:, player]] = ~_MEMBERS[:, player : player + 1]
    absent[:, [_VELOCITY, _COVERAGE]] = False
    return absent


_ABSENT = _absent()


@dataclass(frozen=True)
class Forecasting:
    """A model that was tried out. usual, spread: of a typical topic, [indicators]."""

    model: ForecasterModel
    names: list[str]
    usual: Floats
    spread: Floats
    topics: frozenset[str]


@dataclass(frozen=True)
class Topics:
    """What is known of some topics: numbers [topics, NUMBERS], NaN where unknown; texts: whose it is and the
    other features, by name; None where unknown."""

    numbers: Floats
    texts: dict[str, NDArray[np.object_]]

    @property
    def velocity(self) -> Floats:
        return self.numbers[:, _VELOCITY]

    @property
    def coverage(self) -> Floats:
        return self.numbers[:, _COVERAGE]

    def take(self, places: NDArray[np.int64] | slice) -> Topics:
        return Topics(self.numbers[places], {name: texts[places] for name, texts in self.texts.items()})


@dataclass(frozen=True)
class Explained:
    """answer: [topics, ANSWER]; base: [topics]; effects: [topics, PLAYERS]; base + effects = change."""

    answer: Floats
    base: Floats
    effects: Floats


# --- a model ---------------------------------------------------------------------------------------------


def prepare(model: ForecasterModel) -> Forecasting:
    """The model, warmed up on what is hardest: nothing known, a typical topic, the largest numbers, no spread.

    Raises:
        ValueError: it breaks the seat's protocol.
    """
    strange = sorted(set(model.features) - set(FEATURES))
    if strange or not model.features:
        raise ValueError(f"features: {strange or 'none'}; there are those of {TOPIC_VIEW}")
    typical = [f"{name}_{part}" for part in ("usual", "spread") for name in INDICATOR_NAMES]
    values = np.array([model.typical.get(name, np.nan) for name in typical], np.float64).reshape(2, -1)
    if not np.isfinite(values).all() or (values[1] < 0).any():
        raise ValueError(
            f"typical: a finite number for each of {', '.join(typical)} is needed, no spread under 0"
        )
    names = [reference.partition(":")[2] for reference in model.features]
    ready = Forecasting(model, names, values[0], values[1], frozenset(model.topics))
    explain(ready, _hard(ready))
    return ready


def about(ready: Forecasting) -> dict[str, Any]:
    """What GET /model says of a forecaster alone."""
    return {"topics": len(ready.topics), "topic_features": list(ready.model.features)}


def _hard(ready: Forecasting) -> Topics:
    low, high = np.array([limits(place) for place in range(len(INDICATOR_NAMES))]).T
    windows = [np.full_like(low, np.nan), ready.usual, low, high]
    numbers = [of_window(np.tile(window, (TOPIC_WINDOW, 1))).numbers for window in windows]
    hard = completed(ready, Topics(np.concatenate([*numbers, numbers[-1]]), _no_texts(5)))[0].numbers
    hard[-1, _SPREAD] = 0.0  # a topic of which one figure never moved
    return Topics(hard, _no_texts(5))


# --- what is known of topics -----------------------------------------------------------------------------


def of_values(rows: Sequence[dict[str, Any]]) -> Topics:
    """Rows of the feature store, by bare name."""
    found = [[row.get(name) for name in NUMBERS] for row in rows]
    numbers = np.array(found, np.float64).reshape(len(rows), len(NUMBERS))  # None becomes NaN
    numbers[~np.isfinite(numbers)] = np.nan
    return Topics(numbers, {name: np.array([row.get(name) for row in rows], object) for name in TEXTS})


def of_window(window: Floats) -> Topics:
    """Four weeks, oldest first, of a topic that nothing else is known of: [weeks, indicators], NaN where unknown."""
    numbers = np.full((1, len(NUMBERS)), np.nan)
    numbers[0, _WINDOW] = window
    return Topics(numbers, _no_texts(1))


def completed(ready: Forecasting, topics: Topics) -> tuple[Topics, NDArray[np.bool_]]:
    """`topics`, those without a velocity scored by the usual pace of a typical topic; and which those are."""
    numbers = topics.numbers.copy()
    borrowed = np.isnan(numbers[:, _VELOCITY])
    for places, typical in ((_USUAL, ready.usual), (_SPREAD, ready.spread)):
        own = numbers[np.ix_(borrowed, places)]
        numbers[np.ix_(borrowed, places)] = np.where(np.isnan(own), typical, own)
    some = numbers[borrowed]
    numbers[borrowed, _VELOCITY], numbers[borrowed, _COVERAGE] = score(
        some[:, _WINDOW], some[:, _USUAL], some[:, _SPREAD]
    )
    return Topics(numbers, topics.texts), borrowed


def window_of(weeks: Sequence[Sequence[float | None]]) -> Floats:
    """A request's window as numbers.

    Raises:
        Problem: 400, naming the week and the indicator that the contract does not allow.
    """
    for week, values in enumerate(weeks):
        for place, value in enumerate(values):
            low, high = limits(place)
            if value is not None and not low <= value <= high:
                msg = f"{INDICATOR_NAMES[place]} must be from {low:g} to {high:g}, not {value:g}"
                raise Problem(400, f"window[{week}][{place}]: {msg}", ("window", week, place), msg)
    return np.array(weeks, np.float64)  # None becomes NaN


def limits(place: int) -> tuple[float, float]:
    """What an indicator's contract allows, and no number so large that a model would overflow."""
    column = INDICATORS.column(INDICATOR_NAMES[place])
    low = column.minimum if column.minimum is not None else -LARGEST
    return low, column.maximum if column.maximum is not None else LARGEST


def too_old(values: dict[str, Any], now: datetime, max_age_days: int) -> str | None:
    """Why a row that was told lately says nothing of the present: a revision of a week that is long past."""
    week = values.get("week")
    if not week:
        return None
    age = now.date() - (monday(week) + timedelta(weeks=1))
    if age <= timedelta(days=max_age_days):
        return None
    return f"the newest week known is {week}, which ended {age.days} days ago (at most {max_age_days})"


def too_little(coverage: float) -> str:
    return f"of the velocity's weight {coverage:.0%} is known (at least {LEAST_COVERAGE:.0%})"


def _no_texts(rows: int) -> dict[str, NDArray[np.object_]]:
    return {name: np.full(rows, None, object) for name in TEXTS}


# --- forecasts -------------------------------------------------------------------------------------------


def forecast(ready: Forecasting, topics: Topics) -> Floats:
    """[topics, ANSWER], finite.

    Raises:
        ValueError: the model breaks the seat's protocol.
    """
    rows = len(topics.numbers)
    wanted = [name for name in ready.names if name in _PLACE]
    frame = pd.DataFrame(topics.numbers[:, [_PLACE[name] for name in wanted]], columns=wanted)
    for name in TEXTS:  # whose row it is is always told: an interval may be as wide as that topic needs
        if name == KEY or name in ready.names:
            frame[name] = topics.texts[name]
    told = ready.model.forecast(frame)
    if len(told) != rows or not set(ANSWER) <= set(told.columns):
        raise ValueError(
            f"expected {rows} rows of {', '.join(ANSWER)}; got {len(told)} of {list(told.columns)}"
        )
    answer = told[list(ANSWER)].to_numpy(np.float64)
    if not np.isfinite(answer).all():
        raise ValueError("a forecast or an interval is not finite")
    _, low_80, high_80, low_95, high_95 = answer.T
    if not ((low_95 <= low_80) & (low_80 <= high_80) & (high_80 <= high_95)).all():
        raise ValueError("an interval is upside down, or that of 80 % is not inside that of 95 %")
    return answer


def explain(ready: Forecasting, topics: Topics) -> Explained:
    """Forecasts and what drove them: 64 rows of the model for each topic."""
    count, coalitions = len(topics.numbers), len(_MEMBERS)
    rows = _coalitions(ready, topics.numbers).reshape(count * coalitions, len(NUMBERS))
    past = np.tile(_MEMBERS[:, -1], count)
    texts = {name: np.repeat(text, coalitions) for name, text in topics.texts.items()}
    for text in texts.values():
        text[~past] = None
    answer = forecast(ready, Topics(rows, texts)).reshape(count, coalitions, len(ANSWER))
    change = answer[:, :, 0]
    return Explained(answer[:, -1], change[:, 0], (change[:, _AFTER] - change[:, _BEFORE]) @ _CHANCE)


def _coalitions(ready: Forecasting, numbers: Floats) -> Floats:
    """[topics, coalitions, NUMBERS]: each topic as each coalition knows it; the last knows what there is to know."""
    past, present = _MEMBERS[:, -1, None], _MEMBERS[:, None, :-1]
    usual = np.where(past, numbers[:, None, _USUAL], ready.usual)  # [topics, coalitions, indicators]
    spread = np.where(past, numbers[:, None, _SPREAD], ready.spread)
    window = numbers[:, None][:, :, _WINDOW]  # [topics, 1, weeks, indicators]
    window = np.where(present | np.isnan(window), window, usual[:, :, None])
    rows = np.repeat(numbers[:, None], len(_MEMBERS), axis=1)
    rows[:, :, _VELOCITY], rows[:, :, _COVERAGE] = score(window, usual, spread)
    rows[:, _ABSENT] = np.nan
    rows[:, -1] = numbers
    return rows


# --- answers ---------------------------------------------------------------------------------------------


def respond(
    bundle: Bundle[Forecasting], topics: Topics, topic: str | None, at: datetime | None, notes: list[str]
) -> ForecastResponse:
    """The answer on the one topic that `topics` holds."""
    return ForecastResponse(
        topic=topic,
        coverage=float(topics.coverage[0]),
        model_version=str(bundle.version.number),
        family=bundle.version.tags.get("family"),
        features_at=at,
        note="; ".join(notes) or None,
        **_told(topics, explain(bundle.ready, topics), 0),
    )


def trend(rank: int, topic: str, topics: Topics, explained: Explained, place: int) -> Trend:
    told = _told(topics, explained, place)
    del told["interval_95"]
    return Trend(rank=rank, topic=topic, **told)


def then(velocity: Floats, change: Floats) -> Floats:
    """The velocity that is forecast; the score ends at 0 and at 100, whatever a model says."""
    return np.clip(velocity + change, 0.0, 100.0)


def _told(topics: Topics, explained: Explained, place: int) -> dict[str, Any]:
    change, low_80, high_80, low_95, high_95 = explained.answer[place].tolist()
    effects = explained.effects[place]
    return {
        "week": topics.texts["week"][place],
        "velocity": float(topics.velocity[place]),
        "change": change,
        "forecast": float(then(topics.velocity[place], change)),
        "interval_80": Interval(low=low_80, high=high_80),
        "interval_95": Interval(low=low_95, high=high_95),
        "base": float(explained.base[place]),
        "drivers": [
            Driver(indicator=PLAYERS[player], effect=float(effects[player]))
            for player in np.argsort(-np.abs(effects), kind="stable")
        ],
    }
