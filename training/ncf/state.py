"""What a fitted NeuMF hands on to the next night: its weights by id, so that tonight's ids may be other ones.

A folder of `weights.safetensors` (every parameter, as in the model), `ids.parquet` (kind, id: whose vector each
row of a table is, in order), `about.json` (what it was fitted with) and `looked.safetensors` (what the last search
showed its validation users: a night without a search is calibrated by that). No pickle.

Who learnt nothing is not handed on: an id without a positive has a vector of noise. A new user starts as the
stranger, a new item as a new one of its category, a new category as any model starts; and who left the window is left
behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.calibration import Looked
from training.ncf.data import ITEM_COLUMNS, USER_COLUMNS, Window
from training.ncf.fit import Hyper
from training.ncf.model import NeuMF

LAYOUT = 1  # of the folder; raise it when what the files mean changes
KINDS = ("user", "item", "category")  # a table is named after whose vectors it holds: user_gmf, item_bias, …
PACE = (
    "max_epochs",
    "patience",
    "epochs_unseen",
    "warm_epochs",
    "warm_rate",
    "warm_keep",
)  # how long one fits, not what


class UnfitStateError(Exception):
    """The state is of no use to tonight's model; its text says why, for the version's page."""


def save(model: NeuMF, window: Window, hyper: Hyper, shown: Looked | None, folder: Path) -> Path:
    """Keep what the model learnt under `folder`, which is made; returns it. shown: by the last search."""
    folder.mkdir(parents=True)
    learnt = {"user": np.unique(window.user), "item": np.unique(window.item)}
    names = {
        "user": [window.users[row - 1] for row in learnt["user"]],
        "item": window.items["item_id"].to_numpy()[learnt["item"] - 1].tolist(),
        "category": _categories(window),
    }
    weights = {name: value.detach().cpu() for name, value in model.named_parameters()}
    for name, kind in _tables(model):
        if kind in learnt:
            weights[name] = weights[name][torch.from_numpy(np.concatenate([[0], learnt[kind]]))]
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "weights.safetensors")
    ids = pd.DataFrame([(kind, name) for kind in KINDS for name in names[kind]], columns=["kind", "id"])
    ids.to_parquet(folder / "ids.parquet", index=False)
    if shown is not None:
        save_file(
            {name: torch.from_numpy(value) for name, value in vars(shown).items()},
            folder / "looked.safetensors",
        )
    (folder / "about.json").write_text(json.dumps(_about(hyper), indent=1), encoding="utf-8")
    return folder


def load(folder: Path, model: NeuMF, window: Window, hyper: Hyper) -> None:
    """Put what was kept under `folder` into a model that was just made for tonight's window.

    Raises:
        UnfitStateError: it is not there, was fitted with other settings or features, has another shape, or is not
            finite. The model is then as it was.
    """
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        ids, weights = pd.read_parquet(folder / "ids.parquet"), load_file(folder / "weights.safetensors")
    except (OSError, ValueError) as error:
        raise UnfitStateError(f"it cannot be read: {error}") from error
    other = [name for name, value in _about(hyper).items() if about.get(name) != value]
    if other:
        raise UnfitStateError(f"it was fitted with another {' and '.join(other)}")
    own, tables = dict(model.named_parameters()), dict(_tables(model))
    if {*weights} != {*own}:
        raise UnfitStateError(f"it has other parameters: {', '.join(sorted({*weights} ^ {*own}))}")
    wrong = [name for name, value in own.items() if not _same_shape(value, weights[name], name in tables)]
    if wrong:
        raise UnfitStateError(f"{wrong[0]} has the shape {tuple(weights[wrong[0]].shape)}")
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise UnfitStateError("it is not finite")
    tonight = {
        "user": window.users,
        "item": window.items["item_id"].tolist(),
        "category": _categories(window),
    }
    rows = {kind: pd.Index(ids.loc[ids["kind"] == kind, "id"]).get_indexer(tonight[kind]) for kind in KINDS}
    with torch.no_grad():
        for name, value in own.items():
            if name not in tables:
                value.copy_(weights[name])
            else:
                value.copy_(_by_id(value, weights[name], rows[tables[name]], tables[name]))


def looked(folder: Path) -> Looked | None:
    """What the last search showed, as it was kept; None if there was none."""
    path = folder / "looked.safetensors"
    if not path.exists():
        return None
    return Looked(**{name: value.numpy() for name, value in load_file(path).items()})


def shrink(model: NeuMF, keep: float) -> None:
    """Draw every user's and item's own vector towards nothing, to `keep` of its length.

    Epoch upon epoch, night upon night, would be more epochs than any search allows: the vectors grow and no longer
    follow. Shrunk, they are learnt again from where they pointed (Ash & Adams, NeurIPS 2020, who also add noise;
    dropped ids do that here).
    """
    with torch.no_grad():
        for name, kind in _tables(model):
            if kind != "category":
                model.get_parameter(name).mul_(keep)


def _by_id(fresh: Tensor, kept: Tensor, row: np.ndarray, kind: str) -> Tensor:
    """The table [1 + ids, width] with what was kept; `row` [ids]: which kept row is each id's, -1: none.

    Row 0 is the stranger, and of an item's own part the new item: who is not known starts there.
    """
    known = torch.from_numpy(row >= 0).to(fresh.device)
    found = kept.to(fresh.device)[torch.from_numpy(np.where(row >= 0, row + 1, 0)).to(fresh.device)]
    if kind == "category":  # its row 0 stands for no category at all
        found = torch.where(known.unsqueeze(1), found, fresh[1:])
    return torch.cat([kept[:1].to(fresh.device), found])


def _same_shape(fresh: Tensor, kept: Tensor, table: bool) -> bool:
    return fresh.shape[1:] == kept.shape[1:] if table else fresh.shape == kept.shape


def _tables(model: NeuMF) -> Iterator[tuple[str, str]]:
    """(parameter, kind) of every table of vectors by id."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            yield f"{name}.weight", name.partition("_")[0]


def _categories(window: Window) -> list[str]:
    """Their names in the order of their codes, as `read_window` gives them."""
    return [str(name) for name in pd.factorize(window.items["category"], sort=True)[1]]


def _about(hyper: Hyper) -> dict[str, Any]:
    settings = {name: value for name, value in asdict(hyper).items() if name not in PACE}
    return {"layout": LAYOUT, "settings": settings, "features": [*USER_COLUMNS, *ITEM_COLUMNS]}
