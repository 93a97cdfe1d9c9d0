"""Decoders of any shape with random weights in 4-bit, and what a part of one takes, measured on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from training.qlora.memory import OURS, PLAIN, Shape, Way

SPREAD = 0.02  # standard deviation of random weights, as Llama starts


def random_model(
    shape: Shape, device: Any, *, layers: int | None = None, vocabulary: int | None = None
) -> Any:
    """A Llama in NF4 with double quantisation and bf16, made on `device`, matrix by matrix.

    layers, vocabulary: fewer than the shape has, to look at a part.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    told: dict[str, Any] = {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": layers or shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head,
        "vocab_size": vocabulary or shape.vocabulary,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": shape.tied,
        "attn_implementation": "sdpa",
        "dtype": torch.bfloat16,
    }
    config = LlamaConfig(**told)
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
    head = model.lm_head
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.Linear) and child is not head:
                setattr(parent, name, _quantised(child.out_features, child.in_features, device))
            elif isinstance(child, torch.nn.Embedding | torch.nn.Linear):
                child.weight = torch.nn.Parameter(_random(child.weight.shape, device), requires_grad=False)
            elif hasattr(child, "variance_epsilon"):
                ones = torch.ones(shape.hidden, dtype=torch.bfloat16, device=device)
                child.weight = torch.nn.Parameter(ones, requires_grad=False)
    with torch.device(device):
        model.model.rotary_emb = type(model.model.rotary_emb)(config)
    model.tie_weights()
    model.is_loaded_in_4bit = True
    return model.requires_grad_(False).eval()


def _random(size: Any, device: Any) -> Any:
    import torch

    return torch.empty(size, dtype=torch.bfloat16, device=device).normal_(0, SPREAD)


def _quantised(out: int, into: int, device: Any) -> Any:
    import bitsandbytes as bnb
    import torch

    layer: Any = bnb.nn.Linear4bit(
        into, out, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4", device="meta"
    )
    weights: Any = bnb.nn.Params4bit(
        _random((out, into), device), requires_grad=False, quant_type="nf4", compress_statistics=True
    )
    layer.weight = weights.to(device)
    layer.support_avx512bf16_for_cpu = False
    return layer


def worn(model: Any, rank: int) -> Any:
    """The model with LoRA in fp32 on every linear layer, as training has it on a CUDA device.

    peft asks whether CUDA's autocast is on, so on a CPU it would make fp32 copies of every input: they are turned off.
    """
    from peft import LoraConfig, get_peft_model

    found: Any = get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    for module in found.modules():
        if hasattr(module, "lora_A"):
            module.cast_input_dtype_enabled = False
    return found


def stored_bytes(model: Any) -> int:
    """Of the quantised matrices: weights, their scales, the scales' scales, and tables."""
    import bitsandbytes as bnb

    total = 0
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            weight: Any = module.weight
            state, scales = weight.quant_state, weight.quant_state.state2
            parts = [weight, state.absmax, state.code, state.offset, scales.absmax, scales.code]
            total += sum(part.numel() * part.element_size() for part in parts)
    return total


def optimiser_bytes(model: Any) -> int:
    """Of AdamW's 8-bit states of what learns, after a step; without the tables that all tensors share."""
    import bitsandbytes as bnb
    import torch

    learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser: Any = bnb.optim.AdamW8bit(learns)
    for parameter in learns:
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    return sum(
        value.numel() * value.element_size()
        for state in optimiser.state.values()
        for name, value in state.items()
        if torch.is_tensor(value) and not name.startswith("qmap")
    )


def layer_bytes(model: Any, tokens: int, way: Way) -> tuple[int, int]:
    """(saved for backward, peak while it is recomputed and goes backward) of the first layer, in bytes.

    model: `worn`. What is there before, such as the input and the LoRA gradients, does not count.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    inner = model.get_base_model().model
    layer = inner.layers[0]
    dtype = torch.float32 if way.upcast else torch.bfloat16
    for norm in (layer.input_layernorm, layer.post_attention_layernorm):
        norm.weight.data = norm.weight.data.to(dtype)
    stream = torch.randn(1, tokens, inner.config.hidden_size, dtype=dtype).requires_grad_()
    gradient, places = torch.randn_like(stream), torch.arange(tokens)[None]
    given = {
        "attention_mask": torch.ones(tokens, tokens, dtype=torch.bool).tril()[None, None]
        if way.packed
        else None,
        "position_ids": places,
        "position_embeddings": inner.rotary_emb(stream, places),
    }
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    known.add(stream.untyped_storage().data_ptr())
    saved: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        if tensor.untyped_storage().data_ptr() not in known:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    autocast = torch.autocast("cpu", torch.bfloat16)
    with autocast, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(stream, **given)
    kept = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    saved.clear()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None

    def step() -> None:
        with autocast:
            out = checkpoint(layer, stream, use_reentrant=False, **given)
        out.backward(gradient)

    return kept, peak(step)


def loss_bytes(vocabulary: int, tokens: int, way: Way) -> int:
    """The peak of loss and backward behind a narrow decoder with that vocabulary: nearly all of it is the logits'."""
    import torch
    from trl.trainer.utils import add_fused_lm_head

    narrow = Shape("narrow", 64, 64, 1, 2, 2, 32, vocabulary, 8_192, tied=False)
    model = random_model(narrow, torch.device("cpu"))
    model.enable_input_require_grads()
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    ids = torch.randint(0, vocabulary, (1, tokens))
    fused = {} if way.whole_logits else {"fused_lm_head": True}

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(ids, labels=ids, use_cache=False, **fused).loss
        loss.backward()

    return peak(step)


def peak(call: Callable[[], None]) -> int:
    """The most bytes that torch's CPU allocator held during `call` beyond what it held before."""
    import torch

    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as found:
        call()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


UNPACKED = replace(OURS, packed=False)
WAYS = {"ours, packed": OURS, "ours, one conversation": UNPACKED, "k-bit upcast": PLAIN}
