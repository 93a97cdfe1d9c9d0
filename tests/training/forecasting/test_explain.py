"""The pictures show what they claim; their Shapley values are exact where they can be checked."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.training.forecasting.conftest import SMALL
from training.forecasting import explain
from training.forecasting.conformal import Intervals
from training.forecasting.data import Windows
from training.forecasting.fit import Fitted, fit
from training.forecasting.recipe import Parts

TOPICS = [f"주제 {n}" for n in range(12)]


def drawn(figure: Figure) -> None:
    figure.canvas.draw()  # whatever cannot be drawn raises, or warns of a missing glyph


def small_ridge(contexts: int) -> tuple[Fitted, Windows]:
    """Two weeks of one channel, and so many numbers of context."""
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 2, 1)).astype(np.float32)
    context = random.normal(size=(300, contexts)).astype(np.float32)
    y = (x[:, 0] - 2 * x[:, 1] + np.abs(x[:, 0] + x[:, 1]) + context.sum(axis=1, keepdims=True)).astype(
        np.float32
    )
    series = np.zeros(300, np.int64)
    windows = Windows(x, context, y, series, np.arange(300), np.ones(300, np.float32))
    return fit("ridge", windows, None, chosen={"alpha": 1e-6}), windows


def by_hand(ridge: Fitted, one: Windows, players: int) -> np.ndarray:
    """Shapley values over all orders of an example's two weeks and, if it plays, its context."""

    def told(known: set[int]) -> float:
        x = np.where([[[0 in known], [1 in known]]], one.x, np.nan)
        context = one.context if 2 in known else np.full_like(one.context, np.nan)
        return float(ridge.predict(replace(one, x=x, context=context))[0, -1])

    exact = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        for place, player in enumerate(order):
            before = set(order[:place])
            exact[player] += (told(before | {player}) - told(before)) / len(orders)
    return exact


def test_shapley_values_add_up_to_the_forecast_minus_that_of_nothing_known(
    fitted: Fitted, parts: Parts
) -> None:
    found = explain.attributions(fitted, parts.judge, seed=0, rows=12)
    picked = [
        np.flatnonzero((parts.judge.x == x).all(axis=(1, 2)))[0] for x in found.x if np.isfinite(x).all()
    ]
    explained = parts.judge.where(np.array(picked))
    nothing = replace(
        explained, x=np.full_like(explained.x, np.nan), context=np.full_like(explained.context, np.nan)
    )
    expected = fitted.predict(explained)[:, -1] - fitted.predict(nothing)[:, -1]
    complete = np.isfinite(found.x).all(axis=(1, 2))

    assert (
        found.cells.shape == (12, 4, 5) and found.weeks.shape == (12, 5) and found.channels.shape == (12, 6)
    )
    for total in (
        found.cells.sum(axis=(1, 2)) + found.context,
        found.weeks.sum(axis=1),
        found.channels.sum(axis=1),
    ):
        np.testing.assert_allclose(total[complete], expected, atol=1e-4)


def test_shapley_values_of_whole_weeks_are_those_of_all_orders() -> None:
    ridge, windows = small_ridge(contexts=1)
    found = explain.attributions(ridge, windows, seed=0, rows=300)

    for row in range(5):
        exact = by_hand(ridge, windows.where(np.array([row])), players=3)
        np.testing.assert_allclose(found.weeks[row], exact, atol=1e-5)
        np.testing.assert_allclose(found.cells[row, :, 0], exact[:2], atol=4 * found.error[row].max() + 1e-5)


def test_walked_both_ways_one_order_says_exactly_what_two_inputs_do_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without context a ridge knows no more than pairs: the mean of two weeks, once both are known."""
    ridge, windows = small_ridge(contexts=0)
    monkeypatch.setattr(explain, "PAIRS", 2)
    found = explain.attributions(ridge, windows, seed=0, rows=300)

    np.testing.assert_allclose(found.cells[:, :, 0], found.weeks[:, :2], atol=1e-5)
    assert found.error.max() < 1e-5
    first = by_hand(ridge, windows.where(np.array([0])), players=2)
    np.testing.assert_allclose(found.cells[0, :, 0], first, atol=1e-5)


def test_the_cells_are_as_exact_as_they_say(parts: Parts) -> None:
    trees = fit("lightgbm", parts.fitted, parts.valid, SMALL, seed=1)
    rows = parts.judge.where(np.arange(100))  # all of which are explained
    one, other = (explain.attributions(trees, rows, seed) for seed in (1, 2))
    told = np.sqrt(np.mean(np.square(one.error)) + np.mean(np.square(other.error)))

    np.testing.assert_array_equal(one.x, other.x)
    assert np.sqrt(np.mean(np.square(one.cells - other.cells))) == pytest.approx(told, rel=0.1)


def test_every_picture_can_be_drawn(fitted: Fitted, parts: Parts) -> None:
    forecast = fitted.predict(parts.judge)
    intervals = Intervals({}, {80: (-5.0, 5.0), 95: (-9.0, 9.0)})
    explained = explain.attributions(fitted, parts.judge, seed=0, rows=5)
    velocity = np.full(len(parts.judge), 50.0)
    drawn(explain.learning_curve(fitted))
    drawn(explain.forecasts(parts.judge, forecast[:, -1], intervals, velocity, TOPICS))
    drawn(explain.error_by_horizon(parts.judge, forecast))
    drawn(explain.error_by_topic(parts.judge, forecast[:, -1], TOPICS))
    drawn(explain.shap_figure(explained))


def test_one_topic_alone_can_be_drawn(parts: Parts) -> None:
    one = parts.judge.where(parts.judge.series == 3)
    still = np.zeros(len(one))
    intervals = Intervals({}, {80: (-5.0, 5.0)})
    figure = explain.forecasts(one, still, intervals, still + 50, TOPICS)
    drawn(figure)
    assert sum(axis.get_visible() for axis in figure.axes) == 1


def test_series_that_never_moved_can_be_drawn(parts: Parts) -> None:
    flat = replace(parts.judge, y=np.zeros_like(parts.judge.y))
    drawn(explain.error_by_horizon(flat, np.ones_like(flat.y)))
    drawn(explain.error_by_topic(flat, np.zeros(len(flat)), TOPICS))


def test_the_picture_says_which_values_are_estimates(parts: Parts) -> None:
    ridge = fit("ridge", parts.fitted, parts.valid, SMALL)
    figure = explain.shap_figure(explain.attributions(ridge, parts.judge, seed=0, rows=5))
    drawn(figure)
    assert "Of 5 forecasts" in figure.get_suptitle() and "Cells: estimates" in figure.get_suptitle()


def test_a_topics_name_is_shown_as_far_as_the_font_goes() -> None:
    assert explain._plain(["배터리 재활용 · battery recycling"], 0) == "battery recycling"
    assert explain._plain(["반도체"], 0) == "topic 1"
    assert "$" not in explain._plain(["price of $ and $\\frac"], 0)
