"""Items as vectors of what they say of themselves: title, description, brand, tags and category, in any language.

Pieces of words (character n-grams within word boundaries) need no tokenizer: Korean particles and English plurals fall
off by themselves. TF-IDF and a truncated SVD make `dimensions` numbers of them (latent semantic analysis, Deerwester et
al. 1990). Items that nobody met have such a vector too.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

PIECES = (2, 4)  # characters
MOST_PIECES = 20_000
CATEGORY_TWICE = (
    2  # the category's words count this often: one word of a shelf says more than one of a description
)


def texts(items: pd.DataFrame, told: pd.DataFrame) -> list[str]:
    """One text an item. items: title, category; told: description, brand, tags, in the same order."""
    parts = zip(
        items["title"], items["category"], told["description"], told["brand"], told["tags"], strict=True
    )
    return [
        " ".join(
            [
                str(title),
                *[str(category)] * CATEGORY_TWICE,
                *[str(one) for one in (description, brand) if isinstance(one, str)],
                *(map(str, tags) if isinstance(tags, (list, tuple, np.ndarray)) else ()),
            ]
        )
        for title, category, description, brand, tags in parts
    ]


def vectors(said: list[str], dimensions: int, seed: int) -> np.ndarray:
    """Unit vectors float32 [n, at most `dimensions`] of texts; the dot product of two is how alike they are."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    pieces = TfidfVectorizer(
        analyzer="char_wb", ngram_range=PIECES, max_features=MOST_PIECES, sublinear_tf=True, dtype=np.float32
    )
    counted = pieces.fit_transform([text if text.strip() else "?" for text in said])
    most = min(dimensions, min(counted.shape) - 1)
    if most < 1:
        return np.ones((len(said), 1), np.float32)
    found = TruncatedSVD(most, random_state=seed, n_iter=3).fit_transform(counted)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return (found / np.maximum(length, 1e-9)).astype(np.float32)
