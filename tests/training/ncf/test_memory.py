from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from nightshift.errors import SettingsError
from nightshift.settings import PROJECT, Settings
from training.ncf import memory
from training.ncf.large import Hyper, Network, Sampler, Step
from training.ncf.memory import GIB, Limit, Shape, budget, largest_batch, largest_factors, limit_of, plan
from training.ncf.shards import ROW

CPU = torch.device("cpu")
MANY = Shape(users=1_000_000, items=10_000_000, factors=64, mlp=32)
CARD = Limit(12.0, "the card has left")


@pytest.mark.parametrize(
    ("optimiser", "dtype", "gigabytes"),
    [
        ("adam", "fp32", 17.1),
        ("sparse_adam", "fp32", 12.8),
        ("rowwise_adagrad", "fp32", 4.4),
        ("rowwise_adagrad", "bf16", 2.3),
    ],
)
def test_tables_of_a_million_users_and_ten_million_items_by_optimiser(
    optimiser: str, dtype: str, gigabytes: float
) -> None:
    """16.9, 12.7, 4.3 and 2.2 GB without the items' biases and with one accumulator for both tables of an id."""
    parts = budget(replace(MANY, optimiser=optimiser, dtype=dtype)).parts
    held = sum(parts[name] for name in ("user_tables", "item_tables", "optimiser", "gradients"))
    assert held / 1e9 == pytest.approx(gigabytes, abs=0.05)


def test_the_card_of_twelve_gigabytes_takes_row_wise_adagrad_and_neither_adam() -> None:
    fits = {name: budget(replace(MANY, optimiser=name)).gib <= 12 for name in memory.OPTIMISERS}
    assert fits == {"rowwise_adagrad": True, "adagrad": True, "sparse_adam": False, "adam": False}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_tables_are_as_large_as_those_that_training_makes(dtype: str) -> None:
    network = Network(300, 700, replace(Hyper(), factors=16, dtype=dtype), 0, CPU)
    parts = budget(Shape(300, 700, 16, dtype=dtype)).parts
    assert network.bytes == parts["user_tables"] + parts["item_tables"] + parts["optimiser"]
    sampler = Sampler(np.ones(700, np.int64), 0.5, CPU)
    assert sampler.log_q.numel() * sampler.log_q.element_size() == parts["log_q"]


@pytest.mark.parametrize(
    ("batch", "negatives", "factors"), [(1024, 512, 64), (2048, 1024, 64), (2048, 16, 64)]
)
def test_a_batch_takes_what_is_computed(batch: int, negatives: int, factors: int) -> None:
    measured = step_peak(batch, negatives, factors)
    parts = budget(Shape(5_000, 5_000, factors, batch=batch, negatives=negatives), context=0).parts
    computed = parts["vectors"] + parts["scores"]
    assert measured <= 1.02 * computed and computed <= 1.15 * measured


def step_peak(batch: int, negatives: int, factors: int) -> int:
    """Bytes that torch's CPU allocator holds at most during a step, beyond what it held before."""
    hyper, random = replace(Hyper(), batch=batch, factors=factors, dtype="fp32"), np.random.default_rng(0)
    step = Step(Network(5_000, 5_000, hyper, 0, CPU), Sampler(np.ones(5_000, np.int64), 0.5, CPU), hyper, CPU)
    rows = np.zeros(batch, ROW)
    rows["user"], rows["item"] = random.integers(1, 5_001, batch), random.integers(0, 5_000, batch)
    rows["weight"] = 1
    step(rows, random.integers(0, 5_000, negatives), 0.1, random)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        step(rows, random.integers(0, 5_000, negatives), 0.1, random)
    held = most = 0
    for event in told.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def test_what_is_found_to_fit_fits_and_one_more_does_not() -> None:
    shape = replace(MANY, mlp=0)
    batch, factors = largest_batch(shape, CARD), largest_factors(shape, CARD)
    assert budget(replace(shape, batch=batch)).gib <= 12 or batch == memory.MOST_BATCH
    assert budget(replace(shape, factors=factors)).gib <= 12 < budget(replace(shape, factors=factors + 1)).gib


def test_a_plan_prefers_wide_tables_then_narrow_ones_then_smaller_batches() -> None:
    shape = replace(MANY, mlp=0)
    assert plan(shape, CARD).shape == replace(shape, dtype="fp32")
    narrow = plan(shape, replace(CARD, gib=2.6)).shape
    assert narrow == replace(shape, dtype="bf16")
    tight = budget(replace(shape, dtype="bf16", batch=500)).gib
    found = plan(shape, replace(CARD, gib=tight)).shape
    assert found.dtype == "bf16" and 500 <= found.batch < 510


def test_what_cannot_fit_is_refused_with_the_factors_that_would() -> None:
    with pytest.raises(
        SettingsError, match=r"needs 6\.\d+ GiB of the 3\.00 that the card has left; set factors to (\d+)"
    ) as told:
        plan(replace(MANY, mlp=0, factors=300), replace(CARD, gib=3.0))  # fmt: skip
    factors = int(str(told.value).partition("set factors to ")[2].split()[0])
    assert plan(replace(MANY, mlp=0, factors=factors), replace(CARD, gib=3.0))
    with pytest.raises(SettingsError, match="no number of factors fits"):
        plan(MANY, replace(CARD, gib=0.1))


def test_the_limit_is_what_the_settings_say_or_else_what_the_machine_has_left() -> None:
    config = Settings(_env_file=None, recommender_memory_gb=3.5)  # type: ignore[call-arg]
    assert limit_of(config, CPU) == Limit(3.5, "NIGHTSHIFT_RECOMMENDER_MEMORY_GB says", 0.0)
    free = limit_of(Settings(_env_file=None), CPU)  # type: ignore[call-arg]
    assert 0 < free.gib < 10_000 and "this machine" in free.of


def test_the_command_prints_the_table_and_one_line_of_json() -> None:
    command = [sys.executable, "-m", "training.ncf.memory", "--users", "1000000", "--items", "10000000"]
    environment = {**os.environ, "COLUMNS": "130"}

    def run(*more: str) -> str:
        done = subprocess.run(
            [*command, *more], capture_output=True, text=True, check=False, cwd=PROJECT, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "rowwise_adagrad bf16" in run("--factors", "64", "--mlp", "32")
    (way,) = json.loads(run("--optimiser", "adam", "--dtype", "bf16", "--json"))["ways"]
    assert way["total_gib"] == pytest.approx(
        budget(Shape(1_000_000, 10_000_000, 64, optimiser="adam", dtype="bf16")).total / GIB
    )
