"""How sure a recommender is: learnt from an exam whose truth is known, judged on users that it was not learnt from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.confidence import checked, confidences
from tests.training.exams.test_ranking import ITEMS, Table, exam, falling
from training.calibration import KNOTS, Looked, calibrate, knots, look
from training.exams.ranking import score_model

USERS = 800


@pytest.fixture(scope="module")
def world() -> tuple[Table, list[list[str]]]:
    """Users who meet every item with the softmax's chance, and a model whose scores are three times too steep."""
    random = np.random.default_rng(0)
    true = random.normal(0, 1.2, (USERS, 60))
    chance = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    met = random.random((USERS, 60)) < np.minimum(3 * chance, 0.9)
    met[np.arange(USERS), true.argmax(axis=1)] |= ~met.any(axis=1)
    return Table(3 * true, ITEMS), [[ITEMS[item] for item in np.flatnonzero(row)] for row in met]


def test_a_model_that_is_far_too_sure_says_what_comes_true_once_it_is_calibrated(
    world: tuple[Table, list[list[str]]],
) -> None:
    model, relevant = world
    seen, unseen = exam(relevant[:400]), exam(relevant[400:])
    found = calibrate(look(model, seen))
    assert found is not None and found.users == 400

    later = Table(model.scores[400:], ITEMS)
    later.calibration = found.knots  # type: ignore[attr-defined]
    error = score_model(later, unseen).totals["calibration_error_at_10"]
    assert error < 0.03 and found.judged.error < 0.04
    later.calibration = np.array([[-12.0, 0.0], [1e-6, 1 - 1e-6]])  # type: ignore[attr-defined]
    assert score_model(later, unseen).totals["calibration_error_at_10"] > 5 * error


def test_what_is_looked_at_is_what_the_exam_would_show(world: tuple[Table, list[list[str]]]) -> None:
    model, relevant = world
    sheet = exam(relevant[:50], seen=[["i07"]] * 25 + [[]] * 25)
    sheet.relevant[:] = [[item for item in mine if item != "i07"] or ["i00"] for mine in sheet.relevant]
    looked = look(model, sheet)
    assert np.bincount(looked.user).tolist() == [10] * 50 and (looked.share <= 0).all()
    shown = score_model(model, sheet).per_unit["precision_at_10"]
    assert np.bincount(looked.user, weights=looked.met) / 10 == pytest.approx(shown)


def test_without_an_exam_or_with_too_few_users_there_is_no_calibration() -> None:
    assert calibrate(None) is None
    assert calibrate(look(Table(falling(5), ITEMS), exam([["i00"]] * 5))) is None
    assert "calibration_error_at_10" not in score_model(Table(falling(), ITEMS), exam([["i00"]])).totals


def test_a_broken_calibration_is_no_model_to_score() -> None:
    model = Table(falling(), ITEMS)
    model.calibration = np.array([[0.0, -1.0], [0.1, 0.2]])  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="ascend"):
        score_model(model, exam([["i00"]]))


@given(data=st.data())
def test_knots_ascend_and_are_never_certain_whatever_came_true(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 1_200))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    share = -random.integers(0, data.draw(st.integers(1, 400)), count) / 7.0  # with ties
    met = random.random(count) < data.draw(st.sampled_from([0.0, 0.03, 0.5, 1.0]))
    found = checked(knots(share, met))
    assert found is not None and found.shape[1] <= KNOTS
    assert ((found[1] > 0) & (found[1] < 1)).all()
    said = confidences(found, np.sort(share))
    assert (np.diff(said) >= 0).all()
    assert said.mean() == pytest.approx(met.mean(), abs=0.02 + 1.5 / count)


def test_the_plot_says_on_whom_it_was_fitted_and_judged_and_what_luck_alone_would_show() -> None:
    random = np.random.default_rng(4)
    share = -random.exponential(2, 3_000)
    looked = Looked(np.repeat(np.arange(300), 10), share, random.random(3_000) < np.exp(share) / 4)
    found = calibrate(looked)
    assert found is not None and int(found.judged.count.sum()) == 1_500
    axis = found.figure().axes[0]
    assert f"{found.judged.error:.4f}" in axis.get_title() and "luck" in axis.get_title()
    told = axis.get_xlabel()
    assert "fitted on 150 validation users, judged here on the other 150" in told
    assert "fitted again on all 300" in told
    assert [text.get_text() for text in axis.texts] == [str(count) for count in found.judged.count]
    assert found.judged.count.min() > 50
