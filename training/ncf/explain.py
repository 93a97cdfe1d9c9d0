"""The two pictures on NCF's page: how it learnt, and what drives its scores."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nightshift.contracts.features import ITEM_FEATURES, USER_FEATURES
from training.ncf.data import ITEM_COLUMNS, USER_COLUMNS, Window
from training.ncf.fit import Inputs
from training.ncf.model import NeuMF

# 25 players, 51 masks a row, each against every background row: about 4 s after 5 s of compiling on one core
EXPLAINED, BACKGROUND = 120, 20
RIVALS = 16  # items that a score is compared with


def learning_curve(losses: list[float], ndcg: list[float], best: int) -> Figure:
    """Training loss and validation NDCG@10 by epoch (1-based), with the epoch that was kept."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    left = figure.add_subplot()
    epochs = np.arange(1, len(losses) + 1)
    left.plot(epochs, losses, color="tab:gray", marker=".", label="training loss")
    left.set_xlabel("epoch")
    left.set_ylabel("training loss")
    lines = left.get_lines()
    if ndcg:
        right = left.twinx()
        right.plot(epochs, ndcg, color="tab:blue", marker=".", label="NDCG@10 on the validation days")
        right.axvline(best, color="tab:green", linestyle="--", label=f"kept: epoch {best}")
        right.set_ylabel("NDCG@10")
        lines = [*lines, *right.get_lines()]
    figure.legend(lines, [str(line.get_label()) for line in lines], loc="outside lower center", ncols=3)
    left.set_title("How it learnt: the loss falls, the ranking of unseen days rises, then stops")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@dataclass(frozen=True)
class Cases:
    """Rows to explain and to compare with: user, item [n] (1-based), user_x, item_x [n, 2f], raw [n, fu + fi]."""

    user: np.ndarray
    item: np.ndarray
    user_x: np.ndarray
    item_x: np.ndarray
    raw: np.ndarray


def sample_cases(window: Window, inputs: Inputs, count: int, random: np.random.Generator) -> Cases:
    """Users on days they came; every other one with an item they met, the rest with any item on offer."""
    at = random.choice(len(window.user), size=count, replace=len(window.user) < count)
    day = window.day[at]
    anything = (random.random(count) * window.offered[day]).astype(np.int64) + 1
    item = np.where(np.arange(count) % 2 == 0, window.item[at], anything)
    user_row = window.user_row[at]
    return Cases(
        user=window.user[at],
        item=item,
        user_x=inputs.user_x.cpu().numpy()[user_row],
        item_x=inputs.item_x.cpu().numpy()[day, item],
        raw=np.concatenate([window.user_raw[user_row], window.item_raw[day, item - 1]], axis=1),
    )


def attributions(model: NeuMF, inputs: Inputs, cases: Cases, background: int, seed: int) -> Any:
    """SHAP values (`shap.Explanation`, [n, players]) by permutation: they sum to what they explain.

    Explained is an item's *lead*, its score above the mean score of some rivals for the same user: a shift of
    all of a user's scores ranks nothing. A player is the user's id, the item's id, or one feature with its
    missing flag. The explainer sees a matrix of row numbers, so that ids and missing values are swapped like
    any other part (Lundberg & Lee 2017). The first `background` cases stand for "on average"; the others are
    explained.
    """
    import shap

    players, fu = 2 + len(USER_COLUMNS) + len(ITEM_COLUMNS), len(USER_COLUMNS)

    def pick(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
        width = rows.shape[1]
        columns = np.arange(width)
        return np.concatenate([features[rows, columns], features[rows, columns + width]], axis=1)

    device = inputs.user.device
    there = np.unique(cases.item)
    rivals = torch.from_numpy(there[:: max(1, len(there) // RIVALS)]).to(device)
    rivals_x = inputs.item_x[-1][rivals]

    def lead(matrix: np.ndarray) -> np.ndarray:
        rows = matrix.astype(np.int64)
        user = torch.from_numpy(cases.user[rows[:, 0]]).to(device)
        user_x = torch.from_numpy(pick(cases.user_x, rows[:, 2 : 2 + fu])).to(device)
        item = torch.from_numpy(cases.item[rows[:, 1]]).to(device)[:, None]
        item_x = torch.from_numpy(pick(cases.item_x, rows[:, 2 + fu :])).to(device)[:, None]
        items = torch.cat([item, rivals.expand(len(rows), -1)], dim=1)
        items_x = torch.cat([item_x, rivals_x.expand(len(rows), -1, -1)], dim=1)
        with torch.no_grad():
            scores = model(user, user_x, items + inputs.categories, items_x)
            result: np.ndarray = (scores[:, 0] - scores[:, 1:].mean(dim=1)).cpu().numpy()
        return result

    matrix = np.repeat(np.arange(len(cases.user), dtype=np.float64)[:, None], players, axis=1)
    explainer = shap.PermutationExplainer(lead, matrix[:background], seed=seed)
    found = explainer(matrix[background:], max_evals=2 * players + 1, silent=True)
    ids = np.full((len(matrix) - background, 2), np.nan)
    found.data = np.concatenate([ids, cases.raw[background:]], axis=1)
    found.feature_names = player_names()
    return found


def player_names() -> list[str]:
    """What a person reads beside each row of the plot."""
    meanings = {f.name: f.meaning for f in USER_FEATURES}, {f.name: f.meaning for f in ITEM_FEATURES}
    users = [f"user · {_short(meanings[0][name])}" for name in USER_COLUMNS]
    items = [f"item · {_short(meanings[1][name])}" for name in ITEM_COLUMNS]
    return ["user · own taste (id)", "item · own appeal (id)", *users, *items]


def _short(meaning: str) -> str:
    return re.split("[;:]", re.sub(r" \([^)]*\)", "", meaning))[0].rstrip(".").lower()
