"""Texts → vectors of VECTOR_SIZE numbers: a user's words, tags and sliders, and the names of topics, in one space.

A text's vector is the mean of the frozen base's hidden states over its tokens (Engine.hidden: never through an
adapter, or every night would move everybody), less the mean of a frozen corpus, turned into VECTOR_SIZE numbers, of
unit length. Without the corpus mean all texts look alike: what they share is larger than what tells them apart
(Mu & Viswanath, All-but-the-Top, ICLR 2018; measured in docs/language-serving.md). What somebody says and what
something is called have a corpus each: else a person is nearest to the topic whose name is most like a sentence.
The map is a seeded random orthonormal one: with a hidden size up to VECTOR_SIZE it keeps every angle; of a larger one
it keeps angles within some 1/√VECTOR_SIZE (Johnson & Lindenstrauss).

    persona = unit(Σ C(message) over the user's messages), C being E before its length is taken away: a sentence
              that says much counts more than one that says little
    profile = unit(WORDS · persona + TAGS · unit(Σ E(tag)) + SLIDERS · unit(Σ (slider − 3)/2 · E(value)))

Whatever was not told adds nothing. E(value) is the vector of a fixed sentence about it (VALUE_TEXTS).
`version` names everything that the vectors depend on, the weights by what they make of the corpora; those of different
versions are never compared. Not covered: bit-equal vectors on different hardware. Cosines differ in the sixth digit
there, and the version may, which costs users a new /profile.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from nightshift.coaching import VECTOR_SIZE
from nightshift.language.prompts import VALUES

SAID, NAMED = (Path(__file__).with_name(f"corpus_{kind}.txt") for kind in ("said", "named"))
METHOD = "mean-hidden:centred:orthonormal:4"
SEED = 1536
WORDS, TAGS, SLIDERS = 0.35, 0.5, 0.15  # measured in docs/language-serving.md
LEAST = 1e-6  # a vector shorter than this points nowhere

VALUE_TEXTS = {
    "growth": "새로운 것을 배우고 성장하는 일을 하고 싶습니다. I want to learn and grow.",
    "stability": "안정적이고 오래 다닐 수 있는 일을 하고 싶습니다. I want a safe and steady job.",
    "autonomy": "스스로 정하고 제 방식대로 일하고 싶습니다. I want to decide for myself.",
    "reward": "노력한 만큼 돈과 인정을 받고 싶습니다. I want good pay and recognition.",
    "impact": "사람들과 사회에 도움이 되는 일을 하고 싶습니다. I want to help people and society.",
}
assert tuple(VALUE_TEXTS) == VALUES

Hidden = Callable[[Sequence[str]], np.ndarray]  # texts → [n, hidden size] float32, as Engine.hidden


class Space:
    """The vectors of one base.

    base: what names it and its tokenizer; a folder's name stays when its files are replaced, so the weights are told
    apart too. said, named: [hidden size], means of the corpora.
    """

    def __init__(self, base: str, said: np.ndarray, named: np.ndarray) -> None:
        weights = [[round(float(number), 2) + 0.0 for number in mean] for mean in (said, named)]
        texts = [_corpus(SAID), _corpus(NAMED), VALUE_TEXTS]
        self.version = _digest([base, weights, METHOD, SEED, VECTOR_SIZE, texts])
        self._said, self._named = said.astype(np.float64), named.astype(np.float64)
        self._turn = orthonormal(len(said))
        self.values = np.zeros((len(VALUES), VECTOR_SIZE), np.float32)

    @classmethod
    def of(cls, base: str, hidden: Hidden) -> Space:
        """The space of a base that `hidden` reads texts with: some eighty short texts."""
        space = cls(base, *(hidden(_corpus(kind)).mean(axis=0) for kind in (SAID, NAMED)))
        space.values = space.said(hidden(list(VALUE_TEXTS.values())))
        return space

    def said(self, states: np.ndarray) -> np.ndarray:
        """[n, VECTOR_SIZE] float32 of unit length, of sentences' hidden states; of an empty one zeros."""
        return unit(_centred(states, self._said) @ self._turn)

    def named(self, states: np.ndarray) -> np.ndarray:
        """The same of tags and of topics' names."""
        return unit(_centred(states, self._named) @ self._turn)

    def persona(self, states: np.ndarray) -> np.ndarray:
        """[VECTOR_SIZE] float32 of unit length, of the hidden states [n, hidden size] of what a user said."""
        return unit(_centred(states, self._said).sum(axis=0) @ self._turn)


def orthonormal(size: int) -> np.ndarray:
    """[size, VECTOR_SIZE] float64: orthonormal rows up to VECTOR_SIZE, else orthonormal columns. Seeded."""
    return _orthonormal(size)


@lru_cache(maxsize=2)
def _orthonormal(size: int) -> np.ndarray:
    drawn = np.random.default_rng(SEED).standard_normal((max(size, VECTOR_SIZE), min(size, VECTOR_SIZE)))
    found = np.linalg.qr(drawn)[0]
    return np.ascontiguousarray(found.T if size <= VECTOR_SIZE else found)


def profile(
    space: Space, words: np.ndarray, tags: np.ndarray, sliders: Mapping[str, int] | None
) -> np.ndarray:
    """[VECTOR_SIZE] float32: see above. words: a persona. tags: [n, VECTOR_SIZE], n may be 0."""
    parts = WORDS * words + TAGS * unit(tags.sum(axis=0)) + SLIDERS * unit(leaning(sliders) @ space.values)
    return unit(parts)


def leaning(sliders: Mapping[str, int] | None) -> np.ndarray:
    """[5] in −1..1, in the order of VALUES; zeros where nothing was told."""
    if sliders is None:
        return np.zeros(len(VALUES))
    return np.array([(sliders[value] - 3) / 2 for value in VALUES])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Each vector (last axis) at length 1, float32; one that points nowhere is zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > LEAST, vectors / np.maximum(length, LEAST), 0.0).astype(np.float32)


def _centred(states: np.ndarray, mean: np.ndarray) -> np.ndarray:
    told = np.abs(states).sum(axis=1, keepdims=True) > 0
    return np.where(told, states.astype(np.float64) - mean, 0.0)


@lru_cache(maxsize=2)
def _corpus(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text(encoding="utf-8").splitlines())


def _digest(told: object) -> str:
    return hashlib.sha256(json.dumps(told, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:16]
