"""What runs on a card runs here too, on a small shape: only the cap and the peaks are the device's own."""

from __future__ import annotations

import pytest
import torch

from benchmarks import qlora_memory
from benchmarks.qlora import card
from training.qlora.memory import SHAPES


@pytest.mark.parametrize("way", sorted(card.WAYS))
def test_both_ways_of_the_card_train_a_small_shape(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "STEPS", 3)
    assert card.WAYS[way](qlora_memory.SMALL, 64, torch.device("cpu")) > 0


def test_the_computed_bars_hold_and_a_part_that_is_off_fails_its_own() -> None:
    computed = qlora_memory.computed(SHAPES["llama-3-8b"], 12.0)
    assert computed["longest"] > 8_192 > computed["longest_transformers_peft"]
    assert all(qlora_memory.bars({"computed": computed, "worst_part": 0.004}).values())
    assert list(qlora_memory.bars({"computed": computed, "worst_part": 0.03}).values()).count(False) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_card_nothing_is_claimed_about_one() -> None:
    assert qlora_memory.on_card("llama-3-8b", 12.0) is None
