"""Puts a fitted forecaster with its intervals on disk, as `predictor.py` serves it."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from training.forecasting import predictor
from training.forecasting.conformal import Intervals
from training.forecasting.data import (
    CONTEXT_COLUMNS,
    FEATURES,
    SPREAD_COLUMNS,
    USUAL_COLUMNS,
    WINDOW_COLUMNS,
)
from training.forecasting.fit import Fitted
from training.recipe import Package

REQUIRES = ("mlflow", "numpy", "pandas", "safetensors")


def config(
    fitted: Fitted, intervals: Intervals, bare: Intervals, topics: list[str], typical: dict[str, float]
) -> dict[str, Any]:
    """All that is not an array. bare: intervals of a window without a topic; topics: by number of their series."""
    return {
        "kind": fitted.kind,
        "features": FEATURES,
        "inputs": {
            "window": WINDOW_COLUMNS,
            "usual": USUAL_COLUMNS,
            "spread": SPREAD_COLUMNS,
            "context": CONTEXT_COLUMNS,
        },
        "typical": typical,
        "topics": topics,
        "bounds": {str(level): list(bounds) for level, bounds in intervals.bounds.items()},
        "bare_bounds": {str(level): list(bounds) for level, bounds in bare.bounds.items()},
        "error_size": {topics[series]: size for series, size in intervals.scale.items()},
    }


def in_memory(
    fitted: Fitted, intervals: Intervals, bare: Intervals, topics: list[str], typical: dict[str, float]
) -> predictor.Forecaster:
    """What would be served, without the detour over the disk."""
    served = predictor.Forecaster()
    served.set_up(config(fitted, intervals, bare, topics, typical), fitted.arrays, fitted.trees[-1:])
    return served


def write(
    fitted: Fitted,
    intervals: Intervals,
    bare: Intervals,
    topics: list[str],
    typical: dict[str, float],
    row: pd.Series,
    folder: Path,
) -> Package:
    """The package under `folder`; `row` is one of the feature rows, for the example."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"weights": folder / "weights.safetensors", "config": folder / "config.json"}
    save_file({name: np.ascontiguousarray(array) for name, array in fitted.arrays.items()}, paths["weights"])
    told = json.dumps(config(fitted, intervals, bare, topics, typical), indent=1, ensure_ascii=False)
    paths["config"].write_text(told, encoding="utf-8")
    if fitted.trees:
        paths["trees"] = folder / "trees.txt"
        paths["trees"].write_text(fitted.trees[-1], encoding="utf-8")
    example = _example(row)
    requires = [*REQUIRES, *(["lightgbm"] if fitted.trees else [])]
    return Package(
        predictor=Path(predictor.__file__),
        artifacts=paths,
        input_example=example,
        output_example=in_memory(fitted, intervals, bare, topics, typical).forecast(example),
        requirements=[f"{name}=={version(name)}" for name in requires],
    )


def _example(row: pd.Series) -> pd.DataFrame:
    """A topic, and one of which nothing is known: so that the signature makes every column optional."""
    names = [feature.partition(":")[2] for feature in FEATURES]
    known = {"topic": row["topic"], **{name: row[name] for name in names}}
    example = pd.DataFrame([known, dict.fromkeys(known)])
    return example.astype(dict.fromkeys(names, np.float64))
