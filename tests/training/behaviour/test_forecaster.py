"""Each way of misbehaving is caught by its own probe, at the limits of the seat's real policy, and by no other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import pandas as pd
import pytest

from nightshift.contracts.features import TOPIC_FEATURES, numeric
from training.behaviour.forecaster import try_model
from training.evidence import Measured
from training.exams.forecasts import Exam
from training.metrics import upwards
from training.policy import policy_of

NUMBERS = numeric(TOPIC_FEATURES)
LIMITS = policy_of("forecaster").behaviour


def world(topics: int = 12, weeks: int = 6) -> Exam:
    random = np.random.default_rng(1)
    count = topics * weeks
    rows = pd.DataFrame(random.normal(size=(count, len(NUMBERS))), columns=NUMBERS)
    rows["velocity"] = random.uniform(0, 100, count)
    names = [f"t{n:02d}" for n in range(topics)]
    topic = np.repeat(np.arange(topics), weeks)
    return Exam(
        topics=names,
        topic=topic,
        rows=rows.assign(topic=[names[n] for n in topic], week="2026-W30"),
        change=random.normal(size=count),
        start=date(2026, 7, 20),
        end=date(2026, 9, 20),
        digest="d1g35t",
    )


EXAM = world()


class Sound:
    """Velocity goes half-way back to 50."""

    def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
        change = 25 - rows.reindex(columns=["velocity"])["velocity"].fillna(50.0).to_numpy() / 2
        return pd.DataFrame(
            {
                "change": change,
                "low_80": change - 5,
                "high_80": change + 5,
                "low_95": change - 8,
                "high_95": change + 8,
            }
        )


def without(answer: pd.DataFrame, gone: pd.Series) -> pd.DataFrame:
    answer.loc[gone.to_numpy()] = np.nan
    return answer


class Silent(Sound):
    """No number for one topic."""

    def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
        return without(super().forecast(rows), rows["topic"] == "t03")


class Crossing(Sound):
    def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
        answer = super().forecast(rows)
        answer.loc[(rows["topic"] == "t03").to_numpy(), "high_95"] -= 4
        return answer


class Counting(Sound):
    def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
        return super().forecast(rows).add(0.001 * np.arange(len(rows)), axis=0)


class ByPosition(Sound):
    def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
        first = pd.to_numeric(rows.iloc[:, 0], errors="coerce").fillna(0.0).to_numpy()
        return super().forecast(rows).add(0.001 * first, axis=0)


class Spoilt(Sound):
    """Wants all it was trained on."""

    def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
        return without(super().forecast(rows), rows["velocity"].isna())


class Jumpy(Sound):
    def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
        return super().forecast(rows).add(20 * np.sin(1e6 * rows["velocity"].fillna(50.0).to_numpy()), axis=0)


def failed(found: Measured) -> set[str]:
    missing = set(LIMITS) - set(found.figures)
    beyond = {
        name for name, figure in found.figures.items() if upwards(name, figure) < upwards(name, LIMITS[name])
    }
    return missing | beyond


def test_a_sound_model_passes_every_probe() -> None:
    found = try_model(Sound(), EXAM)
    assert found.problem == "" and set(found.figures) == set(LIMITS) and failed(found) == set()
    mean = EXAM.rows["velocity"].mean()
    assert found.figures["nudged_change"] == pytest.approx(0.01 * mean / 2)
    assert found == try_model(Sound(), EXAM)


@pytest.mark.parametrize(
    ("broken", "probe"),
    [
        (Silent, "not_finite"),
        (Crossing, "crossed_intervals"),
        (Counting, "order_dependence"),
        (ByPosition, "order_dependence"),
        (Spoilt, "missing_answered"),
        (Jumpy, "nudged_change"),
    ],
)
def test_each_way_of_misbehaving_is_caught_by_its_probe_and_by_no_other(
    broken: Callable[[], Sound], probe: str
) -> None:
    found = try_model(broken(), EXAM)
    assert found.problem == "" and failed(found) == {probe}


def test_the_figure_is_the_share_of_rows_that_are_wrong() -> None:
    assert try_model(Silent(), EXAM).figures["not_finite"] == pytest.approx(1 / len(EXAM))
    assert try_model(Crossing(), EXAM).figures["crossed_intervals"] == pytest.approx(1 / len(EXAM))


def test_a_model_that_raises_is_a_problem_and_gives_no_figure() -> None:
    class Hopeless(Sound):
        def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
            raise RuntimeError("torn")

    class Short(Sound):
        def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
            return super().forecast(rows).head(1)

    found = try_model(Hopeless(), EXAM)
    assert found.problem == "RuntimeError: torn" and not found.figures
    assert try_model(Short(), EXAM).problem.startswith("ContractError: the model gave 1 rows")
