"""Writes a fitted hybrid to disk as `predictor.py` reads it, or holds it in memory."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from training.hybrid import predictor
from training.hybrid.data import Window, named
from training.hybrid.parts import Hyper
from training.recipe import Package

REQUIRES = ("mlflow", "numpy", "pandas", "pyarrow", "safetensors", "scipy")


def write(window: Window, hyper: Hyper, arrays: dict[str, np.ndarray], folder: Path) -> Package:
    """The package of a fitted model under `folder`. arrays: all that `Hybrid.set_up` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("arrays.safetensors", "config.json", "items.parquet", "users.parquet")
    paths = {Path(name).stem: folder / name for name in names}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, paths["arrays"])
    paths["config"].write_text(json.dumps({**config(), **asdict(hyper)}, indent=1), encoding="utf-8")
    window.items.to_parquet(paths["items"], index=False)
    pd.DataFrame({"user_id": window.users}).to_parquet(paths["users"], index=False)
    # Somebody known, and a stranger without a k: so the signature makes k optional.
    example = pd.DataFrame({"user_id": [window.users[-1], "nobody-knows-me"], "k": [3.0, None]})
    return Package(
        predictor=Path(predictor.__file__),
        artifacts=paths,
        input_example=example,
        output_example=in_memory(window, arrays).predict(None, example),
        requirements=[f"{name}=={version(name)}" for name in REQUIRES],
    )


def config() -> dict[str, Any]:
    devices, channels = named()
    return {"devices": devices, "channels": channels}


def in_memory(window: Window, arrays: dict[str, np.ndarray]) -> predictor.Hybrid:
    """What would be served, without the detour over the disk: validation scores exactly this."""
    served = predictor.Hybrid()
    served.set_up(config(), arrays, window.users, window.items)
    return served
