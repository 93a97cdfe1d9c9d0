"""The built-in small base: a Llama of a million parameters, made here from the market's talk in two minutes.

So that a night of the language seat runs whole, and in the very steps of an 8B model, on a machine with no GPU and
no network. It speaks the phrases that it was made of and no more: it stands in for the base, not for its quality.
The same code, settings and seed make it of the same text; its revision is the digest of what came out.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nightshift.lake import write_json
from nightshift.language.bases import SMALL, BaseRef, bound, quiet, small_folder
from nightshift.language.chat import Message, encode, prepare
from nightshift.language.prompts import as_coach
from nightshift.settings import Settings

SPECIAL = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|pad|>")


@dataclass(frozen=True)
class Making:
    """How it is made. tokens: of a training block. batch: blocks of a step."""

    conversations: int = 4_000
    vocabulary: int = 2_048
    hidden: int = 128
    inner: int = 384
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    context: int = 2_048
    tokens: int = 192
    batch: int = 6
    steps: int = 1_000
    rate: float = 5e-3
    seed: int = 0


def base_ref(settings: Settings, say: Callable[[str], None] = lambda line: None) -> BaseRef:
    """The base that the settings name; the small one is made if it is not there yet.

    Raises:
        BaseModelError: the folder that is named is no model or has another revision, or the hub is out of reach.
    """
    if settings.language_model == SMALL:
        return make(settings, say)
    return bound(settings, BaseRef(settings.language_model, settings.language_revision or ""))


def make(
    settings: Settings, say: Callable[[str], None] = lambda line: None, how: Making | None = None
) -> BaseRef:
    """Make the small base under `models_dir`, or find it there: killed half-way, it is made again."""
    how = how or Making()
    from nightshift.sources.market import talk

    corpus = talk.corpus(how.conversations, how.seed)
    recipe = hashlib.sha256(json.dumps([asdict(how), corpus], ensure_ascii=False).encode()).hexdigest()[:16]
    models = settings.models_dir
    models.mkdir(parents=True, exist_ok=True)
    known = models / f"{SMALL}-of-{recipe}.json"
    with (models / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if known.exists():
            revision = json.loads(known.read_text())["revision"]
            if (small_folder(settings, revision) / "config.json").exists():
                return BaseRef(SMALL, revision)
        say("making the small base model, once: about two minutes")
        building = models / f"{SMALL}.building"
        shutil.rmtree(building, ignore_errors=True)
        build(how, corpus, building, say)
        revision = _digest(building)
        folder = small_folder(settings, revision)
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
        write_json(known, {"revision": revision, "how": asdict(how)})
    return BaseRef(SMALL, revision)


def _digest(folder: Path) -> str:
    content = hashlib.sha256()
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        content.update((folder / name).read_bytes())
    return content.hexdigest()[:16]


def build(
    how: Making,
    corpus: Sequence[Sequence[Message]],
    folder: Path,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Make a base of a text: config, tokenizer and weights (fp32, safetensors) under `folder`."""
    quiet()
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(how, corpus)
    ids = [token for talk in corpus for token in encode(tokenizer, as_coach(talk)).ids]
    blocks = torch.tensor(ids[: len(ids) // how.tokens * how.tokens]).view(-1, how.tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(how.seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=how.vocabulary,
                hidden_size=how.hidden,
                intermediate_size=how.inner,
                num_hidden_layers=how.layers,
                num_attention_heads=how.heads,
                num_key_value_heads=how.kv_heads,
                max_position_embeddings=how.context,
                tie_word_embeddings=True,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        _fit(model, blocks, how, say)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer(how: Making, corpus: Sequence[Sequence[Message]]) -> Any:
    """Byte-level BPE: no text is unknown to it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=how.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator((m["content"] for talk in corpus for m in as_coach(talk)), trainer)
    begin, _, _, over, pad = SPECIAL
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=begin, eos_token=over, pad_token=pad, model_max_length=how.context,
        additional_special_tokens=list(SPECIAL[1:3]),
    )  # fmt: skip
    return prepare(tokenizer)


def _fit(model: Any, blocks: Any, how: Making, say: Callable[[str], None]) -> None:
    """Every parameter, in fp32, on every token."""
    import torch

    optimiser = torch.optim.AdamW(model.parameters(), lr=how.rate, betas=(0.9, 0.95), weight_decay=0.01)
    warm = max(how.steps // 20, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(step / warm, 0.05 + 0.95 * (1 + math.cos(math.pi * step / how.steps)) / 2),
    )
    random, began = torch.Generator().manual_seed(how.seed), time.monotonic()
    model.train()
    for step in range(how.steps):
        batch = blocks[torch.randint(len(blocks), (how.batch,), generator=random)]
        loss = model(batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        if step % 50 == 0 or step == how.steps - 1:
            say(
                f"small base: step {step} of {how.steps}, loss {loss.item():.2f}, {time.monotonic() - began:.0f} s"
            )
