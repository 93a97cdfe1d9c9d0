"""A llama2.c checkpoint in Hugging Face form: a really trained Llama of 260,000 parameters needs no hub.

Formats: github.com/karpathy/llama2.c, `export.py` (legacy_export), `run.c` (read_checkpoint) and `tokenizer.py`.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from nightshift.errors import SourceError

EPS = 1e-5  # of the norms, as run.c has it
_SPECIAL = {0: "<unk>", 1: "<s>", 2: "</s>"}  # the file writes two of them with line breaks around


def convert(checkpoint: Path, vocabulary: Path, folder: Path) -> Path:
    """Write config.json, model.safetensors and a fast tokenizer into `folder`.

    Raises:
        SourceError: a file is missing, or is not of the format.
    """
    import torch
    from transformers import LlamaForCausalLM

    sizes, weights = read(checkpoint)
    tokenizer = tokenizer_of(pieces(vocabulary), sizes["max_position_embeddings"])
    model = LlamaForCausalLM(_config(sizes))
    result = model.load_state_dict(
        {name: torch.from_numpy(value) for name, value in weights.items()}, strict=False
    )
    if result.unexpected_keys or [name for name in result.missing_keys if name != "lm_head.weight"]:
        raise SourceError(f"{checkpoint}: its weights are not those of a Llama: {result}")
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def read(checkpoint: Path) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """Sizes as LlamaConfig names them, and float32 weights as LlamaForCausalLM names them.

    Raises:
        SourceError: no such file, or its size is not what its header says.
    """
    content = _content(checkpoint)
    dim, inner, layers, heads, kv_heads, vocabulary, context = struct.unpack("7i", content[:28])
    values = np.frombuffer(content, dtype="<f4", offset=28)
    if vocabulary < 0:
        raise SourceError(f"{checkpoint}: a head of its own is not read here, only one tied to the embedding")
    head = dim // heads
    kinds = (
        ("input_layernorm", (dim,)),
        ("self_attn.q_proj", (dim, dim)),
        ("self_attn.k_proj", (kv_heads * head, dim)),
        ("self_attn.v_proj", (kv_heads * head, dim)),
        ("self_attn.o_proj", (dim, dim)),
        ("post_attention_layernorm", (dim,)),
        ("mlp.gate_proj", (inner, dim)),
        ("mlp.down_proj", (dim, inner)),
        ("mlp.up_proj", (inner, dim)),
    )
    wanted = vocabulary * dim + layers * sum(int(np.prod(shape)) for _, shape in kinds) + dim + context * head
    if wanted != len(values):
        raise SourceError(f"{checkpoint}: {len(values)} numbers, its header says {wanted}")
    found = {"model.embed_tokens.weight": values[: vocabulary * dim].reshape(vocabulary, dim)}
    place = vocabulary * dim
    for name, shape in kinds:  # all layers of a kind stand together
        for layer in range(layers):
            size = int(np.prod(shape))
            found[f"model.layers.{layer}.{name}.weight"] = values[place : place + size].reshape(shape)
            place += size
    found["model.norm.weight"] = values[place : place + dim]
    for name in found:
        if "q_proj" in name or "k_proj" in name:
            found[name] = halves(found[name], head)
    sizes = {
        "hidden_size": dim,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
    }
    return sizes, {name: value.copy() for name, value in found.items()}  # what came of the file is read-only


def halves(weight: np.ndarray, head: int) -> np.ndarray:
    """A query or key projection whose rotary pairs are neighbours, with the pairs' halves apart as in transformers."""
    return weight.reshape(-1, head // 2, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def pieces(vocabulary: Path) -> list[str]:
    """The tokens by id, with ▁ for a space.

    Raises:
        SourceError: no such file, or it ends within a token.
    """
    content, place = _content(vocabulary), 4
    found: list[str] = []
    while place < len(content):
        _, length = struct.unpack("fi", content[place : place + 8])
        raw = content[place + 8 : place + 8 + length]
        if len(raw) != length:
            raise SourceError(f"{vocabulary} ends within token {len(found)}")
        found.append(_SPECIAL.get(len(found), raw.decode().replace(" ", "▁")))
        place += 8 + length
    return found


def tokenizer_of(tokens: list[str], context: int) -> Any:
    """The sentencepiece tokenizer as a fast one: BPE by rank, what is not in the vocabulary as its UTF-8 bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    ids = {token: number for number, token in enumerate(tokens)}
    merges = [
        (token[:cut], token[cut:])
        for token in tokens
        if not token.startswith("<")
        for cut in range(1, len(token))
        if token[:cut] in ids and token[cut:] in ids
    ]
    unknown, begin, end = _SPECIAL.values()
    raw = Tokenizer(models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    raw.add_special_tokens([AddedToken(text, special=True) for text in _SPECIAL.values()])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token=unknown, bos_token=begin, eos_token=end, model_max_length=context
    )


def _config(sizes: dict[str, int]) -> Any:
    from transformers import LlamaConfig

    told: dict[str, Any] = {**sizes, "rms_norm_eps": EPS, "rope_theta": 10_000.0, "tie_word_embeddings": True}
    return LlamaConfig(**told, bos_token_id=1, eos_token_id=2)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read; it is a file of github.com/karpathy/llama2.c") from error
