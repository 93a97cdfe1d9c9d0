"""A forecaster as it is served: NumPy, and LightGBM if it is of trees. This file travels inside the packaged model.

It imports neither torch nor Nightshift and loads no pickle. Training predicts with the same functions, so there is
one way from inputs to forecast, and torch's network is tested against it.

    change after 1..H weeks = y_std · (linear(inputs) + mean over members of head(encoder(window), context))

The linear part is a ridge regression; ridge is that alone, LightGBM its trees alone.
"""

from __future__ import annotations

import json
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel
from safetensors.numpy import load_file

EXTREME = 8.0  # standard deviations: a value beyond says "very much" and no more, a target or a forecast too
LEVEL_EXTREME = 3.0  # of a window's mean, where the velocity's own formula clips
LARGEST = 1e30  # of a context's numbers: within float32
HEADS = 4
DECIMALS = 4  # of what trees see: see `table`
CHUNK = 4_096  # rows pushed through a network at once, so that the layers stay in the CPU's cache

Arrays = dict[str, np.ndarray]


def in_spreads(raw: np.ndarray, usual: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Indicators [n, weeks, C] in spreads from what is usual for their series ([n, C] each); NaN stays NaN.

    Where a series never moved (spread 0), any difference is an extreme one.
    """
    difference = raw - usual[:, None, :]
    width = np.broadcast_to(spread[:, None, :], difference.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.where(width > 0, difference / width, LEVEL_EXTREME * np.sign(difference))
    return np.clip(moved, -EXTREME, EXTREME)


def prepare(a: Arrays, x: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows as every model takes them: steps [n, weeks, C], level [n, C], context [n, F + 1], float32.

    What is unknown is 0, which means typical. The level is the mean of a channel's known weeks, if there are two. The
    last column of the context is 1 where nothing of it is known (a window of nobody knows which series).
    """
    there = np.isfinite(x)
    filled = np.where(there, x, 0.0)
    count = there.sum(axis=1)
    level = np.where(count >= 2, filled.sum(axis=1) / np.maximum(count, 1), 0.0)
    steps = np.clip(filled / a["x_std"], -EXTREME, EXTREME)
    given = np.isfinite(context)
    around = np.where(given, (np.where(given, context, 0.0) - a["context_mean"]) / a["context_std"], 0.0)
    bare = ~given.any(axis=1, keepdims=True) if context.shape[1] else np.zeros((len(x), 1), dtype=bool)
    around = np.concatenate([np.clip(around, -EXTREME, EXTREME), bare], axis=1)
    return (
        steps.astype(np.float32),
        np.clip(level, -LEVEL_EXTREME, LEVEL_EXTREME).astype(np.float32),
        around.astype(np.float32),
    )


def design(steps: np.ndarray, level: np.ndarray, context: np.ndarray) -> np.ndarray:
    """The linear part's inputs [n, D]: all of `prepare`, and the window once more where nothing else is known.

    So one set of coefficients holds two regressions: with the context, and without.
    """
    inputs = flat(steps, level, context)
    window = inputs[:, : inputs.shape[1] - context.shape[1]]
    return np.concatenate([inputs, context[:, -1:] * window], axis=1)


def flat(steps: np.ndarray, level: np.ndarray, context: np.ndarray) -> np.ndarray:
    """All of `prepare` side by side, float32 [n, weeks · C + C + F + 1]."""
    return np.concatenate(
        [steps.reshape(len(steps), steps.shape[1] * steps.shape[2]), level, context], axis=1
    )


def table(steps: np.ndarray, level: np.ndarray, context: np.ndarray) -> np.ndarray:
    """What trees see: `flat`, rounded.

    Counts make for equal numbers by different sums, apart in their last digits. A tree would split between them, and
    then a forecast hangs on digits that mean nothing.
    """
    return np.round(flat(steps, level, context), DECIMALS)


def forecast(kind: str, a: Arrays, trees: list[Any], x: np.ndarray, context: np.ndarray) -> np.ndarray:
    """Changes after 1..H weeks, float64 [n, H], as `Windows.y` in units of its scale.

    x [n, weeks, C] and context [n, F] as in `Windows`. With fewer trees than H, those of the last weeks alone.
    """
    steps, level, around = prepare(a, x, context)
    if kind == "lightgbm":
        seen = table(steps, level, around)
        columns = [tree.predict(seen, num_threads=1) if len(x) else np.empty(0) for tree in trees]
        standard = np.stack(columns, axis=1)
    else:
        standard = design(steps, level, around) @ a["linear"] + a["bias"]
    if kind in ENCODERS:
        for start in range(0, len(x), CHUNK):
            part = slice(start, start + CHUNK)
            encoded = ENCODERS[kind](a, steps[part])
            standard[part] += _head(a, encoded, around[part]).mean(axis=0)
    return np.clip(standard, -EXTREME, EXTREME) * a["y_std"][-standard.shape[1] :]


def load_trees(models: list[str]) -> list[Any]:
    """LightGBM boosters of their texts; nothing is imported where there are none."""
    if not models:
        return []
    import lightgbm

    return [lightgbm.Booster(model_str=model) for model in models]


# --- the networks; a leading axis m runs over the members of the ensemble ----------------------------------


def _affine(a: Arrays, name: str, values: np.ndarray) -> np.ndarray:
    """[m, n, in] or [n, in] → [m, n, out]"""
    return np.matmul(values, a[f"{name}.weight"]) + a[f"{name}.bias"]


def _norm(a: Arrays, name: str, values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=-1, keepdims=True)
    centred /= np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-5)
    return centred * a[f"{name}.gain"] + a[f"{name}.bias"]


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(0.5 * values) + 0.5  # this form cannot overflow


def _gru(a: Arrays, steps: np.ndarray) -> np.ndarray:
    """steps [n, weeks, C] → the state after the last week [m, n, h] (Cho et al. 2014, as torch.nn.GRU has it)."""
    state: np.ndarray = np.zeros((), dtype=np.float32)
    for week in range(steps.shape[1]):
        given = _affine(a, "encoder.step", steps[:, week])
        size = given.shape[-1] // 3
        if week == 0:
            state = np.zeros((*given.shape[:2], size), dtype=np.float32)
        kept = _affine(a, "encoder.state", state)
        gates = _sigmoid(given[..., : 2 * size] + kept[..., : 2 * size])
        reset, update = gates[..., :size], gates[..., size:]
        new = np.tanh(given[..., 2 * size :] + reset * kept[..., 2 * size :])
        state = new + update * (state - new)
    return state


def _transformer(a: Arrays, steps: np.ndarray) -> np.ndarray:
    """steps [n, weeks, C] → the last week's token [m, n, h] after one pre-norm layer (Vaswani et al. 2017)."""
    n, weeks, _ = steps.shape
    tokens = _affine(a, "encoder.step", steps.reshape(n * weeks, -1))
    members, _, size = tokens.shape
    tokens = tokens.reshape(members, n, weeks, size) + a["encoder.position"]
    flat = _norm(a, "encoder.norm_1", tokens.reshape(members, n * weeks, size))
    mixed = _affine(a, "encoder.mix", flat).reshape(members, n, weeks, 3, HEADS, size // HEADS)
    query = mixed[:, :, -1:, 0].transpose(0, 1, 3, 2, 4)  # only the last week's token is read
    key, value = (mixed[:, :, :, part].transpose(0, 1, 3, 2, 4) for part in (1, 2))
    weight = np.matmul(query, key.swapaxes(-1, -2)) / np.sqrt(np.float32(size // HEADS))
    weight = np.exp(weight - weight.max(axis=-1, keepdims=True))
    weight /= weight.sum(axis=-1, keepdims=True)
    read = np.matmul(weight, value).reshape(members, n, size)
    last = tokens[:, :, -1] + _affine(a, "encoder.out", read)
    hidden = np.maximum(_affine(a, "encoder.wide", _norm(a, "encoder.norm_2", last)), 0)
    return last + _affine(a, "encoder.narrow", hidden)


def _head(a: Arrays, encoded: np.ndarray, context: np.ndarray) -> np.ndarray:
    """[m, n, h] and [n, F + 1] → [m, n, H]"""
    normed = _norm(a, "norm", encoded)
    around = np.broadcast_to(context, (len(normed), *context.shape))
    hidden = np.maximum(_affine(a, "hidden", np.concatenate([normed, around], axis=-1)), 0)
    return _affine(a, "out", hidden)


ENCODERS = {"gru": _gru, "transformer": _transformer}


class Forecaster(PythonModel):
    """The forecaster seat's protocol over the arrays, and MLflow's `predict` on top of it."""

    features: list[str]
    typical: dict[str, float]
    topics: list[str]

    def load_context(self, context: Any) -> None:
        paths = context.artifacts
        with open(paths["config"], encoding="utf-8") as handle:
            config = json.load(handle)
        models = []
        if "trees" in paths:
            with open(paths["trees"], encoding="utf-8") as handle:
                models.append(handle.read())
        self.set_up(config, load_file(paths["weights"]), models)

    def set_up(self, config: dict[str, Any], arrays: Arrays, models: list[str]) -> None:
        """models: LightGBM's of the last week, as text, or none."""
        self.features = list(config["features"])
        self.typical = dict(config["typical"])
        self.topics = list(config["topics"])
        self._kind: str = config["kind"]
        self._inputs: dict[str, list[str]] = config["inputs"]
        self._bounds: dict[str, tuple[float, float]] = config["bounds"]
        self._bare_bounds: dict[str, tuple[float, float]] = config["bare_bounds"]
        self._size: dict[str, float] = config["error_size"]
        self._a, self._trees = arrays, load_trees(models)

    # --- the seat's protocol ---------------------------------------------------------------------------

    def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The change after the last of the weeks; with a column `topic`, intervals as wide as that topic needs.

        A row without a pace of its own has intervals of their own: of windows in spreads of a typical topic.
        """
        x, context, own = self._windows(rows)
        changes = forecast(self._kind, self._a, self._trees, x, context)[:, -1]
        answer = {"change": changes}
        size = np.ones(len(rows))
        if "topic" in rows:
            sizes = np.array([self._size.get(topic, 1.0) for topic in rows["topic"]], dtype=np.float64)
            size = np.where(own, sizes, size)
        for level, bounds in self._bounds.items():
            for end, bound, bare in zip(("low", "high"), bounds, self._bare_bounds[level], strict=True):
                answer[f"{end}_{level}"] = changes + size * np.where(own, bound, bare)
        return pd.DataFrame(answer)

    def _windows(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x and context as in training, float32: unknown and infinite is NaN, or typical; and whether a row has a
        usual value or spread of its own: one that is known, and not the typical one that stands in for it."""

        def numbers(kind: str) -> np.ndarray:
            given = rows.reindex(columns=self._inputs[kind]).apply(pd.to_numeric, errors="coerce")
            values = given.to_numpy(np.float64)
            return np.where(np.isfinite(values), values, np.nan)

        pace, own = [], np.zeros(len(rows), dtype=bool)
        for kind in ("usual", "spread"):
            given, typical = numbers(kind), np.array([self.typical[name] for name in self._inputs[kind]])
            filled = np.where(np.isnan(given), typical, given)
            own |= (filled != typical).any(axis=1)
            pace.append(filled)
        weeks = len(self._inputs["window"]) // len(self._inputs["usual"])
        window = numbers("window").reshape(len(rows), weeks, pace[0].shape[1])
        x, context = in_spreads(window, *pace), np.clip(numbers("context"), -LARGEST, LARGEST)
        return x.astype(np.float32), context.astype(np.float32), own

    # --- MLflow's pyfunc -------------------------------------------------------------------------------

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Rows of the features (and `topic`), any of them missing → change, low_80, high_80, low_95, high_95."""
        return self.forecast(model_input)


mlflow.models.set_model(Forecaster())
