"""The coach: how fast the engine answers beside transformers' generate, and whether people alike are near.

    python -m benchmarks.coach            # the base that the settings name; some minutes on two cores
    python -m benchmarks.coach --quick    # that it runs, not figures to keep

Speed: the same 4-bit base, device and prompts, greedy, no adapter; each prompt once by each, in turn, after one run to
warm up. `ttft_ms`: from the call to the first token. `tokens_per_s`: all tokens over all time, prompt included.
Neighbours: users of the market by what they said to the coach in `days` days (cleaned); of each, the five nearest by
the cosine of their personas. `same_persona`: how many of the five are of the same planted persona. `values_apart`: mean
absolute difference of their planted values. Beside it the same for five drawn at random, and for vectors that were not
centred.
Matches: somebody who says PROMPTS and gives one field of the market as a tag; `field_matched`: the share of the three
nearest of the market's topics that are of this field (each has three). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np

from nightshift.language.chat import Message, ends, prompt
from nightshift.language.engine import Engine
from nightshift.language.prompts import as_coach
from nightshift.settings import Settings, settings

NEIGHBOURS = 5
LEAST_SAID = 2  # messages of a user; one is mostly an opening
ANSWER_TOKENS = 64
PROMPTS = (
    "요즘 일이 재미없어요. 무엇을 하면 좋을까요?",
    "연봉은 괜찮은데 배우는 것이 없어요.",
    "혼자 정하고 일하는 것이 좋습니다.",
    "I am bored at work. What should I do?",
    "사람들에게 도움이 되는 일을 하고 싶어요.",
)


def speed(engine: Engine, runs: int) -> dict[str, float]:
    """Medians over `runs` rounds of PROMPTS, ours and theirs; and whether both said the same."""
    took: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    equal = total = 0
    for turn in range(runs + 1):
        for said in PROMPTS:
            asked = as_coach([{"role": "user", "content": said}])
            texts = []
            for name, answer in (("engine", _ours), ("transformers", _theirs)):
                text, first, whole, tokens = answer(engine, asked)
                texts.append(text)
                if turn:
                    took[name].append((first, whole, tokens))
            equal, total = equal + (texts[0] == texts[1]), total + 1
    figures: dict[str, float] = {"same_text": equal / total}
    for name, rows in took.items():
        figures[f"ttft_ms_{name}"] = round(1000 * statistics.median(first for first, _, _ in rows), 1)
        figures[f"tokens_per_s_{name}"] = round(sum(n for _, _, n in rows) / sum(s for _, s, _ in rows), 1)
        figures[f"tokens_{name}"] = sum(n for _, _, n in rows)
    return figures


def _ours(engine: Engine, asked: list[Message]) -> tuple[str, float, float, int]:
    began, first, pieces = time.perf_counter(), 0.0, []
    for piece in engine.stream(asked, None, max_tokens=ANSWER_TOKENS):
        first = first or time.perf_counter() - began
        pieces.append(piece)
    whole, text = time.perf_counter() - began, "".join(pieces)
    return text, first, whole, len(engine.base.tokenizer(text, add_special_tokens=False)["input_ids"])


def _theirs(engine: Engine, asked: list[Message]) -> tuple[str, float, float, int]:
    import torch

    tokenizer, model = engine.base.tokenizer, engine.base.model
    seen: list[float] = []

    class Watch:
        def put(self, _: Any) -> None:
            seen.append(time.perf_counter())

        def end(self) -> None:
            pass

    began = time.perf_counter()
    ids = torch.tensor([prompt(tokenizer, asked)], device=engine.base.device)
    with torch.inference_mode():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=ANSWER_TOKENS,
            eos_token_id=ends(tokenizer), pad_token_id=tokenizer.pad_token_id, streamer=Watch(),
        )  # fmt: skip
    text = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    whole = time.perf_counter() - began
    made = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    return text, seen[1] - began, whole, made  # the first of `seen` is the prompt


def neighbours(config: Settings, engine: Engine, days: int, users: int) -> dict[str, float]:
    """What the docstring above says of neighbours."""
    from nightshift.sources.market.talk import Talk
    from serving.coach.persona import Space, unit

    talk = Talk(config)
    said = _said(talk, config, days)
    ids = sorted(user for user, texts in said.items() if len(texts) >= LEAST_SAID)[:users]
    values, personas = talk.values_of(ids), np.array([talk.persona_of(user) for user in ids])
    states = [engine.hidden(said[user]) for user in ids]
    space = Space.of(str(engine.base.ref), engine.hidden)
    centred = np.stack([space.persona(each) for each in states])
    raw = np.stack([unit(each.sum(axis=0)) for each in states])
    random = np.random.default_rng(0)
    others = np.array(
        [random.permutation(np.delete(np.arange(len(ids)), n))[:NEIGHBOURS] for n in range(len(ids))]
    )
    figures: dict[str, float] = {"users": len(ids), "messages": sum(len(said[user]) for user in ids)}
    for name, near in (("random", others), ("plain", _near(raw)), ("centred", _near(centred))):
        same = (personas[near] == personas[:, None]).mean(axis=1)
        apart = np.abs(values[near] - values[:, None]).mean(axis=(1, 2))
        figures[f"same_persona_{name}"] = round(float(same.mean()), 3)
        figures[f"same_persona_{name}_se"] = round(float(same.std() / len(ids) ** 0.5), 3)
        figures[f"values_apart_{name}"] = round(float(apart.mean()), 3)
    for name, vectors in (("plain", raw), ("centred", centred)):
        cosines = vectors @ vectors.T
        figures[f"mean_cosine_{name}"] = round(float(cosines[~np.eye(len(ids), dtype=bool)].mean()), 3)
    return figures


def matches(config: Settings, engine: Engine) -> dict[str, float]:
    """What the docstring above says of matches."""
    from nightshift.language.prompts import VALUES
    from nightshift.sources.market.words import FIELDS, topic_name
    from serving.coach.persona import TAGS, WORDS, Space, profile, unit

    names = [topic_name(n) for n in range(config.market_topics)]
    fields = [korean for korean, _ in FIELDS if any(name.startswith(korean) for name in names)]
    right = np.array([[name.startswith(field) for name in names] for field in fields])
    topics, tags, words = engine.hidden(names), engine.hidden(fields), engine.hidden(PROMPTS)
    space = Space.of(str(engine.base.ref), engine.hidden)
    told = space.persona(words)
    centred = np.stack(
        [profile(space, told, tag[None], dict.fromkeys(VALUES, 3)) for tag in space.named(tags)]
    )
    plain = WORDS * unit(words.sum(axis=0)) + TAGS * unit(tags)
    figures: dict[str, float] = {"fields": len(fields), "field_matched_random": round(float(right.mean()), 3)}
    for name, mine, others in (("plain", plain, unit(topics)), ("centred", centred, space.named(topics))):
        near = np.argsort(-(mine @ others.T), axis=1)[:, :3]
        figures[f"field_matched_{name}"] = round(float(np.take_along_axis(right, near, axis=1).mean()), 3)
    return figures


def _said(talk: Any, config: Settings, days: int) -> dict[str, list[str]]:
    """User → what they said in conversations that are no profile pairs (those have a system message)."""
    from nightshift.cleaning import clean

    said: dict[str, list[str]] = defaultdict(list)
    for number in range(days):
        kept, _ = clean(talk.told(config.market_start + timedelta(days=number)).to_pylist())
        for row in kept:
            if row["messages"][0]["role"] != "system":
                said[row["user_id"]] += [m["content"] for m in row["messages"] if m["role"] == "user"]
    return said


def _near(vectors: np.ndarray) -> np.ndarray:
    """[n, NEIGHBOURS] of each row, without itself."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1)[:, :NEIGHBOURS]


def main(say: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coach", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="that it runs, not figures to keep")
    options = parser.parse_args()
    from nightshift.language.bases import open_base
    from training.qlora.small import base_ref

    config = settings()
    engine = Engine(open_base(config, base_ref(config, say)))
    figures: dict[str, Any] = {"base": str(engine.base.ref), "device": engine.base.device.type}
    figures |= speed(engine, 1 if options.quick else 10)
    days, users = (2, 40) if options.quick else (28, 400)
    crowd = config.model_copy(update={"market_users": 20 if options.quick else 400})
    figures |= neighbours(crowd, engine, days, users)
    figures |= matches(config, engine)
    for name, value in figures.items():
        say(f"{name:32} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
