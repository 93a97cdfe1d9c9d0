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
    found = {"computed": computed, "card": None, "worst_part": 0.004}
    assert all(qlora_memory.bars(found).values())
    assert list(qlora_memory.bars({**found, "worst_part": 0.03}).values()).count(False) == 1


def ran(way: str, tokens: int, gib: float, out_of_memory: bool = False) -> dict[str, object]:
    return {"way": way, "tokens": tokens, "allocated_gib": gib, "out_of_memory": out_of_memory}


def test_where_a_card_measured_the_bars_are_of_that() -> None:
    card = [
        ran("ours", 1024, 6.4), ran("ours", 2048, 6.9), ran("ours", 4096, 7.9),
        ran("transformers_peft", 1024, 10.8), ran("transformers_peft", 2048, 11.4, out_of_memory=True),
        {"way": "transformers_peft", "tokens": 4096, "failed": "killed"},
    ]  # fmt: skip
    found = {"computed": qlora_memory.computed(SHAPES["llama-3-8b"], 12.0), "card": card, "worst_part": 0.004}
    told = qlora_memory.bars(found)
    assert all(told.values()) and sum("(measured)" in name for name in told) == 3

    def failing(place: int, one: dict[str, object]) -> int:
        changed = [one if number == place else other for number, other in enumerate(card)]
        return list(qlora_memory.bars({**found, "card": changed}).values()).count(False)

    assert failing(1, ran("ours", 2048, 7.6)) == 1  # with CUDA's share more than 8
    assert failing(2, ran("ours", 4096, 11.4, out_of_memory=True)) == 2
    assert failing(2, {"way": "ours", "tokens": 4096, "failed": "no kernel"}) == 2
    assert failing(4, ran("transformers_peft", 2048, 11.4)) == 1  # nothing was too long for it


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_card_nothing_is_claimed_about_one() -> None:
    assert qlora_memory.on_card("llama-3-8b", 12.0) is None
