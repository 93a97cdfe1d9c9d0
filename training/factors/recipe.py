"""The recipe of the factor families, top to bottom: data, validation, refit, package, pictures.

`dae` is a linear denoising autoencoder, `ials` is iALS polished by a softmax. The last training days say how good the
model is while it learns; how long it learns is fixed (`Hyper`), as its rate falls to 0 by then. Then it is fitted again
on all days, as the newest say most.
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
import torch
from safetensors.numpy import save_file
from scipy.sparse import csr_matrix, diags

from nightshift import featurestore
from nightshift.errors import NoDataError
from nightshift.lake import open_lake
from nightshift.settings import Settings
from training.calibration import Calibrated, calibrate, look
from training.exams.ranking import Exam, score_model
from training.factors import dae, ials, predictor
from training.factors.pictures import curve
from training.history import attributions, liked_matrix, met_arrays, some_pairs
from training.meetings import Meetings, read_meetings, reference_rows
from training.pictures import beeswarm
from training.recipe import AS_ALWAYS, LogEpoch, Night, Package, Setup, Trained
from training.rehearsal import validation_exam, validation_start
from training.spaces import Between, Goal, OneOf, Rehearse, Space

REQUIRES = ("mlflow", "numpy", "pandas", "pyarrow", "safetensors", "scipy")
SPACES: dict[str, Space] = {
    "dae": {
        "factors": OneOf((32, 64, 128)),
        "alpha": Between(0.3, 0.7),
        "hidden": Between(0.3, 0.7),
        "weight_decay": Between(0.2, 3.0, log=True),
        "learning_rate": Between(1e-3, 1e-2, log=True),
    },
    "ials": {
        "factors": OneOf((32, 64, 128)),
        "alpha0": Between(0.05, 1.0, log=True),
        "reg": Between(1e-3, 3e-2, log=True),
        "l2": Between(0.3, 3.0, log=True),
        "learning_rate": Between(1e-3, 1e-2, log=True),
    },
}
LOOKS = 12  # at the validation exam while it learns: each costs a tenth of a second for 1,000 users and items

Hyper = dae.Hyper | ials.Hyper
AfterEpoch = Callable[[int, float, Callable[[], dict[str, np.ndarray]]], None]


@dataclass
class Validated:
    """What the last training days said while the model learnt; the figures and confidences of its end."""

    epochs: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    ndcg: list[float] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    calibrated: Calibrated | None = None


class FactorsRecipe:
    """`kind`: dae or ials, for the recommender's seat."""

    def __init__(self, kind: str) -> None:
        self.defaults: Hyper = dae.Hyper() if kind == "dae" else ials.Hyper()
        self.space, self.goal = SPACES[kind], Goal("val_ndcg_at_100", upwards=True)

    def rehearsal(self, night: Night, settings: Settings) -> Rehearse:
        """What a study of the settings asks for; see `training.spaces.Studied`."""
        torch.set_num_threads(1)
        lake, store = open_lake(settings), featurestore.open_store(settings)
        window = read_meetings(lake, night.train_start, night.train_end, night.met_from)
        cut = validation_start(lake, night, window.days, settings)
        exam = validation_exam(lake, store, window.days, cut, settings)
        if exam is None:
            raise NoDataError(f"night {night.night}: its window leaves no days to validate on")

        def rehearse(setup: Setup, seed: int, log_epoch: LogEpoch) -> float:
            hyper = setup.applied(self.defaults)
            return _validate(window, exam, cut, hyper, seed, log_epoch).metrics["ndcg_at_100"]

        return rehearse

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
        hyper = setup.applied(self.defaults)
        hyper = replace(hyper, epochs=min(2, hyper.epochs)) if smoke else hyper
        torch.set_num_threads(1)  # tables this small: a second thread only adds waiting
        random = np.random.default_rng(seed)
        lake, store = open_lake(settings), featurestore.open_store(settings)
        window = read_meetings(lake, night.train_start, night.train_end, night.met_from)
        cut = validation_start(lake, night, window.days, settings)
        exam = validation_exam(lake, store, window.days, cut, settings)
        validated = _validate(window, exam, cut, hyper, seed, log_epoch)
        arrays = fit(window, hyper, seed)
        calibrated = validated.calibrated
        if calibrated is not None:
            arrays["calibration"] = calibrated.knots
        return Trained(
            package=write(window, hyper, arrays, workdir),
            params={
                **asdict(hyper),
                "users": len(window.users),
                "items": len(window.items),
                "positives": len(window.user),
                "validation_users": len(exam.users) if exam else 0,
            },
            metrics=validated.metrics,
            features=[],  # it learns from meetings alone
            reference=reference_rows(store, window, random),
            data=window.rows(),
            figures={
                "learning_curve.png": curve(validated.epochs, validated.losses, validated.ndcg),
                "shap.png": beeswarm(explained(window, hyper, arrays, random)),
                **({"reliability.png": calibrated.figure()} if calibrated is not None else {}),
            },
        )


DAE, IALS = FactorsRecipe("dae"), FactorsRecipe("ials")


def _validate(
    window: Meetings, exam: Exam | None, cut: int, hyper: Hyper, seed: int, log_epoch: LogEpoch
) -> Validated:
    """Fit on all but the validation days, and look at these now and then."""
    found = Validated()
    if exam is None:
        return found
    early = window.until(cut)
    every = max(1, hyper.epochs // LOOKS)

    def after_epoch(epoch: int, loss: float, arrays: Callable[[], dict[str, np.ndarray]]) -> None:
        if epoch % every and epoch != hyper.epochs:
            return
        model = served(early, hyper, arrays())
        found.metrics = score_model(model, exam).means()
        found.epochs.append(epoch)
        found.losses.append(loss)
        found.ndcg.append(found.metrics["ndcg_at_100"])
        told = {"loss": loss} if np.isfinite(loss) else {}
        log_epoch(epoch, {**told, **{f"val_{name}": value for name, value in found.metrics.items()}})
        if epoch == hyper.epochs:
            found.calibrated = calibrate(look(model, exam))

    fit(early, hyper, seed, after_epoch)
    if found.calibrated is not None:
        found.metrics["calibration_error_at_10"] = found.calibrated.judged.error
    return found


def fit(
    window: Meetings, hyper: Hyper, seed: int, after_epoch: AfterEpoch = lambda *told: None
) -> dict[str, np.ndarray]:
    """The arrays that `Factors.set_up` takes, from the positives of a window."""
    liked = liked_matrix(window)
    met = met_arrays(window, liked)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def told(epoch: int, loss: float, tables: Callable[[], Any]) -> None:
        after_epoch(epoch, loss, lambda: {**_arrays(tables()), **met})

    if isinstance(hyper, dae.Hyper):
        return {**_arrays(dae.fit(liked, hyper, seed=seed, device=device, after_epoch=told)), **met}
    return {**_arrays(ials.fit(liked, hyper, seed=seed, device=device, after_epoch=told)), **met}


def _arrays(tables: dae.Tables | ials.Vectors) -> dict[str, np.ndarray]:
    if isinstance(tables, dae.Tables):
        return {"encoder": tables.encoder, "item": tables.decoder, "bias": tables.bias}
    return {"user": tables.user, "item": tables.item, "bias": tables.bias}


def served(window: Meetings, hyper: Hyper, arrays: dict[str, np.ndarray]) -> predictor.Factors:
    """What would be served, without the detour over the disk."""
    model = predictor.Factors()
    model.set_up(_config(hyper), arrays, window.users, window.items)
    return model


def _config(hyper: Hyper) -> dict[str, Any]:
    return {"alpha": hyper.alpha if isinstance(hyper, dae.Hyper) else 0.0}


def write(window: Meetings, hyper: Hyper, arrays: dict[str, np.ndarray], folder: Path) -> Package:
    """The package of a fitted model under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("factors.safetensors", "config.json", "items.parquet", "users.parquet")
    paths = {Path(name).stem: folder / name for name in names}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, paths["factors"])
    paths["config"].write_text(json.dumps(_config(hyper), indent=1), encoding="utf-8")
    window.items.to_parquet(paths["items"], index=False)
    pd.DataFrame({"user_id": window.users}).to_parquet(paths["users"], index=False)
    # Somebody known, and a stranger without a k: so the signature makes k optional.
    example = pd.DataFrame({"user_id": [window.users[-1], "nobody-knows-me"], "k": [3.0, None]})
    return Package(
        predictor=Path(predictor.__file__),
        artifacts=paths,
        input_example=example,
        output_example=served(window, hyper, arrays).predict(None, example),
        requirements=[f"{name}=={version(name)}" for name in REQUIRES],
    )


def explained(
    window: Meetings, hyper: Hyper, arrays: dict[str, np.ndarray], random: np.random.Generator
) -> Any:
    """SHAP values of some pairs' leads; see `training.history.attributions`.

    Of the autoencoder, in what the user liked. A user's own vector of iALS is no sum over what they liked; it is
    explained by the nearest thing that is, the least-squares sum: so for `ials` the picture is of that stand-in.
    """
    liked = liked_matrix(window)
    pairs = some_pairs(window, random)
    lead = arrays["item"][pairs[1]] - arrays["item"].mean(axis=0)
    if isinstance(hyper, dae.Hyper):
        count = np.maximum(np.asarray(liked.sum(axis=1)).ravel(), 1.0)
        history: csr_matrix = (diags(count**-hyper.alpha) @ liked).tocsr()
        encoder = arrays["encoder"]
    else:
        history = liked
        encoder = _least_squares(liked, arrays["user"])
    return attributions(window, history, pairs, lead @ encoder.T, arrays["bias"].astype(np.float64), random)


def _least_squares(liked: csr_matrix, user: np.ndarray) -> np.ndarray:
    """The encoder [items, factors] for which liked @ encoder comes nearest to the users' vectors."""
    from scipy.sparse.linalg import lsqr

    return np.stack([lsqr(liked, column, damp=1.0, iter_lim=50)[0] for column in user.T], axis=1)
