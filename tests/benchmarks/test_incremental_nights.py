from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from benchmarks.incremental_nights import Arm, Replay, compare, table

NIGHTS = [date(2026, 9, 28) + timedelta(days=n) for n in range(3)]
USERS = [f"u{n}" for n in range(40)]


def replayed(gain: float, on_from: list[int | None]) -> Replay:
    """Three nights; going on gains `gain` on every user of the nights that go on, and nothing on the others."""
    random = np.random.default_rng(0)
    base = [pd.Series(random.random(40), USERS) for _ in NIGHTS]
    full = [pd.DataFrame({"ndcg_at_100": v, "ndcg_at_10": v / 2}) for v in base]
    mine = [one * (1 + gain * (back is not None)) for one, back in zip(full, on_from, strict=True)]
    cheap = [10.0 if back is None else 1.0 for back in on_from]
    return Replay(NIGHTS, Arm([10.0] * 3, [8.0] * 3, full), Arm(cheap, cheap, mine), on_from)


@pytest.mark.parametrize(("gain", "equal"), [(-0.1, False), (-0.01, True), (0.05, True)])
def test_quality_is_equal_if_the_interval_of_the_difference_stays_above_the_margin(
    gain: float, equal: bool
) -> None:
    found = compare(replayed(gain, [1, 1, 1]))
    assert found["diff"] == pytest.approx(gain) == pytest.approx(found["diff10"])
    assert found["diff_low"] <= gain + 1e-9 and gain - 1e-9 <= found["diff_high"]
    assert found["equal"] is equal and found["users"] == 40 and found["user_nights"] == 120


def test_a_weekly_night_counts_in_the_price_and_not_in_the_difference() -> None:
    found = compare(replayed(-0.1, [1, None, 2]))
    assert found["diff"] == pytest.approx(-0.1) and found["user_nights"] == 80
    assert found["cpu_ratio"] == pytest.approx(12 / 30) and not found["cheap"]
    assert compare(replayed(0, [1, 1, 1]))["cheap"]


def test_the_table_says_from_where_each_night_went_on() -> None:
    lines = list(table(replayed(0, [1, None, 2])))
    assert len(lines) == 5
    assert "| 1 night before |" in lines[2] and "| nothing |" in lines[3] and "2 nights before" in lines[4]
