"""What training a recommender takes of a card, from the numbers of users and items alone: before a table is made.

    python -m training.ncf.memory --users 1000000 --items 10000000 --factors 64 [--mlp 32] [--card-gb 12]
    python -m training.ncf.memory … --optimiser rowwise_adagrad|adagrad|sparse_adam|adam --dtype bf16|fp32 [--json]

The terms are tensors that `training.ncf.large` really makes with row-wise Adagrad; for the other optimisers, and for
an MLP tower's tables, which the large path has not, what the same loop would hold with torch's own. The batch's terms
are held against what a step takes on a CPU (`python -m benchmarks.recommender_scale`). CUDA's own share is assumed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nightshift.commands import plain, quiet_libraries, run_command
from nightshift.errors import SettingsError
from nightshift.machine import free_bytes
from nightshift.settings import Settings
from training.card import CUDA_CONTEXT, GIB, ROOM, free_of, most, positive

WIDTH = {"fp32": 4, "bf16": 2}  # bytes of a weight
# Optimiser → states of a weight's size each, and whether its gradient is as large as the tables. torch keeps a state
# in its weight's type. Row-wise Adagrad keeps one float32 a row instead.
OPTIMISERS = {
    "rowwise_adagrad": (0, False),
    "adagrad": (1, False),
    "sparse_adam": (2, False),
    "adam": (2, True),
}
MOST_BATCH, MOST_FACTORS = 1 << 16, 4_096  # tried up to here
LEAST_BATCH = 64  # with fewer positives at a time a night would not end
# Bytes of a cell [batch, negatives] at the step's peak: four float32 tensors of autograd's and the mask, as measured on
# a CPU; on CUDA autocast's bfloat16 product beside them, from reading the code.
CELL, CELL_AUTOCAST = 4 * 4 + 1, 2
VECTORS = 3  # copies of the rows that a batch reads: themselves, their gradients, and those summed by row


@dataclass(frozen=True)
class Shape:
    """What is trained. mlp: width of an MLP tower's tables beside the GMF's; 0 = none, as the large path has it.

    Tables: user [users + 1, factors], item [items, factors], bias [items, 1] in float32.
    """

    users: int
    items: int
    factors: int
    mlp: int = 0
    batch: int = 2_048
    negatives: int = 1_024
    optimiser: str = "rowwise_adagrad"
    dtype: str = "fp32"

    def __str__(self) -> str:
        tower = f" + MLP {self.mlp}" if self.mlp else ""
        return f"{self.users:,} users x {self.items:,} items, {self.factors} factors{tower}, {self.dtype}"


@dataclass(frozen=True)
class Budget:
    """What training takes at its peak. parts: name → bytes; their sum is `total`."""

    shape: Shape
    parts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def gib(self) -> float:
        return self.total / GIB


def budget(shape: Shape, *, context: float = CUDA_CONTEXT) -> Budget:
    """context: bytes of the process beside its tensors, 0 on a CPU."""
    rows = shape.users + 1 + shape.items
    width, (states, dense) = WIDTH[shape.dtype], OPTIMISERS[shape.optimiser]
    weights = rows * (shape.factors + shape.mlp)
    tables = weights * width
    bias = 4 * shape.items
    if shape.optimiser == "rowwise_adagrad":
        optimiser = 4 * (rows * (2 if shape.mlp else 1) + shape.items)
    else:
        optimiser = states * (tables + bias)
    read = 2 * shape.batch + shape.negatives  # rows that a batch reads
    pairs = shape.batch * (1 + shape.negatives)
    return Budget(
        shape,
        {
            "user_tables": (shape.users + 1) * (shape.factors + shape.mlp) * width,
            "item_tables": shape.items * (shape.factors + shape.mlp) * width + bias,
            "optimiser": optimiser,
            "gradients": tables + bias if dense else 0,
            "log_q": 4 * shape.items,
            "vectors": 4 * VECTORS * read * (shape.factors + shape.mlp + 1),
            "scores": pairs * (CELL + (CELL_AUTOCAST if context else 0)),
            # Both layers of the tower, their ReLUs and gradients, for each candidate of each row.
            "tower": 4 * 3 * pairs * (shape.mlp + shape.mlp // 2),
            "context": round(context),
        },
    )


@dataclass(frozen=True)
class Limit:
    """GiB that training may take, of what (for a message), and what a process takes of it beside its tensors."""

    gib: float
    of: str
    context: float = CUDA_CONTEXT


def plan(shape: Shape, limit: Limit, dtypes: tuple[str, ...] = ("fp32", "bf16")) -> Budget:
    """The widest of `dtypes` whose tables fit with a batch as asked for; with none, the largest batch that fits.

    Raises:
        SettingsError: not even LEAST_BATCH positives fit; says what does.
    """
    for dtype in dtypes:
        found = budget(replace(shape, dtype=dtype), context=limit.context)
        if found.gib <= limit.gib:
            return found
    narrow = replace(shape, dtype=dtypes[-1])
    batch, least = largest_batch(narrow, limit), min(LEAST_BATCH, shape.batch)
    if batch >= least:
        return budget(replace(narrow, batch=min(batch, shape.batch)), context=limit.context)
    needs = budget(replace(narrow, batch=least), context=limit.context).gib
    factors = largest_factors(replace(narrow, batch=least), limit)
    way = f"set factors to {factors} at most" if factors else "no number of factors fits"
    raise SettingsError(
        f"{narrow}, {shape.optimiser}: needs {needs:.2f} GiB of the {limit.gib:.2f} that {limit.of}; "
        f"{way} (Hyper in training/ncf/large.py, or a study's), or NIGHTSHIFT_RECOMMENDER_MEMORY_GB higher"
    )


def largest_batch(shape: Shape, limit: Limit) -> int:
    """The most positives a batch may have, up to MOST_BATCH; 0 if not even one."""
    return most(MOST_BATCH, lambda n: budget(replace(shape, batch=n), context=limit.context).gib <= limit.gib)


def largest_factors(shape: Shape, limit: Limit) -> int:
    """The most factors, the tower's width as it is; 0 if not even one."""
    return most(
        MOST_FACTORS, lambda n: budget(replace(shape, factors=n), context=limit.context).gib <= limit.gib
    )


def limit_of(config: Settings, device: Any) -> Limit:
    """What the settings say, or else ROOM of what the device (torch.device), or this machine, has left."""
    context = CUDA_CONTEXT if device.type == "cuda" else 0.0
    if config.recommender_memory_gb is not None:
        return Limit(config.recommender_memory_gb, "NIGHTSHIFT_RECOMMENDER_MEMORY_GB says", context)
    if device.type == "cuda":
        return Limit(free_of(device), "the card has left", context)
    return Limit(ROOM * free_bytes() / GIB, "this machine has left", context)


# --- the command -------------------------------------------------------------------------------------------

TITLES = {
    "user_tables": "user tables",
    "item_tables": "item tables and biases",
    "optimiser": "optimiser",
    "gradients": "gradients as large as the tables",
    "log_q": "chances of being drawn (logQ)",
    "vectors": "a batch's rows and their gradients",
    "scores": "its scores, [positives, negatives]",
    "tower": "a tower's layers over them",
    "context": "CUDA context and workspace (assumed)",
}


def answer(shape: Shape, limit: Limit) -> dict[str, Any]:
    """What the command prints of one way: GiB by part, and what fits."""
    found = budget(shape, context=limit.context)
    return {
        "optimiser": shape.optimiser,
        "dtype": shape.dtype,
        "parts_gib": {name: size / GIB for name, size in found.parts.items()},
        "tables_and_states_gb": sum(
            found.parts[name] for name in ("user_tables", "item_tables", "optimiser", "gradients")
        )
        / 1e9,
        "total_gib": found.gib,
        "limit_gib": limit.gib,
        "fits": found.gib <= limit.gib,
        "largest_batch": largest_batch(shape, limit),
        "largest_factors": largest_factors(shape, limit),
    }


def show(shape: Shape, ways: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    tower = f" + MLP {shape.mlp}" if shape.mlp else ""
    title = (
        f"{shape.users:,} users, {shape.items:,} items, {shape.factors} factors{tower}; "
        f"{shape.batch:,} positives x {shape.negatives:,} shared negatives: GiB at the peak"
    )
    table = Table(title=title)
    for name in ("", *(f"{one['optimiser']} {one['dtype']}" for one in ways)):
        table.add_column(name, justify="right" if name else "left")
    for name, said in TITLES.items():
        last = name == "context"
        table.add_row(said, *(f"{one['parts_gib'][name]:.2f}" for one in ways), end_section=last)
    table.add_row("total", *(f"{one['total_gib']:.2f}" for one in ways))
    table.add_row(
        "tables, states, gradients in GB (1e9)", *(f"{one['tables_and_states_gb']:.1f}" for one in ways)
    )
    table.add_row("the card's limit", *(f"{one['limit_gib']:.2f}" for one in ways))
    table.add_row("fits", *("yes" if one["fits"] else "no" for one in ways))
    table.add_row("largest batch that fits", *(f"{one['largest_batch']:,}" for one in ways))
    table.add_row("most factors that fit", *(f"{one['largest_factors']:,}" for one in ways))
    Console(width=130).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.ncf.memory", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--users", type=positive, required=True)
    parser.add_argument("--items", type=positive, required=True)
    parser.add_argument("--factors", type=positive, default=64)
    parser.add_argument(
        "--mlp", type=positive, default=0, help="width of an MLP tower's tables beside the GMF's"
    )
    parser.add_argument("--batch", type=positive, default=Shape.batch, help="positives")
    parser.add_argument("--negatives", type=positive, default=Shape.negatives, help="shared by a batch")
    parser.add_argument("--optimiser", choices=list(OPTIMISERS), help="default: each beside the others")
    parser.add_argument(
        "--dtype", choices=list(WIDTH), help="of the tables; default: both for row-wise Adagrad"
    )
    parser.add_argument("--card-gb", type=float, default=12.0, metavar="GIB", help="the card's limit")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of the table")
    options = parser.parse_args()

    quiet_libraries()
    shape = Shape(
        options.users, options.items, options.factors, options.mlp, options.batch, options.negatives
    )
    if options.optimiser or options.dtype:
        ways = [(options.optimiser or "rowwise_adagrad", options.dtype or "fp32")]
    else:
        ways = [(name, "fp32") for name in OPTIMISERS] + [("rowwise_adagrad", "bf16")]
    limit = Limit(options.card_gb, f"--card-gb {options.card_gb:g} says")
    told = [answer(replace(shape, optimiser=name, dtype=dtype), limit) for name, dtype in ways]
    if options.json:
        print(
            json.dumps(plain({"users": shape.users, "items": shape.items, "ways": told}), ensure_ascii=False)
        )
    else:
        show(shape, told)


if __name__ == "__main__":
    run_command(main)
