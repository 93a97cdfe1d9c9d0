"""Forecasts and their drivers from what is known, without a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.contracts.features import TOPIC_FEATURES, window_column
from nightshift.contracts.indicators import INDICATOR_NAMES, monday
from nightshift.registry import Version
from nightshift.velocity import score
from serving.champion import Bundle
from serving.edge import Problem
from serving.forecasting import (
    ANSWER,
    FEATURES,
    OF_NOBODY,
    PLAYERS,
    Forecasting,
    about,
    completed,
    explain,
    forecast,
    of_values,
    of_window,
    prepare,
    respond,
    too_old,
    window_of,
)

USUAL, SPREAD = {"patent_filing_rate": 20.0, "policy_change_frequency": 2.0}, 4.0
TYPICAL = {
    **{f"{name}_usual": USUAL.get(name, 0.0) for name in INDICATOR_NAMES},
    **{f"{name}_spread": SPREAD for name in INDICATOR_NAMES},
}
WINDOW = [
    [0.5, 25.0, 0.1, -0.2, 1.0],
    [0.4, 22.0, 0.2, -0.1, 3.0],
    [0.3, 21.0, 0.3, 0.0, 2.0],
    [0.2, 30.0, 0.4, 0.1, 0.0],
]


def curved(rows: pd.DataFrame) -> pd.DataFrame:
    """Inputs that pull together and against one another, so that no driver's effect is its own alone."""
    rows = rows.drop(columns=["week", "topic"], errors="ignore")
    known = np.nan_to_num(rows.to_numpy(float))
    change = np.tanh(known / 10).sum(axis=1) + 3 * np.tanh(known[:, 0] * known[:, -1])
    return pd.DataFrame({name: change + add for name, add in zip(ANSWER, (0, -1, 1, -2, 2), strict=True)})


def model(**other: Any) -> Any:
    parts = {"features": FEATURES[:-1], "typical": TYPICAL, "topics": ["로봇"], "forecast": curved}
    return SimpleNamespace(**{**parts, **other})


@pytest.fixture(scope="module")
def ready() -> Forecasting:
    return prepare(model())


def values(**other: Any) -> dict[str, Any]:
    """A topic of which all is known, as the feature store has it."""
    random = np.random.default_rng(3)
    row: dict[str, Any] = {f.name: float(random.normal()) for f in TOPIC_FEATURES}
    row |= {f"{name}_spread": 0.5 for name in INDICATOR_NAMES}
    row |= {"week": "2026-W35", "velocity_definition": "velocity-1", "coverage": 1.0, "velocity": 61.0}
    return {**row, **other}


# --- a model ---------------------------------------------------------------------------------------------


def test_a_model_that_follows_the_protocol_passes(ready: Forecasting) -> None:
    assert about(ready) == {"topics": 1, "topic_features": FEATURES[:-1]}


def bad_rows(change: float = 0.0, low_80: float = -1.0, high_80: float = 1.0) -> Any:
    row = [change, low_80, high_80, -2.0, 2.0]
    return lambda rows: pd.DataFrame([row] * len(rows), columns=list(ANSWER))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"features": []}, "none"),
        ({"features": ["topic_features:mood"]}, "mood"),
        ({"features": ["user_features:spend_28d"]}, "spend_28d"),
        ({"typical": {}}, "typical"),
        ({"typical": {**TYPICAL, "patent_filing_rate_usual": float("nan")}}, "finite"),
        ({"typical": {**TYPICAL, "patent_filing_rate_spread": -1.0}}, "spread"),
        ({"forecast": lambda rows: curved(rows).head(1)}, "got 1 of"),
        ({"forecast": lambda rows: curved(rows)[["change"]]}, "low_80"),
        ({"forecast": bad_rows(change=np.nan)}, "finite"),
        ({"forecast": bad_rows(high_80=np.inf)}, "finite"),
        ({"forecast": bad_rows(low_80=1.5)}, "upside down"),
        ({"forecast": bad_rows(low_80=-3.0)}, "inside"),
    ],
)
def test_a_model_that_breaks_it_is_refused_with_the_reason(broken: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        prepare(model(**broken))


def test_a_model_that_breaks_down_on_large_numbers_or_without_spread_is_refused() -> None:
    def overflowing(rows: pd.DataFrame) -> pd.DataFrame:
        with np.errstate(over="ignore"):
            return curved(rows) + np.exp(np.nan_to_num(rows["patent_filing_rate_w0"]))[:, None]

    def dividing(rows: pd.DataFrame) -> pd.DataFrame:
        with np.errstate(divide="ignore"):
            return curved(rows) + (1 / rows["patent_filing_rate_spread"].fillna(1).to_numpy())[:, None]

    for breaking in (overflowing, dividing):
        with pytest.raises(ValueError, match="finite"):
            prepare(model(forecast=breaking))


# --- forecasts -------------------------------------------------------------------------------------------


def test_a_topic_is_forecast_from_all_that_is_known_of_it(ready: Forecasting) -> None:
    topics, borrowed = completed(ready, of_values([values(), values(week="2026-W34", coverage=0.8)]))
    assert not borrowed.any() and topics.velocity.tolist() == [61.0, 61.0]
    assert explain(ready, topics).answer == pytest.approx(forecast(ready, topics))
    assert topics.texts["week"].tolist() == ["2026-W35", "2026-W34"]


def test_what_the_store_does_not_know_is_unknown_to_the_model() -> None:
    seen: list[pd.DataFrame] = []

    def watching(rows: pd.DataFrame) -> pd.DataFrame:
        seen.append(rows)
        return curved(rows)

    ready = prepare(model(forecast=watching))
    first = window_column(INDICATOR_NAMES[0], 0)
    forecast(ready, of_values([values(**{first: None, "week": None, "season_sin": np.inf})]))
    row = seen[-1].iloc[0]
    assert np.isnan(row[first]) and np.isnan(row["season_sin"]) and row["week"] is None


def test_the_model_is_told_whose_row_it_is_so_that_an_interval_can_be_the_topics_own() -> None:
    def wide(rows: pd.DataFrame) -> pd.DataFrame:
        width = np.where(rows["topic"] == "로봇", 9.0, 1.0)
        return pd.DataFrame({n: width * times for n, times in zip(ANSWER, (0, -1, 1, -2, 2), strict=True)})

    ready = prepare(model(forecast=wide))
    both = of_values([values(topic="로봇"), values(topic="another")])
    assert explain(ready, both).answer[:, 2].tolist() == [9.0, 1.0]
    nobodys, _ = completed(ready, of_window(window_of(WINDOW)))
    assert explain(ready, nobodys).answer[0, 2] == 1.0


def test_a_bare_window_is_scored_by_the_usual_pace_of_a_typical_topic(ready: Forecasting) -> None:
    topics, borrowed = completed(ready, of_window(window_of(WINDOW)))
    usual = np.array([TYPICAL[f"{name}_usual"] for name in INDICATOR_NAMES])
    velocity, coverage = score(np.array(WINDOW), usual, np.full(5, SPREAD))
    assert borrowed.all() and topics.velocity[0] == velocity and topics.coverage[0] == coverage == 1.0


def test_a_young_topic_keeps_what_is_its_own_and_borrows_the_rest(ready: Forecasting) -> None:
    young = values(velocity=None, coverage=0.0, patent_filing_rate_usual=None, patent_filing_rate_spread=None)
    topics, borrowed = completed(ready, of_values([young, values()]))
    assert borrowed.tolist() == [True, False]
    row = dict(zip([f.name for f in TOPIC_FEATURES if f.dtype == "float"], topics.numbers[0], strict=True))
    assert row["patent_filing_rate_usual"] == 20.0
    assert row["search_volume_growth_usual"] == young["search_volume_growth_usual"]
    assert 0 <= topics.velocity[0] <= 100 and topics.coverage[0] == 1.0


@pytest.mark.parametrize(
    ("week", "place", "value"), [(0, 0, 11.0), (3, 3, -10.5), (1, 1, -0.1), (2, 4, -1.0), (2, 1, 2e9)]
)
def test_a_value_that_the_contract_does_not_allow_is_named(week: int, place: int, value: float) -> None:
    window: list[list[float | None]] = [[0.0] * 5 for _ in range(4)]
    window[week][place] = value
    with pytest.raises(Problem) as refused:
        window_of(window)
    assert refused.value.status == 400 and INDICATOR_NAMES[place] in refused.value.error
    assert refused.value.detail[0]["loc"] == ["window", week, place]


def test_a_week_is_too_old_exactly_past_the_limit_and_a_row_without_one_is_judged_by_its_time() -> None:
    over = datetime.combine(monday("2026-W36"), datetime.min.time(), UTC)  # W35 is over
    row = {"week": "2026-W35"}
    assert too_old(row, over + timedelta(days=28, hours=23), 28) is None
    assert "2026-W35, which ended 29 days ago" in (too_old(row, over + timedelta(days=29), 28) or "")
    assert too_old({"week": None}, over, 28) is None


# --- drivers ---------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=5, max_size=5), st.integers(0, 1_000))
def test_effects_add_up_and_what_is_not_known_has_none(known: list[bool], seed: int) -> None:
    ready = prepare(model())
    random = np.random.default_rng(seed)
    row = values(velocity=None, coverage=None)
    for name, there in zip(INDICATOR_NAMES, known, strict=True):
        row |= {window_column(name, ago): float(random.normal()) if there else None for ago in range(4)}
    topics, _ = completed(ready, of_values([row]))
    explained = explain(ready, topics)
    assert explained.base[0] + explained.effects[0].sum() == pytest.approx(explained.answer[0, 0])
    for player, there in enumerate(known):
        assert there or explained.effects[0, player] == 0.0


def test_effects_of_a_sum_are_its_terms() -> None:
    def linear(rows: pd.DataFrame) -> pd.DataFrame:
        means = [
            rows[[window_column(n, ago) for ago in range(4)]].mean(axis=1).fillna(0) for n in INDICATOR_NAMES
        ]
        change = sum(weight * mean for weight, mean in enumerate(means, start=1)) + 2.0
        change = (change + 7 * rows["season_sin"].fillna(0)).to_numpy()
        return pd.DataFrame({name: change for name in ANSWER})

    ready = prepare(model(forecast=linear))
    row = values(season_sin=0.5)
    explained = explain(ready, of_values([row]))
    means = [np.mean([row[window_column(n, ago)] for ago in range(4)]) for n in INDICATOR_NAMES]
    assert explained.effects[0] == pytest.approx([*(means * np.arange(1, 6)), 3.5])
    assert explained.base[0] == pytest.approx(2.0)


def test_effects_are_what_the_definition_says() -> None:
    """Shapley's formula in its other form: the mean over all orders in which the players can join."""
    from itertools import permutations

    ready = prepare(model())
    row = values()
    parts = {n: [window_column(n, ago) for ago in range(4)] for n in INDICATOR_NAMES}
    windows = [column for columns in parts.values() for column in columns]
    computed = {"velocity", "coverage"}
    parts["history"] = [f.name for f in TOPIC_FEATURES if f.name not in {*windows, *computed}]
    worth: dict[frozenset[str], float] = {}

    def value(members: frozenset[str]) -> float:
        if members not in worth:
            told = dict(row)
            for player in set(parts) - members:
                told |= dict.fromkeys(parts[player])
            if members != set(parts):
                past = row if "history" in members else TYPICAL
                usual, spread = (
                    np.array([past[f"{n}_{part}"] for n in INDICATOR_NAMES]) for part in ("usual", "spread")
                )
                window = [
                    [
                        row[window_column(n, ago)] if n in members else usual[k]
                        for k, n in enumerate(INDICATOR_NAMES)
                    ]
                    for ago in (3, 2, 1, 0)
                ]
                velocity, coverage = score(np.array(window), usual, spread)
                told |= {"velocity": float(velocity), "coverage": float(coverage)}
            worth[members] = float(forecast(ready, of_values([told]))[0, 0])
        return worth[members]

    expected = dict.fromkeys(PLAYERS, 0.0)
    orders = list(permutations(PLAYERS))
    for order in orders:
        for n, player in enumerate(order):
            expected[player] += value(frozenset(order[: n + 1])) - value(frozenset(order[:n]))
    explained = explain(ready, of_values([row]))
    assert explained.effects[0] == pytest.approx([expected[p] / len(orders) for p in PLAYERS])


def test_many_topics_at_once_are_explained_as_one_by_one(ready: Forecasting) -> None:
    some = of_values([values(), values(search_volume_growth_w0=4.0), values(season_sin=None)])
    together = explain(ready, some)
    for place in range(3):
        alone = explain(ready, some.take(slice(place, place + 1)))
        assert together.effects[place] == pytest.approx(alone.effects[0])
        assert together.answer[place] == pytest.approx(alone.answer[0])


# --- answers ---------------------------------------------------------------------------------------------


def test_the_velocity_that_is_forecast_stays_a_score_and_the_strongest_driver_comes_first() -> None:
    ready = prepare(model(forecast=lambda rows: curved(rows) + 60.0))
    version = Version("forecaster", 3, "r", datetime.now(UTC), {"family": "ridge"}, "", True)
    bundle = Bundle(ready, version, {}, datetime.now(UTC))
    told = respond(bundle, of_values([values()]), "로봇", None, [OF_NOBODY, "so"])
    assert told.forecast == 100.0 and told.velocity == 61.0 and told.change > 39
    assert told.interval_95.low < told.interval_80.low < told.interval_80.high < told.interval_95.high
    sizes = [abs(driver.effect) for driver in told.drivers]
    assert sizes == sorted(sizes, reverse=True) and {d.indicator for d in told.drivers} == set(PLAYERS)
    assert told.base + sum(driver.effect for driver in told.drivers) == pytest.approx(told.change)
    assert (told.week, told.model_version, told.family) == ("2026-W35", "3", "ridge")
    assert told.note == f"{OF_NOBODY}; so"
