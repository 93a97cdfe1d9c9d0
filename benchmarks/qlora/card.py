"""QLoRA on a CUDA device under a memory cap, on a model with random weights: peak and tokens/s.

One training a process: `python -m benchmarks.qlora.card SHAPE WAY TOKENS CAP`; prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.qlora.layers import random_model
from nightshift.commands import quiet_libraries
from nightshift.language.bases import Base, BaseRef, quiet
from nightshift.language.chat import Encoded, prepare
from training.qlora.memory import GIB, SHAPES, Shape

STEPS, RANK, RATE = 8, 16, 2e-4


def ours(shape: Shape, tokens: int, device: Any) -> float:
    """tokens/s of the recipe's own `tune`, one full row a step."""
    import torch

    from training.qlora.tuning import Tuning, tune

    random = torch.Generator().manual_seed(0)
    rows = torch.randint(3, shape.vocabulary, (STEPS + 1, tokens), generator=random).tolist()
    talks = [Encoded(row, [0] + [1] * (tokens - 1)) for row in rows]
    base = Base(BaseRef("random"), random_model(shape, device), _tokenizer(), "random", device)
    how = Tuning(rank=RANK, tokens=tokens, rows=1, steps=STEPS, keep_steps=10 * STEPS, check_steps=10 * STEPS)
    with tempfile.TemporaryDirectory() as folder:
        return tune(base, talks[:-1], talks[-1:], how, Path(folder)).tokens_per_s


def plain(shape: Shape, tokens: int, device: Any) -> float:
    """tokens/s of transformers and peft as their guides have it: k-bit preparation, checkpointing, whole logits."""
    import bitsandbytes as bnb
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    model: Any = prepare_model_for_kbit_training(
        random_model(shape, device), gradient_checkpointing_kwargs={"use_reentrant": False}
    )
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, lora).train()
    optimiser = bnb.optim.PagedAdamW8bit([p for p in model.parameters() if p.requires_grad], lr=RATE)
    ids = torch.randint(3, shape.vocabulary, (1, tokens), device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    step()  # the first one warms up
    _wait(device)
    began = time.perf_counter()
    for _ in range(STEPS - 1):
        step()
    _wait(device)
    return (STEPS - 1) * tokens / (time.perf_counter() - began)


WAYS: dict[str, Callable[[Shape, int, Any], float]] = {"ours": ours, "transformers_peft": plain}


def measure(name: str, way: str, tokens: int, cap: float) -> dict[str, Any]:
    """Peaks in GiB: allocated by tensors, reserved by torch. What the CUDA context takes is outside both.

    cap: GiB that torch may reserve; beyond it, `out_of_memory`.
    """
    import torch

    device = torch.device("cuda")
    torch.cuda.set_per_process_memory_fraction(cap * GIB / torch.cuda.get_device_properties(0).total_memory)
    told: dict[str, Any] = {
        "shape": name,
        "way": way,
        "tokens": tokens,
        "cap_gib": cap,
        "out_of_memory": False,
    }
    try:
        told["tokens_per_s"] = WAYS[way](SHAPES[name], tokens, device)
    except torch.cuda.OutOfMemoryError:
        told["out_of_memory"] = True
    return told | {
        "allocated_gib": torch.cuda.max_memory_allocated() / GIB,
        "reserved_gib": torch.cuda.max_memory_reserved() / GIB,
        "device": torch.cuda.get_device_name(),
    }


def _wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def _tokenizer() -> Any:
    """One that knows three tokens: the rows are tokens already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    begin, end, pad = "<s>", "</s>", "<pad>"
    raw = Tokenizer(models.WordLevel({begin: 0, end: 1, pad: 2}, unk_token=begin))
    return prepare(
        PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=begin, eos_token=end, pad_token=pad)
    )


if __name__ == "__main__":
    quiet_libraries()
    quiet()
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
