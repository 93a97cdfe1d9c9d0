from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from nightshift.errors import BaseModelError
from nightshift.language.adapters import Adapter, untuned
from nightshift.language.bases import BaseRef
from nightshift.language.chat import encode
from nightshift.language.engine import Engine
from nightshift.language.prompts import PROFILE_SCHEMA, VALUES, as_coach, as_profile

LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
TALK = [
    {"role": "user", "content": "요즘 일이 힘들어요."},
    {"role": "assistant", "content": "무엇이 가장 힘든가요?"},
]


def _adapter(engine: Engine, seed: int, size: float = 0.3) -> Adapter:
    from peft import LoraConfig, get_peft_model_state_dict

    model = engine.base.model
    model.add_adapter(LoraConfig(**LORA), "shape")
    shapes = {k: v.shape for k, v in get_peft_model_state_dict(model, adapter_name="shape").items()}
    model.delete_adapter("shape")
    random = np.random.default_rng(seed)
    weights = {k: random.normal(0, size, shape).astype(np.float32) for k, shape in shapes.items()}
    ref = engine.base.ref
    return Adapter(ref.name, ref.revision, engine.base.digest, dict(LORA), weights)


def _nats(engine: Engine, name: str | None) -> float:
    return engine.surprise([TALK], name)[0].nats


def test_surprise_is_the_models_own_loss_on_the_assistants_words(engine: Engine) -> None:
    told = engine.surprise([TALK], None)[0]
    both = encode(engine.base.tokenizer, TALK)
    ids = torch.tensor([both.ids])
    labels = torch.where(torch.tensor([both.said]) == 1, ids, -100)
    with torch.inference_mode():
        loss = engine.base.model(ids, labels=labels).loss.item()
    assert told.tokens == sum(both.said)
    assert told.nats / told.tokens == pytest.approx(loss, rel=0.01)
    assert told.bytes == len(TALK[1]["content"].encode())
    assert told.bits_per_byte == pytest.approx(told.nats / math.log(2) / told.bytes)


def test_a_conversation_in_which_the_assistant_says_nothing_has_no_surprise(engine: Engine) -> None:
    told = engine.surprise([TALK[:1]], None)[0]
    assert (told.nats, told.tokens) == (0.0, 0)
    assert math.isnan(told.bits_per_byte)


def test_adapters_live_beside_each_other_and_beside_the_base(engine: Engine) -> None:
    alone = _nats(engine, None)
    engine.add("v1", _adapter(engine, 1))
    first = _nats(engine, "v1")
    engine.add("v2", _adapter(engine, 2))
    second = _nats(engine, "v2")
    assert len({alone, first, second}) == 3
    assert (_nats(engine, None), _nats(engine, "v1"), _nats(engine, "v2")) == (alone, first, second)
    engine.remove("v1")
    assert (_nats(engine, None), _nats(engine, "v2")) == (alone, second)
    engine.remove("v2")
    assert _nats(engine, None) == alone
    assert engine.names == frozenset()


def test_a_second_engine_on_the_same_base_does_not_wear_the_firsts_adapters(engine: Engine) -> None:
    alone = _nats(engine, None)
    engine.add("v1", _adapter(engine, 1))
    assert _nats(engine, "v1") != alone
    assert _nats(Engine(engine.base), None) == alone


def test_the_untuned_base_is_an_adapter_without_weights(engine: Engine) -> None:
    engine.add("base", untuned(engine.base.ref, engine.base.digest))
    assert _nats(engine, "base") == _nats(engine, None)


def test_an_adapter_of_another_tokenizer_is_refused(engine: Engine) -> None:
    other = Adapter(engine.base.ref.name, "", "another", dict(LORA), _adapter(engine, 1).weights)
    with pytest.raises(BaseModelError, match="tokenizer another"):
        engine.add("v1", other)


@pytest.mark.parametrize("wrong", ["shape", "missing", "unknown"])
def test_weights_that_do_not_fit_are_refused_and_leave_nothing_behind(engine: Engine, wrong: str) -> None:
    before = _nats(engine, None)
    adapter = _adapter(engine, 1)
    name = next(iter(adapter.weights))
    if wrong == "shape":
        adapter.weights[name] = adapter.weights[name][:, :-1]
    elif wrong == "missing":
        del adapter.weights[name]
    else:
        adapter.weights["model.layers.9.self_attn.q_proj.lora_A.weight"] = adapter.weights[name]
    with pytest.raises(BaseModelError, match="do not fit"):
        engine.add("v1", adapter)
    assert engine.names == frozenset()
    assert _nats(engine, None) == before


def test_a_greedy_answer_is_the_same_each_time_and_in_pieces(engine: Engine) -> None:
    pieces = list(engine.stream(TALK[:1], None, max_tokens=20))
    assert "".join(pieces) == engine.answer(TALK[:1], None, max_tokens=20)
    assert len(pieces) > 2


def test_a_warm_answer_follows_its_seed(engine: Engine) -> None:
    first, again, other = (
        engine.answer(TALK[:1], None, max_tokens=20, temperature=1.5, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_an_answer_is_over_at_the_end_of_the_turn(engine: Engine) -> None:
    text = engine.answer(as_coach(TALK[:1]), None, max_tokens=200)
    assert text
    assert "<|" not in text
    assert len(engine.base.tokenizer(text)["input_ids"]) < 200


@pytest.mark.parametrize("seed", range(3))
def test_profile_mode_is_always_valid_json(engine: Engine, seed: int) -> None:
    asked = as_profile(TALK)
    answer = engine.answer(asked, None, max_tokens=200, temperature=2.0, seed=seed, schema=PROFILE_SCHEMA)
    found = json.loads(answer)
    assert list(found) == list(VALUES)
    assert all(0 <= value <= 1 for value in found.values())
    assert max(len(number) for number in re.findall(r"\d[\d.]*", answer)) <= 3  # 0.8, not 0.80000000000000004


def test_hidden_states_are_of_the_base_whatever_adapter_is_seated(engine: Engine) -> None:
    before = engine.hidden(["안녕하세요", "", "hello"])
    engine.add("v1", _adapter(engine, 1))
    engine.surprise([TALK], "v1")
    after = engine.hidden(["안녕하세요", "", "hello"])
    np.testing.assert_array_equal(before, after)
    assert before.shape == (3, 32)
    assert not before[1].any()
    assert np.abs(before[0] - before[2]).max() > 0


def test_an_answer_that_nobody_reads_to_the_end_leaves_the_engine_free(engine: Engine) -> None:
    pieces = engine.stream(TALK[:1], None, max_tokens=50)
    next(pieces)
    pieces.close()
    assert engine.answer(TALK[:1], None, max_tokens=5)


def test_a_beginning_of_text_token_is_context_and_not_part_of_the_mean(engine: Engine) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = engine.base.tokenizer
    before = engine.hidden(["안녕하세요"])
    begin = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.bos_token_id)]
    )
    ids = tokenizer("안녕하세요")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    with torch.inference_mode():
        states = engine.base.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    expected = states[2][0, 1:].float().mean(0).numpy()
    after = engine.hidden(["안녕하세요"])
    np.testing.assert_allclose(after[0], expected, atol=1e-2)
    assert np.abs(after - before).max() > 0


def test_a_closed_engine_holds_no_weights_even_after_the_collector_was_told_to_spare_them(
    engine: Engine,
) -> None:
    import gc
    import weakref

    import bitsandbytes as bnb

    layer = next(m for m in engine.base.model.modules() if isinstance(m, bnb.nn.Linear4bit))
    seen = weakref.ref(layer)
    del layer
    gc.freeze()
    engine.close()
    assert seen() is None


def test_a_name_that_was_never_handed_over_is_refused_and_the_untuned_one_is_known(engine: Engine) -> None:
    engine.add("v1", _adapter(engine, 1))
    with pytest.raises(BaseModelError, match=r"no adapter v2 .* only v1"):
        engine.surprise([TALK], "v2")
    engine.add("v1", untuned(engine.base.ref, engine.base.digest))
    assert engine.names == {"v1"} and _nats(engine, "v1") == _nats(engine, None)
    engine.remove("v1")
    assert engine.names == frozenset()
    with pytest.raises(BaseModelError, match="no adapter v1"):
        engine.answer(TALK[:1], "v1")


def test_no_more_is_read_than_the_base_knows_positions_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = [TALK[0], {"role": "assistant", "content": "무엇이 힘든가요? " * 20}]
    monkeypatch.setattr(engine.base.model.config, "max_position_embeddings", 40)
    at_most, asked = (engine.surprise([long], None, limit=limit) for limit in (40, 10_000))
    assert at_most == asked
    texts = [long[1]["content"]]
    np.testing.assert_array_equal(engine.hidden(texts, limit=40), engine.hidden(texts, limit=10_000))


def test_an_adapter_of_other_weights_under_the_same_name_is_refused(engine: Engine) -> None:
    adapter = _adapter(engine, 1)
    there = Engine(replace(engine.base, ref=BaseRef(adapter.base, "0" * 16)))
    adapter.revision = "1" * 16
    with pytest.raises(BaseModelError, match=r"of .*@1{16} .* opened is .*@0{16}"):
        there.add("v1", adapter)
