"""NCF's recipe, top to bottom: data, search for the number of epochs, refit, package, pictures.

The last training days are the validation split: in time, as in life. Fitting stops when their NDCG@10 has not
risen for a while; then the model is fitted again on *all* training days for the best number of epochs, because
the newest days say most (leaving them out costs 1.3 to 1.5 points of HR@10 on MovieLens-1M).

With NIGHTSHIFT_TRAIN_PROCESSES, or under torchrun, several processes share each fit (together.py).

Where an earlier version can be gone on from (`setup.warm`, state.py) there is no search: a few epochs over the whole
window, at a lower rate, start from what it knew.

A window of very many ids or interactions takes another way by itself: `training.ncf.large_recipe`.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nightshift import featurestore
from nightshift.contracts.features import ITEM_VIEW, USER_VIEW
from nightshift.errors import NoDataError, SettingsError
from nightshift.lake import open_lake
from nightshift.settings import Settings
from training.calibration import Looked, calibrate, look
from training.exams.ranking import Exam, score_model
from training.meetings import reference_rows
from training.ncf import explain, large_recipe, state, together
from training.ncf.data import ITEM_COLUMNS, USER_COLUMNS, Window, read_window
from training.ncf.fit import Hyper, Inputs
from training.ncf.model import NeuMF
from training.ncf.package import in_memory, write
from training.ncf.state import UnfitStateError
from training.ncf.together import fit_together
from training.pictures import beeswarm
from training.recipe import AS_ALWAYS, LogEpoch, Night, Setup, Trained
from training.rehearsal import validation_exam, validation_start
from training.spaces import Between, Goal, OneOf, Rehearse, Space
from training.team import ALONE, Team, leading, under_torchrun


@dataclass
class Search:
    """What the search for the number of epochs found: `best` is 1-based, `metrics` its figures by `users` users,
    `looked` what it showed them. Where there was no search, `looked` is that of the last one before.
    """

    best: int
    users: int = 0
    losses: list[float] = field(default_factory=list)
    ndcg: list[float] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    looked: Looked | None = None


# What a study may try. How long to fit is not in it: the search finds that for each.
SPACE: Space = {
    "factors": OneOf((16, 32, 64)),
    "first": OneOf((16, 32, 64)),
    "negatives": OneOf((4, 8, 16)),
    "learning_rate": Between(1e-3, 2e-2, log=True),
    "l2": Between(1e-3, 1e-1, log=True),
    "drop_user": Between(0.0, 0.3),
    "drop_item": Between(0.0, 0.2),
}


class NCF:
    """NeuMF for the recommender seat."""

    space, goal, defaults = SPACE, Goal("val_ndcg_at_100", upwards=True), Hyper()

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
        size = large_recipe.wanted(open_lake(settings), night)
        if size and (settings.train_processes > 1 or under_torchrun()):
            raise SettingsError(
                f"night {night.night}: {size.users + size.items} ids and {size.rows} interactions take the large path, "
                "which trains in one process: set NIGHTSHIFT_TRAIN_PROCESSES=1"
            )
        if size:  # what a study found for this way, and its state, mean nothing there
            return large_recipe.train(
                night, settings, workdir, size, smoke=smoke, seed=seed, log_epoch=log_epoch
            )
        hyper = setup.applied(Hyper())
        hyper = replace(hyper, max_epochs=2) if smoke else hyper
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_num_threads(1)  # tables this small: a second thread only adds waiting
        lake, store = open_lake(settings), featurestore.open_store(settings)
        window = read_window(lake, store, night.train_start, night.train_end, night.met_from)
        began, fitted, fresh = time.process_time(), None, ""
        with leading(settings, *together.command(night)) as team:
            if setup.warm is not None:
                try:
                    fitted = _go_on(setup.warm, window, hyper, seed, device, log_epoch, team)
                except UnfitStateError as why:
                    fresh = str(why)
            if fitted is None:
                cut = validation_start(lake, night, window.days, settings)
                exam = validation_exam(lake, store, window.days, cut, settings)
                search = _search(window, exam, hyper, cut, seed, device, log_epoch, team)
                fitted = search, *_refit(window, hyper, search.best, seed, device, log_epoch, team)
        search, model, inputs = fitted
        fit_cpu_s = time.process_time() - began
        pictures: dict[str, Any] = {
            "learning_curve.png": explain.learning_curve(search.losses, search.ndcg, search.best),
            "shap.png": _shap(model, inputs, window, smoke, seed),
        }
        pictures_cpu_s = time.process_time() - began - fit_cpu_s
        random = np.random.default_rng(seed)
        calibrated = calibrate(search.looked)
        if calibrated is not None and search.users:  # else it was judged on an earlier night
            search.metrics["calibration_error_at_10"] = calibrated.judged.error
            pictures["reliability.png"] = calibrated.figure()
        return Trained(
            package=write(model, inputs, window, workdir, calibrated.knots if calibrated else None),
            params={
                **asdict(hyper),
                "epochs": search.best,
                "device": device.type,
                "processes": team.size,
                "users": len(window.users),
                "items": len(window.items),
                "positives": len(window.user),
                "validation_users": search.users,
            },
            metrics=search.metrics,
            measures={"fit_cpu_s": fit_cpu_s, "pictures_cpu_s": pictures_cpu_s},
            fresh=fresh,
            features=[f"{USER_VIEW}:{n}" for n in USER_COLUMNS] + [f"{ITEM_VIEW}:{n}" for n in ITEM_COLUMNS],
            reference=reference_rows(store, window, random),
            data=window.rows(),
            figures=pictures,
            folders={"state": state.save(model, window, hyper, search.looked, workdir / "state")},
        )

    def assist(self, night: Night, settings: Settings) -> None:
        """Take part in a training that another process leads; under torchrun, every process but the first."""
        together.assist(settings, night)

    def rehearsal(self, night: Night, settings: Settings) -> Rehearse:
        """See `training.spaces.Studied`."""
        if large_recipe.wanted(open_lake(settings), night):
            raise SettingsError(
                f"night {night.night}: so large a window takes another way, which has no study"
            )
        torch.set_num_threads(1)
        lake, store = open_lake(settings), featurestore.open_store(settings)
        window = read_window(lake, store, night.train_start, night.train_end, night.met_from)
        cut = validation_start(lake, night, window.days, settings)
        exam = validation_exam(lake, store, window.days, cut, settings)
        if exam is None:
            raise NoDataError(f"night {night.night}: the training window leaves no days to validate on")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

        def rehearse(setup: Setup, seed: int, log_epoch: LogEpoch) -> float:
            return _search(window, exam, setup.applied(Hyper()), cut, seed, device, log_epoch).metrics[
                "ndcg_at_100"
            ]

        return rehearse


RECIPE = NCF()


def _search(
    window: Window,
    exam: Exam | None,
    hyper: Hyper,
    cut: int,
    seed: int,
    device: torch.device,
    log_epoch: LogEpoch,
    team: Team = ALONE,
) -> Search:
    """Fit on all but the validation days until their NDCG@10 stops rising."""
    if exam is None:
        return Search(best=min(hyper.epochs_unseen, hyper.max_epochs))
    search = Search(best=1, users=len(exam.users))
    early = window.until(cut)

    def after_epoch(epoch: int, loss: float, model: NeuMF, inputs: Inputs) -> bool:
        served = in_memory(model, inputs, early)
        metrics = score_model(served, exam).means()
        search.losses.append(loss)
        search.ndcg.append(metrics["ndcg_at_10"])
        if epoch == 1 or metrics["ndcg_at_10"] > max(search.ndcg[:-1]):
            search.best, search.metrics, search.looked = epoch, metrics, look(served, exam)
        log_epoch(epoch, {"loss": loss, **{f"val_{name}": value for name, value in metrics.items()}})
        return epoch - search.best < hyper.patience

    fit_together(
        team,
        window,
        hyper,
        cut=cut,
        epochs=hyper.max_epochs,
        seed=seed,
        device=device,
        after_epoch=after_epoch,
    )
    return search


def _refit(
    window: Window,
    hyper: Hyper,
    epochs: int,
    seed: int,
    device: torch.device,
    log_epoch: LogEpoch,
    team: Team,
) -> tuple[NeuMF, Inputs]:
    def after_epoch(epoch: int, loss: float, model: NeuMF, inputs: Inputs) -> bool:
        log_epoch(epoch, {"refit_loss": loss})
        return True

    return fit_together(team, window, hyper, epochs=epochs, seed=seed, device=device, after_epoch=after_epoch)


def _go_on(
    warm: Path,
    window: Window,
    hyper: Hyper,
    seed: int,
    device: torch.device,
    log_epoch: LogEpoch,
    team: Team,
) -> tuple[Search, NeuMF, Inputs]:
    """Start from an earlier version's state, all of it known to be from before tonight's exam."""
    search = Search(best=hyper.warm_epochs, looked=state.looked(warm))

    def start(model: NeuMF) -> None:
        state.load(warm, model, window, hyper)
        state.shrink(model, hyper.warm_keep)

    def after_epoch(epoch: int, loss: float, model: NeuMF, inputs: Inputs) -> bool:
        search.losses.append(loss)
        log_epoch(epoch, {"loss": loss})
        return True

    gentle = replace(hyper, learning_rate=hyper.warm_rate)
    model, inputs = fit_together(
        team,
        window,
        gentle,
        epochs=search.best,
        seed=seed,
        device=device,
        after_epoch=after_epoch,
        start=start,
    )
    return search, model, inputs


def _shap(model: NeuMF, inputs: Inputs, window: Window, smoke: bool, seed: int) -> object:
    explained, background = (10, 5) if smoke else (explain.EXPLAINED, explain.BACKGROUND)
    cases = explain.sample_cases(window, inputs, explained + background, np.random.default_rng(seed))
    return beeswarm(explain.attributions(model, inputs, cases, background, seed))
