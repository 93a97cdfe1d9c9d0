"""Who and what is told apart, so that no mean hides a loss. Everything that divides was known before the exam."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from training.exams.hits import Hits

HALF = 0.5  # of the interactions: what the popular items make up


def by_unit(values: np.ndarray, group: str, classes: Iterable[str]) -> dict[str, np.ndarray]:
    """Name "group: class" → values [units] of its units, NaN elsewhere. classes [units]: each unit's, "" = none."""
    names = np.array(list(classes), dtype=object)
    return {f"{group}: {name}": np.where(names == name, values, np.nan) for name in sorted(set(names) - {""})}


def by_item(hits: Hits, k: int, group: str, classes: np.ndarray) -> dict[str, np.ndarray]:
    """Name "group: class" → NDCG@k [users] for the relevant items of a class alone. classes [items]: each item's.

    The other relevant items are taken out of the ranking; NaN for whom no item of the class is relevant.
    """
    mine = classes[hits.item]
    return {f"{group}: {name}": hits.only(mine == name).ndcg(k) for name in sorted(set(mine))}


def popular(counts: np.ndarray) -> np.ndarray:
    """Whether an item is of the fewest that make up half of the counts [items] between them; bool [items]."""
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    chosen = np.zeros(len(counts), dtype=bool)
    chosen[order] = (before < HALF * counts.sum()) & (counts[order] > 0)
    return chosen


def thirds(values: np.ndarray, names: tuple[str, str, str]) -> list[str]:
    """The name of each unit's third by `values` [units], lowest first; "" where a value is not known."""
    known = np.flatnonzero(np.isfinite(values))
    ranked = known[np.argsort(values[known], kind="stable")]
    found = [""] * len(values)
    for place, unit in enumerate(ranked):
        found[unit] = names[3 * place // len(ranked)]
    return found
