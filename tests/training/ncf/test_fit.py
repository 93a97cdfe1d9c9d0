from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import training.ncf
from nightshift.errors import SettingsError
from nightshift.lake import Lake
from nightshift.settings import Settings
from tests.training.ncf.conftest import CPU, SMALL
from training.baselines.popularity import Popularity
from training.exams.ranking import score_model
from training.exams.recommender import build_exam
from training.ncf.data import Window
from training.ncf.fit import Hyper, Inputs, fit, scale
from training.ncf.model import NeuMF
from training.ncf.package import in_memory
from training.recipe import Night


def weights(window: Window, seed: int) -> dict[str, torch.Tensor]:
    model, _ = fit(window, SMALL, epochs=2, seed=seed, device=CPU, after_epoch=lambda *_: True)
    return model.state_dict()


def test_the_same_seed_gives_the_same_weights_to_the_bit_and_another_seed_others(window: Window) -> None:
    first, again, other = weights(window, 5), weights(window, 5), weights(window, 6)

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["user_gmf.weight"], other["user_gmf.weight"])


def test_it_learns_tastes_that_popularity_cannot_see(
    lake: Lake,
    store: Any,
    tiny_night: Night,
    featured_home: Settings,
    window: Window,
    fitted: tuple[NeuMF, Inputs],
) -> None:
    exam = build_exam(lake, store, tiny_night, featured_home)
    events = lake.read("interactions", tiny_night.train_start, tiny_night.train_end).to_pandas()
    popularity = score_model(Popularity(events, window.items), exam).means()
    learnt = score_model(in_memory(*fitted, window), exam).means()

    assert learnt["auc"] > popularity["auc"] + 0.1
    assert learnt["ndcg_at_10"] > 1.2 * popularity["ndcg_at_10"]


@pytest.mark.parametrize("changed", [{"towers": "tower"}, {"loss": "hinge"}])
def test_towers_and_losses_that_there_are_not_are_refused_in_words(
    window: Window, changed: dict[str, str]
) -> None:
    given = replace(SMALL, **changed)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=next(iter(changed.values()))):
        fit(window, given, epochs=1, seed=0, device=CPU, after_epoch=lambda *_: True)


def test_training_stops_when_told(window: Window) -> None:
    epochs: list[int] = []

    def after_epoch(epoch: int, loss: float, model: NeuMF, inputs: Inputs) -> bool:
        epochs.append(epoch)
        assert np.isfinite(loss)
        return epoch < 3

    fit(window, SMALL, epochs=9, seed=1, device=CPU, after_epoch=after_epoch)
    assert epochs == [1, 2, 3]


def test_the_shared_stranger_is_learnt_only_when_users_are_dropped(window: Window) -> None:
    still = replace(SMALL, drop_user=0.0, weight_decay=0.0, l2=0.0)
    moved = replace(still, drop_user=0.5)

    def stranger(hyper: Any) -> np.ndarray:
        torch.manual_seed(4)
        before: list[np.ndarray] = []
        model, _ = fit(window, hyper, epochs=3, seed=4, device=CPU, after_epoch=lambda *_: True)
        before.append(model.user_mlp.weight[0].detach().numpy())
        return before[0]

    assert not np.allclose(stranger(still), stranger(moved))


@pytest.mark.parametrize("column", [np.full(5, np.nan), np.full(5, 3.0)])
def test_a_constant_or_empty_column_is_scaled_to_something_finite(column: np.ndarray) -> None:
    mean, std = scale(column[:, None])

    assert np.isfinite(mean).all() and std.tolist() == [1.0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_it_trains_on_cuda_as_well(window: Window) -> None:
    model, inputs = fit(
        window, SMALL, epochs=2, seed=1, device=torch.device("cuda"), after_epoch=lambda *_: True
    )
    assert np.isfinite(in_memory(model, inputs, window)._a["item_gmf"]).all()


def test_the_readme_marks_the_nights_that_the_settings_were_chosen_on() -> None:
    """A figure of such a night is in-sample, and a reader must be told."""
    chosen = set(re.findall(r"\d{4}-\d\d-\d\d", str(Hyper.__doc__)))
    readme = Path(training.ncf.__file__).with_name("README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]*(\d{4}-\d\d-\d\d)(\*?) \(", readme, re.MULTILINE)
    assert len(chosen) == 3 and "in-sample" in readme
    assert {night for night, star in rows if star} == chosen
