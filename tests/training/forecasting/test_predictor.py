"""What is served is what torch trained, and it takes any row that the seat allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.training.forecasting.conftest import SMALL, topic_rows
from training.forecasting import predictor
from training.forecasting.conformal import Intervals
from training.forecasting.data import FEATURES, WINDOW_COLUMNS, Windows, typical, windows_from_rows
from training.forecasting.fit import KINDS, fit
from training.forecasting.network import Network
from training.forecasting.package import in_memory
from training.forecasting.recipe import Parts

BOUNDS = {80: (-5.0, 6.0), 95: (-9.0, 11.0)}
BARE_BOUNDS = {80: (-7.0, 8.0), 95: (-13.0, 17.0)}


@pytest.fixture(scope="module")
def served(rows: pd.DataFrame, parts: Parts) -> predictor.Forecaster:
    ridge = fit("ridge", parts.fitted, parts.valid, SMALL)
    own, bare = Intervals({0: 2.0, 1: 1.0}, BOUNDS), Intervals({}, BARE_BOUNDS)
    return in_memory(ridge, own, bare, ["주제 0", "주제 1"], typical(rows))


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_numpy_forecasts_equal_those_of_torch(kind: str, parts: Parts) -> None:
    hyper = replace(SMALL, members=3, size=16)
    fitted = fit(kind, parts.fitted, parts.valid, hyper, seed=2)
    a = fitted.arrays
    steps, level, context = predictor.prepare(a, parts.judge.x, parts.judge.context)
    network = Network(kind, hyper, channels=5, weeks=4, context=context.shape[1], horizon=4)
    weights = {name: torch.from_numpy(a[name]) for name in network.state_dict()}
    torch.manual_seed(0)
    weights["out.weight"] = torch.randn_like(weights["out.weight"])  # else it may add nothing yet
    network.load_state_dict(weights)
    with torch.no_grad():
        members = [torch.from_numpy(values).expand(3, *values.shape) for values in (steps, context)]
        added = network(*members).mean(0).numpy()
    linear = predictor.design(steps, level, context) @ a["linear"] + a["bias"]
    expected = np.clip(linear + added, -predictor.EXTREME, predictor.EXTREME) * a["y_std"]

    arrays = {**a, "out.weight": weights["out.weight"].numpy()}
    found = predictor.forecast(kind, arrays, [], parts.judge.x, parts.judge.context)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert added.std() > 0.1


def test_torchs_own_gru_cell_agrees_with_ours() -> None:
    """PyTorch's gates, in its order: the names in the formula are those of its documentation."""
    hyper = replace(SMALL, members=1, size=6)
    torch.manual_seed(0)
    encoder = Network("gru", hyper, channels=3, weeks=4, context=2, horizon=1).encoder
    theirs = torch.nn.GRU(3, 6, batch_first=True)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(encoder.step.weight[0].T)
        theirs.weight_hh_l0.copy_(encoder.state.weight[0].T)
        theirs.bias_ih_l0.copy_(encoder.step.bias[0, 0])
        theirs.bias_hh_l0.copy_(encoder.state.bias[0, 0])
        steps = torch.randn(7, 4, 3)
        np.testing.assert_allclose(encoder(steps[None])[0].numpy(), theirs(steps)[1][0].numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_served_model_forecasts_as_the_fitted_one(kind: str) -> None:
    """To the last digit, where trees have the most to split between: with counts, equal but for rounding."""
    rows = topic_rows(counts=True)
    filled = typical(rows)
    made, keys = windows_from_rows(rows, filled)
    fitted = fit(kind, made, None, SMALL, chosen={"alpha": 0.01, "epochs": 1, "trees": [1, 1, 1, 60]})
    model = in_memory(fitted, Intervals({}, BOUNDS), Intervals({}, BARE_BOUNDS), [], filled)
    asked = rows.sort_values(["topic", "week"], ignore_index=True)

    pd.testing.assert_frame_equal(asked[["topic", "week"]], keys[["topic", "week"]])
    np.testing.assert_array_equal(model.forecast(asked)["change"], fitted.predict(made)[:, -1])


def test_trees_do_not_split_between_numbers_that_differ_by_rounding() -> None:
    """Even where the last digit tells the answer."""
    random = np.random.default_rng(0)
    x = (0.37 * random.integers(1, 6, size=(4_000, 4, 1))).astype(np.float32)
    y = random.normal(size=(4_000, 1)).astype(np.float32)
    noisy = np.where(y[:, :, None] > 0, np.nextafter(x, np.float32(9)), x)
    zeros = np.zeros(4_000, np.int64)
    context = np.empty((4_000, 0), np.float32)
    windows = Windows(noisy, context, y, zeros, zeros, np.ones(4_000, np.float32))
    trees = fit("lightgbm", windows, None, SMALL, chosen={"trees": [20]})

    np.testing.assert_array_equal(trees.predict(windows), trees.predict(replace(windows, x=x)))


def test_the_intervals_are_as_wide_as_the_topic_needs(
    served: predictor.Forecaster, rows: pd.DataFrame
) -> None:
    given = rows[rows["week"] == "2025-W20"].head(3)
    known, nobody = served.forecast(given), served.forecast(given.drop(columns="topic"))

    np.testing.assert_allclose(known["change"], nobody["change"])
    np.testing.assert_allclose(known["high_80"] - known["change"], [12.0, 6.0, 6.0])
    np.testing.assert_allclose(nobody["low_95"] - nobody["change"], [-9.0, -9.0, -9.0])


def test_a_window_of_nobodys_topic_has_intervals_of_its_own(
    served: predictor.Forecaster, rows: pd.DataFrame
) -> None:
    """However it is told: without a pace, with the typical one, or under a name."""
    row = rows[rows["week"] == "2025-W20"].head(1)
    alone = row[WINDOW_COLUMNS]
    for asked in (alone, alone.assign(**served.typical), alone.assign(topic="주제 0")):
        found = served.forecast(asked)
        np.testing.assert_allclose(found["low_80"] - found["change"], [-7.0])
        np.testing.assert_allclose(found["high_95"] - found["change"], [17.0])
    both = served.forecast(pd.concat([row, alone]))
    np.testing.assert_allclose(both["high_80"] - both["change"], [12.0, 8.0])


def test_any_row_is_answered(served: predictor.Forecaster, rows: pd.DataFrame) -> None:
    names = [feature.partition(":")[2] for feature in FEATURES]
    row = rows[rows["week"] == "2025-W20"].iloc[[0]][names]
    nothing = row.assign(**dict.fromkeys(names, np.nan))
    huge = row.assign(**dict.fromkeys(names, 1e308))
    for asked in (
        row, nothing, huge, -huge, row.assign(**dict.fromkeys(names, np.inf)), row.astype(object),
        row.assign(**dict.fromkeys(names, None)), row[WINDOW_COLUMNS], pd.DataFrame(index=[7]), row.iloc[:0],
    ):  # fmt: skip
        found = served.forecast(asked)
        assert list(found) == ["change", "low_80", "high_80", "low_95", "high_95"]
        assert len(found) == len(asked) and np.isfinite(found.to_numpy(np.float64)).all()
    np.testing.assert_allclose(
        served.forecast(row.assign(**dict.fromkeys(names, np.inf))), served.forecast(nothing)
    )
