from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nightshift.errors import BaseModelError
from nightshift.language.bases import BaseRef, bound, folder_digest, open_base, tokenizer_digest
from nightshift.settings import Settings


def _gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    ids = torch.randint(0, 300, (2, 24))
    model.train()
    model.zero_grad()
    model(ids, labels=ids).loss.backward()
    return {name: p.grad.float().clone() for name, p in model.named_parameters() if p.grad is not None}


def _with_lora(model: torch.nn.Module) -> torch.nn.Module:
    from peft import LoraConfig

    torch.manual_seed(1)
    model.add_adapter(LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False), "probe")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()
    return model


def test_the_gradient_after_an_eval_pass_is_that_of_the_dequantised_weights(tiny_settings: Settings) -> None:
    import bitsandbytes as bnb

    base = open_base(tiny_settings, BaseRef(tiny_settings.language_model))
    model = _with_lora(base.model)
    with torch.inference_mode():
        model.eval()(torch.randint(0, 300, (1, 8)))  # what repacks the weights where it may
    given = _gradients(model)

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, bnb.nn.Linear4bit):
                weight = bnb.functional.dequantize_4bit(child.weight.data, child.weight.quant_state)
                plain = torch.nn.Linear(
                    child.in_features, child.out_features, bias=False, dtype=torch.bfloat16
                )
                plain.weight.data, plain.weight.requires_grad = weight.to(torch.bfloat16), False
                setattr(module, name, plain)
    expected = _gradients(model)

    assert set(given) == set(expected)
    for name, gradient in expected.items():
        cosine = torch.nn.functional.cosine_similarity(given[name].flatten(), gradient.flatten(), dim=0)
        assert cosine > 0.99, f"{name}: {cosine:.3f}"


def test_the_linear_layers_are_in_four_bits_and_the_rest_in_bf16(tiny_settings: Settings) -> None:
    import bitsandbytes as bnb

    model = open_base(tiny_settings, BaseRef(tiny_settings.language_model)).model
    layers = [m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert len(layers) == 3 * 7
    assert all(layer.weight.quant_type == "nf4" and layer.weight.quant_state.nested for layer in layers)
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    whole = open_base(tiny_settings, BaseRef(tiny_settings.language_model), four_bit=False).model
    assert {p.dtype for p in whole.parameters()} == {torch.float32}


def test_a_folder_that_is_no_model_is_named_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"is no model.*NIGHTSHIFT_LANGUAGE_MODEL"):
        open_base(Settings(home=tmp_path), BaseRef(str(tmp_path / "nothing")))


def test_a_half_written_model_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in tiny_folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BaseModelError, match="cannot be opened"):
        open_base(Settings(home=tmp_path, language_device="cpu"), BaseRef(str(broken)))


def test_a_small_base_that_was_never_made_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="nightshift train qlora"):
        open_base(Settings(home=tmp_path), BaseRef("small", "0123456789abcdef"))


def test_a_hub_out_of_reach_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        BaseModelError, match=r"MLP-KTLim/llama-3-Korean-Bllossom-8B.*NIGHTSHIFT_LANGUAGE_MODEL"
    ):
        open_base(Settings(home=tmp_path), BaseRef("MLP-KTLim/llama-3-Korean-Bllossom-8B"))


def test_tokenizers_that_read_alike_have_equal_digests(tiny_folder: Path) -> None:
    from transformers import AutoTokenizer

    first, second = (AutoTokenizer.from_pretrained(tiny_folder) for _ in range(2))
    assert tokenizer_digest(first) == tokenizer_digest(second)
    second.add_tokens(["바다"])
    assert tokenizer_digest(first) != tokenizer_digest(second)


def test_a_folder_is_bound_to_its_weights_and_other_weights_are_refused(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(tiny_folder, folder)
    config = Settings(home=tmp_path, language_device="cpu")
    ref = bound(config, BaseRef(str(folder)))
    assert len(ref.revision) == 16 and ref == bound(config, ref)
    assert open_base(config, ref).ref == ref

    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for refused in (lambda: open_base(config, ref), lambda: bound(config, ref)):
        with pytest.raises(BaseModelError, match=rf"holds other weights .* than .*@{ref.revision}"):
            refused()
    assert open_base(config, BaseRef(str(folder))).ref.revision == ""


@pytest.mark.parametrize("change", ["config", "header", "size", "name"])
def test_a_folders_digest_tells_its_files_apart(tiny_folder: Path, tmp_path: Path, change: str) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(tiny_folder, folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    before = folder_digest(folder)
    assert before == folder_digest(tiny_folder)
    if change == "config":
        config.write_text(json.dumps({**json.loads(config.read_text()), "rope_theta": 1.0}))
    elif change == "name":
        weights.rename(folder / "model-00001-of-00001.safetensors")
    else:
        content = bytearray(weights.read_bytes())
        content[20:21] = b"" if change == "size" else bytes([content[20] ^ 1])
        weights.write_bytes(content)
    assert folder_digest(folder) != before


def test_a_hubs_model_is_bound_to_the_commit_that_its_branch_is_at(tiny_folder: Path, tmp_path: Path) -> None:
    """From the hub's own cache: no network."""
    commit, cache = "c" * 40, tmp_path / "hf" / "hub" / "models--some--tiny"
    shutil.copytree(tiny_folder, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    code = (
        "from nightshift.settings import Settings\n"
        "from nightshift.language.bases import BaseRef, bound, open_base\n"
        f"config = Settings(_env_file=None, home={str(tmp_path)!r}, language_device='cpu')\n"
        "ref = BaseRef('some/tiny')\n"
        "print(bound(config, ref), open_base(config, ref).ref, open_base(config, bound(config, ref)).ref)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == [f"some/tiny@{commit}"] * 3, done.stderr[-2000:]


def test_revisions_differ_only_where_both_are_told() -> None:
    free, one, two = (BaseRef("a/b", revision) for revision in ("", "1", "2"))
    assert free.fits(one) and one.fits(free) and one.fits(one)
    assert not one.fits(two) and not free.fits(BaseRef("a/c"))
