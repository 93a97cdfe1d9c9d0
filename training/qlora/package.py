"""Puts an adapter on disk: as `predictor.py` serves it, and as peft itself reads it. The base is in neither."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from nightshift.language.adapters import Adapter
from nightshift.language.bases import Base, where
from nightshift.language.chat import ends, special_tokens
from nightshift.language.engine import Engine
from nightshift.language.prompts import COACH, PROFILE, PROFILE_SCHEMA, as_coach
from nightshift.settings import Settings
from training.qlora import predictor
from training.qlora.tuning import PEFT_PREFIX, Tuned
from training.recipe import Package

REQUIRES = (
    "mlflow",
    "numpy",
    "pandas",
    "safetensors",
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
)
EXAMPLE = ("요즘 일이 재미없어요.", "I feel stuck at work.")
ANSWER_TOKENS = 64


def adapter_of(base: Base, tuned: Tuned) -> Adapter:
    """The adapter in memory, as the language seat's protocol wants it."""
    return Adapter(base.ref.name, base.ref.revision, base.digest, tuned.lora, tuned.weights)


def prompts_digest() -> str:
    """sha256 (16 digits) of the prompts that an adapter was trained under."""
    return hashlib.sha256("\0".join((COACH, PROFILE, PROFILE_SCHEMA)).encode()).hexdigest()[:16]


def config(settings: Settings, base: Base, adapter: Adapter, answer_tokens: int) -> dict[str, Any]:
    """All that is not an array. folder: where the base's files are here; empty for one of the hub."""
    source, _ = where(settings, base.ref)
    return {
        "base": adapter.base,
        "revision": adapter.revision,
        "tokenizer_digest": adapter.tokenizer_digest,
        "lora": adapter.lora,
        "folder": str(Path(source).resolve()) if (Path(source) / "config.json").exists() else "",
        "prompts_digest": prompts_digest(),
        "system": COACH,
        "chat_template": base.tokenizer.chat_template,
        "ends": ends(base.tokenizer),
        "special": special_tokens(base.tokenizer),
        "answer_tokens": answer_tokens,
    }


def write(
    settings: Settings,
    engine: Engine,
    name: str,
    adapter: Adapter,
    folder: Path,
    answer_tokens: int = ANSWER_TOKENS,
) -> Package:
    """The package under `folder`. engine: has `adapter` under `name`, and answers the example."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"adapter": folder / "adapter.safetensors", "config": folder / "adapter.json"}
    save_file({key: np.ascontiguousarray(value) for key, value in adapter.weights.items()}, paths["adapter"])
    told = config(settings, engine.base, adapter, answer_tokens)
    paths["config"].write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
    answers = [
        engine.answer(as_coach([{"role": "user", "content": text}]), name, max_tokens=answer_tokens)
        for text in EXAMPLE
    ]
    return Package(
        predictor=Path(predictor.__file__),
        artifacts=paths,
        input_example=pd.DataFrame({"prompt": EXAMPLE}),
        output_example=pd.DataFrame({"answer": answers}),
        requirements=[
            f"{name}=={version(name).partition('+')[0]}" for name in REQUIRES
        ],  # 2.13.0+cpu is on no index
    )


def write_peft(adapter: Adapter, folder: Path) -> Path:
    """The same adapter in peft's own layout: `PeftModel.from_pretrained(base, folder)` reads it."""
    from peft import LoraConfig

    folder.mkdir(parents=True, exist_ok=True)
    LoraConfig(
        **adapter.lora,
        base_model_name_or_path=adapter.base,
        revision=adapter.revision or None,
        inference_mode=True,
    ).save_pretrained(str(folder))
    named = {f"{PEFT_PREFIX}{key}": np.ascontiguousarray(value) for key, value in adapter.weights.items()}
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder
