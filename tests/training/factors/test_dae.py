from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from training.factors.dae import Hyper, Tables, fit

CPU = torch.device("cpu")
SMALL = replace(Hyper(), factors=8, epochs=60, batch=16, learning_rate=1e-2, weight_decay=0.1)


def two_tastes(users: int = 60, items: int = 20, seed: int = 0) -> csr_matrix:
    """Even users like six of the even items, odd users of the odd ones."""
    random = np.random.default_rng(seed)
    rows = np.repeat(np.arange(users), 6)
    columns = np.concatenate(
        [random.choice(np.arange(user % 2, items, 2), 6, replace=False) for user in range(users)]
    )
    return csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(users, items))


def learnt(liked: csr_matrix, hyper: Hyper = SMALL, seed: int = 0) -> Tables:
    return fit(liked, hyper, seed=seed, device=CPU, after_epoch=lambda *told: None)


def test_who_met_things_of_one_taste_is_shown_the_others_of_it() -> None:
    found = learnt(two_tastes())
    for taste in (0, 1):
        scores = found.encoder[[taste, taste + 2]].sum(axis=0) / 2**SMALL.alpha @ found.decoder.T + found.bias
        rest = np.setdiff1d(np.arange(20), [taste, taste + 2])
        best = rest[np.argsort(-scores[rest])][:8]
        assert (best % 2 == taste).all()


def test_the_same_seed_gives_the_same_tables_to_the_bit_and_another_seed_others() -> None:
    brief = replace(SMALL, epochs=3)
    first, again, other = (learnt(two_tastes(), brief, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.encoder, again.encoder) and np.array_equal(first.bias, again.bias)
    assert not np.array_equal(first.encoder, other.encoder)


def test_the_loss_is_told_each_epoch_in_nats_and_falls() -> None:
    told: list[tuple[int, float]] = []

    def after_epoch(epoch: int, loss: float, tables: Callable[[], Tables]) -> None:
        told.append((epoch, loss))
        assert np.isfinite(tables().decoder).all()

    fit(two_tastes(), SMALL, seed=0, device=CPU, after_epoch=after_epoch)
    assert [epoch for epoch, _ in told] == list(range(1, 61))
    assert told[0][1] == pytest.approx(np.log(17), abs=0.3)  # three of twenty are told, the rest is open
    assert told[-1][1] < told[0][1] - 0.3


@pytest.mark.parametrize("columns", [[], [3]])
def test_nobody_with_two_things_met_leaves_finite_tables_and_popularity_in_the_bias(
    columns: list[int],
) -> None:
    liked = csr_matrix((np.ones(len(columns), np.float32), ([0] * len(columns), columns)), shape=(2, 5))
    found = learnt(liked, replace(SMALL, epochs=2))
    assert all(np.isfinite(one).all() for one in (found.encoder, found.decoder, found.bias))
    if columns:
        assert found.bias.argmax() == 3
