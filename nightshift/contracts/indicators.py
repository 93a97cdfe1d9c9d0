"""How fast a topic moves, week by week: the data contract of the forecaster seat.

One row per topic and ISO week, told on the day that it became known. A later day's row for the same topic and
week is a revision: what it says replaces what was said, what it leaves empty stays. Published days never
change, so what was known when can always be read back (`known`).
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import date, timedelta

import pandas as pd
import pyarrow as pa

from nightshift.contracts.table import Column, Contract
from nightshift.errors import ContractError

WEEK = r"^[0-9]{4}-W(?:0[1-9]|[1-4][0-9]|5[0-3])\Z"
POLICY = "policy_change_frequency"  # the one that feeds are counted for
GROWTH = 10.0  # of a logarithm: 22,000-fold in a week is a broken feed, not growth


def week_of(day: date) -> str:
    """The ISO week that a day belongs to, such as "2026-W38"; these texts sort in order of time."""
    year, week, _ = day.isocalendar()
    return f"{year:04d}-W{week:02d}"


def monday(week: str) -> date:
    """The first day of an ISO week.

    Raises:
        ContractError: there is no such week ("2026-W60", "W38").
    """
    if not re.match(WEEK, week):
        raise ContractError(f"{week!r} is no ISO week; write it like 2026-W38")
    try:
        return date.fromisocalendar(int(week[:4]), int(week[6:]), 1)
    except ValueError as error:
        raise ContractError(f"{week!r}: that year has no such week") from error


def has_ended(week: str, day: date) -> bool:
    """Whether a week's Sunday is `day` or earlier. Raises ContractError as `monday` does."""
    return monday(week) + timedelta(days=6) <= day


def weeks_after(week: str, count: int) -> str:
    """The week `count` weeks later (earlier where negative)."""
    return week_of(monday(week) + timedelta(weeks=count))


def last_complete_week(day: date) -> str:
    """The newest week whose Sunday is `day` or earlier."""
    return week_of(day - timedelta(days=day.isoweekday() % 7))


INDICATORS = Contract(
    name="indicators",
    meaning="What was told of one topic in one ISO week; a later row for the same pair revises it.",
    key=("topic", "week"),
    time="week",
    may_be_empty=True,  # most days tell of no week
    columns=(
        Column("topic", pa.string(), "Opaque name, any language.", max_length=128),
        Column("week", pa.string(), "ISO week that the figures are of, such as 2026-W38.", pattern=WEEK),
        Column(
            "funding_volume_growth",
            pa.float64(),
            "Money raised: ln(this week ÷ the week before).",
            nullable=True,
            minimum=-GROWTH,
            maximum=GROWTH,
        ),
        Column("patent_filing_rate", pa.float64(), "Patents filed in the week.", nullable=True, minimum=0),
        Column(
            "learning_demand_growth",
            pa.float64(),
            "Enrolments: ln(this week ÷ the week before).",
            nullable=True,
            minimum=-GROWTH,
            maximum=GROWTH,
        ),
        Column(
            "search_volume_growth",
            pa.float64(),
            "Searches: ln(this week ÷ the week before).",
            nullable=True,
            minimum=-GROWTH,
            maximum=GROWTH,
        ),
        Column(
            POLICY,
            pa.float64(),
            "Policy changes announced in the week; many mean instability.",
            nullable=True,
            minimum=0,
        ),
    ),
    sample=(
        {
            "topic": "배터리 재활용",
            "week": "2026-W35",
            "funding_volume_growth": 0.04,
            "patent_filing_rate": 12.0,
            "learning_demand_growth": -0.02,
            "search_volume_growth": 0.11,
            "policy_change_frequency": 1.0,
        },
        {
            "topic": "robotics",
            "week": "2026-W35",
            "funding_volume_growth": None,
            "patent_filing_rate": 40.0,
            "learning_demand_growth": 0.0,
            "search_volume_growth": -0.05,
            "policy_change_frequency": 0.0,
        },
    ),
)
INDICATOR_NAMES = tuple(c.name for c in INDICATORS.columns if c.name not in INDICATORS.key)


def known(told: pa.Table) -> pd.DataFrame:
    """What is known after all of `told`: one row per topic and week, sorted by both, the newest value of each.

    told: rows of the contract in the order in which they were told (as `Lake.read` returns them).
    """
    names = list(INDICATOR_NAMES)
    rows = told.select([*INDICATORS.key, *names]).to_pandas()
    # `last` skips nulls: a revision of one figure leaves the others as they were.
    return rows.groupby(list(INDICATORS.key), sort=True, as_index=False)[names].last()


def sound(told: pa.Table, day: date) -> pa.Table:
    """The rows told on `day` that could pass an audit: by contract, of a week that has ended, without another
    row for the same topic and week.

    What a day in quarantine told can be taken from it so, whatever the rest of it was wrong with.
    """
    rows = [row for row in told.to_pylist() if INDICATORS.fits(row) and _ended(row["week"], day)]
    pairs = Counter((row["topic"], row["week"]) for row in rows)
    return INDICATORS.table([row for row in rows if pairs[row["topic"], row["week"]] == 1])


def _ended(week: str, day: date) -> bool:
    try:
        return has_ended(week, day)
    except ContractError:
        return False
