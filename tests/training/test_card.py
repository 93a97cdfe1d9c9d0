from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.card import most, positive, room


@given(*[st.floats(0.0, 48.0)] * 3)
def test_a_card_that_others_use_has_less_room(free: float, others: float, own: float) -> None:
    total = free + others + own
    found = room(free, total, own)
    assert found == pytest.approx(0.95 * (total - others))
    assert room(free, total, own + 1) <= 0.95 * total


@pytest.mark.parametrize("largest", [0, 1, 7, 64])
def test_the_largest_that_fits_is_found(largest: int) -> None:
    assert most(64, lambda n: n <= largest) == largest


def test_a_number_below_one_is_refused() -> None:
    assert positive("3") == 3
    with pytest.raises(argparse.ArgumentTypeError):
        positive("0")
