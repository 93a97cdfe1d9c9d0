"""Fits any kind of forecaster to windows: ridge, LightGBM, GRU, Transformer. One function, one result.

A slice of later examples (`valid`) chooses how strongly to regularise: the ridge's alpha, the number of trees, the
number of epochs. With `valid=None` that choice is taken over from `chosen`: how a model is fitted again on
everything once the choice is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.forecasting import predictor
from training.forecasting.data import Windows
from training.forecasting.hyper import Hyper

KINDS = ("gru", "transformer", "ridge", "lightgbm")

AfterEpoch = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Fitted:
    """arrays: what `predictor.forecast` takes. trees: LightGBM models as text, one a horizon, or none.

    chosen: what the slice chose: alpha, trees (a number for each horizon) or epochs.
    curve: losses by alpha, number of trees or epoch (from 0: a network starts as the ridge), for people.
    """

    kind: str
    arrays: predictor.Arrays
    trees: list[str]
    chosen: dict[str, Any]
    curve: list[dict[str, float]]

    def predict(self, windows: Windows) -> np.ndarray:
        """Changes after 1..H weeks, float64 [n, H], in target units: exactly what is served."""
        boosters = predictor.load_trees(self.trees)
        result = predictor.forecast(self.kind, self.arrays, boosters, windows.x, windows.context)
        return result * windows.scale[:, None].astype(np.float64)


def fit(
    kind: str,
    train: Windows,
    valid: Windows | None,
    hyper: Hyper = Hyper(),  # noqa: B008 - frozen
    *,
    seed: int = 0,
    after_epoch: AfterEpoch = lambda epoch, metrics: None,
    chosen: dict[str, Any] | None = None,
) -> Fitted:
    """Fit one kind to the examples whose change after H weeks is known; nearer ones may be unknown.

    `after_epoch(epoch, metrics)` hears of each epoch, alpha or round of trees.

    Raises:
        ValueError: neither a slice to choose by nor a choice, or one of them has no example.
    """
    if (valid is None) == (chosen is None):
        raise ValueError("give either `valid` to choose by, or `chosen`")
    parts = [part.complete for part in (train, valid) if part is not None]
    if not all(len(part) for part in parts):
        raise ValueError("no example whose change is known")
    arrays = _scales(parts[0])
    given = _problem(parts[0], arrays)
    held_out = None if valid is None else _problem(parts[1], arrays)
    if kind == "lightgbm":
        return _fit_trees(given, held_out, arrays, hyper, seed, after_epoch, chosen)
    ridge = _fit_ridge(given, held_out, arrays, hyper, after_epoch if kind == "ridge" else None, chosen)
    if kind == "ridge":
        return ridge
    from training.forecasting.loop import fit_network

    epochs = None if chosen is None else chosen["epochs"]
    arrays, epochs, curve = fit_network(kind, given, held_out, ridge.arrays, hyper, seed, after_epoch, epochs)
    return Fitted(kind, arrays, [], {**ridge.chosen, "epochs": epochs}, curve)


@dataclass(frozen=True)
class Problem:
    """Prepared examples: `steps`, `level`, `context` as `predictor.prepare` gives them, `y` standardised."""

    steps: np.ndarray
    level: np.ndarray
    context: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def bare(self) -> Problem:
        """The same examples without context."""
        context = np.zeros_like(self.context)
        context[:, -1] = 1
        return Problem(self.steps, self.level, context, self.y)

    def table(self) -> np.ndarray:
        return predictor.table(self.steps, self.level, self.context)

    def where(self, rows: np.ndarray) -> Problem:
        return Problem(self.steps[rows], self.level[rows], self.context[rows], self.y[rows])

    def error(self, forecast: np.ndarray) -> float:
        """Mean squared error after H weeks, of standardised changes."""
        return float(np.mean(np.square(forecast[:, -1] - self.y[:, -1])))


def _scales(windows: Windows) -> predictor.Arrays:
    """By how much inputs and targets are divided; a column that never moves is divided by 1."""

    def mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
        there = np.isfinite(values)
        total = np.where(there, values, 0.0).sum(axis=axis, dtype=np.float64)
        return np.asarray(total / np.maximum(there.sum(axis=axis), 1))

    def size(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
        found = np.sqrt(mean(np.square(values.astype(np.float64)), axis))
        return np.where(found > 1e-6, found, 1.0)

    centre = mean(windows.context, 0)
    return {
        "x_std": size(windows.x, (0, 1)),
        "context_mean": centre,
        "context_std": size(windows.context - centre, 0),
        "y_std": size(windows.y / windows.scale[:, None], 0),
    }


def _problem(windows: Windows, arrays: predictor.Arrays) -> Problem:
    y = windows.y.astype(np.float64) / windows.scale[:, None] / arrays["y_std"]
    inputs = predictor.prepare(arrays, windows.x, windows.context)
    return Problem(*inputs, np.clip(y, -predictor.EXTREME, predictor.EXTREME))


def _fit_ridge(
    given: Problem,
    held_out: Problem | None,
    arrays: predictor.Arrays,
    hyper: Hyper,
    after_epoch: AfterEpoch | None,
    chosen: dict[str, Any] | None,
) -> Fitted:
    """Least squares with a penalty, in closed form, on the examples with and without their context."""
    alphas = hyper.alphas if chosen is None else (chosen["alpha"],)
    normal = _normal_equations(given, hyper.bare if given.context.shape[1] > 1 else 0.0)
    curve, best, kept = [], np.inf, arrays
    for number, alpha in enumerate(alphas, start=1):
        tried = {**arrays, **_solve(normal, alpha)}
        metrics = {"alpha": alpha}
        if held_out is not None:
            linear = predictor.design(held_out.steps, held_out.level, held_out.context)
            metrics["val_loss"] = held_out.error(linear @ tried["linear"] + tried["bias"])
        if held_out is None or metrics["val_loss"] < best:
            best, kept, choice = metrics.get("val_loss", np.inf), tried, alpha
        curve.append(metrics)
        if after_epoch is not None:
            after_epoch(number, metrics)
    return Fitted("ridge", kept, [], {"alpha": choice}, curve)


Normal = list[tuple[np.ndarray, np.ndarray, float]]  # a horizon each: X'X, X'y, examples


def _normal_equations(given: Problem, bare: float) -> Normal:
    """X'X and X'y with the constant as the last column; `bare` is the weight of the examples without context."""
    result = []
    parts = [(given, 1.0 - bare), (given.bare(), bare)] if bare else [(given, 1.0)]
    tables = [
        (np.hstack([predictor.design(p.steps, p.level, p.context), np.ones((len(p), 1), np.float32)]), weight)
        for p, weight in parts
    ]
    for horizon in range(given.y.shape[1]):
        known = np.isfinite(given.y[:, horizon])
        y = given.y[known, horizon]
        width = tables[0][0].shape[1]
        left, right = np.zeros((width, width)), np.zeros(width)
        for table, weight in tables:
            rows = table[known].astype(np.float64)
            left += weight * (rows.T @ rows)
            right += weight * (rows.T @ y)
        result.append((left, right, float(known.sum())))
    return result


def _solve(normal: Normal, alpha: float) -> predictor.Arrays:
    """Coefficients linear [D, H] and bias [H]; the constant is not penalised."""
    columns = []
    for left, right, examples in normal:
        penalty = np.full(len(left), alpha * max(examples, 1.0))
        penalty[-1] = 1e-9
        columns.append(np.linalg.solve(left + np.diag(penalty), right))
    solution = np.stack(columns, axis=1)
    return {"linear": solution[:-1], "bias": solution[-1]}


def _fit_trees(
    given: Problem,
    held_out: Problem | None,
    arrays: predictor.Arrays,
    hyper: Hyper,
    seed: int,
    after_epoch: AfterEpoch,
    chosen: dict[str, Any] | None,
) -> Fitted:
    """A small gradient-boosted forest a horizon (Ke et al. 2017)."""
    import lightgbm

    random = np.random.default_rng(seed)
    if len(given) > hyper.tree_rows:
        given = given.where(random.choice(len(given), hyper.tree_rows, replace=False))
    stripped = given.bare().where(random.random(len(given)) < hyper.bare)
    table = np.vstack([given.table(), stripped.table()])
    y = np.vstack([given.y, stripped.y])
    settings = {
        "objective": "l2", "num_leaves": hyper.leaves, "learning_rate": hyper.tree_rate, "min_data_in_leaf": 100,
        "feature_fraction": 0.7, "bagging_fraction": 0.7, "bagging_freq": 1, "lambda_l2": 10.0, "max_bin": 63,
        "seed": seed, "deterministic": True, "force_col_wise": True, "num_threads": 1, "verbosity": -1,
    }  # fmt: skip
    trees, rounds, curve = [], [], []
    for horizon in range(y.shape[1]):
        known = np.isfinite(y[:, horizon])
        data = lightgbm.Dataset(table[known], y[known, horizon], free_raw_data=False)
        watching: dict[str, Any] = {}
        if held_out is not None:
            seen = np.isfinite(held_out.y[:, horizon])
            later = lightgbm.Dataset(held_out.table()[seen], held_out.y[seen, horizon], reference=data)
            stop = lightgbm.early_stopping(hyper.tree_patience, verbose=False)
            history: dict[str, Any] = {}
            watching = {
                "valid_sets": [later, data],
                "valid_names": ["later", "data"],
                "callbacks": [stop, lightgbm.record_evaluation(history)],
            }
        wanted = hyper.max_trees if chosen is None else chosen["trees"][horizon]
        booster = lightgbm.train(settings, data, num_boost_round=max(wanted, 1), **watching)
        best = booster.best_iteration if held_out is not None else wanted
        trees.append(booster.model_to_string(num_iteration=best))
        rounds.append(best)
        if held_out is not None and horizon == y.shape[1] - 1:
            losses = zip(history["data"]["l2"], history["later"]["l2"], strict=True)
            curve = [{"loss": loss, "val_loss": later_loss} for loss, later_loss in losses]
    for number, metrics in enumerate(curve, start=1):
        after_epoch(number, metrics)
    return Fitted("lightgbm", arrays, trees, {"trees": rounds}, curve)
