"""A base of a few thousand parameters, and adapters for it, as the tests of the language service use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nightshift.language.adapters import Adapter
from nightshift.language.bases import BaseRef, open_base
from nightshift.language.chat import Message
from nightshift.language.engine import Engine
from nightshift.language.prompts import as_coach
from nightshift.settings import Settings
from training.qlora.small import Making, build

SAYS = ("일이 힘들군요. 무엇이 가장 힘든가요?", "제 전화는 010-1234-5678 입니다. 또 무엇이 궁금한가요?")
TALK = [
    [
        {"role": "user", "content": f"{word} {asked}"},
        {"role": "assistant", "content": says},
    ]
    for word in ("요즘", "오늘", "사실", "Lately,")
    for asked, says in (("일이 힘들어요.", SAYS[0]), ("전화번호 알려 주세요.", SAYS[1]))
]
TINY = Making(
    vocabulary=500, hidden=48, inner=96, layers=3, heads=4, kv_heads=2, tokens=32, batch=8, steps=200
)
LORA: dict[str, Any] = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}


def build_base(folder: Path, **other: Any) -> Settings:
    """The settings of a home with such a base."""
    build(Making(**{**vars(TINY), **other}), TALK, folder)
    return Settings(  # type: ignore[call-arg]
        _env_file=None, home=folder.parent, language_model=str(folder), language_device="cpu"
    )


def babbler(settings: Settings, messages: list[Message], tokens: int) -> Adapter:
    """An adapter whose answer to `messages` goes on for that long at least."""
    engine = Engine(open_base(settings, BaseRef(settings.language_model)))
    for seed in range(40):
        adapter = adapter_of(settings, seed, strength=0.5)
        engine.add("a1", adapter)
        pieces = engine.stream(as_coach(messages), "a1", max_tokens=tokens)
        if sum(1 for _ in pieces) >= tokens:
            return adapter
    raise AssertionError("every adapter comes to an end")


def adapter_of(settings: Settings, seed: int, strength: float = 0.1) -> Adapter:
    """A random adapter for the settings' base; 0 says what the base says, a large one nonsense."""
    base = open_base(settings, BaseRef(settings.language_model))
    config = base.model.config
    sizes = {
        "q_proj": config.hidden_size,
        "v_proj": config.hidden_size // config.num_attention_heads * config.num_key_value_heads,
    }
    random = np.random.default_rng(seed)
    weights = {}
    for layer in range(config.num_hidden_layers):
        for name, out in sizes.items():
            key = f"model.layers.{layer}.self_attn.{name}"
            weights[f"{key}.lora_A.weight"] = random.normal(size=(2, config.hidden_size)).astype(np.float32)
            weights[f"{key}.lora_B.weight"] = (strength * random.normal(size=(out, 2))).astype(np.float32)
    return Adapter(settings.language_model, "", base.digest, LORA, weights)
