"""The two baselines of the forecaster seat."""

from __future__ import annotations

import numpy as np
import pandas as pd

from training.baselines.naive import LastValue, SeasonalNaive


def learnt(weeks: int = 60, topics: int = 5) -> pd.DataFrame:
    """The change is that of a year ago, give or take two points."""
    random = np.random.default_rng(0)
    year_ago = random.normal(0, 10, weeks * topics)
    return pd.DataFrame(
        {
            "topic": np.repeat([f"t{n}" for n in range(topics)], weeks),
            "week": [f"{2024 + n // 52}-W{n % 52 + 1:02d}" for n in range(weeks)] * topics,
            "velocity_change_year_ago": year_ago,
            "change": year_ago + random.normal(0, 2, weeks * topics),
        }
    )


def test_last_value_says_that_nothing_changes_and_how_far_that_misses() -> None:
    rows = learnt()
    found = LastValue(rows).forecast(rows)

    assert (found["change"] == 0).all()
    inside = (found["low_80"] <= rows["change"]) & (rows["change"] <= found["high_80"])
    assert 0.75 < inside.mean() < 0.85
    assert LastValue(rows).topics == ["t0", "t1", "t2", "t3", "t4"]


def test_seasonal_naive_says_what_changed_a_year_ago_and_nothing_where_that_is_unknown() -> None:
    rows = learnt()
    model = SeasonalNaive(rows)
    asked = rows.assign(velocity_change_year_ago=rows["velocity_change_year_ago"].where(rows.index > 2))
    found = model.forecast(asked)

    np.testing.assert_array_equal(found["change"][:3], [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(found["change"][3:], rows["velocity_change_year_ago"][3:])
    assert (found["high_80"] - found["low_80"]).max() < 8
    assert np.isfinite(model.forecast(pd.DataFrame(index=range(2))).to_numpy()).all()


def test_the_intervals_are_those_of_the_newest_year() -> None:
    """Older changes were a hundred times as large; they say nothing any more."""
    rows = learnt(weeks=120)
    older = rows["week"] < sorted(rows["week"].unique())[-52]
    rows["change"] = rows["change"].where(~older, 100 * rows["change"])
    rows["velocity_change_year_ago"] = rows["velocity_change_year_ago"].where(~older, 0.0)

    for kind in (LastValue, SeasonalNaive):
        found, newest = kind(rows).forecast(rows[~older]), rows.loc[~older, "change"].to_numpy()
        inside = (found["low_80"] <= newest) & (newest <= found["high_80"])
        assert 0.75 < inside.mean() < 0.85


def test_without_anything_learnt_they_answer_that_anything_may_come() -> None:
    for kind in (LastValue, SeasonalNaive):
        found = kind(learnt().iloc[:0]).forecast(learnt().head(2))
        assert list(found) == ["change", "low_80", "high_80", "low_95", "high_95"]
        assert (found["high_80"] - found["low_80"] == 200).all()
