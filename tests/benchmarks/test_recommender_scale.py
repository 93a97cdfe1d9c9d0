from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.scale import cost, quality, world
from benchmarks.scale.rivals import CPU, Rival
from nightshift.lake import Lake
from training.ncf import coded
from training.ncf.coded import size
from training.ncf.large import Hyper, Network, Sampler


def test_the_made_lake_has_the_sizes_that_were_asked_for_and_tastes_in_it(tmp_path: Path) -> None:
    lake: Lake = world.write_lake(tmp_path / "lake", users=200, items=500, per_day=2_000, days=2)
    found = size(lake, *(lake.days()[0], lake.days()[-1]))
    assert (found.rows, found.items, found.days) == (4_000, 500, 2) and 190 < found.users <= 200
    user, item = world.pairs(200, 500, 20_000, np.random.default_rng(0))
    own = (user % world.CLUSTERS == item % world.CLUSTERS).mean()
    assert own > 0.7 and np.median(item) < 500 / 4


def test_what_a_lake_costs_is_told_from_its_files_to_batches_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coded, "MEMORY", coded.MEMORY)  # put back afterwards
    world.write_lake(tmp_path / "lake", users=200, items=500, per_day=3_000, days=2)
    told = cost.lake(6_000, tmp_path, "300MB")
    assert coded.MEMORY == "300MB"
    assert 0 < told["pairs_met"] < told["positives"] < 6_000 and told["days"] == 2
    assert told["steps"] == -(-told["positives"] // Hyper().batch)  # few rows: every batch of the epoch
    assert 0 < told["code_peak_gib"] <= told["shards_peak_gib"] <= cost.peak_gib()


def test_the_held_out_item_is_no_training_row_of_its_user(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(
        "user,item\n" + "".join(f"{u},{i}\n" for u in range(3) for i in range(4))
    )
    (tmp_path / "test.csv").write_text("user,item\n0,4\n1,5\n2,4\n")
    told = quality.splits(tmp_path)
    validation, test = told["validation"], told["test"]
    assert len(validation.rows) == 9 and len(test.rows) == 12 and test.held.tolist() == [4, 5, 4]
    assert not validation.seen[np.arange(3), validation.held].any()
    network = Network(3, 6, replace(Hyper(), factors=2, dtype="fp32"), 0, CPU)
    network.bias.weight[:, 0] = torch.tensor([0.0, 0, 0, 0, 90, 80])
    value, error = quality.ndcg(network, test)
    assert value == pytest.approx((1 + 1 / np.log2(3) + 1) / 3) and error > 0


@pytest.mark.parametrize("name", ["adam", "sparse_adam"])
def test_a_rivals_first_step_moves_what_the_batch_touched_by_its_rate(name: str) -> None:
    hyper, random = replace(Hyper(), factors=4, batch=8, negatives=4, dtype="fp32"), np.random.default_rng(0)
    network, sampler = Network(30, 30, hyper, 0, CPU), Sampler(np.ones(30, np.int64), 0.5, CPU)
    before = network.item.weight.clone()
    rows = next(world.rows(30, 30, 8, seed=0))
    negatives = np.arange(4)
    Rival(name, network, sampler, hyper, 1e-3)(rows, negatives, 0.1, random)
    moved = (network.item.weight - before).abs()
    touched = np.union1d(rows["item"], negatives)
    torch.testing.assert_close(moved[touched], torch.full_like(moved[touched], 1e-3), rtol=0.01, atol=1e-6)
    assert (moved[np.setdiff1d(np.arange(30), touched)] == 0).all()
