from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from training.ncf.large import Hyper, Network, Sampler, fit, sampled_softmax
from training.ncf.shards import ROW, Shards, joined, write_set

CPU = torch.device("cpu")
USERS, ITEMS = 60, 40
SMALL = replace(Hyper(), factors=8, batch=64, negatives=32)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """User n meets the items of its group of four, the first ones of it most."""
    random, rows = np.random.default_rng(0), np.empty(4_000, ROW)
    rows["user"] = random.integers(1, USERS + 1, len(rows))
    rows["item"] = (10 * random.random(len(rows)) ** 2).astype(int) * 4 + rows["user"] % 4
    rows["weight"] = 1.0
    folder = tmp_path_factory.mktemp("shards")
    counts = write_set(folder, "all", [rows], number=2, users=USERS, items=ITEMS, random=random)
    return joined(folder, {"all": counts}, 2)


def trained(shards: Shards, hyper: Hyper = SMALL, epochs: int = 5, seed: int = 1) -> Network:
    return fit(shards, hyper, epochs=epochs, seed=seed, device=CPU, after_epoch=lambda *_: True)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_it_learns_whose_items_are_whose(shards: Shards, dtype: str) -> None:
    network = trained(shards, replace(SMALL, dtype=dtype))
    for user in range(1, USERS + 1):
        best = np.argsort(-network.scores(user))[:5]
        assert (best % 4 == user % 4).all()


def test_the_same_seed_gives_the_same_weights_to_the_bit_and_another_seed_others(shards: Shards) -> None:
    first, again, other = trained(shards), trained(shards), trained(shards, seed=2)
    assert torch.equal(first.user.weight, again.user.weight)
    assert torch.equal(first.item.weight, again.item.weight)
    assert not torch.equal(first.item.weight, other.item.weight)


def test_the_stranger_learns_what_is_popular_only_when_users_are_dropped(shards: Shards) -> None:
    untouched = trained(shards, replace(SMALL, drop_user=0.0))
    assert (untouched.user.squares[0] == 0).all()
    assert (trained(shards).user.squares[0] > 0).all()


def test_training_stops_when_told(shards: Shards) -> None:
    epochs: list[int] = []

    def after_epoch(epoch: int, loss: float, network: Network) -> bool:
        epochs.append(epoch)
        assert np.isfinite(loss)
        return epoch < 3

    fit(shards, SMALL, epochs=9, seed=1, device=CPU, after_epoch=after_epoch)
    assert epochs == [1, 2, 3]


def test_the_loss_is_the_softmax_of_corrected_scores_without_the_positive_among_its_negatives() -> None:
    random = torch.Generator().manual_seed(0)
    user, item, others = (torch.randn(n, 4, generator=random) for n in (3, 3, 5))
    bias, other_bias, log_q, other_log_q = (torch.randn(n, generator=random) for n in (3, 5, 3, 5))
    clash = torch.zeros(3, 5, dtype=torch.bool)
    clash[1, 2] = True
    weight = torch.tensor([1.0, 1.5, 1.25])
    expected = 0.0
    for row in range(3):
        own = user[row] @ item[row] + bias[row] - log_q[row]
        rest = [user[row] @ others[n] + other_bias[n] - other_log_q[n] for n in range(5) if not clash[row, n]]
        expected -= weight[row] * torch.log_softmax(torch.stack([own, *rest]), dim=0)[0]
        expected += 0.1 * (user[row].square().sum() + item[row].square().sum())
    found = sampled_softmax(user, item, bias, others, other_bias, log_q, other_log_q, clash, weight, 0.1)
    torch.testing.assert_close(found, torch.as_tensor(expected))


def test_the_sampler_draws_as_often_as_it_says() -> None:
    counts = np.array([900, 90, 10, 0])
    met = np.repeat(np.arange(4), counts)
    sampler = Sampler(counts, 0.5, CPU)
    drawn = sampler.draw(met, 200_000, np.random.default_rng(0))
    share = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(share, np.exp(sampler.log_q.numpy()), atol=0.005)
    np.testing.assert_allclose(share, 0.5 * counts / 1_000 + 0.5 / 4, atol=0.005)


def test_without_the_correction_popular_items_would_be_pushed_down(shards: Shards) -> None:
    """With popular negatives alone and the correction, a stranger's ranking is still that of popularity."""
    network = trained(shards, replace(SMALL, popular=0.9, drop_user=0.5), epochs=15)
    popular = np.corrcoef(network.scores(0), np.log1p(shards.counts))[0, 1]
    assert popular > 0.7


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_it_trains_on_cuda_as_well(shards: Shards) -> None:
    network = fit(shards, SMALL, epochs=2, seed=1, device=torch.device("cuda"), after_epoch=lambda *_: True)
    assert np.isfinite(network.scores(1)).all()
