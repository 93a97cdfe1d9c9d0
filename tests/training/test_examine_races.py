"""What else moves the seat during the gate's exam is not overwritten by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nightshift.errors import RegistryError
from nightshift.registry import Registry, Version
from nightshift.seats import Seat
from tests.training.test_examine import hall, hand_in, registry, seat, table  # noqa: F401 - three are fixtures
from training.examine import judge


class Meanwhile:
    """A model during whose exam something else happens, once."""

    def __init__(self, model: Any, happens: Callable[[], object]) -> None:
        self._model, self._happens = model, happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def score(self, users: pd.DataFrame) -> np.ndarray:
        happens, self._happens = self._happens, lambda: None
        happens()
        scores: np.ndarray = self._model.score(users)
        return scores


def test_the_gate_does_not_overwrite_a_rollback_that_was_made_during_its_exam(
    registry: Registry,  # noqa: F811
    seat: Seat,  # noqa: F811
    hand_in: Callable[..., Version],  # noqa: F811
) -> None:
    first, second = hand_in(table(0.3), family="").number, hand_in(table(0.3), family="").number
    candidate = hand_in(table(0.6)).number
    registry.promote(seat, first, by="test", reason="first")
    registry.promote(seat, second, by="test", reason="second")
    tonight = hall()
    baseline = Meanwhile(
        tonight.baselines["popularity"], lambda: registry.rollback(seat, to=None, by="mina", reason="bad")
    )
    disturbed = replace(tonight, baselines={"popularity": baseline})
    with pytest.raises(RegistryError, match=rf"\(was v{second}, is v{first}\); run the gate again"):
        judge(registry, seat, disturbed, ["ncf"])
    champion = registry.champion(seat)
    assert champion is not None and champion.number == first
    assert judge(registry, seat, disturbed, ["ncf"])["decision"] == "promote"
    champion = registry.champion(seat)
    assert champion is not None and champion.number == candidate
