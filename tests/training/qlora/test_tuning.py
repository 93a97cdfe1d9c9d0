from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nightshift.errors import BaseModelError, NoDataError
from nightshift.language.bases import Base, BaseRef, open_base
from nightshift.language.chat import Encoded, Message
from nightshift.language.engine import Engine
from nightshift.settings import Settings
from training.qlora import tuning
from training.qlora.package import adapter_of
from training.qlora.tuning import Tuned, Tuning, newest_whole, tune

HOW = Tuning(rank=4, tokens=128, rows=2, steps=8, rate=5e-3, keep_steps=3, check_steps=4)


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def tuned(base: Base, encoded: list[Encoded], tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return tune(base, encoded[:50], encoded[50:], HOW, tmp_path_factory.mktemp("straight"))


def logits(base: Base) -> torch.Tensor:
    ids = torch.tensor([list(range(5, 45))])
    with torch.no_grad():
        return base.model(ids).logits.clone()


def traces(base: Base) -> list[Any]:
    """What could be left behind on a base, besides what it computes."""
    model = base.model
    return [
        [(name, type(module).__name__) for name, module in model.named_modules()],
        [(name, len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in model.named_modules()],
        [(name, p.dtype, p.requires_grad, p.grad) for name, p in model.named_parameters()],
        model.training,
        model.is_gradient_checkpointing,
        "forward" in vars(model),
        model.config.to_dict(),
    ]


def test_it_learns_and_the_curve_says_so(tuned: Tuned) -> None:
    assert tuned.steps == HOW.steps and tuned.resumed_from == 0
    assert tuned.val_nll < tuned.val_nll_before
    assert [p["step"] for p in tuned.curve] == list(range(HOW.steps + 1))
    assert [p["step"] for p in tuned.curve if "val_nll" in p] == [0, 4, 8]
    assert tuned.tokens > 0 and tuned.tokens_per_s > 0 and tuned.peak_gb > 0


def test_every_linear_layer_has_lora_weights_in_float32_that_moved(base: Base, tuned: Tuned) -> None:
    layers = base.model.config.num_hidden_layers
    assert len(tuned.weights) == layers * 7 * 2  # q, k, v, o, gate, up, down; A and B
    assert all(w.dtype == np.float32 for w in tuned.weights.values())
    assert all(np.abs(w).max() > 0 for name, w in tuned.weights.items() if "lora_B" in name)


def test_the_curve_ends_where_the_engine_measures(
    base: Base, tuned: Tuned, encoded: list[Encoded], corpus: list[list[Message]], talks_home: Settings
) -> None:
    engine = Engine(open_base(talks_home, base.ref))
    engine.add("tuned", adapter_of(base, tuned))
    for name, expected in ((None, tuned.val_nll_before), ("tuned", tuned.val_nll)):
        told = engine.surprise(corpus[50:], name, limit=128)
        # bf16 autocast on rows of several conversations against one conversation at a time
        assert sum(one.nats for one in told) / sum(one.tokens for one in told) == pytest.approx(
            expected, rel=5e-3
        )


def test_only_lora_learns_and_in_float32(base: Base, encoded: list[Encoded], tmp_path: Path) -> None:
    seen: list[tuple[bool, bool, torch.dtype]] = []

    def look(step: int, told: dict[str, float]) -> None:
        for name, parameter in base.model.named_parameters():
            if parameter.requires_grad or "lora_" in name:
                seen.append((parameter.requires_grad, "lora_" in name, parameter.dtype))

    tune(base, encoded[:50], encoded[50:], replace(HOW, steps=1), tmp_path, log=look)
    assert seen and set(seen) == {(True, True, torch.float32)}


def test_the_base_is_as_before(base: Base, encoded: list[Encoded], tmp_path: Path) -> None:
    before, said = traces(base), logits(base)
    tune(base, encoded[:50], encoded[50:], replace(HOW, steps=2), tmp_path)

    assert traces(base) == before
    assert torch.equal(logits(base), said)


def test_a_training_that_was_killed_ends_with_the_same_bits(
    base: Base, encoded: list[Encoded], tuned: Tuned, tmp_path: Path
) -> None:
    said = logits(base)

    def killer(step: int, told: dict[str, float]) -> None:
        if step == 7:
            raise Killed

    with pytest.raises(Killed):
        tune(base, encoded[:50], encoded[50:], HOW, tmp_path, log=killer)
    assert torch.equal(logits(base), said)
    half = tmp_path / "checkpoint-7"  # killed while it wrote the next one
    shutil.copytree(tmp_path / "checkpoint-6", half)
    (half / "optimizer.pt").write_bytes(b"half of it")
    logged: list[int] = []
    resumed = tune(
        base, encoded[:50], encoded[50:], HOW, tmp_path, log=lambda step, told: logged.append(step)
    )

    assert resumed.resumed_from == 6 and not half.exists()
    assert resumed.weights.keys() == tuned.weights.keys()
    assert max(np.abs(resumed.weights[name] - w).max() for name, w in tuned.weights.items()) == 0.0
    assert resumed.curve == tuned.curve and logged == list(range(HOW.steps + 1))
    assert resumed.tokens == tuned.tokens


def half_of(learnt: Tuned) -> dict[str, np.ndarray]:
    return {name: w for name, w in learnt.weights.items() if not name.endswith("lora_embedding_A")}


def test_the_embedding_learns_too_where_that_is_asked_for(
    base: Base,
    encoded: list[Encoded],
    corpus: list[list[Message]],
    tuned: Tuned,
    tmp_path: Path,
    talks_home: Settings,
) -> None:
    before, said, how = traces(base), logits(base), replace(HOW, embedding=True)
    learnt = tune(base, encoded[:50], encoded[50:], how, tmp_path)
    assert traces(base) == before and torch.equal(logits(base), said)
    added = learnt.weights.keys() - tuned.weights.keys()
    assert {name.rpartition(".")[2] for name in added} == {"lora_embedding_A", "lora_embedding_B"}
    assert all(
        learnt.weights[name].dtype == np.float32 and np.abs(learnt.weights[name]).max() > 0 for name in added
    )

    resumed = tune(base, encoded[:50], encoded[50:], how, tmp_path)
    assert resumed.resumed_from == 6
    assert max(np.abs(resumed.weights[name] - w).max() for name, w in learnt.weights.items()) == 0.0

    engine = Engine(open_base(talks_home, base.ref))
    engine.add("tuned", adapter_of(base, learnt))
    worn = {name: p for name, p in engine.base.model.named_parameters() if name.endswith("_A.tuned")}
    assert worn and all(p.dtype == torch.float32 and not p.requires_grad for p in worn.values())
    with pytest.raises(BaseModelError, match="lora_embedding_A"):
        engine.add("torn", replace(adapter_of(base, learnt), weights=half_of(learnt)))
    told = engine.surprise(corpus[50:], "tuned", limit=128)
    found = sum(one.nats for one in told) / sum(one.tokens for one in told)
    assert found == pytest.approx(learnt.val_nll, rel=5e-3)


def test_another_seed_makes_another_adapter(
    base: Base, encoded: list[Encoded], tuned: Tuned, tmp_path: Path
) -> None:
    other = tune(base, encoded[:50], encoded[50:], replace(HOW, seed=1), tmp_path)
    assert any(np.abs(other.weights[name] - w).max() > 0 for name, w in tuned.weights.items())


def test_the_optimiser_remembers_as_it_is_told(base: Base, tmp_path: Path) -> None:
    assert tuning._arguments(base, HOW, tmp_path).adam_beta2 == 0.999
    assert tuning._arguments(base, replace(HOW, beta2=0.98), tmp_path).adam_beta2 == 0.98


def test_what_the_user_said_carries_no_loss(base: Base, encoded: list[Encoded], tmp_path: Path) -> None:
    silent = [Encoded(one.ids, [0] * len(one.ids)) for one in encoded]
    with pytest.raises(NoDataError, match="none of the 60 training conversations"):
        tune(base, silent, encoded, HOW, tmp_path)
    (row,) = tuning._labelled(encoded[:1], "training")
    assert [label != tuning.IGNORED for label in row["labels"]] == [bool(said) for said in encoded[0].said]
    assert all(label == i for label, i in zip(row["labels"], row["input_ids"], strict=True) if label >= 0)


def test_conversations_of_a_row_do_not_see_each_other(
    base: Base, encoded: list[Encoded], tmp_path: Path
) -> None:
    """Validation loss of two conversations in a row is theirs alone, whoever stands first."""
    pair = sorted((one for one in encoded if len(one.ids) < 60), key=lambda one: len(one.ids))[-2:]
    how = replace(HOW, steps=1)

    def before(*some: Encoded) -> float:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        return tune(base, encoded[:2], list(some), how, folder).val_nll_before

    said = [sum(one.said) for one in pair]
    alone = [before(one) for one in pair]
    together = before(*pair)
    assert together == pytest.approx(np.average(alone, weights=said), rel=2e-3)
    nobody = Encoded([5] * len(pair[0].ids), [0] * (len(pair[0].ids) - 1) + [1])
    other = before(nobody, pair[1])
    expected = np.average([before(nobody), alone[1]], weights=[1, said[1]])
    assert other == pytest.approx(expected, rel=2e-3)


def test_in_full_precision_it_learns_much_the_same(
    base: Base, talks_home: Settings, encoded: list[Encoded], tuned: Tuned, tmp_path: Path
) -> None:
    whole = open_base(talks_home, BaseRef(talks_home.language_model), four_bit=False)
    other = tune(whole, encoded[:50], encoded[50:], HOW, tmp_path)
    assert abs(other.val_nll - tuned.val_nll) < 0.05


def test_a_base_that_wears_adapters_is_refused(
    talks_home: Settings, base: Base, tuned: Tuned, encoded: list[Encoded], tmp_path: Path
) -> None:
    worn = open_base(talks_home, base.ref)
    Engine(worn).add("one", adapter_of(base, tuned))
    with pytest.raises(BaseModelError, match="wears adapters"):
        tune(worn, encoded, encoded, HOW, tmp_path)


def test_a_model_without_linear_layers_is_refused_in_words(
    base: Base, encoded: list[Encoded], tmp_path: Path
) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    odd = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=16, n_embd=8, n_layer=1, n_head=1))
    with pytest.raises(BaseModelError, match=r"GPT2LMHeadModel.*no linear layers.*NIGHTSHIFT_LANGUAGE_MODEL"):
        tune(replace(base, model=odd), encoded, encoded, HOW, tmp_path)


def test_a_checkpoint_is_whole_if_all_its_files_are_what_was_written(tmp_path: Path) -> None:
    assert newest_whole(tmp_path) is None
    for number in (5, 10, 20):
        folder = tmp_path / f"checkpoint-{number}"
        folder.mkdir()
        (folder / "weights").write_text("all of it")
        if number != 20:
            (folder / tuning.WHOLE).write_text(json.dumps(tuning._digests(folder)))
    (tmp_path / "checkpoint-10" / "weights").write_text("half")

    assert newest_whole(tmp_path) == tmp_path / "checkpoint-5"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-5"]
