"""The item-kNN family, a baseline that may win the recommender's seat: people who met this met that too.

    python -m training.run item_knn --night 2026-09-28

Nothing is searched for on the night: neighbours and shrinkage are those of `neighbours.Hyper`. The last training
days say what the model is worth, and what other numbers of neighbours would have been.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from nightshift import featurestore
from nightshift.lake import open_lake
from nightshift.settings import Settings
from training.baselines import item_knn_explain as explain
from training.baselines import item_knn_predictor as predictor
from training.baselines.neighbours import Hyper, fit, in_memory
from training.calibration import Calibrated, calibrate, look
from training.exams.ranking import Exam, score_model
from training.meetings import Meetings, read_meetings, reference_rows
from training.pictures import beeswarm
from training.recipe import AS_ALWAYS, LogEpoch, Night, Package, Setup, Trained
from training.rehearsal import validation_exam, validation_start

REQUIRES = ("mlflow", "numpy", "pandas", "pyarrow", "safetensors", "scipy")
TRIED = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)  # numbers of neighbours on the curve, as shares of the kept one


@dataclass
class Validated:
    """What the last training days said: NDCG@100 by number of neighbours; of the kept number every figure, and how sure
    it may be of what it shows."""

    neighbours: list[int] = field(default_factory=list)
    ndcg: list[float] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    calibrated: Calibrated | None = None


class HistoryRecipe:
    """Item-kNN, or what is served as it is, for the recommender seat. fit: the arrays that the predictor takes."""

    def __init__(self, fit: Callable[[Meetings, Any], dict[str, np.ndarray]], defaults: Hyper) -> None:
        self.fit, self.defaults = fit, defaults

    def train(
        self,
        night: Night,
        settings: Settings,
        workdir: Path,
        *,
        smoke: bool,
        seed: int,
        log_epoch: LogEpoch,
        setup: Setup = AS_ALWAYS,
    ) -> Trained:
        hyper, random = setup.applied(self.defaults), np.random.default_rng(seed)
        lake, store = open_lake(settings), featurestore.open_store(settings)
        window = read_meetings(lake, night.train_start, night.train_end, night.met_from)
        cut = validation_start(lake, night, window.days, settings)
        exam = validation_exam(lake, store, window.days, cut, settings)
        validated = _validate(self.fit, window, exam, cut, hyper, (1.0,) if smoke else TRIED, log_epoch)
        arrays, calibrated = self.fit(window, hyper), validated.calibrated
        if calibrated is not None:
            arrays["calibration"] = calibrated.knots
        return Trained(
            package=write(window, hyper, arrays, workdir),
            params={
                **asdict(hyper),
                "users": len(window.users),
                "items": len(window.items),
                "positives": len(window.user),
                "pairs": len(arrays["near_item"]),
                "validation_users": len(exam.users) if exam else 0,
            },
            metrics=validated.metrics,
            features=[],  # it learns from meetings alone
            reference=reference_rows(store, window, random),
            data=window.rows(),
            figures={
                "learning_curve.png": explain.curve(validated.neighbours, validated.ndcg, hyper.neighbours),
                "shap.png": beeswarm(explain.attributions(window, hyper, arrays, random)),
                **({"reliability.png": calibrated.figure()} if calibrated is not None else {}),
            },
        )


RECIPE = HistoryRecipe(fit, Hyper())


def _validate(
    fit: Callable[[Meetings, Any], dict[str, np.ndarray]],
    window: Meetings,
    exam: Exam | None,
    cut: int,
    hyper: Hyper,
    shares: tuple[float, ...],
    log_epoch: LogEpoch,
) -> Validated:
    """Fit on all but the validation days, once for each number of neighbours."""
    found = Validated()
    if exam is None:
        return found
    early = window.until(cut)
    for step, share in enumerate(shares, start=1):
        tried = replace(hyper, neighbours=max(1, round(share * hyper.neighbours)))
        model = in_memory(early, tried, fit)
        metrics = score_model(model, exam).means()
        found.neighbours.append(tried.neighbours)
        found.ndcg.append(metrics["ndcg_at_100"])
        log_epoch(step, {"neighbours": tried.neighbours, **{f"val_{n}": v for n, v in metrics.items()}})
        if tried == hyper:
            found.calibrated = calibrate(look(model, exam))
            found.metrics = metrics
            if found.calibrated is not None:
                found.metrics["calibration_error_at_10"] = found.calibrated.judged.error
    return found


def write(window: Meetings, hyper: Hyper, arrays: dict[str, np.ndarray], folder: Path) -> Package:
    """The package of a fitted model under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("neighbours.safetensors", "config.json", "items.parquet", "users.parquet")
    paths = {Path(name).stem: folder / name for name in names}
    save_file(arrays, paths["neighbours"])
    paths["config"].write_text(json.dumps(asdict(hyper), indent=1), encoding="utf-8")
    window.items.to_parquet(paths["items"], index=False)
    pd.DataFrame({"user_id": window.users}).to_parquet(paths["users"], index=False)
    served = predictor.ItemKNN()
    served.set_up(asdict(hyper), arrays, window.users, window.items)
    # Somebody known, and a stranger without a k: so the signature makes k optional.
    example = pd.DataFrame({"user_id": [window.users[-1], "nobody-knows-me"], "k": [3.0, None]})
    return Package(
        predictor=Path(predictor.__file__),
        artifacts=paths,
        input_example=example,
        output_example=served.predict(None, example),
        requirements=[f"{name}=={version(name)}" for name in REQUIRES],
    )
