"""Items as vectors of what they say of themselves, in any language."""

from __future__ import annotations

import numpy as np
import pandas as pd

from training.hybrid.content import texts, vectors


def test_what_reads_alike_is_near_in_korean_and_english() -> None:
    said = [
        "유기농 녹차를 우리다",
        "녹차의 향",
        "정원 시집",
        "시집이 있는 정원",
        "green teas",
        "a tea, green",
    ]
    found = vectors(said, dimensions=5, seed=0)
    near = found @ found.T
    np.fill_diagonal(near, -1)
    assert near.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_a_text_holds_everything_told_and_nothing_missing() -> None:
    items = pd.DataFrame({"title": ["감귤", "b"], "category": ["food", "tea"]})
    told = pd.DataFrame({"description": ["단맛", None], "brand": [None, "한라"], "tags": [["선물"], None]})
    assert texts(items, told) == ["감귤 food food 단맛 선물", "b tea tea 한라"]


def test_few_or_empty_texts_still_get_vectors() -> None:
    for said in ([""], ["", " "], ["a"], ["a", "b", "c"]):
        found = vectors(said, dimensions=64, seed=0)
        assert len(found) == len(said) and np.isfinite(found).all()
