"""The language seat's recipe on a really trained Llama and real Korean talk: what 4-bit costs, and what a kill costs.

    python -m benchmarks.qlora_korean [--quick] [--data ../shared/data]
    python -m benchmarks.qlora_korean --choose '{"rate": 0.003}'      # to try a setting: no held-out pair is read

An English story teller of 260,000 parameters (llama2.c) learns to answer in Korean from question and answer pairs, by
`training.qlora.tuning.tune` as a night's training does: in 4-bit, in fp32, and in 4-bit killed half-way (SIGKILL) and
started again. Prints tables, and last one line of JSON; docs/benchmarks.md explains them.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nightshift.commands import plain, run_command
from nightshift.errors import NightshiftError, SourceError
from nightshift.language.adapters import Adapter
from nightshift.language.bases import Base, BaseRef, open_base, quiet
from nightshift.language.chat import Message, encode
from nightshift.language.engine import Engine
from nightshift.settings import PROJECT, Settings

if TYPE_CHECKING:
    from training.qlora.tuning import Tuned, Tuning

DATA = PROJECT.parent / "shared" / "data"
HELD_OUT = 0.05  # share of the questions; another such share is to choose settings by
ASKED = ("오늘 너무 피곤해", "사랑이 뭘까?", "배고파")
STORY = "Once upon a time"
ADAPTER = "adapter.safetensors"
KILL_SECONDS = 600  # until the training that is to be killed must have come half-way

# What the figures must be.
BEFORE_AT_LEAST, AFTER_BELOW, FP32_WITHIN, RESUME_EXACT = 15.0, 5.0, 0.05, 0.0


@dataclass(frozen=True)
class Size:
    """steps: of each training; tokens: of a packed row; rows: of a step; held_out: pairs scored.

    pairs: to learn from. The rest is as in Tuning; what differs from a night's was chosen on the pairs of `choosing`.
    """

    steps: int
    held_out: int
    pairs: int = 4_000
    tokens: int = 256
    rows: int = 4
    at_once: int = 4
    rank: int = 64
    scale: float = 4.0
    rate: float = 2e-3
    warm: float = 0.05
    beta2: float = 0.98
    clip: float = 1.0
    embedding: bool = True


WHOLE = Size(steps=200, held_out=300)
QUICK = Size(steps=6, held_out=40, pairs=200, rows=2, at_once=2)


def pairs(folder: Path) -> list[list[Message]]:
    """Question and answer, each question once.

    Raises:
        SourceError: the file is missing or lacks a column.
    """
    path = folder / "ChatbotData.csv"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            found = {row["Q"].strip(): row["A"].strip() for row in csv.DictReader(file)}
    except (OSError, KeyError) as error:
        raise SourceError(
            f"{path} is no file of github.com/songys/Chatbot_data (columns Q, A, label): {error}"
        ) from error
    return [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        for asked, said in found.items()
    ]


@dataclass(frozen=True)
class Parts:
    """The pairs: to learn from, to choose settings by, held out."""

    train: list[list[Message]]
    choosing: list[list[Message]]
    held: list[list[Message]]


def split(conversations: Sequence[list[Message]]) -> Parts:
    """By the digest of the question: the same in every run. No answer that is learnt is in another part.

    The pairs carry no date to split by.
    """

    def key(messages: list[Message]) -> str:
        return hashlib.sha256(messages[0]["content"].encode()).hexdigest()

    ordered = sorted(conversations, key=key)
    share = round(HELD_OUT * len(ordered))
    held, choosing = ordered[:share], ordered[-share:]
    answers = {messages[1]["content"] for messages in held + choosing}
    train = [m for m in ordered[share:-share] if m[1]["content"] not in answers]
    return Parts(train, choosing, held)


def nll(engine: Engine, held: Sequence[list[Message]], adapter: str | None) -> float:
    """Nats per token of the answers."""
    told = engine.surprise(held, adapter)
    return sum(one.nats for one in told) / sum(one.tokens for one in told)


class World:
    """The converted base under `folder`, and the pairs. choose: scored are those to choose by, not those held out."""

    def __init__(self, data: Path, folder: Path, size: Size, *, choose: bool = False) -> None:
        from benchmarks.qlora import llama2c

        stories = data / "stories260k"
        self.folder, self.size = folder, size
        base = folder / "base"
        if not base.exists():
            llama2c.convert(stories / "stories260K.bin", stories / "tok512.bin", base)
        self.ref = BaseRef(str(base))
        self.settings = Settings(_env_file=None, home=folder / "home", language_device="cpu")  # type: ignore[call-arg]
        parts = split(pairs(data / "korean-chat"))
        self.train = parts.train[: size.pairs]
        self.held = (parts.choosing if choose else parts.held)[: size.held_out]

    def open(self, *, four_bit: bool = True) -> Base:
        return open_base(self.settings, self.ref, four_bit=four_bit)

    def how(self) -> Tuning:
        from training.qlora.tuning import Tuning

        size = self.size
        return Tuning(
            rank=size.rank,
            scale=size.scale,
            tokens=size.tokens,
            rows=size.rows,
            at_once=size.at_once,
            steps=size.steps,
            rate=size.rate,
            warm=size.warm,
            beta2=size.beta2,
            clip=size.clip,
            embedding=size.embedding,
            keep_steps=size.steps // 2,
            check_steps=size.steps,
            recompute=False,  # memory is no matter here
        )

    def tune(self, base: Base, name: str) -> Tuned:
        from training.qlora.tuning import tune

        train, valid = (
            [encode(base.tokenizer, messages) for messages in rows] for rows in (self.train, self.held[:20])
        )
        return tune(base, train, valid, self.how(), self.folder / name)

    def adapter(self, base: Base, lora: dict[str, Any], weights: dict[str, np.ndarray]) -> Adapter:
        return Adapter(self.ref.name, self.ref.revision, base.digest, lora, weights)


def measure(data: Path, folder: Path, size: Size) -> dict[str, Any]:
    """Everything the benchmark prints. Raises SourceError if the data are not there."""
    world = World(data, folder, size)
    base, tuned, found = _learnt(world)
    whole = _timed("fp32", lambda: _whole(world))
    found |= {"nll_fp32": whole, "fp32_diff": abs(found["nll_after"] - whole)}
    again = _timed("4-bit, killed and started again", lambda: _killed(world, data))
    found |= {"resumed_from": again.resumed_from, "resume_max_diff": difference(tuned.weights, again.weights)}
    found |= _reloaded(world, base, tuned)
    return {**found, "steps": size.steps, "bars": bars(found)}


def _learnt(world: World) -> tuple[Base, Tuned, dict[str, Any]]:
    base = world.open()
    engine = Engine(base)
    before, said_before = nll(engine, world.held, None), _answers(engine, None)
    story = _story(base)
    tuned = _timed("4-bit", lambda: world.tune(base, "four-bit"))
    engine.add("tuned", world.adapter(base, tuned.lora, tuned.weights))
    after, said_after = nll(engine, world.held, "tuned"), _answers(engine, "tuned")
    return base, tuned, {
        "nll_before": before,
        "nll_after": after,
        "tokens_per_s": tuned.tokens_per_s,
        "trained_tokens": tuned.tokens,
        "peak_gb": tuned.peak_gb,
        "story": story,
        "answers": [
            {"asked": asked, "before": old, "after": new}
            for asked, old, new in zip(ASKED, said_before, said_after, strict=True)
        ],
    }  # fmt: skip


def choose(data: Path, folder: Path, size: Size) -> dict[str, Any]:
    """What a setting reaches in 4-bit on the pairs to choose by. Raises SourceError if the data are not there."""
    world = World(data, folder, size, choose=True)
    base = world.open()
    tuned = _timed("4-bit", lambda: world.tune(base, "four-bit"))
    engine = Engine(base)
    engine.add("tuned", world.adapter(base, tuned.lora, tuned.weights))
    told = {"nll_choosing": nll(engine, world.held, "tuned"), "trained_tokens": tuned.tokens}
    return {**told, **asdict(size)}


def _whole(world: World) -> float:
    """Nats per token of the same training on the base in fp32."""
    base = world.open(four_bit=False)
    tuned = world.tune(base, "fp32")
    engine = Engine(base)
    engine.add("tuned", world.adapter(base, tuned.lora, tuned.weights))
    return nll(engine, world.held, "tuned")


def _killed(world: World, data: Path) -> Tuned:
    """Train in a process of its own, kill that without warning after its first checkpoint, and go on here.

    Raises:
        NightshiftError: it came to no checkpoint, or to its end.
    """
    checkpoints = world.folder / "killed"
    command = [sys.executable, "-m", "benchmarks.qlora_korean", "--data", str(data), "--until-killed"]
    command += [str(world.folder), json.dumps(asdict(world.size))]
    with (world.folder / "killed.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=PROJECT, stdout=log, stderr=log, start_new_session=True, env=dict(os.environ)
        )
        try:
            deadline = time.monotonic() + KILL_SECONDS
            while not any(checkpoints.glob("checkpoint-*/whole.json")):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NightshiftError(
                        f"the training to be killed made no checkpoint: {_end(world.folder / 'killed.log')}"
                    )
                time.sleep(0.05)
            if process.poll() is not None:
                raise NightshiftError(
                    "the training to be killed was over before it could be: give it more steps"
                )
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return world.tune(world.open(), "killed")


def _end(log: Path) -> str:
    return log.read_text()[-500:]


def _reloaded(world: World, base: Base, tuned: Tuned) -> dict[str, Any]:
    """The adapter from its file, on a base opened anew: how far its outputs are from those of the one in memory."""
    from safetensors.numpy import load_file, save_file

    path = world.folder / ADAPTER
    save_file(tuned.weights, path)
    nats, answers = [], []
    for opened, weights in ((base, tuned.weights), (world.open(), load_file(path))):
        engine = Engine(opened)
        engine.add("read", world.adapter(opened, tuned.lora, weights))
        nats.append(np.array([told.nats for told in engine.surprise(world.held, "read")]))
        answers.append(_answers(engine, "read"))
        engine.remove("read")
    return {
        "reload_max_diff": float(np.abs(nats[0] - nats[1]).max()),
        "reload_same_answers": answers[0] == answers[1],
        "adapter_bytes": path.stat().st_size,
    }


def _answers(engine: Engine, adapter: str | None) -> list[str]:
    return [engine.answer([{"role": "user", "content": asked}], adapter, max_tokens=90) for asked in ASKED]


def _story(base: Base) -> str:
    """What the converted base tells, untrained: English, if the conversion is right."""
    import torch

    ids = torch.tensor([[base.tokenizer.bos_token_id, *base.tokenizer(STORY)["input_ids"]]])
    with torch.inference_mode():
        told = base.model.generate(ids, max_new_tokens=60, do_sample=False, pad_token_id=0)[0]
    return str(base.tokenizer.decode(told, skip_special_tokens=True))


def difference(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    """The largest absolute difference of two adapters' weights; infinite if they are not the same tensors, or one of
    them holds what is no finite number."""
    if first.keys() != second.keys() or any(first[key].shape != second[key].shape for key in first):
        return float("inf")
    worst = np.array([np.abs(first[key] - second[key]).max() for key in first])
    return float(worst.max()) if np.isfinite(worst).all() else float("inf")


def bars(found: dict[str, Any]) -> dict[str, bool]:
    """Bar → whether the figures hold it."""
    return {
        f"held-out NLL before ≥ {BEFORE_AT_LEAST}": found["nll_before"] >= BEFORE_AT_LEAST,
        f"held-out NLL after < {AFTER_BELOW}": found["nll_after"] < AFTER_BELOW,
        f"|4-bit − fp32| ≤ {FP32_WITHIN}": found["fp32_diff"] <= FP32_WITHIN,
        "resumed = never killed, bit for bit": found["resume_max_diff"] == RESUME_EXACT,
        "reloaded = as trained": found["reload_max_diff"] == 0.0 and found["reload_same_answers"],
    }


def show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=110)
    table = Table(title=f"stories260k learns Korean, {found['steps']} steps")
    for title in ("", "figure"):
        table.add_column(title, justify="left" if not title else "right")
    for title, key in (
        ("held-out NLL before, nats per token", "nll_before"),
        ("after, 4-bit", "nll_after"),
        ("after, fp32", "nll_fp32"),
        ("killed and resumed: largest difference of a weight", "resume_max_diff"),
        ("adapter reloaded: largest difference of an answer, nats", "reload_max_diff"),
        ("tokens/s, 4-bit", "tokens_per_s"),
    ):
        table.add_row(title, f"{found[key]:,.4g}")
    console.print(table)
    for bar, held in found["bars"].items():
        console.print(f"{'holds' if held else 'FAILS'}: {bar}", highlight=False)
    console.print(f"untrained: {found['story']}", highlight=False)
    for one in found["answers"]:
        console.print(f"{one['asked']} → {one['after']!r} (before: {one['before']!r})", highlight=False)


def _timed(title: str, call: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    answer = call()
    print(f"{title}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.qlora_korean", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="a few steps: that it runs, not figures to keep")
    parser.add_argument(
        "--data", type=Path, default=DATA, metavar="FOLDER", help="with stories260k, korean-chat"
    )
    parser.add_argument(
        "--choose", type=json.loads, metavar="JSON", help="fields of Size to try on the pairs to choose by"
    )
    parser.add_argument("--until-killed", nargs=2, metavar=("FOLDER", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    quiet()
    if options.until_killed is not None:
        folder, size = options.until_killed
        world = World(options.data, Path(folder), replace(WHOLE, **json.loads(size)))
        world.tune(world.open(), "killed")
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.choose is not None:
            print(json.dumps(choose(options.data, Path(folder), replace(WHOLE, **options.choose))))
            return
        found = measure(options.data, Path(folder), QUICK if options.quick else WHOLE)
    show(found)
    first = ("nll_before", "nll_after", "nll_fp32", "resume_max_diff", "tokens_per_s")
    told = {**{key: found[key] for key in first}, **found}
    print(json.dumps(plain(told), ensure_ascii=False))


if __name__ == "__main__":
    run_command(main)
