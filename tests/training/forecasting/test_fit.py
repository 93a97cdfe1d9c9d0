"""Every kind learns what is there to learn, gives the same twice, and answers whatever is missing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.training.forecasting.conftest import SMALL
from training.forecasting.data import Windows
from training.forecasting.fit import KINDS, Fitted, fit
from training.forecasting.recipe import Parts


def mse(fitted: Fitted, windows: Windows) -> float:
    return float(np.mean(np.square(fitted.predict(windows)[:, -1] - windows.y[:, -1])))


def bare(windows: Windows) -> Windows:
    return replace(windows, context=np.full_like(windows.context, np.nan))


def test_it_beats_no_change_on_later_weeks(fitted: Fitted, parts: Parts) -> None:
    still = float(np.mean(np.square(parts.judge.y[:, -1])))
    least = 0.05 if fitted.kind == "lightgbm" else 0.2  # fifteen trees are few
    assert mse(fitted, parts.judge) < (1 - least) * still
    assert fitted.predict(parts.judge).shape == (len(parts.judge), 4)


def test_it_still_does_with_a_window_alone(fitted: Fitted, parts: Parts) -> None:
    assert mse(fitted, bare(parts.judge)) < float(np.mean(np.square(parts.judge.y[:, -1])))


def test_the_same_seed_gives_the_same_model(fitted: Fitted, parts: Parts) -> None:
    again = fit(fitted.kind, parts.fitted, parts.valid, SMALL, seed=1)
    np.testing.assert_array_equal(again.predict(parts.judge), fitted.predict(parts.judge))


def test_nothing_known_is_a_finite_forecast(fitted: Fitted, parts: Parts) -> None:
    nothing = replace(bare(parts.judge), x=np.full_like(parts.judge.x, np.nan))
    found = fitted.predict(nothing)

    assert np.isfinite(found).all() and np.ptp(found, axis=0).max() < 1e-5
    assert np.isfinite(fitted.predict(replace(parts.judge, x=parts.judge.x * 1e9))).all()
    assert fitted.predict(parts.judge.where(np.arange(0))).shape == (0, 4)


def test_an_unknown_value_counts_as_a_typical_one(fitted: Fitted, parts: Parts) -> None:
    unknown, typical = parts.judge.x.copy(), parts.judge.x.copy()
    unknown[:, :, 2], typical[:, :, 2] = np.nan, 0.0
    found = [fitted.predict(replace(parts.judge, x=x)) for x in (unknown, typical)]
    np.testing.assert_allclose(*found, atol=1e-6)


def test_fitted_again_on_everything_it_keeps_what_the_slice_chose(
    fitted: Fitted, windows: Windows, parts: Parts
) -> None:
    again = fit(fitted.kind, windows, None, SMALL, seed=1, chosen=fitted.chosen)

    assert again.chosen == fitted.chosen
    assert mse(again, parts.judge) < 1.05 * mse(fitted, parts.judge)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_a_network_starts_as_the_ridge(kind: str, parts: Parts) -> None:
    ridge = fit("ridge", parts.fitted, parts.valid, SMALL)
    network = fit(kind, parts.fitted, parts.valid, replace(SMALL, max_epochs=0))

    np.testing.assert_allclose(network.predict(parts.judge), ridge.predict(parts.judge), atol=1e-5)
    assert network.chosen == {**ridge.chosen, "epochs": 0}


def test_ridge_is_least_squares_where_nothing_is_penalised(parts: Parts) -> None:
    """One channel, one week, no context: the slope and the constant that NumPy finds."""
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 1, 1)).astype(np.float32)
    y = (0.3 + 0.7 * x[:, :, 0] + 0.1 * random.normal(size=(500, 1))).astype(np.float32)
    zeros = np.zeros(500, np.int64)
    windows = Windows(x, np.empty((500, 0), np.float32), y, zeros, zeros, np.ones(500, np.float32))
    found = fit("ridge", windows, None, chosen={"alpha": 1e-9}).predict(windows)

    slope, constant = np.polyfit(x[:, 0, 0], y[:, 0], 1)
    np.testing.assert_allclose(found[:, 0], constant + slope * x[:, 0, 0], atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_each_series_is_forecast_in_its_own_scale(kind: str, parts: Parts) -> None:
    """A hundredfold target in hundredfold units is the same problem."""
    large = [
        replace(part, y=part.y * 100, scale=part.scale * 100)
        for part in (parts.fitted, parts.valid, parts.judge)
    ]
    small = fit(kind, parts.fitted, parts.valid, replace(SMALL, max_epochs=1), seed=1).predict(parts.judge)
    found = fit(kind, large[0], large[1], replace(SMALL, max_epochs=1), seed=1).predict(large[2])
    np.testing.assert_allclose(found, 100 * small, rtol=1e-3, atol=1e-2)


def test_targets_of_the_nearer_weeks_may_be_missing(parts: Parts) -> None:
    y = parts.fitted.y.copy()
    y[::2, :3] = np.nan
    for kind in KINDS:
        found = fit(kind, replace(parts.fitted, y=y), parts.valid, SMALL, seed=1)
        assert np.isfinite(found.predict(parts.judge)).all()


def test_it_says_what_is_wrong_with_what_it_is_given(parts: Parts) -> None:
    with pytest.raises(ValueError, match="either `valid`"):
        fit("ridge", parts.fitted, None)
    with pytest.raises(ValueError, match="no example"):
        fit("ridge", parts.fitted.where(np.arange(0)), parts.valid)


def test_each_epoch_is_told(parts: Parts) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    fit("gru", parts.fitted, parts.valid, SMALL, after_epoch=lambda n, m: told.append((n, m)))

    assert [epoch for epoch, _ in told] == list(range(1, len(told) + 1))
    assert all({"loss", "val_loss"} == set(metrics) for _, metrics in told)


def test_a_member_that_is_led_astray_leaves_the_others_their_steps() -> None:
    import torch

    from training.forecasting.loop import clip

    weight, bias = (torch.nn.Parameter(torch.zeros(2, *shape)) for shape in ((3, 4), (1, 4)))
    for parameter in (weight, bias):
        parameter.grad = torch.full_like(parameter, 0.1)
        parameter.grad[0] *= 1e6
    clip([weight, bias], 1.0)

    length = torch.sqrt(weight.grad.flatten(1).square().sum(1) + bias.grad.flatten(1).square().sum(1))
    np.testing.assert_allclose(length, [1.0, 0.1 * 16**0.5], rtol=1e-5)


def test_ridge_and_trees_need_no_torch() -> None:
    probe = (
        "import sys; from training.families import FAMILIES;"
        "[FAMILIES[name].load() for name in ('ridge', 'lightgbm')]; import training.forecasting.fit;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
