"""The networks' training loop: from prepared examples to arrays, the same every time for the same seed on CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.forecasting import predictor
from training.forecasting.fit import AfterEpoch, Problem
from training.forecasting.hyper import Hyper
from training.forecasting.network import Network


def fit_network(
    kind: str,
    given: Problem,
    held_out: Problem | None,
    ridge: predictor.Arrays,
    hyper: Hyper,
    seed: int,
    after_epoch: AfterEpoch,
    epochs: int | None,
) -> tuple[predictor.Arrays, int, list[dict[str, float]]]:
    """Arrays, the number of epochs kept, and the curve. `epochs`: exactly so many, without a slice to stop by.

    Every member goes through the examples in its own order. Kept is the epoch with the smallest error of the
    members' *mean* on the held-out slice; epoch 0, where the curve starts, is the ridge as it is.
    """
    torch.set_num_threads(1)  # matrices this small: a second thread only adds waiting
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train = _Data(given, ridge, device)
    valid = _Data(held_out, ridge, device) if held_out is not None else None
    channels, width = given.steps.shape[2], given.context.shape[1]
    network = Network(kind, hyper, channels, given.steps.shape[1], width, given.y.shape[1]).to(device)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=hyper.learning_rate, weight_decay=hyper.weight_decay, fused=True
    )
    weights = torch.full((given.y.shape[1],), hyper.auxiliary, device=device)
    weights[-1] = 1
    best, kept = 0, _arrays(network)
    least = valid.error(network, hyper.members) if valid is not None else np.inf
    losses = [{"val_loss": least}]
    for epoch in range(1, (hyper.max_epochs if epochs is None else epochs) + 1):
        metrics = {"loss": _epoch(network, optimiser, train, hyper, weights)}
        if valid is not None:
            metrics["val_loss"] = valid.error(network, hyper.members)
        losses.append(metrics)
        after_epoch(epoch, metrics)
        if valid is None or metrics["val_loss"] < least:
            best, kept, least = epoch, _arrays(network), metrics.get("val_loss", np.inf)
        elif epoch - best >= hyper.patience:
            break
    return {**ridge, **kept}, best, losses


class _Data:
    """Examples on the device: inputs, and what the linear part leaves to explain (0 where unknown, by `known`)."""

    def __init__(self, problem: Problem, ridge: predictor.Arrays, device: torch.device) -> None:
        def put(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)

        def rest(of: Problem) -> Tensor:
            linear = predictor.design(of.steps, of.level, of.context) @ ridge["linear"] + ridge["bias"]
            return put(np.nan_to_num(of.y - linear))

        self.steps, self.context = put(problem.steps), put(problem.context)
        self.known = put(np.isfinite(problem.y))
        self.rest, self.rest_bare = rest(problem), rest(problem.bare())

    def error(self, network: Network, members: int, chunk: int = 8_192) -> float:
        """Mean squared error of the members' mean after H weeks."""
        total = 0.0
        with torch.no_grad():
            for start in range(0, len(self.steps), chunk):
                part = slice(start, start + chunk)
                steps, context = (v[part].expand(members, *v[part].shape) for v in (self.steps, self.context))
                total += float((network(steps, context).mean(0) - self.rest[part])[:, -1].square().sum())
        return total / len(self.steps)


def _epoch(network: Network, optimiser: Any, data: _Data, hyper: Hyper, weights: Tensor) -> float:
    """One pass, every member in its own order; returns the mean loss."""
    rows = min(len(data.steps), hyper.epoch_rows)
    orders = [torch.randperm(len(data.steps))[:rows] for _ in range(hyper.members)]
    order = torch.stack(orders).to(data.steps.device)
    total, count = torch.zeros((), device=order.device), 0
    for start in range(0, rows, hyper.batch):
        at = order[:, start : start + hyper.batch]
        bare = torch.rand(at.shape, device=at.device) < hyper.bare
        context = data.context[at].masked_fill(bare.unsqueeze(-1), 0)
        context[..., -1] = torch.where(bare, 1.0, context[..., -1])
        wanted = torch.where(bare.unsqueeze(-1), data.rest_bare[at], data.rest[at])
        known = data.known[at] * weights
        errors = (network(data.steps[at], context) - wanted).square() * known
        loss = errors.sum() / known.sum()
        optimiser.zero_grad(set_to_none=True)
        (loss * hyper.members).backward()  # type: ignore[no-untyped-call]
        clip(list(network.parameters()), hyper.clip)
        optimiser.step()
        total, count = total + loss.detach(), count + 1
    return float(total) / count


def clip(parameters: list[Tensor], most: float) -> None:
    """Shorten each member's gradient to `most`: one that is led astray leaves the others their steps."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.stack([grad.flatten(1).square().sum(1) for grad in grads]).sum(0).sqrt()
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor.view(-1, *[1] * (grad.dim() - 1)))


def _arrays(network: Network) -> predictor.Arrays:
    return {name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}
