from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from tests.training.factors.test_dae import CPU, two_tastes
from training.factors.ials import Hyper, Vectors, _Adam, fit, ials, polish

SMALL = replace(Hyper(), factors=4, epochs=3, batch=16, reg=0.01)


def nats(found: Vectors, hyper: Hyper) -> float:
    """The objective that the polish descends, written with the definitions."""
    liked = two_tastes()
    scores = torch.from_numpy(found.user @ found.item.T + found.bias).double()
    known = torch.from_numpy(liked.toarray()).double()
    loss = -(torch.log_softmax(scores, 1) * known).sum()
    for vectors, count in ((found.user, known.sum(1)), (found.item, known.sum(0))):
        squares = torch.from_numpy(vectors).double().square().sum(1)
        loss = loss + hyper.l2 * (count**hyper.power * squares).sum()
    return float(loss)


def test_the_polish_descends_the_softmax_with_its_l2() -> None:
    hyper = replace(SMALL, epochs=30, learning_rate=1e-2)
    start = ials(two_tastes(), hyper, seed=0)
    lifted = Vectors(
        start.user * hyper.lift, start.item, np.log(np.asarray(two_tastes().sum(0)).ravel() + 0.5)
    )
    done = polish(start, two_tastes(), hyper, seed=0, device=CPU, after_epoch=lambda *told: None)
    assert nats(done, hyper) < nats(lifted, hyper) - 10


def test_one_step_over_all_users_moves_every_number_against_the_gradient_of_the_objective() -> None:
    hyper = replace(SMALL, epochs=1, batch=60, lift=1.0, learning_rate=1e-3, popular=False)
    start = ials(two_tastes(), hyper, seed=0)
    tables = [
        torch.from_numpy(one.copy()).double().requires_grad_() for one in (start.user, start.item, start.bias)
    ]
    known = torch.from_numpy(two_tastes().toarray()).double()
    loss = -(torch.log_softmax(tables[0] @ tables[1].T + tables[2], 1) * known).sum()
    loss = loss + hyper.l2 * (known.sum(1).sqrt() * tables[0].square().sum(1)).sum()
    loss = loss + hyper.l2 * (known.sum(0).sqrt() * tables[1].square().sum(1)).sum()
    loss.backward()  # type: ignore[no-untyped-call]

    # half-way down its cosine, so that the one step is not of length 0
    adam = _Adam([one.detach().float().clone() for one in tables], hyper.learning_rate, 2)
    adam.step(torch.arange(60), *(one.grad.float() for one in tables if one.grad is not None))
    kept = _Kept()
    polish(start, two_tastes(), replace(hyper, epochs=2), seed=0, device=CPU, after_epoch=kept)
    for moved, expected in zip((kept.seen.user, kept.seen.item, kept.seen.bias), adam.tables, strict=True):
        np.testing.assert_allclose(moved, expected.numpy(), atol=1e-5)
    assert not np.array_equal(kept.seen.user, start.user)


class _Kept:
    """Keeps the vectors after the first epoch."""

    seen: Vectors

    def __call__(self, epoch: int, loss: float, now: Callable[[], Vectors]) -> None:
        if epoch == 1:
            self.seen = now()


def test_without_epochs_it_is_irspacks_ials_alone_and_the_same_for_the_same_seed() -> None:
    told: list[int] = []
    hyper = replace(SMALL, epochs=0)
    found = fit(two_tastes(), hyper, seed=3, device=CPU, after_epoch=lambda epoch, *_: told.append(epoch))
    again = ials(two_tastes(), hyper, seed=3)
    assert told == [0] and not found.bias.any()
    assert np.array_equal(found.user, again.user) and np.array_equal(found.item, again.item)
    scores = found.user @ found.item.T
    even, odd = scores[::2, ::2].mean(), scores[::2, 1::2].mean()
    assert even > odd + 0.3
