"""The Korean QLoRA benchmark: a conversion that is exact, a split that leaks nothing, figures with their bars."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import qlora_korean
from benchmarks.qlora import llama2c
from benchmarks.qlora_korean import Size, World
from nightshift.errors import SourceError
from nightshift.settings import PROJECT

DATA = Path(os.environ.get("NIGHTSHIFT_TEST_DATA", PROJECT.parent / "shared" / "data"))
STORIES = DATA / "stories260k"
pytestmark = pytest.mark.skipif(
    not (STORIES.is_dir() and (DATA / "korean-chat").is_dir()),
    reason=f"no stories260k and korean-chat under {DATA} (set NIGHTSHIFT_TEST_DATA)",
)
# What llama2.c itself tells with temperature 0: `expected_stdout` of its test_all.py.
TOLD = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw "
    "a big, red ball. She wanted to play with it, but it was too high."
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    size = Size(2, held_out=3, pairs=12, tokens=64, rows=1, at_once=1, rank=16)
    return World(DATA, tmp_path_factory.mktemp("korean"), size)


def as_llama2c_computes(ids: list[int]) -> np.ndarray:
    """Logits [tokens, vocabulary] by run.c's own formulas: rotary pairs are neighbours."""
    sizes, w = llama2c.read(STORIES / "stories260K.bin")
    heads, kv_heads, dim = (
        sizes[f"{n}"] for n in ("num_attention_heads", "num_key_value_heads", "hidden_size")
    )
    head, count = dim // heads, len(ids)
    angles = np.arange(count)[:, None] / 10_000 ** (np.arange(0, head, 2) / head)

    def norm(x: Any, weight: Any) -> Any:
        return weight * x / np.sqrt((x**2).mean(-1, keepdims=True) + llama2c.EPS)

    def turned(x: Any) -> Any:  # [tokens, heads, head]
        even, odd, cos, sin = x[..., ::2], x[..., 1::2], np.cos(angles)[:, None], np.sin(angles)[:, None]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(x.shape)

    def apart(weight: Any) -> Any:  # the file's own order, from transformers' one
        return weight.reshape(-1, 2, head // 2, dim).swapaxes(1, 2).reshape(weight.shape)

    x = w["model.embed_tokens.weight"][ids].astype(np.float64)
    for layer in range(sizes["num_hidden_layers"]):
        at = {k.split(f"layers.{layer}.")[1][:-7]: v for k, v in w.items() if f"layers.{layer}." in k}
        y = norm(x, at["input_layernorm"])
        q = turned((y @ apart(at["self_attn.q_proj"]).T).reshape(count, heads, head))
        k = turned((y @ apart(at["self_attn.k_proj"]).T).reshape(count, kv_heads, head))
        v = (y @ at["self_attn.v_proj"].T).reshape(count, kv_heads, head)
        k, v = (np.repeat(one, heads // kv_heads, axis=1) for one in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(head)
        scores = np.where(np.tri(count, dtype=bool), scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("hqk,khd->qhd", scores / scores.sum(-1, keepdims=True), v).reshape(count, dim)
        x = x + mixed @ at["self_attn.o_proj"].T
        y = norm(x, at["post_attention_layernorm"])
        gate = y @ at["mlp.gate_proj"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ at["mlp.up_proj"].T)) @ at["mlp.down_proj"].T
    return norm(x, w["model.norm.weight"]) @ w["model.embed_tokens.weight"].T


def test_the_converted_model_computes_what_llama2c_does(world: World) -> None:
    import torch

    base = world.open(four_bit=False)
    ids = [1, *base.tokenizer("Once upon a time, there was a dog. 안녕")["input_ids"]]
    with torch.inference_mode():
        logits = base.model(torch.tensor([ids])).logits[0].numpy()
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits, as_llama2c_computes(ids), atol=2e-4)
    assert qlora_korean._story(base).startswith(TOLD)


def test_any_text_survives_the_rebuilt_tokenizer(world: World) -> None:
    tokenizer = llama2c.tokenizer_of(llama2c.pieces(STORIES / "tok512.bin"), 512)
    for text in ("Lily's mom said hi.", "오늘 너무 피곤해", "漢字 🎈 <a> 12:30", "two  spaces"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    ids = tokenizer("Once upon a time")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["▁Once", "▁upon", "▁a", "▁time"]


def test_a_cut_off_checkpoint_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "stories.bin"
    broken.write_bytes((STORIES / "stories260K.bin").read_bytes()[:-400])
    with pytest.raises(SourceError, match="its header says"):
        llama2c.read(broken)
    with pytest.raises(SourceError, match=r"llama2\.c"):
        llama2c.read(tmp_path / "missing.bin")


def test_no_question_and_no_answer_is_on_both_sides() -> None:
    every = qlora_korean.pairs(DATA / "korean-chat")
    parts = qlora_korean.split(every)
    for other in (parts.held, parts.choosing):
        for place in (0, 1):
            assert not {m[place]["content"] for m in parts.train} & {m[place]["content"] for m in other}
        assert len(other) > 500
    assert len(parts.train) > 8_500
    assert not {m[0]["content"] for m in parts.held} & {m[0]["content"] for m in parts.choosing}
    assert qlora_korean.split(every[::-1]) == parts


def test_a_setting_is_tried_on_the_pairs_to_choose_by_and_on_no_held_out_one(tmp_path: Path) -> None:
    parts = qlora_korean.split(qlora_korean.pairs(DATA / "korean-chat"))
    world = World(DATA, tmp_path, Size(2, held_out=3, pairs=12), choose=True)
    assert world.held == parts.choosing[:3]
    assert world.train == parts.train[:12]


def test_what_a_setting_names_is_what_is_trained_with(tmp_path: Path) -> None:
    named: dict[str, Any] = {
        "rank": 8,
        "scale": 1.0,
        "rate": 1e-3,
        "warm": 0.2,
        "beta2": 0.9,
        "clip": 0.1,
        "rows": 2,
        "at_once": 2,
    }
    how = World(DATA, tmp_path, replace(qlora_korean.WHOLE, **named), choose=True).how()
    assert {name: getattr(how, name) for name in named} == named


def test_two_steps_make_korean_likelier_and_the_file_is_the_adapter(world: World) -> None:
    base, tuned, found = qlora_korean._learnt(world)
    assert qlora_korean.BEFORE_AT_LEAST <= found["nll_before"] < 30
    assert found["nll_after"] < found["nll_before"] - 1
    told = qlora_korean._reloaded(world, base, tuned)
    assert (
        told["reload_max_diff"] == 0.0 and told["reload_same_answers"] and told["adapter_bytes"] < 1_000_000
    )


def test_adapters_differ_by_their_worst_weight() -> None:
    one = {"a": np.array([1.0, 2.0], np.float32)}
    assert qlora_korean.difference(one, {"a": np.array([1.0, 2.5], np.float32)}) == 0.5
    assert qlora_korean.difference(one, {"b": one["a"]}) == float("inf")
    for bad in (np.nan, np.inf):
        odd = {"b": np.ones(1, np.float32), "a": np.array([1.0, bad], np.float32)}
        assert qlora_korean.difference(odd, {**odd, "a": one["a"]}) == float("inf")
        assert qlora_korean.difference(odd, odd) == float("inf")


def test_the_bars_are_those_of_the_issue() -> None:
    good = {
        "nll_before": 21.5,
        "nll_after": 4.7,
        "fp32_diff": 0.05,
        "resume_max_diff": 0.0,
        "reload_max_diff": 0.0,
        "reload_same_answers": True,
    }
    assert all(qlora_korean.bars(good).values())
    for key, bad in (
        ("nll_after", 5.0),
        ("fp32_diff", 0.06),
        ("resume_max_diff", 1e-9),
        ("reload_max_diff", 1e-6),
        ("reload_same_answers", False),
    ):
        assert not all(qlora_korean.bars({**good, key: bad}).values()), key
