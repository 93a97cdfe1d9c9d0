"""NCF's recipe for catalogues whose tables no longer fit the ordinary one: the same steps, nothing whole in memory.

The window becomes integers on disk, the network is fitted on shuffled shards of them, stopped by the last training
days, fitted again on all days, and packaged. `training.ncf.recipe` takes this way by itself (`wanted`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch

from nightshift import featurestore
from nightshift.lake import Lake, open_lake
from nightshift.settings import Settings
from training.meetings import reference_of
from training.ncf import explain, memory
from training.ncf.coded import Size, Window, code, size
from training.ncf.large import Hyper, Network, fit
from training.ncf.large_package import write
from training.ncf.large_validation import Questions, questions, validate
from training.ncf.shards import Counts, joined
from training.pictures import beeswarm
from training.recipe import AS_ALWAYS, LogEpoch, Night, Setup, Trained
from training.rehearsal import validation_start

# Beyond either the ordinary path is left. It holds all positives and each day's features of all items in memory, and
# pays for all ids in each batch (docs/benchmarks.md, "Recommender: scale").
IDS = 100_000  # users and items together
INTERACTIONS = 5_000_000
REFERENCE_ROWS = 5_000
EXPLAINED, BACKGROUND = 400, 2_000  # pairs on the SHAP plot; pairs that stand for "on average"


def wanted(lake: Lake, night: Night) -> Size | None:
    """The window's size, if it takes the large path; None where the ordinary one is right."""
    found = size(lake, night.met_from or night.train_start, night.train_end)
    return found if found.rows > INTERACTIONS or found.users + found.items > IDS else None


@dataclass
class Search:
    """What the search for the number of epochs found; `best` is 1-based, `metrics` its validation figures."""

    best: int
    losses: list[float] = field(default_factory=list)
    ndcg: list[float] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)


def train(
    night: Night,
    settings: Settings,
    workdir: Path,
    found: Size,
    *,
    smoke: bool,
    seed: int,
    log_epoch: LogEpoch,
    setup: Setup = AS_ALWAYS,
) -> Trained:
    """As `training.recipe.Recipe.train`; scratch files lie under `workdir` and are named for removal.

    Raises:
        SettingsError: the tables do not fit, computed before anything is read.
    """
    hyper = setup.applied(Hyper())
    hyper = replace(hyper, max_epochs=2, epochs_unseen=2) if smoke else hyper
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)  # what takes the time are matrices that fit one core's cache
    hyper, budget = planned(hyper, found, memory.limit_of(settings, device))
    lake, scratch = open_lake(settings), workdir / "scratch"
    random = np.random.default_rng(seed)
    with code(lake, night.train_start, night.train_end, scratch, night.met_from) as window:
        cut = validation_start(lake, night, window.days, settings)
        sets = {"early": window.write_shards("early", 0, cut, random)} if cut else {}
        late = {"late": window.write_shards("late", cut, len(window.days), random)}
        asked = questions(window, cut, seed) if cut and sets["early"].items.any() else None
        search = _search(window, sets, asked, hyper, seed, device, log_epoch)
        everything = joined(scratch / "shards", {**sets, **late}, window.number)
        began = process_time()

        def after_epoch(epoch: int, loss: float, network: Network) -> bool:
            log_epoch(epoch, {"refit_loss": loss})
            return True

        network = fit(
            everything, hyper, epochs=search.best, seed=seed, device=device, after_epoch=after_epoch
        )
        seconds = process_time() - began
        active = window.active(seed, REFERENCE_ROWS)
        return Trained(
            package=write(network, window, everything.user_counts, hyper, workdir),
            params={
                **asdict(hyper),
                "path": "large",
                "epochs": search.best,
                "device": device.type,
                "users": window.users,
                "items": window.items,
                "positives": everything.rows,
                "validation_users": len(asked) if asked else 0,
            },
            metrics=search.metrics,
            features=[],  # it learns from meetings alone
            reference=reference_of(
                featurestore.open_store(settings), active["user_id"].tolist(), active["day"].tolist()
            ),
            data=window.sample(seed),
            measures={
                "positives_per_cpu_second": everything.rows * search.best / max(seconds, 1e-9),
                "estimated_gib": budget.gib,
                "tables_gib": network.bytes / memory.GIB,
            },
            figures={
                "learning_curve.png": explain.learning_curve(search.losses, search.ndcg, search.best),
                "shap.png": beeswarm(attributions(network, window.pairs(seed, EXPLAINED + BACKGROUND))),
            },
            scratch=(scratch,),
        )


def planned(hyper: Hyper, found: Size, limit: memory.Limit) -> tuple[Hyper, memory.Budget]:
    """The settings with the tables' type and the batch that fit, and what they take.

    Raises:
        SettingsError: nothing does.
    """
    shape = memory.Shape(
        found.users, found.items, hyper.factors, batch=hyper.batch, negatives=hyper.negatives
    )
    budget = memory.plan(shape, limit, ("fp32", "bf16") if hyper.dtype == "auto" else (hyper.dtype,))
    return replace(hyper, dtype=budget.shape.dtype, batch=budget.shape.batch), budget


def _search(
    window: Window,
    sets: dict[str, Counts],
    asked: Questions | None,
    hyper: Hyper,
    seed: int,
    device: torch.device,
    log_epoch: LogEpoch,
) -> Search:
    """Fit on all but the validation days until their NDCG@10 stops rising."""
    if not asked:
        return Search(best=min(hyper.epochs_unseen, hyper.max_epochs))
    search, early = Search(best=1), joined(window.folder / "shards", sets, window.number)
    learnt = early.user_counts > 0

    def after_epoch(epoch: int, loss: float, network: Network) -> bool:
        metrics = validate(network, asked, learnt)
        search.losses.append(loss)
        search.ndcg.append(metrics["ndcg_at_10"])
        if epoch == 1 or metrics["ndcg_at_10"] > max(search.ndcg[:-1]):
            search.best, search.metrics = epoch, metrics
        log_epoch(epoch, {"loss": loss, **{f"val_{name}": value for name, value in metrics.items()}})
        return epoch - search.best < hyper.patience

    fit(early, hyper, epochs=hyper.max_epochs, seed=seed, device=device, after_epoch=after_epoch)
    return search


def attributions(network: Network, pairs: np.ndarray) -> Any:
    """SHAP values (`shap.Explanation`, [n, 2]) of the scores of pairs (user, item) int64 [n + BACKGROUND, 2].

    Two players, the user's and the item's id; what is explained is the score, less what the same user gives to the
    mean item. The score is linear in each, so the means over the background are exact: no sampling (Lundberg & Lee
    2017, with the background's pairs taken apart as their marginals).
    """
    import shap

    user = network.user.rows(torch.from_numpy(pairs[:, 0]).to(network.user.weight.device)).cpu().numpy()
    ids = torch.from_numpy(pairs[:, 1]).to(network.item.weight.device)
    item, bias = network.item.rows(ids).cpu().numpy(), network.bias.rows(ids)[:, 0].cpu().numpy()
    shown = len(pairs) - min(BACKGROUND, len(pairs) // 2)
    mean_user, mean_item, mean_bias = user[shown:].mean(0), item[shown:].mean(0), float(bias[shown:].mean())
    lead, level = item[:shown] - mean_item, bias[:shown] - mean_bias
    both = (user[:shown] * lead).sum(axis=1) + level
    item_alone = lead @ mean_user + level  # and the user alone, or nobody, leads by nothing on average
    by_user = (both - item_alone) / 2
    return shap.Explanation(
        values=np.stack([by_user, both - by_user], axis=1),
        base_values=np.zeros(shown),
        data=np.full((shown, 2), np.nan),
        feature_names=["user · own taste (id)", "item · own appeal (id)"],
    )
