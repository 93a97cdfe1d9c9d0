"""The pictures show what they claim; their Shapley values are exact where they can be checked."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from matplotlib.figure import Figure

from training.forecasting import explain
from training.forecasting.conformal import Intervals
from training.forecasting.data import Windows
from training.forecasting.fit import Fitted, fit
from training.forecasting.recipe import Parts

TOPICS = [f"주제 {n}" for n in range(12)]


def drawn(figure: Figure) -> None:
    figure.canvas.draw()  # whatever cannot be drawn raises, or warns of a missing glyph


def test_shapley_values_add_up_to_the_forecast_minus_that_of_nothing_known(
    fitted: Fitted, parts: Parts
) -> None:
    values, picked = explain.attributions(fitted, parts.judge, seed=0, rows=12)
    explained = parts.judge.where(picked)
    nothing = Windows(
        np.full_like(explained.x, np.nan), np.full_like(explained.context, np.nan),
        explained.y, explained.series, explained.time, explained.scale,
    )  # fmt: skip
    expected = fitted.predict(explained)[:, -1] - fitted.predict(nothing)[:, -1]

    assert values.shape == (12, 21)
    np.testing.assert_allclose(values.sum(axis=1), expected, atol=1e-4)


def test_shapley_values_of_a_small_ridge_are_those_of_all_orders() -> None:
    """Two weeks of one channel and a context: 3! orders can be walked by hand."""
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 2, 1)).astype(np.float32)
    context = random.normal(size=(300, 1)).astype(np.float32)
    y = (x[:, 0] - 2 * x[:, 1] + context).astype(np.float32)
    series = np.zeros(300, np.int64)
    windows = Windows(x, context, y, series, np.arange(300), np.ones(300, np.float32))
    ridge = fit("ridge", windows, None, chosen={"alpha": 1e-6})

    def told(row: int, players: set[int]) -> float:
        cells = np.array([[[x[row, n, 0] if n in players else np.nan] for n in range(2)]], np.float32)
        around = np.array([[context[row, 0] if 2 in players else np.nan]], np.float32)
        one = windows.where(np.array([row]))
        return float(ridge.predict(Windows(cells, around, one.y, one.series, one.time, one.scale))[0, -1])

    values, picked = explain.attributions(ridge, windows, seed=0, rows=20)
    for row, found in zip(picked[:5], values, strict=False):
        exact = np.zeros(3)
        for order in permutations(range(3)):
            for place, player in enumerate(order):
                before = set(order[:place])
                exact[player] += (told(row, before | {player}) - told(row, before)) / 6
        np.testing.assert_allclose(found, exact, atol=0.35)  # eight orders of six, drawn at random
        assert np.argmax(np.abs(found)) == np.argmax(np.abs(exact))


def test_every_picture_can_be_drawn(fitted: Fitted, parts: Parts) -> None:
    forecast = fitted.predict(parts.judge)
    intervals = Intervals({}, {80: (-5.0, 5.0), 95: (-9.0, 9.0)})
    values, picked = explain.attributions(fitted, parts.judge, seed=0, rows=5)
    velocity = np.full(len(parts.judge), 50.0)
    drawn(explain.learning_curve(fitted))
    drawn(explain.forecasts(parts.judge, forecast[:, -1], intervals, velocity, TOPICS))
    drawn(explain.error_by_horizon(parts.judge, forecast))
    drawn(explain.error_by_topic(parts.judge, forecast[:, -1], TOPICS))
    drawn(explain.shap_figure(values, parts.judge.x[picked]))


def test_one_topic_alone_can_be_drawn(parts: Parts) -> None:
    one = parts.judge.where(parts.judge.series == 3)
    still = np.zeros(len(one))
    intervals = Intervals({}, {80: (-5.0, 5.0)})
    figure = explain.forecasts(one, still, intervals, still + 50, TOPICS)
    drawn(figure)
    assert sum(axis.get_visible() for axis in figure.axes) == 1


def test_a_topics_name_is_shown_as_far_as_the_font_goes() -> None:
    assert explain._plain(["배터리 재활용 · battery recycling"], 0) == "battery recycling"
    assert explain._plain(["반도체"], 0) == "topic 1"
    assert "$" not in explain._plain(["price of $ and $\\frac"], 0)
