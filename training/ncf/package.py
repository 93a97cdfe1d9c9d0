"""Folds a fitted NeuMF into the arrays that `predictor.py` serves with, and writes them to disk."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save_file

from nightshift.contracts.features import USER_VIEW
from training.ncf import predictor
from training.ncf.data import USER_COLUMNS, Window
from training.ncf.fit import Inputs
from training.ncf.model import NeuMF
from training.recipe import Package

REQUIRES = ("mlflow", "numpy", "pandas", "pyarrow", "safetensors")
SEEN = ("seen_start", "seen_items")


def fold(model: NeuMF, inputs: Inputs, window: Window) -> dict[str, np.ndarray]:
    """Every array the predictor needs; the items' features are those of the morning after the window.

    Who has no positive has learnt nothing: such a user is a stranger, such an item a new one of its category.
    """
    users = np.arange(len(window.users) + 1)
    users[~np.isin(users, window.user)] = predictor.UNKNOWN
    items = np.arange(1, len(window.items) + 1)
    rows = np.where(np.isin(items, window.item), items + inputs.categories, window.category)
    factors, first = model.sizes.factors, model.sizes.first
    weights = {name: value.cpu() for name, value in model.state_dict().items()}
    with torch.no_grad():
        table = model.item_rows()[torch.from_numpy(rows).to(inputs.user.device)]
        item_first = table[:, factors : factors + first] + model.item_x_in(inputs.item_x[-1, 1:])
        own, features = weights["user_in.weight"].split([first, model.sizes.user_inputs], dim=1)
        arrays = {
            "user_gmf": (weights["user_gmf.weight"] * weights["out_gmf"])[users],
            "item_gmf": table[:, :factors],
            "item_bias": table[:, -1],
            "user_first": (weights["user_mlp.weight"] @ own.T + weights["user_in.bias"])[users],
            "user_in": features.T,
            "item_first": item_first,
            "hidden_w": weights["hidden.weight"].T,
            "hidden_b": weights["hidden.bias"],
            "out_w": weights["out_mlp.weight"][0],
        }
    folded = {name: np.ascontiguousarray(value.cpu().numpy()) for name, value in arrays.items()}
    starts = np.searchsorted(window.met[:, 0], np.arange(len(window.users) + 2))
    return {
        **folded,
        "user_learnt": (users != predictor.UNKNOWN).astype(np.uint8),
        "user_mean": inputs.user_scale[0],
        "user_std": inputs.user_scale[1],
        "seen_start": starts.astype(np.int64),
        "seen_items": (window.met[:, 1] - 1).astype(np.int32),
    }


def config() -> dict[str, Any]:
    return {"user_features": [f"{USER_VIEW}:{name}" for name in USER_COLUMNS]}


def write(
    model: NeuMF, inputs: Inputs, window: Window, folder: Path, calibration: np.ndarray | None = None
) -> Package:
    """The package of a fitted model under `folder`. calibration: see `nightshift.seats.RecommenderModel`."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = fold(model, inputs, window)
    if calibration is not None:
        arrays["calibration"] = calibration
    names = ("weights.safetensors", "seen.safetensors", "config.json", "items.parquet", "users.parquet")
    paths = {Path(name).stem: folder / name for name in names}
    save_file({name: array for name, array in arrays.items() if name not in SEEN}, paths["weights"])
    save_file({name: arrays[name] for name in SEEN}, paths["seen"])
    paths["config"].write_text(json.dumps(config(), indent=1), encoding="utf-8")
    window.items.to_parquet(paths["items"], index=False)
    pd.DataFrame({"user_id": window.users}).to_parquet(paths["users"], index=False)
    served = predictor.NeuMF()
    served.set_up(config(), arrays, window.users, window.items)
    example = _example(window)
    return Package(
        predictor=Path(predictor.__file__),
        artifacts=paths,
        input_example=example,
        output_example=served.predict(None, example),
        requirements=[f"{name}=={version(name)}" for name in REQUIRES],
    )


def _example(window: Window) -> pd.DataFrame:
    """A known user with features, and a stranger without: so the signature makes everything but the id optional."""
    known = {"user_id": window.users[window.user[-1] - 1], "k": 3.0}
    features = dict(zip(USER_COLUMNS, np.nan_to_num(window.user_raw[window.user_row[-1]]), strict=True))
    stranger = {"user_id": "nobody-knows-me", "k": None, **dict.fromkeys(USER_COLUMNS)}
    example = pd.DataFrame([{**known, **features}, stranger])
    return example.astype(dict.fromkeys(["k", *USER_COLUMNS], np.float64))


def in_memory(model: NeuMF, inputs: Inputs, window: Window) -> predictor.NeuMF:
    """What would be served, without the detour over the disk: validation scores exactly this."""
    served = predictor.NeuMF()
    served.set_up(config(), fold(model, inputs, window), window.users, window.items)
    return served
