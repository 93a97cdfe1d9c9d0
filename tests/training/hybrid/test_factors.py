"""The factors' part: a taste pooled from all that was met, times the catalogue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from tests.training.hybrid.conftest import HYPER, ITEMS
from training.hybrid import factors
from training.hybrid.data import Window
from training.hybrid.package import write
from training.hybrid.predictor import ALPHA, PARTS, Hybrid

TEA, BOOKS = slice(1, None, 2), slice(0, None, 2)


def part(model: Hybrid, user: str, recent: list[str] | None = None) -> np.ndarray:
    asked = model.asked(pd.DataFrame({"user_id": [user], "recent_items": [recent]}))
    return dict(model.parts(asked))[PARTS.index("factors")][0]


def test_of_a_stranger_who_met_nothing_it_says_nothing(model: Hybrid) -> None:
    assert not part(model, "nobody").any() and not part(model, "nobody", ["never heard of"]).any()


def test_it_knows_a_taste_and_turns_with_what_was_met_lately(model: Hybrid) -> None:
    tea, books = part(model, "u01"), part(model, "u00")
    assert tea[TEA].mean() > tea[BOOKS].mean() and books[BOOKS].mean() > books[TEA].mean()
    stranger = part(model, "nobody", ["i01", "i03"])
    assert stranger[TEA].mean() > stranger[BOOKS].mean()
    turned = part(model, "u00", ["i01", "i03", "i05"])
    assert turned[TEA].mean() - turned[BOOKS].mean() > books[TEA].mean() - books[BOOKS].mean()


def test_a_taste_is_what_was_met_each_thing_once_over_a_power_of_how_many(
    model: Hybrid, arrays: dict[str, np.ndarray]
) -> None:
    liked = set(model._liked(0)[0].tolist())
    met = sorted(liked | {1, 3})
    again = [f"i{item:02d}" for item in [1, min(liked), 3, 1]]
    expected = arrays["encoder"][met].sum(axis=0) / len(met) ** ALPHA @ arrays["decoder"].T
    np.testing.assert_allclose(part(model, "u00", again), expected, rtol=1e-4, atol=1e-6)


def test_the_same_seed_gives_the_same_vectors_of_what_was_on_offer_by_then(window: Window) -> None:
    early = window.until(6)
    one, other = (factors.fit(early, HYPER, seed=3) for _ in range(2))
    assert one.keys() == {"encoder", "decoder"}
    for name, table in one.items():
        assert table.shape == (len(early.items), HYPER.factors) and table.dtype == np.float32
        assert np.array_equal(table, other[name])
    assert not np.array_equal(one["encoder"], factors.fit(early, replace(HYPER, epochs=2), seed=3)["encoder"])


def test_what_is_packaged_scores_as_what_was_held_in_memory(
    model: Hybrid, window: Window, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    package = write(window, HYPER, arrays, tmp_path)

    class Context:
        artifacts = {name: str(path) for name, path in package.artifacts.items()}  # noqa: RUF012

    loaded = Hybrid()
    loaded.load_context(Context)
    rows = pd.DataFrame({"user_id": ["u00", "nobody"], "recent_items": [["i01"], ["i02", "i04"]]})
    assert np.array_equal(loaded.score(rows), model.score(rows))
    assert len(loaded.items) == ITEMS and part(loaded, "u00").any()
