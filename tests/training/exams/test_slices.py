from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.exams.slices import by_unit, popular, thirds


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_the_popular_items_make_up_half_of_the_interactions_and_no_fewer_items_do(counts: list[int]) -> None:
    found = np.array(counts)
    chosen = popular(found)
    if not found.sum():
        assert not chosen.any()
        return
    assert 2 * found[chosen].sum() >= found.sum()
    assert 2 * (found[chosen].sum() - found[chosen].min()) < found.sum()
    assert found[~chosen].max(initial=0) <= found[chosen].min()


@given(st.lists(st.one_of(st.floats(0, 9), st.just(float("nan"))), max_size=40))
def test_thirds_are_as_large_as_can_be_alike_and_in_order(values: list[float]) -> None:
    names = thirds(np.array(values, dtype=float), ("low", "middle", "high"))
    known = [(value, name) for value, name in zip(values, names, strict=True) if value == value]
    assert all(name == "" for value, name in zip(values, names, strict=True) if value != value)
    sizes = [sum(name == wanted for _, name in known) for wanted in ("low", "middle", "high")]
    assert sum(sizes) == len(known) and max(sizes) - min(sizes) <= 1
    order = {"low": 0, "middle": 1, "high": 2}
    for value, name in known:
        assert all(order[other] <= order[name] for less, other in known if less < value)


def test_a_unit_without_a_class_is_in_no_slice() -> None:
    found = by_unit(np.array([1.0, 2.0, 3.0]), "kind", ["a", "", "b"])
    assert set(found) == {"kind: a", "kind: b"}
    np.testing.assert_array_equal(found["kind: a"], [1.0, np.nan, np.nan])
