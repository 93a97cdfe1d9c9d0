"""What QLoRA training takes of a card, from the model's config alone: before anything is loaded.

    python -m training.qlora.memory --model NAME_OR_FOLDER [--seq 2048] [--rank 16] [--micro-batch 1] [--card-gb 12]
    python -m training.qlora.memory --shape llama-3-8b [--json]

Each term is a tensor that `training.qlora.tuning` really makes: NF4 weights with double quantisation, embedding, head
and norms in bf16, LoRA on every linear layer in fp32 under bf16 autocast, 8-bit AdamW, one hidden state kept per
layer and one layer recomputed at a time, a loss in tiles. `python -m benchmarks.qlora_memory` holds the terms against
what layers of real size take. What the allocator loses to fragmentation is not in them; CUDA's own share is assumed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightshift.commands import plain, quiet_libraries, run_command
from nightshift.errors import BaseModelError, SettingsError
from nightshift.language.bases import BaseRef, config_of, device_of
from nightshift.settings import Settings, settings
from training.card import CUDA_CONTEXT, GIB, free_of, most, positive

STEP = 64  # tokens: sequences are tried in multiples of it
MOST_ROWS = 64  # micro-batches are tried up to here

# bitsandbytes: a 4-bit block of 64 has an int8 scale, 256 of those an fp32 one; the tables of both and an offset.
# Dettmers et al. 2023, QLoRA, arXiv 2305.14314, section 3.
NF4_BLOCK, SCALE_BLOCK, NF4_TABLES = 64, 256, 4 * (16 + 256 + 1)
OPTIMISER_BLOCK, OPTIMISER_LEAST = 256, 4096  # of 8-bit states; a tensor with fewer elements keeps fp32 ones
TILE_TOKENS, TILE_WIDTH = (
    4096,
    32_768,
)  # of trl.kernels.chunked_logprob: what there is of the logits at a time


@dataclass(frozen=True)
class Shape:
    """A decoder of Llama's kind, as its config.json tells it. inner: width of the MLP; vocabulary: rows of the
    embedding; tied: the head is the embedding; context: positions that the model knows."""

    name: str
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    context: int
    tied: bool

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(out, in) of a layer's linear layers: q, k, v, o, gate, up, down."""
        q, kv = self.heads * self.head, self.kv_heads * self.head
        attention = ((q, self.hidden), (kv, self.hidden), (kv, self.hidden), (self.hidden, q))
        return (*attention, (self.inner, self.hidden), (self.inner, self.hidden), (self.hidden, self.inner))


# From the config.json of meta-llama/Meta-Llama-3-8B, Llama-3.2-3B and Llama-3.2-1B (huggingface.co/meta-llama); the
# first also in Grattafiori et al. 2024, The Llama 3 Herd of Models, arXiv 2407.21783, table 3.
SHAPES = {
    shape.name: shape
    for shape in (
        Shape("llama-3-8b", 4096, 14_336, 32, 32, 8, 128, 128_256, 8_192, tied=False),
        Shape("llama-3.2-3b", 3072, 8_192, 28, 24, 8, 128, 128_256, 131_072, tied=True),
        Shape("llama-3.2-1b", 2048, 8_192, 16, 32, 8, 64, 128_256, 131_072, tied=True),
    )
}


@dataclass(frozen=True)
class Way:
    """How it is trained. packed: several conversations to a row, which takes a mask and attention without grouped
    heads; rows that are computed at a time are joined to one.
    upcast: peft's prepare_model_for_kbit_training (embedding, head, norms and the residual stream in fp32).
    whole_logits: transformers' own loss. eight_bit: AdamW's states."""

    packed: bool = True
    upcast: bool = False
    whole_logits: bool = False
    eight_bit: bool = True


OURS = Way()
PLAIN = Way(packed=False, upcast=True, whole_logits=True)  # transformers + peft, as their guides have it


@dataclass(frozen=True)
class Budget:
    """What training takes at its peak. parts: name → bytes; their sum is `total`.

    layer, loss: bytes of the two things that the part `step` is the larger of: they are never there together.
    """

    shape: Shape
    tokens: int
    rank: int
    micro_batch: int
    parts: dict[str, int]
    layer: int
    loss: int

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def gib(self) -> float:
        return self.total / GIB

    @property
    def tensors_gib(self) -> float:
        """Without CUDA's own: what torch.cuda.max_memory_allocated counts."""
        return (self.total - self.parts["context"]) / GIB


@dataclass(frozen=True)
class Plan:
    """What to train with under `limit` GiB: at most the tokens asked for, and as many rows as fit then."""

    tokens: int
    micro_batch: int
    budget: Budget
    limit: float


def budget(shape: Shape, tokens: int, rank: int, micro_batch: int = 1, way: Way = OURS) -> Budget:
    """What training on rows of `tokens` tokens takes, `micro_batch` of them at a time."""
    lora = [n for out, into in shape.linears for n in (rank * into, rank * out)]
    parameters, rows = shape.layers * sum(lora), tokens * micro_batch
    stream, wide = (4, 4) if way.upcast else (2, 2)
    embeddings = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    layer = rows * saved_per_token(shape, rank, way) + backward_bytes(shape, rows, way)
    layer += mask_bytes(tokens, micro_batch, way)
    loss = loss_bytes(shape, rows, way)
    parts = {
        "weights": shape.layers * sum(nf4_bytes(out * into) for out, into in shape.linears),
        "embeddings": embeddings * wide,
        "norms": (2 * shape.layers + 1) * shape.hidden * wide,
        "lora": 6 * parameters,  # fp32, and the bf16 copies that autocast keeps while a step runs
        "gradients": 4 * parameters,
        "optimiser": shape.layers * sum(optimiser_bytes(n, eight_bit=way.eight_bit) for n in lora),
        "hidden_states": rows * (shape.layers + 1) * shape.hidden * stream,
        "step": max(layer, loss),
        "context": round(CUDA_CONTEXT),
    }
    return Budget(shape, tokens, rank, micro_batch, parts, layer, loss)


def nf4_bytes(parameters: int) -> int:
    """A matrix in NF4 with double quantisation: 0.516 bytes a parameter."""
    scales = -(-parameters // NF4_BLOCK)
    return -(-parameters // 2) + scales + 4 * -(-scales // SCALE_BLOCK) + NF4_TABLES


def optimiser_bytes(parameters: int, *, eight_bit: bool) -> int:
    """AdamW's two states of one tensor. Paged ones may leave the card when it is full; here they stay."""
    if not eight_bit or parameters < OPTIMISER_LEAST:
        return 8 * parameters
    return 2 * (parameters + 4 * -(-parameters // OPTIMISER_BLOCK))


def saved_per_token(shape: Shape, rank: int, way: Way = OURS) -> int:
    """Bytes a token that one recomputed layer keeps for its backward, without the mask."""
    queries = shape.heads * shape.head
    keys = (shape.heads if way.packed else shape.kv_heads) * shape.head
    rotation = 2 * 2 * shape.head  # cos and sin
    attention = 2 * (2 * queries + 2 * keys) + 4 * shape.heads + rotation  # its log-sums are fp32
    low_rank = 2 * rank * len(shape.linears)
    down = 2 * shape.inner  # what LoRA at the last projection reads
    if (
        way.upcast
    ):  # the first norm keeps the layer's input; q, k, v, gate and up each read a bf16 copy of their own
        return 4 * shape.hidden + 8 + 5 * 2 * shape.hidden + attention + low_rank + down + 3 * 4 * shape.inner
    norms = 2 * (4 * shape.hidden + 4) + 2 * 2 * shape.hidden  # fp32 inside, bf16 behind
    return norms + attention + low_rank + down + 3 * 2 * shape.inner


def backward_bytes(shape: Shape, rows: int, way: Way = OURS) -> int:
    """What the backward of one recomputed layer holds at most beside what is saved, for `rows` tokens.

    Either at a projection of the MLP: its matrix in bf16, and a gradient as wide as the MLP; or, with long rows,
    between them: two such gradients. In fp32 with their bf16 forms. And the layer's own gradient.
    """
    at_projection, between, own = (6, 10, 4) if way.upcast else (2, 4, 2)
    matrix = 2 * max(out * into for out, into in shape.linears)
    widest = max(matrix + at_projection * rows * shape.inner, between * rows * shape.inner)
    return widest + own * rows * shape.hidden


def mask_bytes(tokens: int, micro_batch: int, way: Way = OURS) -> int:
    """Which token of a packed row may see which: as booleans, and as attention's bf16 bias.

    TRL joins the packed rows of a micro-batch to one, so it grows with the square of both.
    """
    return 3 * (tokens * micro_batch) ** 2 if way.packed else 0


def loss_bytes(shape: Shape, rows: int, way: Way = OURS) -> int:
    """The loss and its gradient with regard to the last hidden states, of `rows` tokens.

    Whole: logits, log-probabilities and their gradient in fp32, and the fp32 head's bf16 copy. In tiles: a bf16 one,
    and the gradient in fp32 and bf16.
    """
    if way.whole_logits:
        head = 2 * shape.vocabulary * shape.hidden if way.upcast else 0
        return 12 * rows * shape.vocabulary + head
    tile = 2 * min(rows, TILE_TOKENS) * min(shape.vocabulary, TILE_WIDTH)
    return tile + rows * shape.hidden * (4 + 2 + 4)  # the last norm's fp32 input is the other 4


def largest(shape: Shape, rank: int, limit: float, micro_batch: int = 1, way: Way = OURS) -> int:
    """The most tokens a row may have under `limit` GiB, in steps of STEP; 0 if not even one step fits.

    Not more than the model knows positions for.
    """
    steps = most(
        shape.context // STEP, lambda count: budget(shape, count * STEP, rank, micro_batch, way).gib <= limit
    )
    return steps * STEP


def plan(shape: Shape, tokens: int, rank: int, limit: float, way: Way = OURS) -> Plan:
    """Rows of `tokens` tokens, or as many as fit under `limit` GiB, and how many of them at a time.

    Raises:
        SettingsError: not even a row of STEP tokens fits.
    """
    check_fits(shape, STEP, rank, limit, way=way)
    if budget(shape, tokens, rank, way=way).gib > limit:
        tokens = largest(shape, rank, limit, way=way)
    count = most(MOST_ROWS, lambda rows: budget(shape, tokens, rank, rows, way).gib <= limit)
    return Plan(tokens, count, budget(shape, tokens, rank, count, way), limit)


def check_fits(
    shape: Shape, tokens: int, rank: int, limit: float, micro_batch: int = 1, way: Way = OURS
) -> Budget:
    """The budget, if it is within `limit` GiB.

    Raises:
        SettingsError: it is not; says what would fit.
    """
    found = budget(shape, tokens, rank, micro_batch, way)
    if found.gib <= limit:
        return found
    asked = f"{shape.name}, {micro_batch} x {tokens} tokens, rank {rank}"
    needs = f"{asked}: needs {found.gib:.2f} GiB of {limit:g}"
    fits = largest(shape, rank, limit, way=way)
    if fits == 0:
        raise SettingsError(
            f"{needs}; no sequence fits: set NIGHTSHIFT_LANGUAGE_RANK lower, or NIGHTSHIFT_LANGUAGE_MODEL to a "
            "smaller model"
        )
    raise SettingsError(
        f"{needs}; the largest sequence that fits is {fits}: set NIGHTSHIFT_LANGUAGE_TOKENS to at most that"
    )


def limit_of(config: Settings) -> float | None:
    """GiB that training may take: what the settings say, or ROOM of what the CUDA device has left; None on a CPU."""
    if config.language_vram_gb is not None:
        return config.language_vram_gb
    device = device_of(config)
    if device.type != "cuda":
        return None
    return free_of(device)


def shape_of(config: Settings, ref: BaseRef) -> Shape:
    """The shape of a base, from its config.json; of a model on the hub that one file is fetched.

    Raises:
        BaseModelError: there is no such file, it cannot be fetched, or it is of a model of another kind.
    """
    path = config_of(config, ref)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BaseModelError(f"{path} is no JSON: {error}") from error
    return read_shape(str(ref), told)


def read_shape(name: str, config: Mapping[str, Any]) -> Shape:
    """A shape from what a config.json holds.

    Raises:
        BaseModelError: a size is missing or no number, or it has experts: the budget knows dense models of Llama's
            kind.
    """
    try:
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        if int(config.get("num_local_experts") or config.get("num_experts") or 1) > 1:
            raise KeyError("dense layers")
        return Shape(
            name=name,
            hidden=hidden,
            inner=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head=int(config.get("head_dim") or hidden // heads),
            vocabulary=int(config["vocab_size"]),
            context=int(config["max_position_embeddings"]),
            tied=bool(config.get("tie_word_embeddings", False)),
        )
    except KeyError as error:
        raise BaseModelError(
            f"{name}: its config.json has no {error.args[0]}; the memory budget knows dense models of Llama's kind"
        ) from error
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise BaseModelError(
            f"{name}: its config.json has sizes that are no numbers ({error}); the memory budget knows dense models of "
            "Llama's kind"
        ) from error


# --- the command -------------------------------------------------------------------------------------------

TITLES = {
    "weights": "linear weights, NF4 + double quantisation",
    "embeddings": "embedding and head",
    "norms": "norms",
    "lora": "LoRA, fp32 and autocast's bf16 copies",
    "gradients": "its gradients, fp32",
    "optimiser": "its optimiser, 8-bit AdamW",
    "hidden_states": "hidden states kept, one per layer",
    "step": "the larger of the two below",
    "context": "CUDA context and workspace (assumed)",
}


def answer(
    shape: Shape, tokens: int, rank: int, micro_batch: int, limit: float, way: Way = OURS
) -> dict[str, Any]:
    """What the command prints: GiB by part, and what fits."""
    found = budget(shape, tokens, rank, micro_batch, way)
    longest = largest(shape, rank, limit, micro_batch, way)
    return {
        "model": shape.name,
        "tokens": tokens,
        "rank": rank,
        "micro_batch": micro_batch,
        "limit_gib": limit,
        "parts_gib": {name: size / GIB for name, size in found.parts.items()},
        "layer_gib": found.layer / GIB,
        "loss_gib": found.loss / GIB,
        "total_gib": found.gib,
        "fits": found.gib <= limit,
        "largest_tokens": longest,
        "largest_micro_batch": most(
            MOST_ROWS, lambda rows: budget(shape, tokens, rank, rows, way).gib <= limit
        ),
    }


def show(ours: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    rows = f"{ours['micro_batch']} x {ours['tokens']} tokens"
    table = Table(title=f"{ours['model']}, {rows}, rank {ours['rank']}: GiB at the peak")
    for title in ("", "this recipe", "transformers + peft"):
        table.add_column(title, justify="left" if not title else "right")
    for name, title in TITLES.items():
        table.add_row(title, *(f"{one['parts_gib'][name]:.2f}" for one in (ours, other)))
    for name, title in (
        ("layer_gib", "  one layer recomputed, and its gradients"),
        ("loss_gib", "  the loss"),
    ):
        table.add_row(title, *(f"{one[name]:.2f}" for one in (ours, other)), end_section=name == "loss_gib")
    table.add_row("total", *(f"{one['total_gib']:.2f}" for one in (ours, other)))
    table.add_row("the card's limit", *[f"{ours['limit_gib']:.2f}"] * 2)
    table.add_row("fits", *("yes" if one["fits"] else "no" for one in (ours, other)))
    table.add_row("longest sequence that fits", *(f"{one['largest_tokens']}" for one in (ours, other)))
    table.add_row("rows of it at a time", *(f"{one['largest_micro_batch']}" for one in (ours, other)))
    Console(width=100).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.qlora.memory", description=__doc__.splitlines()[0]
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", help="small, a folder or a hub's name; default NIGHTSHIFT_LANGUAGE_MODEL")
    model.add_argument("--shape", choices=sorted(SHAPES), help="a shape written down here: no network")
    parser.add_argument("--seq", type=positive, default=None, metavar="TOKENS")
    parser.add_argument("--rank", type=positive, default=None)
    parser.add_argument("--micro-batch", type=positive, default=1, metavar="ROWS")
    parser.add_argument("--card-gb", type=float, default=12.0, metavar="GIB", help="the card's limit")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of the table")
    options = parser.parse_args()

    quiet_libraries()
    config = settings()
    shape = SHAPES[options.shape] if options.shape else _shape(config, options.model)
    asked = (
        options.seq or config.language_tokens,
        options.rank or config.language_rank,
        options.micro_batch,
        options.card_gb,
    )
    ours, other = answer(shape, *asked), answer(shape, *asked, way=PLAIN)
    if options.json:
        print(json.dumps(plain({**ours, "transformers_peft": other}), ensure_ascii=False))
    else:
        show(ours, other)


def _shape(config: Settings, model: str | None) -> Shape:
    from training.qlora.small import base_ref

    if model is not None:
        config = config.model_copy(update={"language_model": model})
    return shape_of(config, base_ref(config, print))


if __name__ == "__main__":
    run_command(main)
