"""An adapter as MLflow keeps it. This file travels inside the packaged model (models-from-code).

Loading it takes neither torch nor the base: it is a few megabytes of LoRA weights, and says which base they belong to.
The gate and the service put them on a base that they have open. `predict` is for whoever has MLflow alone: it opens
the base with transformers and peft, by its name or its folder, and answers as the coach.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel
from safetensors.numpy import load_file


class Coach(PythonModel):
    """The language seat's protocol (base, revision, tokenizer_digest, lora, weights), and `predict` on top of it."""

    base: str
    revision: str
    tokenizer_digest: str
    lora: dict[str, Any]
    weights: dict[str, np.ndarray]

    def load_context(self, context: Any) -> None:
        with open(context.artifacts["config"], encoding="utf-8") as handle:
            self._config: dict[str, Any] = json.load(handle)
        for name in ("base", "revision", "tokenizer_digest", "lora"):
            setattr(self, name, self._config[name])
        self.weights = load_file(context.artifacts["adapter"])
        self._opened: tuple[Any, Any] | None = None

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """The coach's `answer` to each `prompt`, the likeliest token each time.

        Raises:
            ValueError: there is no column `prompt`, or the base is not to be had.
        """
        if "prompt" not in model_input:
            raise ValueError("the coach is asked by a column `prompt`: one text per row")
        if self._opened is None:
            self._opened = self._open()
        return pd.DataFrame({"answer": [self._answer(str(prompt)) for prompt in model_input["prompt"]]})

    def _answer(self, prompt: str) -> str:
        import torch

        model, tokenizer = self._opened or self._open()
        messages = [
            {"role": "system", "content": self._config["system"]},
            {"role": "user", "content": self._inert(prompt)},
        ]
        ids = tokenizer.apply_chat_template(
            messages,
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            return_tensors="pt",
        ).to(model.device)
        with torch.inference_mode():
            made = model.generate(
                **ids,
                do_sample=False,
                max_new_tokens=self._config["answer_tokens"],
                eos_token_id=self._config["ends"],
                pad_token_id=self._config["ends"][-1],
            )
        return str(tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))

    def _inert(self, text: str) -> str:
        """`text` with the special tokens in it taken apart, as `nightshift.language.chat.inert` does it."""
        while found := [token for token in self._config["special"] if len(token) > 1 and token in text]:
            for token in found:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def _open(self) -> tuple[Any, Any]:
        """The base in 4-bit with the adapter on it, and its tokenizer."""
        import bitsandbytes as bnb
        import torch
        from peft import LoraConfig, set_peft_model_state_dict
        from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

        source = self._source()
        revision = None if os.path.isdir(source) else self.revision or None
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
            model = AutoModelForCausalLM.from_pretrained(
                source,
                revision=revision,
                device_map={"": "cuda" if torch.cuda.is_available() else "cpu"},
                attn_implementation="sdpa",
                dtype=torch.bfloat16,
                quantization_config=BitsAndBytesConfig(
                    load_in_4bit=True,
                    bnb_4bit_quant_type="nf4",
                    bnb_4bit_use_double_quant=True,
                    bnb_4bit_compute_dtype=torch.bfloat16,
                ),
            )
        except (OSError, ValueError) as error:
            raise ValueError(f"{self._missing()}: {' '.join(str(error).split())[:300]}") from error
        for module in model.modules():
            if isinstance(module, bnb.nn.Linear4bit):
                module.support_avx512bf16_for_cpu = (
                    False  # as the training reads them: nightshift.language.bases
                )
        tokenizer.chat_template = self._config["chat_template"]
        model.add_adapter(LoraConfig(**self.lora), "coach")
        for name, parameter in model.named_parameters():
            if ".coach." in name:
                parameter.data = parameter.data.float()  # as it was trained; in bf16 its answers differ
        set_peft_model_state_dict(
            model, {name: torch.from_numpy(value) for name, value in self.weights.items()}, "coach"
        )
        model.eval()
        return model, tokenizer

    def _source(self) -> str:
        """A folder or a hub's name; of the built-in base the folder that it was in, or that of this home."""
        if not self._config["folder"]:
            return self.base
        places = [Path(self._config["folder"])]
        if os.environ.get("NIGHTSHIFT_HOME"):
            places.append(Path(os.environ["NIGHTSHIFT_HOME"]) / "models" / places[0].name)
        found = next((place for place in places if (place / "config.json").exists()), None)
        if found is None:
            raise ValueError(f"{self._missing()}: {' or '.join(map(str, places))} is not there")
        return str(found)

    def _missing(self) -> str:
        named = f"{self.base}@{self.revision}" if self.revision else self.base
        return f"the adapter belongs to the base model {named}, which cannot be opened here"


mlflow.models.set_model(Coach())
