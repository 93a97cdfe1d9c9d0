"""One measurement in a process of its own, so that its peak of memory is its own: `python -m benchmarks.scale.cost …`.

    tables OPTIMISER ITEMS DTYPE STEPS     steps on tables of so many items, and their CPU time
    stream ROWS FOLDER                     so many coded interactions to shards and through an epoch's blocks
    make ROWS FOLDER                       a lake of so many interactions
    lake ROWS FOLDER [MEMORY]              that lake, as text, to integers, shards and through an epoch's blocks;
                                           MEMORY: what DuckDB may take, such as 512MB, instead of the large path's own
Prints one line of JSON. Where a measurement has phases, `…_peak_gib` is the process's peak by the end of each.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from benchmarks.scale import world
from nightshift.commands import quiet_libraries

quiet_libraries()

import torch  # noqa: E402

from benchmarks.scale.rivals import CPU, step_of  # noqa: E402
from training.ncf import coded  # noqa: E402
from training.ncf.large import Hyper, Network, Sampler, Step  # noqa: E402
from training.ncf.shards import Shards, joined, number_of, write_set  # noqa: E402

USERS, ITEMS, FACTORS = 100_000, 100_000, 64
WARM, TRAINED = 3, 50  # steps before the clock starts; batches of an epoch that are trained on
PER_DAY = 500_000


def tables(optimiser: str, items: int, dtype: str, steps: int) -> dict[str, Any]:
    hyper = replace(Hyper(), factors=FACTORS, dtype=dtype)
    random = np.random.default_rng(0)
    network = Network(USERS, items, hyper, 0, CPU)
    sampler = Sampler(np.ones(items, np.int64), hyper.popular, CPU)
    step = step_of(optimiser, network, sampler, hyper)
    block = next(world.rows(USERS, items, hyper.batch * (steps + WARM), seed=0, batch=1 << 30))
    began = 0.0
    for n in range(steps + WARM):
        if n == WARM:
            began = process_time()
        rows = block[n * hyper.batch : (n + 1) * hyper.batch]
        step(rows, sampler.draw(block["item"], hyper.negatives, random), hyper.learning_rate, random)
    each = (process_time() - began) / steps
    return {"cpu_s_per_million": each / hyper.batch * 1e6, "cpu_ms_per_step": 1e3 * each}


def stream(count: int, folder: Path) -> dict[str, Any]:
    """Tables of ITEMS, and an epoch of coded interactions."""
    began = process_time()
    number, random = number_of(count), np.random.default_rng(0)
    told = world.rows(USERS, ITEMS, count, seed=0)
    counts = write_set(folder, "all", told, number=number, users=USERS, items=ITEMS, random=random)
    written = process_time()
    found = _epoch(joined(folder, {"all": counts}, number), random)
    assert found["positives"] == count
    return {"write_cpu_s": written - began, **found, "shards": number}


def _epoch(shards: Shards, random: np.random.Generator) -> dict[str, Any]:
    """All blocks read once; TRAINED batches, spread over them, are trained on, the others only read."""
    hyper = replace(Hyper(), dtype="fp32")
    sampler = Sampler(shards.counts, hyper.popular, CPU)
    step = Step(Network(shards.users, shards.items, hyper, 0, CPU), sampler, hyper, CPU)
    each, seen, trained, reading = max(1, shards.rows // hyper.batch // TRAINED), 0, 0, 0.0
    began = mark = process_time()
    for block in shards.blocks(random):
        reading += process_time() - mark
        for n, start in enumerate(range(0, len(block), hyper.batch)):
            if n % each == 0:
                rows = block[start : start + hyper.batch]
                step(rows, sampler.draw(block["item"], hyper.negatives, random), 0.1, random)
                trained += 1
        seen += len(block)
        mark = process_time()
    assert seen == shards.rows
    spent = process_time() - began - reading
    return {"positives": seen, "read_cpu_s": reading, "steps": trained, "steps_cpu_s": spent}


def lake(count: int, folder: Path, memory: str = coded.MEMORY) -> dict[str, Any]:
    """The lake is there already: `benchmarks.scale.world` made it in another process."""
    from nightshift.lake import Lake

    coded.MEMORY = memory
    there, random = Lake(folder / "lake"), np.random.default_rng(0)
    days = there.days()
    began = process_time()
    with coded.code(there, days[0], days[-1], folder / "scratch") as window:
        done = process_time()
        found = {"code_cpu_s": done - began, "code_peak_gib": peak_gib()}
        counts = window.write_shards("all", 0, len(days), random)
        seen = sum(map(len, window.seen()))
        found |= {"shards_cpu_s": process_time() - done, "shards_peak_gib": peak_gib()}
        shards = joined(window.folder / "shards", {"all": counts}, window.number)
        return {**found, **_epoch(shards, random), "pairs_met": seen, "days": len(days)}


def make(count: int, folder: Path) -> dict[str, Any]:
    world.write_lake(folder / "lake", USERS, ITEMS, min(PER_DAY, count), max(1, count // PER_DAY))
    return {"interactions": count}


def peak_gib() -> float:
    """Of this process so far, resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    torch.set_num_threads(1)
    kind, *rest = sys.argv[1:]
    if kind == "tables":
        found = tables(rest[0], int(rest[1]), rest[2], int(rest[3]))
    else:
        found = {"stream": stream, "lake": lake, "make": make}[kind](int(rest[0]), Path(rest[1]), *rest[2:])
    print(json.dumps({**found, "peak_gib": peak_gib()}))


if __name__ == "__main__":
    main()
