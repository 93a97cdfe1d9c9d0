"""The memory budget: it grows with what is asked, its parts are its sum, and what is said to fit fits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.errors import BaseModelError, SettingsError
from nightshift.language.bases import BaseRef
from nightshift.settings import PROJECT, Settings
from training.qlora import memory
from training.qlora.memory import GIB, OURS, PLAIN, SHAPES, STEP, budget, check_fits, largest, plan

LLAMA = SHAPES["llama-3-8b"]
CONFIG = {
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}

shapes = st.sampled_from(sorted(SHAPES.values(), key=lambda shape: shape.name))
ways = st.sampled_from([OURS, PLAIN])
tokens = st.integers(1, 16_384)
ranks = st.integers(1, 256)
rows = st.integers(1, 8)


@given(shapes, tokens, ranks, rows, ways)
def test_the_total_is_the_sum_of_its_parts(shape, count, rank, batch, way) -> None:
    found = budget(shape, count, rank, batch, way)
    assert found.total == sum(found.parts.values()) == pytest.approx(found.gib * GIB)
    assert set(found.parts) == set(memory.TITLES)
    assert found.parts["step"] == max(found.layer, found.loss)
    assert all(size > 0 for size in found.parts.values())


@given(shapes, tokens, ranks, rows, ways)
def test_more_tokens_a_higher_rank_or_more_rows_take_more(shape, count, rank, batch, way) -> None:
    least = budget(shape, count, rank, batch, way).total
    assert budget(shape, count + 1, rank, batch, way).total > least
    assert budget(shape, count, rank + 1, batch, way).total > least
    assert budget(shape, count, rank, batch + 1, way).total > least


@given(shapes, ranks, st.floats(1.0, 48.0), rows, ways)
def test_the_largest_sequence_fits_and_one_step_more_does_not(shape, rank, limit, batch, way) -> None:
    found = largest(shape, rank, limit, batch, way)
    if found:
        assert budget(shape, found, rank, batch, way).gib <= limit
    if found + STEP <= shape.context:
        assert budget(shape, found + STEP, rank, batch, way).gib > limit
    assert found <= shape.context


@given(shapes, tokens, st.floats(3.0, 48.0))
def test_a_plan_keeps_under_the_limit_and_is_never_longer_than_asked(shape, count, limit) -> None:
    try:
        found = plan(shape, count, 16, limit)
    except SettingsError:
        assert largest(shape, 16, limit) == 0
        return
    assert found.tokens <= count and found.micro_batch >= 1
    assert found.budget.gib <= limit
    if found.micro_batch < memory.MOST_ROWS:
        assert budget(shape, found.tokens, 16, found.micro_batch + 1).gib > limit


def test_rows_at_a_time_are_one_long_row_to_the_mask() -> None:
    assert memory.mask_bytes(512, 4) == memory.mask_bytes(2048, 1) == 3 * 2048**2
    assert memory.mask_bytes(512, 4, PLAIN) == 0
    assert budget(LLAMA, 512, 16, 4).total == budget(LLAMA, 2048, 16).total


def test_the_tensors_are_all_but_what_cuda_takes_itself() -> None:
    found = budget(LLAMA, 512, 16)
    assert found.tensors_gib == pytest.approx(found.gib - memory.CUDA_CONTEXT / GIB)


def test_llama_8b_holds_the_bars_of_a_12_gb_card() -> None:
    assert budget(LLAMA, 2048, 16).gib <= 8.0
    assert budget(LLAMA, 4096, 16).gib <= 9.5
    assert largest(LLAMA, 16, 12.0) >= 2 * largest(LLAMA, 16, 12.0, way=PLAIN)


def test_llama_8b_has_the_sizes_that_are_published() -> None:
    """8.03 billion parameters, of them 6.98 in linear layers; LoRA of rank 16 on all of these has 41.9 million."""
    linear = LLAMA.layers * sum(out * into for out, into in LLAMA.linears)
    assert linear == 6_979_321_856
    assert linear + 2 * LLAMA.vocabulary * LLAMA.hidden + 65 * LLAMA.hidden == 8_030_261_248
    assert budget(LLAMA, 1, 16).parts["gradients"] == 4 * 41_943_040


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    assert check_fits(LLAMA, 2048, 16, 12.0).tokens == 2048
    fits = largest(LLAMA, 16, 8.0)
    with pytest.raises(
        SettingsError, match=rf"needs \d+\.\d\d GiB of 8; .* is {fits}: set NIGHTSHIFT_LANGUAGE_TOKENS"
    ):
        check_fits(LLAMA, 8192, 16, 8.0)
    with pytest.raises(SettingsError, match=r"no sequence fits.*NIGHTSHIFT_LANGUAGE_MODEL"):
        check_fits(LLAMA, 64, 16, 4.0)


def test_a_folders_config_gives_its_shape(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").touch()
    config = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    found = memory.shape_of(config, BaseRef(str(tmp_path)))
    assert (found.head, found.kv_heads, found.tied, found.context) == (8, 4, True, 512)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"intermediate_size": None}, "intermediate_size"), ({"num_local_experts": 8}, "dense layers")],
)
def test_a_config_of_another_kind_is_refused(change: dict[str, int | None], said: str) -> None:
    config = {key: value for key, value in {**CONFIG, **change}.items() if value is not None}
    with pytest.raises(BaseModelError, match=f"has no {said}"):
        memory.read_shape("odd", config)


@pytest.mark.parametrize("wrong", ["wide", [64], {}])
def test_a_size_that_is_no_number_is_refused_in_words(wrong: object) -> None:
    with pytest.raises(BaseModelError, match=r"odd: its config.json has sizes that are no numbers"):
        memory.read_shape("odd", {**CONFIG, "hidden_size": wrong})
    with pytest.raises(BaseModelError, match="no numbers"):
        memory.read_shape("odd", [wrong])  # type: ignore[arg-type]


def test_a_hub_out_of_reach_names_the_setting(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "NIGHTSHIFT_HOME": str(tmp_path),
    }
    command = [
        sys.executable,
        "-m",
        "training.qlora.memory",
        "--model",
        "MLP-KTLim/llama-3-Korean-Bllossom-8B",
    ]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "BaseModelError: the config of MLP-KTLim/llama-3-Korean-Bllossom-8B cannot be had"
    )
    assert "NIGHTSHIFT_LANGUAGE_MODEL" in done.stderr and done.stderr.count("\n") == 1


def test_the_command_prints_the_table_and_what_fits() -> None:
    told = memory.answer(LLAMA, 2048, 16, 1, 12.0)
    assert told["fits"] and told["largest_tokens"] == largest(LLAMA, 16, 12.0)
    assert sum(told["parts_gib"].values()) == pytest.approx(told["total_gib"])
    command = [sys.executable, "-m", "training.qlora.memory", "--shape", "llama-3-8b", "--seq", "2048"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert f"{told['total_gib']:.2f}" in done.stdout and "longest sequence that fits" in done.stdout


def test_a_measured_layer_is_the_computed_one() -> None:
    """A small layer: at real size `python -m benchmarks.qlora_memory` does it."""
    from benchmarks.qlora_memory import SMALL, parts

    found = {part.name: part for part in parts(SMALL, tokens=(256,))}
    for name in ("4-bit weights", "LoRA, fp32", "optimiser, 8-bit", "saved, ours, packed, 256 tokens"):
        assert found[name].measured == found[name].computed, name
    for part in found.values():
        assert abs(part.off) <= 0.03, part
