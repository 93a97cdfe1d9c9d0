"""The memory budget of `training.qlora.memory` against what is measured.

    python -m benchmarks.qlora_memory [--quick] [--card-gb 12]

On any machine: one decoder layer of Llama 3 8B at its real size, random weights in 4-bit, on the CPU: bytes stored,
LoRA and its optimiser, bytes saved for backward, the allocator's peak, the loss in tiles and whole. With a CUDA device
also: the whole shape under a memory cap, by the nightly recipe and by plain transformers and peft. Prints tables, and
last one line of JSON; docs/language-memory.md explains them. Takes 2 GiB and some minutes; --quick a smaller layer.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

from nightshift.commands import plain, run_command
from nightshift.language.bases import quiet
from nightshift.settings import PROJECT
from training.qlora import memory
from training.qlora.memory import GIB, OURS, PLAIN, SHAPES, Shape

RANK = 16
TOKENS = (512, 1024)
LOSS_TOKENS, LOSS_VOCABULARIES = (128, 256), (64_128, 128_256)
ASKED = (1024, 2048, 4096)
WITHIN = 0.02  # of what is measured, the part of a layer must be
MOST_2048, MOST_4096, LONGER = 8.0, 9.5, 2.0  # GiB; GiB; times the longest context of transformers and peft
UNBOUNDED = 1 << 20  # positions: how long a row memory alone would let be
SMALL = Shape("quick", 512, 1792, 1, 8, 2, 64, 1_024, 8_192, tied=False)


@dataclass(frozen=True)
class Part:
    """Bytes of a part, measured and computed."""

    name: str
    measured: int
    computed: int

    @property
    def off(self) -> float:
        """How far the computed is from the measured, as a share of it."""
        return self.computed / self.measured - 1


def parts(shape: Shape, tokens: tuple[int, ...] = TOKENS) -> list[Part]:
    """One layer of the shape on the CPU."""
    import torch

    from benchmarks.qlora import layers

    model = layers.random_model(shape, torch.device("cpu"), layers=1, vocabulary=256)
    found = [
        Part(
            "4-bit weights",
            layers.stored_bytes(model),
            sum(memory.nf4_bytes(o * i) for o, i in shape.linears),
        )
    ]
    sizes = [size for out, into in shape.linears for size in (RANK * into, RANK * out)]
    worn = layers.worn(model, RANK)
    learns = [parameter for parameter in worn.parameters() if parameter.requires_grad]
    copies = 2 * sum(sizes)  # bf16, of autocast
    for name, way in layers.WAYS.items():
        for count in tokens:
            saved, peak = layers.layer_bytes(worn, count, way)
            bias = memory.mask_bytes(count, 1, way) * 2 // 3  # the boolean mask was there before
            kept = count * memory.saved_per_token(shape, RANK, way) + bias + copies
            most = kept + memory.backward_bytes(shape, count, way)
            found += [
                Part(f"saved, {name}, {count} tokens", saved, kept),
                Part(f"peak, {name}, {count} tokens", peak, most),
            ]
    held = sum(p.numel() * p.element_size() for p in learns)
    found.append(Part("LoRA, fp32", held, 4 * sum(sizes)))
    states = sum(memory.optimiser_bytes(size, eight_bit=True) for size in sizes)
    found.append(Part("optimiser, 8-bit", layers.optimiser_bytes(worn), states))
    return found


def losses() -> dict[str, dict[int, float]]:
    """Way → vocabulary → bytes a token that the loss takes at its peak, between two lengths."""
    from benchmarks.qlora import layers

    short, long = LOSS_TOKENS
    return {
        name: {
            vocabulary: (layers.loss_bytes(vocabulary, long, way) - layers.loss_bytes(vocabulary, short, way))
            / (long - short)
            for vocabulary in LOSS_VOCABULARIES
        }
        for name, way in (("tiles", OURS), ("whole", PLAIN))
    }


def computed(shape: Shape, limit: float) -> dict[str, Any]:
    """The budgets that the bars are set for; lengths as memory alone would have them."""
    far = replace(shape, context=UNBOUNDED)
    longest, theirs = (memory.largest(far, RANK, limit, way=way) for way in (OURS, PLAIN))
    return {
        "total_gib": {str(n): memory.budget(shape, n, RANK).gib for n in ASKED},
        "total_gib_transformers_peft": {str(n): memory.budget(shape, n, RANK, way=PLAIN).gib for n in ASKED},
        "longest": longest,
        "longest_transformers_peft": theirs,
        "longer": longest / theirs,
    }


def on_card(shape: str, limit: float) -> list[dict[str, Any]] | None:
    """The whole shape trained under the cap, each length and way in a process of its own; None without a device."""
    import torch

    if not torch.cuda.is_available():
        return None
    cap = limit - memory.CUDA_CONTEXT / GIB
    found = []
    for tokens in ASKED:
        for way in ("ours", "transformers_peft"):
            command = [sys.executable, "-m", "benchmarks.qlora.card", shape, way, str(tokens), str(cap)]
            done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
            said = done.stdout.strip().splitlines()
            told = json.loads(said[-1]) if done.returncode == 0 else {"failed": done.stderr[-500:]}
            found.append({"way": way, "tokens": tokens, **told})
    return found


def bars(found: dict[str, Any]) -> dict[str, bool]:
    """Bar → whether it holds: of what the card measured where there was one, else of computed totals."""
    how = "computed" if found["card"] is None else "measured"
    if found["card"] is None:
        total, longer = found["computed"]["total_gib"], found["computed"]["longer"]
    else:
        total, longer = measured_totals(found["card"]), measured_longer(found["card"])
    return {
        f"2,048 tokens in ≤ {MOST_2048} GiB ({how})": total["2048"] <= MOST_2048,
        f"4,096 tokens in ≤ {MOST_4096} GiB ({how})": total["4096"] <= MOST_4096,
        f"≥ {LONGER:g} x the longest context of transformers + peft ({how})": longer >= LONGER,
        f"every part of our layer within {WITHIN:.0%} of the measured": found["worst_part"] <= WITHIN,
    }


def measured_totals(card: list[dict[str, Any]]) -> dict[str, float]:
    """Tokens → GiB that our training took: torch's peak and CUDA's assumed share; infinite if it did not end."""
    return {
        str(one["tokens"]): one["allocated_gib"] + memory.CUDA_CONTEXT / GIB if _ended(one) else math.inf
        for one in card
        if one["way"] == "ours"
    }


def measured_longer(card: list[dict[str, Any]]) -> float:
    """At least how many times as long our rows are: our longest over the shortest that was too long for transformers
    and peft; 0 if none was."""
    ours = [one["tokens"] for one in card if one["way"] == "ours" and _ended(one)]
    theirs = [one["tokens"] for one in card if one["way"] != "ours" and one.get("out_of_memory")]
    return max(ours, default=0) / min(theirs, default=math.inf)


def _ended(one: dict[str, Any]) -> bool:
    return "failed" not in one and not one["out_of_memory"]


def show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=110)
    table = Table(title=f"one layer of {found['layer']}, MiB")
    for title in ("part", "measured", "computed", "off, %"):
        table.add_column(title, justify="left" if title == "part" else "right")
    for part in found["parts"]:
        sizes = (f"{part[key] / 2**20:,.2f}" for key in ("measured", "computed"))
        table.add_row(part["name"], *sizes, f"{100 * part['off']:.2f}")
    console.print(table)
    for name, by in found["loss_bytes_per_token"].items():
        told = ", ".join(f"vocabulary {size}: {value:,.0f}" for size, value in by.items())
        console.print(
            f"loss in {name}, bytes a token: {told}" if name == "tiles" else f"loss, {name}: {told}"
        )
    for bar, held in found["bars"].items():
        console.print(f"{'holds' if held else 'FAILS'}: {bar}", highlight=False)
    if found["card"] is None:
        console.print("The peak on a CUDA device was not measured: there is none here.")
    for one in found["card"] or []:
        console.print(one, highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.qlora_memory", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small layer: that it runs, not figures to keep"
    )
    parser.add_argument("--card-gb", type=float, default=12.0, metavar="GIB")
    options = parser.parse_args()
    quiet()
    whole = SHAPES["llama-3-8b"]
    shape = SMALL if options.quick else whole
    told = parts(shape)
    found: dict[str, Any] = {
        "layer": shape.name,
        "parts": [
            {"name": p.name, "measured": p.measured, "computed": p.computed, "off": p.off} for p in told
        ],
        "worst_part": max(abs(part.off) for part in told),
        "loss_bytes_per_token": losses(),
        "computed": computed(whole, options.card_gb),
        "card": None if options.quick else on_card(whole.name, options.card_gb),
    }
    found["bars"] = bars(found)
    show(found)
    print(json.dumps(plain(found), ensure_ascii=False))


if __name__ == "__main__":
    run_command(main)
