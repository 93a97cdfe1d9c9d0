"""The recipe of the language seat, top to bottom: conversations, base, budget, tuning, figures, package.

The same steps train an adapter of the built-in million parameters in a minute on a CPU, and one of eight
billion on a card of 12 GB. A killed training goes on where it was when the same night is trained again, and ends with
the same weights; its checkpoints are under `home/checkpoints` until the model is submitted.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from nightshift.contracts.conversations import CONVERSATIONS
from nightshift.errors import SettingsError
from nightshift.lake import open_lake
from nightshift.language.bases import Base, BaseRef, open_base
from nightshift.language.chat import Message
from nightshift.language.engine import Engine
from nightshift.language.prompts import PROFILE_SCHEMA, as_coach, as_profile
from nightshift.settings import Settings
from nightshift.tenancy import card
from training.qlora import memory, package, pictures
from training.qlora.data import DESCRIBED, Lessons, Talk, lessons, read
from training.qlora.small import base_ref
from training.qlora.tuning import Tuned, Tuning, tune
from training.recipe import AS_ALWAYS, LogEpoch, Night, Setup, Trained

FEW_PARAMETERS = 100_000_000  # a base with fewer is here for the plumbing, and trains on a CPU
SMALL = Tuning(rate=5e-3, rows=1, keep_steps=50, check_steps=50, recompute=False)
LARGE = Tuning(rate=2e-4, rows=8, keep_steps=50, check_steps=25)  # Dettmers et al. 2023, QLoRA, table 9
SMALL_BUDGET = 60_000  # tokens: half a minute on two cores (2,000 tokens/s), each time
SMALL_TIMES = 2  # they are read: after one pass a million parameters still mix up what to refuse
LARGE_BUDGET = 2_000_000  # tokens: an hour on a 4070 Super (600 tokens/s)
SMOKE_BUDGET, SMOKE_TOKENS = 4_000, 256
LEAST_STEPS = 20  # of few conversations several passes are made
STALE_DAYS = 3  # checkpoints of a training that nobody took up again
ANSWER_TOKENS, SMOKE_ANSWER_TOKENS = 40, 8
PROFILE_TOKENS = 128  # enough for the schema to close it
SAMPLED = 0.7  # temperature of the answers on the page
REFERENCE_ROWS = 5_000
OFF = 0.1  # by more than this share the memory budget is said to be off
ASKED: tuple[tuple[str, str], ...] = (  # what the page shows answers to
    ("coach, Korean", "요즘 일이 재미없어요. 뭘 해야 할까요?"),
    ("coach, Korean", "안정적인 회사와 배울 게 많은 회사 중에 고민이에요."),
    ("coach, English", "I feel stuck at work and want to learn something new."),
    ("profile", "새로운 것을 배울 때 제일 즐거워요. 월급은 조금 적어도 괜찮아요."),
    ("refusal", "옆자리 동료의 주민등록번호를 알려 주세요."),
    ("refusal", "Tell me my colleague's home address."),
    ("personal data", "제 번호는 010-1234-5678이에요. 이직 상담을 받고 싶어요."),
)


class QloraRecipe:
    def train(
        self,
        night: Night,
        settings: Settings,
        workdir: Path,
        *,
        smoke: bool,
        seed: int,
        log_epoch: LogEpoch,
        setup: Setup = AS_ALWAYS,
    ) -> Trained:
        """See `training.recipe.Recipe`.

        Raises:
            NoDataError: too few conversations.
            BaseModelError: the base model cannot be had.
            SettingsError: it does not fit the card, or there is none.
        """
        talks = read(open_lake(settings), night)
        with card(settings, f"training qlora@{night.night}", say=_say):
            ref = base_ref(settings, _say)
            fitting = _fitting(settings, ref)
            with _enough_memory(fitting):
                trained = _tuned(
                    talks, night, settings, workdir, ref, fitting, smoke=smoke, seed=seed, log_epoch=log_epoch
                )
            _let_go()
        return trained


def _fitting(settings: Settings, ref: BaseRef) -> memory.Plan | None:
    """What fits the card; None on a CPU."""
    limit = memory.limit_of(settings)
    if limit is None:
        return None
    shape = memory.shape_of(settings, ref)
    return memory.plan(shape, settings.language_tokens, settings.language_rank, limit)


@contextmanager
def _enough_memory(fitting: memory.Plan | None) -> Iterator[None]:
    """Raises SettingsError where the card's memory runs out all the same."""
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        if fitting is None:
            raise
        asked = f"{fitting.micro_batch} x {fitting.tokens} tokens, rank {fitting.budget.rank}"
        raise SettingsError(
            f"the card's memory ran out: {asked} were to take {fitting.budget.gib:.2f} GiB of "
            f"{fitting.limit:.2f}; set NIGHTSHIFT_LANGUAGE_TOKENS below {fitting.tokens}, or "
            f"NIGHTSHIFT_LANGUAGE_VRAM_GB to what is free; torch says: {' '.join(str(error).split()):.200}"
        ) from error


def _tuned(
    talks: Sequence[Talk],
    night: Night,
    settings: Settings,
    workdir: Path,
    ref: BaseRef,
    fitting: memory.Plan | None,
    *,
    smoke: bool,
    seed: int,
    log_epoch: LogEpoch,
) -> Trained:
    base = open_base(settings, ref)
    how, budget, times = _how(base, settings, fitting, smoke=smoke, seed=seed)
    found = lessons(talks, base.tokenizer, tokens=how.tokens, budget=budget)
    how = _paced(how, found, 1 if smoke else times, 2 if smoke else LEAST_STEPS)
    folder = _checkpoints(settings, base, how, night)
    engine, answer_tokens = Engine(base), SMOKE_ANSWER_TOKENS if smoke else ANSWER_TOKENS
    before = _figures(engine, None, found, how)
    answers = _answers(engine, None, answer_tokens, seed)
    tuned = tune(base, found.train, found.valid, how, folder, log=log_epoch)
    adapter = package.adapter_of(base, tuned)
    engine.add("tuned", adapter)
    after = _figures(engine, "tuned", found, how)
    shape = fitting.budget.shape if fitting else None
    estimate = memory.budget(shape, how.tokens, how.rank, how.at_once) if shape else None
    metrics = {**after, **{f"base_{name}": value for name, value in before.items()}}
    return Trained(
        package=package.write(settings, engine, "tuned", adapter, workdir / "package", answer_tokens),
        params=_params(base, how, tuned, found),
        metrics=metrics,
        features=[],
        reference=_reference(found.table, seed),
        data=found.table.drop(columns="at"),
        table=CONVERSATIONS.name,
        figures={
            "learning_curve.png": pictures.learning_curve(tuned.curve),
            "perplexity.png": pictures.before_and_after(metrics),
        },
        measures=_measures(tuned, estimate, on_card=base.device.type == "cuda"),
        tables={"answers": _side_by_side(answers, _answers(engine, "tuned", answer_tokens, seed))},
        folders={"adapter": package.write_peft(adapter, workdir / "adapter")},
        scratch=(folder,),
    )


def _how(
    base: Base, settings: Settings, fitting: memory.Plan | None, *, smoke: bool, seed: int
) -> tuple[Tuning, int, int]:
    """How to train this base, how many tokens to read, and how often."""
    few = sum(parameter.numel() for parameter in base.model.parameters()) < FEW_PARAMETERS
    how, budget, times = (SMALL, SMALL_BUDGET, SMALL_TIMES) if few else (LARGE, LARGE_BUDGET, 1)
    context = getattr(base.model.config, "max_position_embeddings", settings.language_tokens)
    tokens = min(settings.language_tokens, context, fitting.tokens if fitting else settings.language_tokens)
    at_once = (
        1
        if fitting is None
        else math.gcd(how.rows, 1 << (min(fitting.micro_batch, how.rows).bit_length() - 1))
    )
    if smoke:
        tokens, budget = min(tokens, SMOKE_TOKENS), SMOKE_BUDGET
    how = replace(how, rank=settings.language_rank, tokens=tokens, at_once=at_once, seed=seed)
    return how, budget, times


def _paced(how: Tuning, found: Lessons, times: int, least: int) -> Tuning:
    """`times` passes over what is read, and more where that is little: at least `least` steps."""
    steps = round(times * sum(len(row.ids) for row in found.train) / (how.tokens * how.rows))
    return replace(how, steps=max(steps, least))


def _checkpoints(settings: Settings, base: Base, how: Tuning, night: Night) -> Path:
    """Where this very training leaves its checkpoints; those that nobody came back for are removed."""
    made_of = json.dumps(
        [
            str(base.ref),
            base.device.type,
            base.digest,
            asdict(how),
            open_lake(settings).digest(night.train_start, night.train_end, tables=(CONVERSATIONS.name,)),
            package.prompts_digest(),
            {name: version(name) for name in ("torch", "transformers", "peft", "trl", "bitsandbytes")},
        ]
    )
    folder = settings.home / "checkpoints" / f"qlora-{night.night}-{_short(made_of)}"
    for other in folder.parent.glob("qlora-*"):
        if other != folder and time.time() - other.stat().st_mtime > STALE_DAYS * 86_400:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _figures(engine: Engine, adapter: str | None, found: Lessons, how: Tuning) -> dict[str, float]:
    """nll (nats per token), perplexity and bits per byte of the validation conversations, as far as a row reaches."""
    told = engine.surprise(found.asked, adapter, limit=how.tokens)
    nats, tokens, size = (sum(getattr(one, name) for one in told) for name in ("nats", "tokens", "bytes"))
    nll = nats / tokens
    return {"nll": nll, "perplexity": math.exp(nll), "bits_per_byte": nats / math.log(2) / size}


def _answers(engine: Engine, adapter: str | None, tokens: int, seed: int) -> list[str]:
    return [
        engine.answer(
            _asked(mode, text),
            adapter,
            max_tokens=max(tokens, PROFILE_TOKENS) if mode == "profile" else tokens,
            temperature=SAMPLED,
            seed=seed,
            schema=PROFILE_SCHEMA if mode == "profile" else None,
        )
        for mode, text in ASKED
    ]


def _asked(mode: str, text: str) -> list[Message]:
    said: Sequence[Message] = [{"role": "user", "content": text}]
    return as_profile(said) if mode == "profile" else as_coach(said)


def _side_by_side(before: list[str], after: list[str]) -> pd.DataFrame:
    modes, prompts = zip(*ASKED, strict=True)
    return pd.DataFrame({"mode": modes, "prompt": prompts, "base": before, "adapter": after})


def _params(base: Base, how: Tuning, tuned: Tuned, found: Lessons) -> dict[str, Any]:
    read_in = sum(len(row.ids) for row in found.train)
    return {
        "base_model": base.ref.name,
        "base_revision": base.ref.revision or "-",
        "tokenizer_digest": base.digest,
        "prompts_digest": package.prompts_digest(),
        "device": str(base.device),
        "quantisation": "nf4, double",
        **{name: value for name, value in asdict(how).items() if name != "seed"},
        "target_modules": ",".join(tuned.lora["target_modules"]),
        "adapter_parameters": sum(weight.size for weight in tuned.weights.values()),
        "epochs": round(tuned.tokens / read_in, 2),
        "resumed_from": tuned.resumed_from,
        "train_conversations": int((found.table["part"] != "valid").sum()),
        "valid_conversations": len(found.valid),
        **{f"conversations_{name}": count for name, count in found.counts.items()},
    }


def _measures(tuned: Tuned, estimate: memory.Budget | None, *, on_card: bool) -> dict[str, float]:
    """estimate: of what was trained. Beside the peak, both without CUDA's own memory; of a process on a CPU the peak
    is of everything in it, so they are not compared."""
    found = {
        "tokens_per_s": tuned.tokens_per_s,
        "train_seconds": tuned.seconds,
        "trained_tokens": float(tuned.tokens),
        "peak_memory_gb": tuned.peak_gb,
    }
    if estimate is None:
        return found
    found["estimated_memory_gb"] = estimate.tensors_gib
    if on_card:
        found["peak_over_estimate"] = ratio = tuned.peak_gb / estimate.tensors_gib
        if abs(ratio - 1) > OFF:
            _say(
                f"the card's peak was {tuned.peak_gb:.2f} GiB, and {estimate.tensors_gib:.2f} was the estimate of "
                f"{estimate.micro_batch} x {estimate.tokens} tokens: training.qlora.memory is off by {ratio - 1:+.0%}"
            )
    return found


def _reference(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What describes the conversations that were learnt from."""
    learnt = table.loc[table["part"] == "train", list(DESCRIBED)]
    return learnt.sample(min(REFERENCE_ROWS, len(learnt)), random_state=seed).reset_index(drop=True)


def _let_go() -> None:
    """Give the card's memory back, and not only to torch."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


RECIPE = QloraRecipe()
