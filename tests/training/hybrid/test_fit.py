"""The meta-ranker: weights that make what was met likeliest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad

from tests.training.hybrid.conftest import DAYS, HYPER
from training.hybrid.data import Window, cases_from
from training.hybrid.fit import BEGIN, Choices, _loss, draw, learn
from training.hybrid.package import in_memory
from training.hybrid.predictor import MIXERS, PARTS
from training.hybrid.recipe import fitted


def planted(weight: np.ndarray, count: int = 4_000, rivals: int = 15) -> Choices:
    """Choices that people with these weights [parts, mixers] made; what was chosen stands first."""
    random = np.random.default_rng(1)
    part = random.normal(size=(count, rivals, len(PARTS))).astype(np.float32)
    mixer = np.stack([np.ones(count), *random.random((3, count))], axis=1).astype(np.float32)
    score = np.einsum("crp,cp->cr", part, mixer @ weight.T) + random.gumbel(size=(count, rivals))
    chosen = score.argmax(axis=1)
    rows = np.arange(count)
    part[rows, 0], part[rows, chosen] = part[rows, chosen], part[rows, 0].copy()
    return Choices(part, np.ones((count, rivals), bool), mixer)


def test_planted_weights_are_found_again() -> None:
    weight = np.zeros((len(PARTS), len(MIXERS)))
    weight[0] = [1.0, -0.5, 0, 0]
    weight[3] = [0, 0, 0.8, 0]
    found = learn(planted(weight), replace(HYPER, l2=0.01))
    assert np.abs(found.weight - weight).max() < 0.25  # four standard errors
    assert np.abs(found.weight[[0, 3]] - weight[[0, 3]]).mean() < 0.1


def test_the_gradient_is_the_loss_own() -> None:
    random = np.random.default_rng(0)
    part, mixer = random.normal(size=(6, 4, 3)), random.normal(size=(6, 2))
    is_open = np.array([[True, True, False, True]] * 6)
    loss = _loss(part, is_open, mixer, np.full((3, 2), 0.3), 0.5)
    at = random.normal(size=6)
    wrong = check_grad(lambda x: loss(x)[0], lambda x: loss(x)[1], at, epsilon=1e-3)
    assert wrong < 0.01 * np.abs(loss(at)[1]).max()


def test_parts_that_are_not_used_weigh_nothing() -> None:
    found = learn(planted(np.ones((len(PARTS), len(MIXERS))), count=200), HYPER, ("taste", "session"))
    used = [PARTS.index("taste"), PARTS.index("session")]
    assert found.weight[used].any(axis=1).all() and not np.delete(found.weight, used, axis=0).any()


def test_without_a_case_the_weights_stay_where_they_begin() -> None:
    found = learn(None, HYPER)
    assert found.cases == 0
    assert found.weight[PARTS.index("popularity")].tolist() == pytest.approx([BEGIN["popularity"], 0, 0, 0])


def test_a_rival_is_never_something_that_the_user_met(window: Window, vectors: np.ndarray) -> None:
    cut = DAYS - 3
    early = window.until(cut)
    model = in_memory(early, fitted(early, vectors, HYPER, 0))
    cases = cases_from(window, cut)
    found = draw(model, window, cases, HYPER, np.random.default_rng(0))
    assert len(found.part) == len(cases) and found.open[:, 0].all()
    pop = found.part[:, :, PARTS.index("popularity")]
    popularity = model._a["popularity"]
    np.testing.assert_array_equal(pop[:, 0], popularity[cases.item - 1])
    met = {(user, item) for user, item, _ in window.met}
    for row in range(len(cases)):
        mine = {popularity[item - 1] for item in range(1, 20) if (cases.user[row], item) in met}
        others = {popularity[item - 1] for item in range(1, 20) if (cases.user[row], item) not in met}
        assert set(pop[row, 1:][found.open[row, 1:]]) <= others | (mine & others)


def test_some_cases_are_asked_as_of_strangers_and_some_without_a_session(
    window: Window, vectors: np.ndarray
) -> None:
    cut = DAYS - 3
    early = window.until(cut)
    model = in_memory(early, fitted(early, vectors, HYPER, 0))
    found = draw(model, window, cases_from(window, cut), HYPER, np.random.default_rng(0))
    stranger, fresh = found.mixer[:, 2], found.mixer[:, 3]
    assert 0.05 < stranger.mean() < 0.6
    assert 0.1 < (fresh > 0).mean() < 0.7
