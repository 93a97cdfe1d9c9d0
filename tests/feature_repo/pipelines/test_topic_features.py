"""Topic features: which rows a day brings, what is in them, and that each is what was known when."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo.pipelines import topic
from feature_repo.pipelines.topic import topic_features
from nightshift import velocity
from nightshift.contracts import INDICATORS
from nightshift.contracts.features import window_column
from nightshift.contracts.indicators import INDICATOR_NAMES, monday, week_of, weeks_after
from nightshift.errors import ContractError

Row = dict[str, Any]
FUNDING, POLICY = "funding_volume_growth", "policy_change_frequency"
WEEK = "2026-W35"  # over on Sunday, 2026-08-30
WEDNESDAY = date(2026, 9, 2)
FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def said(name: str, week: str, *values: float | None, **named: float) -> Row:
    """A row of the contract; the five indicators in order, or some by name."""
    return {"topic": name, "week": week, **dict(zip(INDICATOR_NAMES, values, strict=False)), **named}


def whole(name: str, week: str, funding: float) -> Row:
    """All five figures of a week."""
    return said(name, week, funding, 4.0, 0.5, -0.5, 1.0)


def told(*days: tuple[date, list[Row]]) -> pa.Table:
    parts = []
    for day, rows in sorted(days, key=lambda one: one[0]):
        parts.append(INDICATORS.table(rows).append_column("day", pa.array([day] * len(rows), pa.date32())))
    return pa.concat_tables(parts)


def found(table: pa.Table, day: date, *columns: str) -> list[tuple[Any, ...]]:
    rows = topic_features(table, day).to_pylist()
    return [tuple(row[column] for column in columns) for row in rows]


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def funding(row: Row) -> list[float | None]:
    return [row[window_column(FUNDING, ago)] for ago in (3, 2, 1, 0)]


def history(name: str, weeks: int, last: str = WEEK, seed: int = 0) -> list[Row]:
    values = np.random.default_rng(seed).integers(-40, 41, (weeks, 5)) / 8
    return [said(name, weeks_after(last, n - weeks + 1), *row) for n, row in enumerate(values.tolist())]


# --- which rows ----------------------------------------------------------------------------------------


def test_an_openings_weeks_count_from_the_monday_after_each() -> None:
    opening = told((WEDNESDAY, [whole("로봇", WEEK, 0.3), whole("로봇", "2026-W33", 0.1)]))
    assert found(opening, WEDNESDAY, "topic", "week", "event_timestamp") == [
        ("로봇", "2026-W33", midnight(date(2026, 8, 17))),
        ("로봇", "2026-W35", midnight(date(2026, 8, 31))),
    ]


def test_a_week_that_is_told_before_it_is_over_counts_from_the_end_of_the_day_that_told_it() -> None:
    opening = told((WEDNESDAY, [whole("a", "2026-W36", 1.0), whole("a", "2026-W37", 1.0)]))
    end = midnight(WEDNESDAY + timedelta(days=1))
    assert found(opening, WEDNESDAY, "week", "event_timestamp") == [
        ("2026-W36", end - timedelta(microseconds=1)),
        ("2026-W37", end),
    ]


def test_a_new_week_counts_from_the_midnight_that_ends_the_day_that_told_it() -> None:
    day = WEDNESDAY + timedelta(days=7)
    table = told((WEDNESDAY, [whole("a", WEEK, 0.1)]), (day, [whole("a", "2026-W36", 0.2)]))
    (row,) = topic_features(table, day).to_pylist()
    assert (row["week"], row["event_timestamp"]) == ("2026-W36", midnight(day + timedelta(days=1)))
    assert funding(row) == [None, None, 0.1, 0.2]


def test_a_revision_writes_the_newest_week_again_and_no_other() -> None:
    day = WEDNESDAY + timedelta(days=1)
    opening = [whole("a", "2026-W34", 0.1), whole("a", WEEK, 0.2)]
    table = told((WEDNESDAY, opening), (day, [whole("a", "2026-W34", 0.5)]))
    (row,) = topic_features(table, day).to_pylist()
    assert (row["week"], row["event_timestamp"]) == (WEEK, midnight(day + timedelta(days=1)))
    assert funding(row) == [None, None, 0.5, 0.2]
    before = topic_features(table, WEDNESDAY).to_pylist()
    assert [funding(row)[-1] for row in before] == [0.1, 0.2]  # what was known then


def test_a_late_week_joins_the_newest_weeks_row_and_gets_none_of_its_own() -> None:
    day = WEDNESDAY + timedelta(days=1)
    opening = [whole("a", "2026-W33", 0.1), whole("a", WEEK, 0.3)]
    table = told((WEDNESDAY, opening), (day, [whole("a", "2026-W34", 0.2)]))
    (row,) = topic_features(table, day).to_pylist()
    assert row["week"] == WEEK and funding(row) == [None, 0.1, 0.2, 0.3]


def test_a_missing_week_leaves_its_place_empty() -> None:
    opening = told((WEDNESDAY, [whole("a", "2026-W32", 0.1), whole("a", WEEK, 0.3)]))
    assert [funding(row) for row in topic_features(opening, WEDNESDAY).to_pylist()] == [
        [None, None, None, 0.1],
        [0.1, None, None, 0.3],
    ]


def test_a_figure_that_comes_after_the_others_completes_the_week() -> None:
    day = WEDNESDAY + timedelta(days=1)
    table = told((WEDNESDAY, [said("a", WEEK, 0.3, 4.0, 0.5)]), (day, [said("a", WEEK, **{POLICY: 2.0})]))
    (row,) = topic_features(table, day).to_pylist()
    assert (row[window_column(FUNDING, 0)], row[window_column(POLICY, 0)]) == (0.3, 2.0)


def test_a_week_has_no_row_until_half_of_the_weight_is_known_of_it() -> None:
    sunday, monday, tuesday = (date(2026, 9, 6) + timedelta(days=n) for n in range(3))
    table = told(
        (WEDNESDAY, [whole("a", WEEK, 0.1)]),
        (sunday, [said("a", "2026-W36", **{POLICY: 2.0})]),
        (monday, [said("a", "2026-W36", 0.2)]),
        (tuesday, [said("a", "2026-W36", None, 4.0)]),
    )
    assert [topic_features(table, day).num_rows for day in (sunday, monday)] == [0, 0]
    (row,) = topic_features(table, tuesday).to_pylist()  # 0.10 + 0.25 + 0.20 of the weight
    assert (row["week"], row["event_timestamp"]) == ("2026-W36", midnight(tuesday + timedelta(days=1)))
    assert funding(row) == [None, None, 0.1, 0.2] and row[window_column(POLICY, 0)] == 2.0


def test_a_figure_of_the_week_to_come_does_not_hide_what_a_day_tells_of_the_weeks_before() -> None:
    day = date(2026, 9, 6)
    of_both = [said("a", "2026-W36", **{POLICY: 2.0}), said("a", WEEK, 0.5)]
    table = told((WEDNESDAY, [whole("a", WEEK, 0.1)]), (day, of_both))
    (row,) = topic_features(table, day).to_pylist()
    assert row["week"] == WEEK and funding(row) == [None, None, None, 0.5]


def test_a_topic_opens_on_the_day_that_tells_enough_of_it_with_all_that_is_known_by_then() -> None:
    sunday = WEDNESDAY - timedelta(days=3)
    rest = [said("a", week, 0.1, 4.0, 0.5, -0.5) for week in ("2026-W34", WEEK)]
    counts = [said("a", week, **{POLICY: 2.0}) for week in ("2026-W33", "2026-W34", WEEK)]
    table = told((sunday, counts), (WEDNESDAY, rest))
    assert topic_features(table, sunday).num_rows == 0
    assert found(table, WEDNESDAY, "week", "event_timestamp", window_column(POLICY, 0)) == [
        ("2026-W34", midnight(date(2026, 8, 24)), 2.0),
        (WEEK, midnight(date(2026, 8, 31)), 2.0),
    ]
    assert found(table, WEDNESDAY, window_column(POLICY, 2))[-1] == (2.0,)  # of the week that has no row


def test_a_week_that_is_completed_after_a_newer_one_joins_that_ones_row_and_gets_none_of_its_own() -> None:
    day = WEDNESDAY + timedelta(days=1)
    opening = [said("a", "2026-W34", 0.1), whole("a", WEEK, 0.3)]
    table = told((WEDNESDAY, opening), (day, [said("a", "2026-W34", None, 4.0, 0.5)]))
    assert found(table, WEDNESDAY, "week") == [(WEEK,)]
    (row,) = topic_features(table, day).to_pylist()
    assert row["week"] == WEEK and row[window_column("patent_filing_rate", 1)] == 4.0


@pytest.mark.parametrize("again", [(0.3, 4.0, 0.5), (None, 4.0), ()])
def test_saying_what_is_known_or_nothing_is_no_news(again) -> None:
    day = WEDNESDAY + timedelta(days=1)
    table = told((WEDNESDAY, [said("a", WEEK, 0.3, 4.0, 0.5)]), (day, [said("a", WEEK, *again)]))
    assert topic_features(table, day).num_rows == 0


def test_a_row_that_is_told_twice_on_a_day_counts_once() -> None:
    once, twice = (told((WEDNESDAY, [whole("a", WEEK, 0.3)] * n)) for n in (1, 2))
    assert topic_features(twice, WEDNESDAY).equals(topic_features(once, WEDNESDAY))


def test_several_new_weeks_on_one_day_have_a_row_each_and_the_newest_is_last() -> None:
    day = date(2026, 9, 23)
    weeks = [whole("a", f"2026-W{n}", float(n)) for n in (38, 36, 37)]
    table = told((WEDNESDAY, [whole("a", WEEK, 35.0)]), (day, weeks))
    end = midnight(day + timedelta(days=1))
    assert found(table, day, "week", "event_timestamp") == [
        ("2026-W36", end - timedelta(microseconds=2)),
        ("2026-W37", end - timedelta(microseconds=1)),
        ("2026-W38", end),
    ]
    assert [funding(row) for row in topic_features(table, day).to_pylist()] == [
        [None, None, 35, 36], [None, 35, 36, 37], [35, 36, 37, 38]
    ]  # fmt: skip


def test_topics_do_not_see_one_another() -> None:
    one, other = history("a", 40), history("b", 7, seed=1)
    alone = topic_features(told((WEDNESDAY, one)), WEDNESDAY).to_pylist()
    both = topic_features(told((WEDNESDAY, [*other, *one])), WEDNESDAY).to_pylist()
    assert both[:40] == alone and {row["topic"] for row in both[40:]} == {"b"}


def test_a_day_that_tells_nothing_brings_no_row_but_every_column() -> None:
    for table in (told((WEDNESDAY, [])), told((WEDNESDAY, history("a", 3)))):
        empty = topic_features(table, WEDNESDAY + timedelta(days=1))
        assert (empty.num_rows, empty.schema) == (0, topic.SCHEMA)


def test_a_week_that_no_calendar_has_is_named() -> None:
    with pytest.raises(ContractError, match="'2026-W54'"):
        topic_features(told((WEDNESDAY, [whole("a", "2026-W54", 0.1)])), WEDNESDAY)


# --- what is in them -----------------------------------------------------------------------------------


def test_a_years_53rd_week_stands_between_its_52nd_and_the_next_years_first() -> None:
    weeks = ["2020-W52", "2020-W53", "2021-W01", "2021-W02"]
    table = told((WEDNESDAY, [whole("a", week, float(n)) for n, week in enumerate(weeks)]))
    assert funding(topic_features(table, WEDNESDAY).to_pylist()[-1]) == [0, 1, 2, 3]


def test_velocity_and_its_changes_are_those_of_the_weeks_themselves() -> None:
    rows = history("a", 200)
    table = topic_features(told((WEDNESDAY, rows)), WEDNESDAY).to_pandas()
    values = np.array([[row[name] for name in INDICATOR_NAMES] for row in rows])
    middle, spread = velocity.usual(velocity.smooth(values))
    windows = np.lib.stride_tricks.sliding_window_view(values, 4, axis=0).transpose(0, 2, 1)
    score = np.concatenate([[np.nan] * 3, velocity.score(windows, middle[3:], spread[3:])[0]])
    expected = {
        "velocity": score[-1],
        "velocity_change_4w": score[-1] - score[-5],
        "velocity_change_13w": score[-1] - score[-14],
        "velocity_change_year_ago": score[-49] - score[-53],
        f"{POLICY}_usual": middle[-1, 4],
        f"{POLICY}_spread": spread[-1, 4],
    }
    assert table.iloc[-1][list(expected)].tolist() == list(expected.values())
    assert np.array_equal(table["velocity"], score, equal_nan=True)
    assert table["velocity"].isna().sum() == 27 and set(table["velocity_definition"]) == {"velocity-1"}


def test_what_is_unknown_is_null_and_never_nan() -> None:
    table = topic_features(told((WEDNESDAY, [whole("a", WEEK, 0.3)])), WEDNESDAY)
    assert not any(isinstance(v, float) and math.isnan(v) for v in table.to_pylist()[0].values())
    row = table.to_pylist()[0]
    assert (row["velocity"], row["coverage"], row[f"{FUNDING}_usual"], row["velocity_change_4w"]) == (
        None,
        0,
        None,
        None,
    )


def test_the_season_is_where_the_monday_stands_in_its_year() -> None:
    weeks = ["2024-W01", "2024-W14", "2024-W27"]  # 2024 began on a Monday
    table = told((WEDNESDAY, [whole("a", week, 0.1) for week in weeks]))
    assert found(table, WEDNESDAY, "season_sin", "season_cos") == [
        (0.0, 1.0), (pytest.approx(1, abs=1e-4), pytest.approx(0, abs=0.02)),
        (pytest.approx(0, abs=0.02), pytest.approx(-1, abs=1e-4)),
    ]  # fmt: skip


def test_how_many_topics_are_computed_at_a_time_does_not_change_a_bit(monkeypatch) -> None:
    rows = [row for n in range(5) for row in history(f"t{n}", 30 + 20 * n, seed=n)]
    whole = topic_features(told((WEDNESDAY, rows)), WEDNESDAY)
    monkeypatch.setattr(topic, "_CELLS", 700)
    assert topic_features(told((WEDNESDAY, rows)), WEDNESDAY).equals(whole)


def test_one_week_of_an_ancient_year_costs_no_memory_for_the_others() -> None:
    rows = [row for n in range(40) for row in history(f"t{n}", 8, seed=n)]
    table = told((WEDNESDAY, [*rows, whole("old", "0001-W01", 1.0), whole("old", WEEK, 2.0)]))
    assert found(table, WEDNESDAY, "topic", "week")[:2] == [("old", "0001-W01"), ("old", WEEK)]
    assert topic_features(table, WEDNESDAY).num_rows == 322


# --- whatever is told ----------------------------------------------------------------------------------


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[date, list[Row]]]:
    """Days that open topics with a history and then tell new, late, missing, revised and repeated weeks of them,

    some of them in parts."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    days = [
        WEDNESDAY + timedelta(days=int(n)) for n in np.cumsum(random.integers(1, 9, draw(st.integers(1, 6))))
    ]
    rows: dict[date, dict[tuple[str, str], Row]] = {day: {} for day in days}
    for name in ("a", "나"):
        start = int(random.integers(0, len(days)))
        length = int(random.choice([1, 3, 33, 120]))
        for number, day in enumerate(days[start:]):
            last = weeks_after(week_of(day), -1)
            back = random.choice(
                length if number == 0 else 12, int(random.integers(0, 6)) + (length if number == 0 else 0)
            )
            for ago in back.tolist():
                missing = random.choice([0.1, 0.6])
                values = [
                    None if random.random() < missing else n / 4 for n in random.integers(-3, 4, 5).tolist()
                ]
                week = weeks_after(last, -ago)
                rows[day][name, week] = said(name, week, *values)
    return [(day, list(of.values())) for day, of in rows.items()]


def by_definition(story: list[tuple[date, list[Row]]], day: date) -> list[Row]:
    """topic, week, event_timestamp, window and velocity of the rows of `day`, one by one as the docstring says."""
    state: dict[str, dict[str, list[float | None]]] = {}
    answer: list[Row] = []
    for when, rows in story:
        before = {name: {week: list(v) for week, v in weeks.items()} for name, weeks in state.items()}
        for row in rows:
            values = state.setdefault(row["topic"], {}).setdefault(row["week"], [None] * 5)
            for k, name in enumerate(INDICATOR_NAMES):
                values[k] = row[name] if row.get(name) is not None else values[k]
        if when != day:
            continue
        for name in sorted({row["topic"] for row in rows}):
            told_before = [week for week, values in before.get(name, {}).items() if enough(values)]
            weeks = sorted({row["week"] for row in rows if row["topic"] == name})
            weeks = [week for week in weeks if enough(state[name][week])]
            end = midnight(day + timedelta(days=1))
            if not told_before:
                answer += [
                    described(name, week, min(end, midnight(monday(week)) + timedelta(days=7)), state[name])
                    for week in weeks
                ]
                continue
            newest = max(told_before)
            newer = [week for week in weeks if week > newest]
            late = [end - timedelta(microseconds=n) for n in range(len(newer))][::-1]
            answer += [described(name, week, at, state[name]) for week, at in zip(newer, late, strict=True)]
            if not newer and up_to(newest, state[name]) != up_to(newest, before[name]):
                answer.append(described(name, newest, end, state[name]))
        return answer
    return []


def enough(values: list[float | None]) -> bool:
    """0.25, 0.20, 0.20, 0.25 and 0.10 in hundredths, so that they add up exactly."""
    return sum(weight for weight, v in zip((25, 20, 20, 25, 10), values, strict=True) if v is not None) >= 50


def up_to(week: str, known: dict[str, list[float | None]]) -> dict[str, list[float | None]]:
    return {w: values for w, values in known.items() if w <= week and any(v is not None for v in values)}


def described(name: str, week: str, at: datetime, known: dict[str, list[float | None]]) -> Row:
    length = (monday(week) - monday(min(known))).days // 7 + 4
    grid = [known.get(weeks_after(week, n - length + 1), [None] * 5) for n in range(length)]
    values = np.array(grid, float)
    middle, spread = velocity.usual(velocity.smooth(values))
    score, coverage = velocity.score(values[-4:], middle[-1], spread[-1])
    return {
        "topic": name, "week": week, "event_timestamp": at, "coverage": coverage,
        "velocity": None if np.isnan(score) else score,
        **{window_column(n, ago): grid[-1 - ago][k] for k, n in enumerate(INDICATOR_NAMES) for ago in range(4)},
    }  # fmt: skip


@FEW
@given(stories())
def test_each_day_brings_exactly_the_rows_of_the_definition(story) -> None:
    table = told(*story)
    for day, _ in story:
        expected = by_definition(story, day)
        rows = topic_features(table, day).to_pylist()
        assert [
            {name: row[name] for name in one} for row, one in zip(rows, expected, strict=True)
        ] == expected


@FEW
@given(stories())
def test_what_is_told_later_changes_nothing_that_was_written(story) -> None:
    table = told(*story)
    for n, (day, _) in enumerate(story):
        assert topic_features(told(*story[: n + 1]), day).equals(topic_features(table, day))


@FEW
@given(stories(), st.randoms(use_true_random=False))
def test_the_order_in_which_a_day_tells_does_not_change_a_bit(story, random) -> None:
    shuffled = [(day, random.sample(rows, len(rows))) for day, rows in story]
    for day, _ in story:
        assert topic_features(told(*shuffled), day).equals(topic_features(told(*story), day))


@FEW
@given(stories())
def test_the_newest_row_is_always_the_newest_week_as_known_by_then(story) -> None:
    table, newest, times = told(*story), {}, set()
    for n, (day, _) in enumerate(story):
        for row in topic_features(table, day).to_pylist():
            assert (row["topic"], row["event_timestamp"]) not in times, "two rows of one moment"
            assert row["event_timestamp"] <= midnight(day + timedelta(days=1))
            assert row["event_timestamp"] >= midnight(monday(row["week"]) + timedelta(days=7))
            times.add((row["topic"], row["event_timestamp"]))
            if row["event_timestamp"] >= newest.get(row["topic"], row)["event_timestamp"]:
                newest[row["topic"]] = row
        so_far = [row for _, rows in story[: n + 1] for row in rows]
        for name, row in newest.items():
            mine = [one for one in so_far if one["topic"] == name]
            known: dict[str, list[float | None]] = {}
            for one in mine:
                values = known.setdefault(one["week"], [None] * 5)
                known[one["week"]] = [
                    v if one[name] is None else one[name]
                    for name, v in zip(INDICATOR_NAMES, values, strict=True)
                ]
            assert row["week"] == max(week for week, values in known.items() if enough(values))
            for ago in range(4):
                values = known.get(weeks_after(row["week"], -ago), [None] * 5)
                assert [row[window_column(name, ago)] for name in INDICATOR_NAMES] == values
