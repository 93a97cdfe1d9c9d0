from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.ncf.conftest import CPU, SMALL
from training.calibration import Looked
from training.ncf import state
from training.ncf.data import Window
from training.ncf.fit import Inputs, fit
from training.ncf.model import NeuMF
from training.ncf.state import UnfitStateError

SHOWN = Looked(np.array([0, 0, 1]), np.array([-1.0, -2.0, -3.0]), np.array([True, False, True]))


def fresh(window: Window, seed: int = 9) -> NeuMF:
    return fit(window, SMALL, epochs=0, seed=seed, device=CPU, after_epoch=lambda *_: True)[0]


def without(window: Window, user: str, item: str) -> Window:
    """The window as if this user and this item, its last ones, had not come yet."""
    assert window.users[-1] == user and window.items["item_id"].iloc[-1] == item
    kept = (window.user != len(window.users)) & (window.item != len(window.items))
    return replace(
        window,
        users=window.users[:-1],
        items=window.items.iloc[:-1],
        category=window.category[:-1],
        item_raw=window.item_raw[:, :-1],
        offered=np.minimum(window.offered, len(window.items) - 1),
        user=window.user[kept],
        item=window.item[kept],
        day=window.day[kept],
        weight=window.weight[kept],
        user_row=window.user_row[kept],
        met=window.met[(window.met[:, 0] != len(window.users)) & (window.met[:, 1] != len(window.items))],
    )


@pytest.fixture
def kept(fitted: tuple[NeuMF, Inputs], window: Window, tmp_path: Path) -> Path:
    return state.save(fitted[0], window, SMALL, SHOWN, tmp_path / "state")


def test_on_the_same_window_it_is_the_same_model_for_all_who_learnt(
    fitted: tuple[NeuMF, Inputs], window: Window, kept: Path
) -> None:
    model, own = fresh(window), dict(fitted[0].named_parameters())
    state.load(kept, model, window, SMALL)
    learnt = {"user": np.unique(window.user), "item": np.unique(window.item)}
    for name, value in model.named_parameters():
        rows = learnt.get(name.partition("_")[0]) if name in dict(state._tables(model)) else None
        same = torch.equal(value, own[name]) if rows is None else torch.equal(value[rows], own[name][rows])
        assert same, name


def test_vectors_follow_their_ids_and_who_is_new_starts_as_the_stranger(
    window: Window, tmp_path: Path
) -> None:
    before = without(window, window.users[-1], window.items["item_id"].iloc[-1])
    model, _ = fit(before, SMALL, epochs=1, seed=1, device=CPU, after_epoch=lambda *_: True)
    folder = state.save(model, before, SMALL, None, tmp_path / "state")
    # tonight everybody has another number: the ids come in another order
    turned = replace(window, users=window.users[::-1], user=len(window.users) + 1 - window.user)
    tonight = fresh(turned)
    state.load(folder, tonight, turned, SMALL)

    known = int(before.user[0])  # 1-based, in the old order
    assert torch.equal(tonight.user_gmf.weight[len(window.users) + 1 - known], model.user_gmf.weight[known])
    assert torch.equal(tonight.user_gmf.weight[1], model.user_gmf.weight[0])  # the last one is now the first
    assert torch.equal(tonight.user_mlp.weight[1], model.user_mlp.weight[0])
    for name in ("item_gmf", "item_mlp", "item_bias"):
        assert torch.equal(getattr(tonight, name).weight[-1], getattr(model, name).weight[0])
    sold = int(before.item[0])
    assert torch.equal(tonight.item_gmf.weight[sold], model.item_gmf.weight[sold])


def test_a_new_item_scores_as_a_new_one_of_its_category(window: Window, tmp_path: Path) -> None:
    before = without(window, window.users[-1], window.items["item_id"].iloc[-1])
    model, _ = fit(before, SMALL, epochs=1, seed=1, device=CPU, after_epoch=lambda *_: True)
    tonight = fresh(window)
    state.load(state.save(model, before, SMALL, None, tmp_path / "state"), tonight, window, SMALL)
    rows = tonight.item_rows()
    assert torch.allclose(rows[-1], rows[int(window.category[-1])], atol=1e-6)


def test_categories_are_known_by_their_names(window: Window, kept: Path) -> None:
    renamed = window.items.assign(category="a new one, first by name")
    renamed.loc[renamed.index[1:], "category"] = window.items["category"].iloc[1:]
    codes, names = pd.factorize(renamed["category"], sort=True)
    tonight = replace(window, items=renamed, category=codes.astype(np.int64) + 1)
    model, noise = fresh(tonight), fresh(tonight).category_gmf.weight.detach().clone()
    state.load(kept, model, tonight, SMALL)
    old = load_file(kept / "weights.safetensors")["category_gmf.weight"]
    former = sorted(set(window.items["category"]))
    for code, name in enumerate(names, start=1):
        expected = old[former.index(name) + 1] if name in former else noise[code]
        assert torch.equal(model.category_gmf.weight[code], expected), name


def test_going_on_gives_the_same_model_every_time(window: Window, kept: Path) -> None:
    def on() -> dict[str, torch.Tensor]:
        model, _ = fit(
            window,
            SMALL,
            epochs=1,
            seed=3,
            device=CPU,
            after_epoch=lambda *_: True,
            start=lambda model: state.load(kept, model, window, SMALL),
        )
        return model.state_dict()

    first, again = on(), on()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("settings", "another settings"),
        ("layout", "another layout"),
        ("gone", "cannot be read"),
        ("shape", "has the shape"),
        ("parameter", "other parameters"),
        ("finite", "not finite"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_the_model_left_as_it_was(
    window: Window, kept: Path, broken: str, why: str
) -> None:
    about, weights = json.loads((kept / "about.json").read_text()), load_file(kept / "weights.safetensors")
    match broken:
        case "settings":
            about["settings"]["factors"] += 1
        case "layout":
            about["layout"] += 1
        case "shape":
            weights["hidden.weight"] = torch.zeros(2, 2)
        case "parameter":
            del weights["out_gmf"]
        case "finite":
            weights["user_gmf.weight"][1, 1] = np.nan
    (kept / "about.json").write_text(json.dumps(about))
    save_file(weights, kept / "weights.safetensors")
    if broken == "gone":
        (kept / "ids.parquet").unlink()
    model = fresh(window)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UnfitStateError, match=why):
        state.load(kept, model, window, SMALL)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_how_long_one_fits_is_no_other_setting(window: Window, kept: Path) -> None:
    state.load(kept, fresh(window), window, replace(SMALL, max_epochs=99, warm_epochs=9, warm_rate=1.0))


def test_own_vectors_shrink_and_what_is_shared_stays(window: Window) -> None:
    model = fresh(window)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    state.shrink(model, 0.5)
    for name, value in model.named_parameters():
        own = name.startswith(("user_", "item_")) and name in dict(state._tables(model))
        assert torch.equal(value, before[name] * (0.5 if own else 1)), name


def test_what_the_last_search_showed_is_handed_on(window: Window, kept: Path, tmp_path: Path) -> None:
    found = state.looked(kept)
    assert found is not None
    assert all(np.array_equal(value, vars(found)[name]) for name, value in vars(SHOWN).items())
    assert state.looked(state.save(fresh(window), window, SMALL, None, tmp_path / "without")) is None


def test_no_pickle_is_kept(kept: Path) -> None:
    assert {path.suffix for path in kept.iterdir()} == {".safetensors", ".parquet", ".json"}
