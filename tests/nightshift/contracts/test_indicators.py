"""The contract of weekly indicators: its weeks, what is known after revisions, and what of a bad day is sound."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.contracts import INDICATORS
from nightshift.contracts.indicators import (
    has_ended,
    known,
    last_complete_week,
    monday,
    sound,
    week_of,
    weeks_after,
)
from nightshift.errors import ContractError

SUNDAY = date(2026, 8, 30)  # the end of 2026-W35


def row(topic: str, week: str = "2026-W35", **figures: float | None) -> dict[str, object]:
    return {"topic": topic, "week": week, **figures}


@given(st.dates(date(1, 1, 8), date(9998, 12, 1)))
def test_a_day_belongs_to_the_week_of_its_monday_and_texts_sort_in_order_of_time(day: date) -> None:
    week = week_of(day)
    assert monday(week) <= day < monday(week) + timedelta(days=7)
    assert weeks_after(week, 1) == week_of(day + timedelta(days=7)) > week
    assert has_ended(last_complete_week(day), day) and not has_ended(
        weeks_after(last_complete_week(day), 1), day
    )


def test_a_week_is_complete_on_its_sunday() -> None:
    assert last_complete_week(SUNDAY) == "2026-W35"
    assert last_complete_week(SUNDAY - timedelta(days=1)) == "2026-W34"


@pytest.mark.parametrize(
    "week", ["2025-W53", "2026-W60", "2026-W00", "W38", "2026-38", "2026-W38\n", "0000-W01"]
)
def test_a_week_that_the_calendar_does_not_have_is_named(week: str) -> None:
    with pytest.raises(ContractError) as refused:
        monday(week)
    assert repr(week) in str(refused.value)


def test_a_year_of_53_weeks_has_its_last() -> None:
    assert monday("2026-W53") == date(2026, 12, 28) and weeks_after("2026-W53", 1) == "2027-W01"


def test_a_revision_replaces_what_it_says_and_leaves_what_it_does_not() -> None:
    told = INDICATORS.table(
        [
            row("a", search_volume_growth=0.1, patent_filing_rate=3.0),
            row("b", search_volume_growth=0.2),
            row("a", search_volume_growth=0.3),
            row("a", "2026-W34", patent_filing_rate=9.0),
        ]
    )
    found = known(told).set_index(["topic", "week"])
    assert list(found.index) == [("a", "2026-W34"), ("a", "2026-W35"), ("b", "2026-W35")]
    assert list(found.loc[("a", "2026-W35"), ["search_volume_growth", "patent_filing_rate"]]) == [0.3, 3.0]
    assert found["policy_change_frequency"].isna().all()


def test_nothing_told_is_nothing_known() -> None:
    assert known(INDICATORS.table([])).empty


def test_what_cannot_pass_an_audit_is_not_sound() -> None:
    rows = [
        row("good", search_volume_growth=0.1),
        row("good", "2026-W34", search_volume_growth=0.1),
        row("no such week", "2025-W53"),
        row("not a week", "last week"),
        row("not over", "2026-W36"),
        row("out of range", search_volume_growth=11.0),
        row("infinite", patent_filing_rate=float("inf")),
        row("twice", search_volume_growth=0.1),
        row("twice", search_volume_growth=0.2),
    ]
    assert [r["topic"] for r in sound(INDICATORS.table(rows), SUNDAY).to_pylist()] == ["good", "good"]
