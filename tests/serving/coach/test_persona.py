"""Vectors: unit length, the same twice, no angle lost, and what adds to a profile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nightshift.coaching import VECTOR_SIZE
from nightshift.language.prompts import VALUES
from serving.coach import persona
from serving.coach.persona import Space, leaning, orthonormal, profile, unit

HIDDEN = 192


def hidden(texts: Sequence[str]) -> np.ndarray:
    """States as a language model's are: what all texts share is larger than what tells them apart."""
    own = np.stack([np.random.default_rng(list(text.encode()) or 0).normal(size=HIDDEN) for text in texts])
    return np.array([one + 10 if text else 0 * one for one, text in zip(own, texts, strict=True)], np.float32)


@pytest.fixture(scope="module")
def space() -> Space:
    return Space.of("small@1", hidden)


@pytest.mark.parametrize("size", [48, VECTOR_SIZE, 1_792])
def test_the_map_is_orthonormal_and_the_same_each_time(size: int) -> None:
    turn = orthonormal(size)
    assert turn.shape == (size, VECTOR_SIZE)
    square = turn @ turn.T if size <= VECTOR_SIZE else turn.T @ turn
    np.testing.assert_allclose(square, np.eye(len(square)), atol=1e-10)
    persona._orthonormal.cache_clear()
    np.testing.assert_array_equal(orthonormal(size), turn)


def test_every_angle_of_the_centred_states_is_kept(space: Space) -> None:
    states = hidden(["가", "나", "다"]).astype(np.float64) - space._said
    before = unit(states) @ unit(states).T
    after = space.said(hidden(["가", "나", "다"]))
    np.testing.assert_allclose(after @ after.T, before, atol=1e-6)
    assert after.shape == (3, VECTOR_SIZE) and after.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1, atol=1e-6)


def test_without_the_corpus_mean_all_texts_would_look_alike(space: Space) -> None:
    texts = [f"text {n}" for n in range(20)]
    apart = ~np.eye(20, dtype=bool)
    plain, centred = unit(hidden(texts)), space.said(hidden(texts))
    assert (plain @ plain.T)[apart].mean() > 0.95 and (centred @ centred.T)[apart].mean() < 0.2


def test_an_empty_text_points_nowhere_and_no_tags_are_no_error(space: Space) -> None:
    assert not space.said(hidden([""])).any()
    none = space.said(np.zeros((0, HIDDEN), np.float32))
    words = space.persona(hidden(["가"]))
    np.testing.assert_allclose(profile(space, words, none, None), words, atol=1e-6)


def test_each_part_of_a_profile_counts_as_documented(space: Space) -> None:
    words = space.persona(hidden(["가", "나"]))
    tags = space.named(hidden(["배터리", "로봇"]))
    sliders = {**dict.fromkeys(VALUES, 3), "growth": 5, "reward": 1}
    expected = unit(
        0.35 * words + 0.5 * unit(tags.sum(axis=0)) + 0.15 * unit(space.values[0] - space.values[3])
    )
    np.testing.assert_allclose(profile(space, words, tags, sliders), expected, atol=1e-6)
    neutral = profile(space, words, tags, dict.fromkeys(VALUES, 3))
    np.testing.assert_allclose(neutral, profile(space, words, tags, None), atol=1e-6)


def test_sliders_lean_from_minus_one_to_one() -> None:
    assert leaning(dict(zip(VALUES, (1, 2, 3, 4, 5), strict=True))).tolist() == [-1, -0.5, 0, 0.5, 1]


def test_the_version_names_the_base_the_method_and_the_corpus(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Space.of("small@1", hidden).version == space.version
    others = {Space.of("small@2", hidden).version}
    monkeypatch.setattr(persona, "METHOD", "another")
    others.add(Space.of("small@1", hidden).version)
    monkeypatch.undo()
    monkeypatch.setattr(persona, "_corpus", lambda path: ("한 문장",))
    others.add(Space.of("small@1", hidden).version)
    assert len(others) == 3 and space.version not in others


def test_weights_that_were_replaced_under_the_same_name_are_another_version(space: Space) -> None:
    def nudged(by: float) -> str:
        return Space.of("small@1", lambda texts: hidden(texts) + np.float32(by)).version

    assert nudged(0.0) == nudged(1e-7) == space.version != nudged(0.05)
