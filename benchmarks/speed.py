"""How long a night's training takes on many topics, and a request for many forecasts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.series import market_rows
from nightshift.settings import Settings
from training.forecasting.fit import KINDS
from training.forecasting.hyper import Hyper
from training.forecasting.predictor import Forecaster
from training.forecasting.recipe import ForecastRecipe
from training.recipe import Night

REQUEST = 1_000  # forecasts in one
REPEATS = 31


@dataclass(frozen=True)
class _Context:
    """What MLflow hands to a packaged model."""

    artifacts: dict[str, str]


def measure(settings: Settings) -> dict[str, Any]:
    """Of each kind on the market's topics × 5 years, one after another.

    seconds: the whole recipe (search, intervals, refit, package, figures), from feature rows on; cpu_seconds: what
        the processor spent on it, for a machine that does other things too.
    ms: the packaged model's 1,000 forecasts, the median of REPEATS; and the slowest.
    """
    rows = market_rows(settings)
    asked = rows.sort_values("week").groupby("topic").tail(1).head(REQUEST)
    day = settings.market_start
    night = Night(day, day, day, day)  # only named in an error: the rows are all that there is
    found: dict[str, Any] = {"topics": rows["topic"].nunique(), "rows": len(rows), "asked": len(asked)}
    for kind in KINDS:
        with TemporaryDirectory() as folder:
            began, used = time.perf_counter(), time.process_time()
            trained = ForecastRecipe(kind).train_rows(
                rows, night, Path(folder), Hyper(), smoke=False, seed=0, log_epoch=lambda epoch, metrics: None
            )
            found[f"seconds_{kind}"] = time.perf_counter() - began
            found[f"cpu_seconds_{kind}"] = time.process_time() - used
            model = Forecaster()
            model.load_context(
                _Context({name: str(path) for name, path in trained.package.artifacts.items()})
            )
            taken = [_ms(model, asked) for _ in range(REPEATS)]
        found |= {f"ms_{kind}": float(np.median(taken)), f"ms_{kind}_most": max(taken)}
    found["seconds_all"] = sum(found[f"seconds_{kind}"] for kind in KINDS)
    return found


def _ms(model: Forecaster, asked: Any) -> float:
    began = time.perf_counter()
    model.forecast(asked)
    return 1_000 * (time.perf_counter() - began)
