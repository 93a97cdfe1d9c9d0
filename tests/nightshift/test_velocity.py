"""The velocity score: against values computed by hand, a plain reference, and what must hold whatever the data."""

from __future__ import annotations

import math
from itertools import product
from statistics import fmean, median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nightshift import velocity
from nightshift.contracts.indicators import INDICATOR_NAMES
from nightshift.velocity import PAST, PAST_KNOWN, SIGNS, WEIGHTS, WINDOW, score, smooth, usual, usual_of

FUNDING, PATENTS, LEARNING, SEARCH, POLICY = range(5)
GOLDEN = [45.2484932311, 58.4642723808, 52.07635357, 50.4636927114]  # of the wave below, by velocity-1
FEW = settings(max_examples=60, deadline=None)


def velocities(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(velocity, coverage) of every week of values[weeks, 5], as a pipeline would compute them."""
    middle, spread = usual(smooth(values))
    padded = np.concatenate([np.full((WINDOW - 1, 5), np.nan), values])
    windows = np.stack([padded[week : week + WINDOW] for week in range(len(values))])
    return score(windows, middle, spread)


def plainly(values: np.ndarray, week: int) -> tuple[float | None, float]:
    """The module's docstring, word by word, for one week."""

    def mean(k: int, t: int) -> float | None:
        known = [v for v in values[max(0, t - 3) : t + 1, k] if math.isfinite(v)]
        return sum(known) / len(known) if len(known) >= 2 else None

    weight = pull = 0.0
    for k in range(5):
        now = mean(k, week)
        past = [m for t in range(max(0, week - 104), week) if (m := mean(k, t)) is not None]
        if now is None or len(past) < 26:
            continue
        middle = median(past)
        away = [abs(m - middle) for m in past]
        spread = 1.4826 * median(away) or 1.2533 * fmean(away)
        z = max(-3.0, min(3.0, (now - middle) / spread)) if spread else 3.0 * np.sign(now - middle)
        weight += WEIGHTS[k]
        pull += SIGNS[k] * WEIGHTS[k] * z
    return (50 + 50 / 3 * pull / weight if weight > 0.4999 else None), weight


WEEKS = st.integers(1, 140)


@st.composite
def histories(draw: st.DrawFn, weeks: st.SearchStrategy[int] = WEEKS) -> np.ndarray:
    """values[weeks, 5]; anything from all to nothing of an indicator is known, and quiet ones stand still."""
    n = draw(weeks)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = random.integers(-40, 41, (n, 5)) / 8.0  # sums of them are exact
    steps = draw(arrays(np.int64, 5, elements=st.sampled_from([0, 1, 8, 41])))
    values = np.where(steps > 0, np.round(values * 8 / np.maximum(steps, 1)) * steps / 8, 1.0)
    missing = draw(arrays(np.float64, 5, elements=st.sampled_from([0.0, 0.05, 0.5, 0.97])))
    values[random.random((n, 5)) < missing] = np.nan
    return values


# --- by hand -------------------------------------------------------------------------------------------


def test_the_weights_and_signs_are_those_of_the_definition() -> None:
    assert dict(zip(INDICATOR_NAMES, WEIGHTS * SIGNS, strict=True)) == {
        "funding_volume_growth": 0.25,
        "patent_filing_rate": 0.20,
        "learning_demand_growth": 0.20,
        "search_volume_growth": 0.25,
        "policy_change_frequency": -0.10,
    }
    assert velocity.DEFINITION == "velocity-1"


def test_a_score_computed_by_hand() -> None:
    window = np.tile([1.0, 2.0, 0.0, -9.0, 4.0], (4, 1))  # the last two are cut to -3 and 3
    value, coverage = score(window, np.zeros(5), np.ones(5))
    assert (
        value == pytest.approx(50 + 50 / 3 * (0.25 * 1 + 0.2 * 2 + 0 - 0.25 * 3 - 0.1 * 3)) and coverage == 1
    )


def test_half_of_the_weight_of_a_week_is_enough_and_a_hair_less_is_not() -> None:
    nan, weeks = np.nan, np.ones((5, 5))
    weeks[1, [FUNDING, SEARCH]] = nan  # 0.2 + 0.2 + 0.1 are left
    weeks[2, [FUNDING, SEARCH, POLICY]] = nan
    weeks[3, [PATENTS, LEARNING, POLICY]] = [nan, np.inf, nan]
    weeks[4] = nan
    assert velocity.told_enough(weeks).tolist() == [True, True, False, True, False]
    assert velocity.told_enough(weeks[0]) and velocity.told_enough(np.empty((0, 5))).shape == (0,)


def test_a_mean_is_of_what_is_known_of_four_weeks_and_of_two_at_least() -> None:
    nan = np.nan
    values = np.array([[4.0], [nan], [2.0], [nan], [nan], [6.0], [nan]]) * np.ones(5)
    assert smooth(values)[:, 0].tolist() == pytest.approx([nan, nan, 3, 3, nan, 4, nan], nan_ok=True)


def test_what_is_usual_computed_by_hand() -> None:
    middle, spread = usual_of(np.arange(1.0, 31.0)[:, None] * np.ones(5))
    assert middle.tolist() == [15.5] * 5 and spread.tolist() == pytest.approx([1.4826 * 7.5] * 5)


def test_a_past_that_hardly_ever_moved_is_measured_by_its_mean_deviation() -> None:
    past = np.ones((30, 5))
    past[3] = 4.0
    assert usual_of(past)[1].tolist() == pytest.approx([1.2533 * 3 / 30] * 5)


@pytest.mark.parametrize(("now", "expected"), [(1.0, 50.0), (1.1, 100.0), (0.9, 0.0)])
def test_after_a_past_that_never_moved_any_move_is_the_most_there_is(now, expected) -> None:
    window = np.full((4, 5), now)
    window[:, POLICY] = 2 - now  # instability moves the other way
    assert score(window, np.ones(5), np.zeros(5))[0] == pytest.approx(expected)


def test_the_rounding_of_a_mean_is_no_move() -> None:
    values = np.full((60, 5), 0.1)
    values[40] = np.nan  # three equal numbers and four have means that differ in the last bit
    assert smooth(values)[41, 0] != smooth(values)[50, 0]
    assert set(velocities(values)[0][26 + 3 :].tolist()) == {50.0}


def test_a_wave_has_the_velocity_that_it_always_had() -> None:
    weeks = np.arange(200)[:, None]
    wave = np.sin(weeks / np.array([3.0, 5.0, 7.0, 11.0, 13.0])) + weeks % 5 / 10
    found, coverage = velocities(wave)
    assert found[[40, 100, 150, 199]].tolist() == pytest.approx(GOLDEN, abs=1e-9)
    # A mean needs two weeks, and 26 of them are the least that can be called usual.
    assert np.isnan(found[:27]).all() and not np.isnan(found[27:]).any() and set(coverage[27:]) == {1.0}


def test_whatever_is_known_the_score_is_there_from_half_of_the_weight_on() -> None:
    for known in product([False, True], repeat=5):
        window = np.where(known, 1.0, np.nan) * np.ones((4, 5))
        value, coverage = score(window, np.zeros(5), np.ones(5))
        percent = sum(p for p, k in zip((25, 20, 20, 25, 10), known, strict=True) if k)
        assert coverage == percent / 100
        assert np.isnan(value) == (percent < 50)


def test_weights_are_shared_out_among_what_is_known() -> None:
    window = np.array([2.0, np.nan, np.nan, -1.0, 1.0]) * np.ones((4, 1))
    value, coverage = score(window, np.zeros(5), np.ones(5))
    assert value == pytest.approx(50 + 50 / 3 * (0.25 * 2 - 0.25 - 0.1) / 0.6) and coverage == 0.6


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_a_value_that_is_not_finite_is_unknown(odd) -> None:
    window = np.ones((4, 5))
    window[3, SEARCH] = odd
    window[1, SEARCH] = window[2, SEARCH] = np.nan
    value, coverage = score(window, np.zeros(5), np.ones(5))
    assert coverage == 0.75 and np.isfinite(value)
    assert score(np.ones((4, 5)), np.full(5, odd), np.ones(5))[1] == 0


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5,)])
def test_a_window_of_another_shape_is_refused(shape) -> None:
    with pytest.raises(ValueError, match=r"expected \[\.\.\., 4, 5\], found"):
        score(np.zeros(shape), np.zeros(5), np.ones(5))


def test_a_past_of_more_than_two_years_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 104 weeks, found 105"):
        usual_of(np.zeros((105, 5)))


# --- whatever the data ---------------------------------------------------------------------------------


@FEW
@given(histories())
def test_it_is_what_the_docstring_says(values) -> None:
    found, coverage = velocities(values)
    for week in {0, len(values) // 2, len(values) - 1}:
        expected, weight = plainly(values, week)
        assert coverage[week] == pytest.approx(weight)
        assert found[week] == pytest.approx(np.nan if expected is None else expected, abs=1e-6, nan_ok=True)


@FEW
@given(arrays(np.float64, (60, 5), elements=st.floats(width=64)))
def test_it_stays_within_its_bounds_whatever_it_is_given(values) -> None:
    found, coverage = velocities(values)
    assert ((found >= 0) & (found <= 100) | np.isnan(found)).all()
    assert ((coverage >= 0) & (coverage <= 1)).all()
    assert (np.isnan(found) == (coverage < 0.5)).all()


@FEW
@given(histories(), st.data())
def test_nothing_later_is_ever_seen(values, data) -> None:
    week = data.draw(st.integers(0, len(values) - 1))
    later = values.copy()
    later[week + 1 :] = data.draw(st.sampled_from([np.nan, -1e6, 7.0]))
    before, after = velocities(values), velocities(later)
    assert np.array_equal(before[0][: week + 1], after[0][: week + 1], equal_nan=True)
    assert np.array_equal(before[1][: week + 1], after[1][: week + 1])


@FEW
@given(histories(st.integers(110, 140)))
def test_what_is_more_than_two_years_and_three_weeks_old_does_not_matter(values) -> None:
    whole, last = velocities(values)[0], velocities(values[-(PAST + WINDOW) :])[0]
    assert np.array_equal(whole[-1:], last[-1:], equal_nan=True)


@FEW
@given(histories(), arrays(np.float64, 5, elements=st.sampled_from([1e-6, 0.01, 0.3, 1.0, 7.0, 1e6])))
def test_the_unit_of_an_indicator_does_not_matter(values, units) -> None:
    assert velocities(values * units)[0] == pytest.approx(velocities(values)[0], abs=1e-5, nan_ok=True)


@FEW
@given(histories(), st.integers(0, 4), st.floats(0.01, 50))
def test_more_in_the_newest_week_never_moves_it_against_the_indicators_sign(values, k, more) -> None:
    higher = values.copy()
    higher[-1, k] += more
    (was, coverage), (now, same) = velocities(values), velocities(higher)
    assert coverage[-1] == same[-1]
    if not np.isnan(was[-1]):
        assert SIGNS[k] * (now[-1] - was[-1]) >= -1e-9


@FEW
@given(st.integers(1, 31), st.floats(-4, 4))
def test_where_all_that_is_known_agrees_it_does_not_matter_how_much_is_known(known, z) -> None:
    mask = np.array([known >> k & 1 for k in range(5)], bool)
    value, coverage = score(np.where(mask, SIGNS * z, np.nan) * np.ones((4, 1)), np.zeros(5), np.ones(5))
    if coverage >= 0.5:
        assert value == pytest.approx(50 + 50 / 3 * np.clip(z, -3, 3))


@FEW
@given(st.lists(histories(st.just(PAST_KNOWN + 20)), min_size=2, max_size=4))
def test_a_topic_among_others_scores_the_same_to_the_last_bit(topics) -> None:
    together = np.stack(topics)
    middle, spread = usual(smooth(together))
    found, _ = score(together[:, -4:], middle[:, -1], spread[:, -1])
    alone = np.array([velocities(topic)[0][-1] for topic in topics])
    assert np.array_equal(found, alone, equal_nan=True)
