"""QLoRA on one opened base: TRL's SFTTrainer, and what it leaves to us.

Conversations are packed into rows, and none of them sees its neighbours in the row. The loss is of the assistant's
tokens, taken chunk by chunk: the whole logits of a vocabulary of 128,256 would be 0.5 MB a token. LoRA on every
linear layer is what learns, and on the embedding where that is asked for, in float32 whatever the base is in: TRL
makes it bf16, a checkpoint brings it back in float32, and a resumed run would end elsewhere. So it ends with the
same bits.
"""

from __future__ import annotations

import hashlib
import json
import math
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nightshift.errors import BaseModelError, NoDataError
from nightshift.lake import write_json
from nightshift.language.bases import Base, quiet, right_gradients
from nightshift.language.chat import Encoded

Log = Callable[[int, dict[str, float]], None]
WHOLE = "whole.json"  # written last into a checkpoint: digests of its files
PEFT_PREFIX = "base_model.model."  # of names in a file of peft's; a model that wears adapters itself has none
IGNORED = -100  # the label of a token without loss


@dataclass(frozen=True)
class Tuning:
    """How an adapter is trained.

    tokens: of a packed row. rows: of a step; at_once of them are computed at a time, and divide it.
    rate: highest learning rate, after `warm` (a share of the steps) and before a cosine down to zero.
    scale: LoRA's alpha over its rank. beta2: how much AdamW's average of squared gradients keeps of itself at a step:
    0.999 remembers a thousand steps, and where the first ones' gradients are huge, few steps get far with that.
    clip: the norm that a step's gradient is cut to, 0 for never; check_steps: between the curve's points of validation.
    keep_steps, keep_minutes: a checkpoint after so many, whichever is first.
    recompute: gradient checkpointing, which takes a third more time and a tenth of the memory.
    embedding: LoRA on the embedding of what is read too, for words that the base has never met; the head stays.
    """

    rank: int = 16
    scale: float = 2.0
    tokens: int = 512
    rows: int = 4
    at_once: int = 1
    steps: int = 200
    rate: float = 2e-4
    warm: float = 0.05
    beta2: float = 0.999
    clip: float = 1.0
    keep_steps: int = 50
    keep_minutes: float = 10.0
    check_steps: int = 25
    recompute: bool = True
    embedding: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Tuned:
    """An adapter. weights: float32, as peft names them in a model that wears the adapter; lora: LoraConfig's kwargs.

    curve: points {"step", "loss" (nats per token of the step), "rate", "val_nll" (nats per token)}, those from
    before a kill too. val_nll_before: of the base. tokens: trained on, rows' padding never; seconds, tokens_per_s:
    of the steps of this process but its first. peak_gb: GiB; of the card where there is one, else of the process.
    resumed_from: the step that an earlier, killed run had come to.
    """

    weights: dict[str, np.ndarray]
    lora: dict[str, Any]
    curve: list[dict[str, float]]
    val_nll_before: float
    val_nll: float
    steps: int
    tokens: int
    seconds: float
    tokens_per_s: float
    peak_gb: float
    resumed_from: int


def tune(
    base: Base,
    train: Sequence[Encoded],
    valid: Sequence[Encoded],
    how: Tuning,
    folder: Path,
    *,
    log: Log = lambda step, told: None,
) -> Tuned:
    """Train an adapter; the base is as before afterwards.

    folder: of this training's checkpoints. If it holds one of a killed run, training goes on from there: the caller
    sees to it that data, base and `how` are the same.

    Raises:
        NoDataError: nothing of `train` or of `valid` was said by the assistant.
        BaseModelError: the base wears adapters already, or has no linear layers.
    """
    quiet()
    import torch
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers import PrinterCallback
    from trl import SFTTrainer

    disable_progress_bars()
    if any(isinstance(module, BaseTunerLayer) for module in base.model.modules()):
        raise BaseModelError(f"{base.ref} wears adapters: tune a base that was opened for it")
    rows = _labelled(train, "training"), _labelled(valid, "validation")
    lora = _lora(base, how)
    on_cuda = base.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    found = newest_whole(folder)
    hooks = dict(base.model.get_input_embeddings()._forward_hooks)
    torch.manual_seed(how.seed)
    worn = get_peft_model(base.model, LoraConfig(**lora))
    try:
        trainer = SFTTrainer(
            model=worn,
            args=_arguments(base, how, folder),
            train_dataset=Dataset.from_list(rows[0]),
            eval_dataset=Dataset.from_list(rows[1]),
            processing_class=base.tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        for parameter in worn.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        right_gradients(worn)
        watch = _watch(trainer, how, log)
        trainer.add_callback(watch)
        trainer.train(resume_from_checkpoint=str(found) if found else None)
        weights = {
            name.removeprefix(PEFT_PREFIX): value.detach().float().cpu().numpy()
            for name, value in get_peft_model_state_dict(worn, save_embedding_layers=False).items()
        }
    finally:
        worn.unload()
        _bare(base, hooks)
    points = watch.points
    checked = [point["val_nll"] for point in points if "val_nll" in point]
    peak = (
        torch.cuda.max_memory_allocated()
        if on_cuda
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return Tuned(
        weights=weights,
        lora=lora,
        curve=points,
        val_nll_before=checked[0],
        val_nll=checked[-1],
        steps=trainer.state.global_step,
        tokens=int(trainer.state.num_input_tokens_seen),
        seconds=watch.seconds,
        tokens_per_s=watch.tokens / watch.seconds if watch.seconds else math.nan,
        peak_gb=peak / 2**30,
        resumed_from=watch.began,
    )


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint of `folder` that is whole; what a kill left half-written is removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.rpartition("-")[2]))
    for path in found:
        if _is_whole(path):
            return path
        shutil.rmtree(path)
    return None


def linear_layers(model: Any) -> list[str]:
    """The names, without their paths, of all linear layers but the head."""
    from torch import nn

    head = model.get_output_embeddings()
    names = {
        n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head
    }
    return sorted(names)


# --- inside ------------------------------------------------------------------------------------------------


def _labelled(conversations: Sequence[Encoded], which: str) -> list[dict[str, list[int]]]:
    """As TRL takes what was tokenised before: the label of what the assistant did not say is IGNORED."""
    rows = [
        {
            "input_ids": one.ids,
            "labels": [i if said else IGNORED for i, said in zip(one.ids, one.said, strict=True)],
        }
        for one in conversations
        if any(one.said[1:])
    ]
    if not rows:
        raise NoDataError(
            f"none of the {len(conversations)} {which} conversations holds words of the assistant"
        )
    return rows


def _lora(base: Base, how: Tuning) -> dict[str, Any]:
    layers = linear_layers(base.model)
    if not layers:
        raise BaseModelError(
            f"{base.ref} ({type(base.model).__name__}) has no linear layers besides its head for LoRA to learn on: set "
            "NIGHTSHIFT_LANGUAGE_MODEL to a model of Llama's kind"
        )
    return {
        "r": how.rank,
        "lora_alpha": how.scale * how.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [*layers, _embedding(base.model)] if how.embedding else layers,
        "task_type": "CAUSAL_LM",
    }


def _embedding(model: Any) -> str:
    embedding = model.get_input_embeddings()
    (name,) = (n for n, module in model.named_modules() if module is embedding)
    return str(name.rpartition(".")[2])


def _arguments(base: Base, how: Tuning, folder: Path) -> Any:
    from trl import SFTConfig

    on_cuda = base.device.type == "cuda"
    return SFTConfig(
        output_dir=str(folder),
        use_cpu=not on_cuda,
        bf16=bool(getattr(base.model, "is_loaded_in_4bit", False)),
        optim="paged_adamw_8bit" if on_cuda else "adamw_torch",
        max_steps=how.steps,
        per_device_train_batch_size=how.at_once,
        gradient_accumulation_steps=how.rows // how.at_once,
        gradient_checkpointing=how.recompute,
        packing=True,
        max_length=how.tokens,
        shuffle_dataset=True,
        loss_type="nll",
        learning_rate=how.rate,
        lr_scheduler_type="cosine",
        adam_beta2=how.beta2,
        warmup_steps=max(round(how.warm * how.steps), 1),
        weight_decay=0.0,
        max_grad_norm=how.clip,
        seed=how.seed,
        save_strategy="steps",
        save_steps=how.keep_steps,
        save_total_limit=2,
        logging_steps=1,
        include_num_input_tokens_seen="all",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=on_cuda,
    )


def _watch(trainer: Any, how: Tuning, log: Log) -> Any:
    """A callback that times the steps, measures on the validation rows, and marks whole checkpoints."""
    import torch
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def __init__(self) -> None:
            self.points: list[dict[str, float]] = []
            self.seconds, self.tokens, self.began = 0.0, 0, 0
            self._kept = self._started = time.monotonic()
            self._seen = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self.began = state.global_step
            self._seen = int(state.num_input_tokens_seen)
            earlier = Path(args.output_dir) / f"checkpoint-{state.global_step}" / "curve.json"
            if state.global_step:
                for point in json.loads(earlier.read_text()):
                    self._add(point)
            else:
                self._add({"step": 0, "val_nll": self._check()})

        def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self._started = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if state.global_step > self.began + 1 or how.steps == self.began + 1:  # the first one warms up
                self.seconds += time.monotonic() - self._started
                self.tokens += int(state.num_input_tokens_seen) - self._seen
            self._seen = int(state.num_input_tokens_seen)
            if time.monotonic() - self._kept > 60 * how.keep_minutes:
                control.should_save = True
            if state.global_step >= how.steps:  # resumed from its end, a Trainer takes a step more
                control.should_save = False

        def on_log(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            logs: dict[str, float] = rest["logs"]
            if "loss" not in logs:
                return
            point = {"step": state.global_step, "loss": logs["loss"], "rate": logs["learning_rate"]}
            if state.global_step % how.check_steps == 0 or state.global_step >= how.steps:
                point["val_nll"] = self._check()
            self._add(point)

        def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_json(path / "curve.json", self.points)
            write_json(path / WHOLE, _digests(path))
            self._kept = time.monotonic()

        def _add(self, point: dict[str, float]) -> None:
            self.points.append(point)
            log(int(point["step"]), {name: value for name, value in point.items() if name != "step"})

        def _check(self) -> float:
            return _nll(trainer)

    return Watch()


def _nll(trainer: Any) -> float:
    """Nats per token of the assistant's, over all validation rows."""
    import torch

    model, nats, tokens = trainer.model, 0.0, 0
    training = model.training
    model.eval()
    with torch.no_grad(), trainer.compute_loss_context_manager():
        for row in trainer.eval_dataset:
            inputs = trainer._prepare_inputs(trainer.data_collator([row]))
            out = model(**inputs, use_cache=False, fused_lm_head=True)
            nats -= float(out.log_probs.double().sum())
            tokens += int(out.label_mask.sum())
    model.train(training)
    return nats / tokens


def _bare(base: Base, hooks: dict[int, Any]) -> None:
    """Take off what training leaves on the base besides LoRA: TRL's forward, hooks, recomputation."""
    model, embedding = base.model, base.model.get_input_embeddings()
    model.__dict__.pop("forward", None)
    model.activation_checkpointing_disable()
    model.disable_input_require_grads()
    for key in (
        embedding._forward_hooks.keys() - hooks.keys()
    ):  # TRL and transformers each set one, and know of one
        del embedding._forward_hooks[key]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    model.eval()


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != WHOLE:
            with path.open("rb") as handle:
                found[path.name] = hashlib.file_digest(handle, "sha256").hexdigest()
    return found


def _is_whole(checkpoint: Path) -> bool:
    try:
        told: dict[str, str] = json.loads((checkpoint / WHOLE).read_text())
    except (OSError, ValueError):
        return False
    return told == _digests(checkpoint)
