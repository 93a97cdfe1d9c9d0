"""The training loop of NeuMF: from a window to fitted weights, the same every time for the same seed on CPU.

The loss is the softmax of the positive among its negatives (sampled softmax), where the paper has binary cross-entropy
(`loss="bce"`): the softmax spends nothing on how active a user is, which ranks nothing. That is a reason, not a result:
there was no measurable difference. On Online Retail (2011-11-10, four negatives, best epoch, one seed) NDCG@10
was 0.119 with it against 0.115, with a standard error of 0.015 to 0.02, and on the market they were alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nightshift.errors import SettingsError
from training.ncf.data import Window, draw_negatives
from training.ncf.model import TOWERS, NeuMF, Sizes
from training.ncf.predictor import UNKNOWN, standardise
from training.team import ALONE, Team


@dataclass(frozen=True)
class Hyper:
    """Chosen by their exams on the market (2026-09-28) and Online Retail (2011-11-08, 2011-11-10).

    README.md has the figures, which are flattering for these nights: they are no evidence about another night.
    """

    factors: int = 32
    first: int = 32
    second: int = 16
    towers: str = "neumf"  # or "gmf", "mlp": one alone
    loss: str = "softmax"  # or "bce"
    negatives: int = 8
    batch: int = 1_024  # positives; each brings its negatives
    learning_rate: float = 5e-3
    weight_decay: float = 1e-5
    l2: float = 0.01  # on the vectors a batch uses, so that rare ids are not worn away by the others' batches
    drop_user: float = 0.1  # share of rows whose user is made a stranger; half of them without features too
    drop_item: float = 0.05  # share of items made new ones
    max_epochs: int = 20
    patience: int = 4  # epochs without a better NDCG@10; it dips for two or three before tastes are learnt
    epochs_unseen: int = 6  # when there is no validation day to stop by
    warm_epochs: int = 1  # when an earlier version is gone on from
    warm_rate: float = 5e-3
    warm_keep: float = 0.8  # of the id vectors it knew: all of them, and every night would fit them further


@dataclass(frozen=True)
class Inputs:
    """A window as tensors on the device; `item_x` is [days + 1, items + 1, 2·fi], row 0 the unknown item."""

    user: Tensor
    day: Tensor
    weight: Tensor
    user_row: Tensor
    user_x: Tensor
    item_x: Tensor
    category: Tensor  # [items + 1]
    categories: int
    user_scale: tuple[np.ndarray, np.ndarray]
    item_scale: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Batch:
    """`row` [b, 1 + K]: the positive first. `weight` [b]. The rest as `NeuMF.forward` takes it.

    whole, whole_weight: rows of the batch, and their weight, that this is a part of where a team shares it.
    """

    user: Tensor
    user_x: Tensor
    row: Tensor
    item_x: Tensor
    weight: Tensor
    whole: int
    whole_weight: Tensor


def fit(
    window: Window,
    hyper: Hyper,
    *,
    epochs: int,
    seed: int,
    device: torch.device,
    after_epoch: Callable[[int, float, NeuMF, Inputs], bool],
    start: Callable[[NeuMF], None] = lambda model: None,
    team: Team = ALONE,
) -> tuple[NeuMF, Inputs]:
    """Train for at most `epochs`; `after_epoch(epoch, loss, model, inputs)` answers whether to go on.

    start: changes the weights before the first epoch, to begin elsewhere than at noise.
    team: who shares each batch. All draw the same epoch and begin with the leader's weights; the gradients of their
        parts add up to the batch's, so each makes the same step. Only the leader's `start` and `after_epoch` count.

    Raises:
        SettingsError: there are no such towers, or no such loss.
    """
    if hyper.towers not in TOWERS or hyper.loss not in LOSSES:
        raise SettingsError(
            f"towers {hyper.towers!r} with loss {hyper.loss!r}: there are {', '.join(TOWERS)} and {', '.join(LOSSES)}"
        )
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    inputs = prepare(window, device)
    model = NeuMF(_sizes(window, hyper, inputs), inputs.category[1:]).to(device)
    start(model)
    team.share([*model.parameters()])
    optimiser = torch.optim.AdamW(
        [one for one in model.parameters() if one.requires_grad],
        lr=hyper.learning_rate,
        weight_decay=hyper.weight_decay,
        fused=True,
    )
    taken = np.unique(window.met[:, 0] * (len(window.items) + 1) + window.met[:, 1])
    for epoch in range(1, epochs + 1):
        total = torch.zeros((), device=device)
        for batch in _batches(window, inputs, hyper, taken, random, team):
            loss = LOSSES[hyper.loss](model, batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            _add_l2(model, batch, hyper.l2)
            team.add_up([one.grad for one in model.parameters() if one.grad is not None])
            optimiser.step()
            total += loss.detach() * batch.whole
        team.add_up([total])
        if not team.told(team.leads and after_epoch(epoch, float(total) / len(window.user), model, inputs)):
            break
    return model, inputs


def scale(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, std) per column of the signed logarithm, NaN left out; a constant or empty column gets (m, 1)."""
    values = np.sign(raw) * np.log1p(np.abs(raw))
    there = np.isfinite(values)
    count = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, values, 0).sum(axis=0) / count
    std = np.sqrt((np.where(there, values - mean, 0) ** 2).sum(axis=0) / count)
    return mean, np.where(std > 1e-6, std, 1.0)


def prepare(window: Window, device: torch.device) -> Inputs:
    """The window's features standardised, and all of it on the device once."""
    mornings, items, features = window.item_raw.shape
    flat = window.item_raw.reshape(mornings * items, features)
    user_scale, item_scale = scale(window.user_raw), scale(flat)
    item_x = standardise(flat, *item_scale).reshape(mornings, items, 2 * features)
    item_x = np.concatenate([np.zeros_like(item_x[:, :1]), item_x], axis=1)
    return Inputs(
        user=_put(window.user, device),
        day=_put(window.day, device),
        weight=_put(window.weight, device),
        user_row=_put(window.user_row, device),
        user_x=_put(standardise(window.user_raw, *user_scale), device),
        item_x=_put(item_x, device),
        category=_put(np.concatenate([[0], window.category]), device),
        categories=int(window.category.max()),
        user_scale=user_scale,
        item_scale=item_scale,
    )


def _batches(
    window: Window, inputs: Inputs, hyper: Hyper, taken: np.ndarray, random: np.random.Generator, team: Team
) -> Iterator[Batch]:
    """One epoch: all of its order, negatives and dropped ids drawn at once, then cut into batches; of each, every
    `team.size`-th row from `team.rank` on."""
    device, rows = inputs.user.device, len(window.user)
    offered = window.offered[window.day]
    order = random.permutation(rows)
    drawn = draw_negatives(window.user, offered, taken, len(window.items), hyper.negatives, random)
    candidates = np.concatenate([window.item[:, None], drawn], axis=1)[order]
    stranger = random.random(rows) < hyper.drop_user
    places, items = _put(order, device), _put(candidates, device)
    strangers, blanks = _put(stranger, device), _put(stranger & (random.random(rows) < 0.5), device)
    new = _put(random.random(candidates.shape) < hyper.drop_item, device)
    missing = torch.zeros(inputs.user_x.shape[1], device=device)
    missing[len(missing) // 2 :] = 1  # every value at its mean, every flag up
    # Numbers for the whole epoch at once, which costs less than batch by batch; features by batch, since an epoch's
    # would not fit.
    user = inputs.user[places].masked_fill(strangers, UNKNOWN)
    row = torch.where(new, inputs.category[items], items + inputs.categories)
    user_row, day, weight = inputs.user_row[places], inputs.day[places], inputs.weight[places]
    for start in range(0, rows, hyper.batch):
        stop = min(start + hyper.batch, rows)
        part = slice(start + team.rank, stop, team.size)
        yield Batch(
            user=user[part],
            user_x=torch.where(blanks[part, None], missing, inputs.user_x[user_row[part]]),
            row=row[part],
            item_x=inputs.item_x[day[part, None], items[part]],
            weight=weight[part],
            whole=stop - start,
            whole_weight=weight[start:stop].sum(),
        )


def _softmax(model: NeuMF, batch: Batch) -> Tensor:
    """Weighted mean of −log softmax of the positive among its row's candidates: this part's share of it."""
    scores = model(batch.user, batch.user_x, batch.row, batch.item_x)
    losses = -torch.log_softmax(scores, dim=1)[:, 0]
    return (losses * batch.weight).sum() / batch.whole_weight


def _bce(model: NeuMF, batch: Batch) -> Tensor:
    """Weighted mean over all candidates of the binary cross-entropy: the positive is a 1, the others 0."""
    scores = model(batch.user, batch.user_x, batch.row, batch.item_x)
    wanted = torch.zeros_like(scores)
    wanted[:, 0] = 1
    weight = batch.weight[:, None].expand_as(scores)
    entropies = torch.nn.functional.binary_cross_entropy_with_logits(scores, wanted, weight, reduction="sum")
    return entropies / scores.shape[1] / batch.whole_weight


LOSSES = {"softmax": _softmax, "bce": _bce}


def _add_l2(model: NeuMF, batch: Batch, l2: float) -> None:
    """Add to the gradients that of l2 × the mean squared length of the id vectors that a row uses.

    By hand, because through autograd it would gather every vector a second time.
    """
    users = torch.bincount(batch.user, minlength=model.sizes.users + 1)
    items = torch.bincount(batch.row.flatten(), minlength=1 + model.sizes.categories + model.sizes.items)
    items = items[model.sizes.categories :].clone()
    items[0] = 0  # that was the last category's new item
    tables = [
        (model.user_gmf, users),
        (model.user_mlp, users),
        (model.item_gmf, items),
        (model.item_mlp, items),
    ]
    for table, used in tables:
        if table.weight.grad is None:  # of a tower that is switched off
            continue
        table.weight.grad.addcmul_(table.weight.detach(), used.unsqueeze(1), value=2 * l2 / batch.whole)


def _put(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


def _sizes(window: Window, hyper: Hyper, inputs: Inputs) -> Sizes:
    return Sizes(
        users=len(window.users),
        items=len(window.items),
        categories=inputs.categories,
        user_inputs=inputs.user_x.shape[-1],
        item_inputs=inputs.item_x.shape[-1],
        factors=hyper.factors,
        first=hyper.first,
        second=hyper.second,
        towers=hyper.towers,
    )
