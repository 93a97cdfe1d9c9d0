"""What a client says a user did, as the event log takes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.contracts import INTERACTIONS
from nightshift.seats import FeedbackEvent, FeedbackRequest
from serving.edge import Problem
from serving.feedback import AHEAD, EARLIEST, rows, stored

NOW = datetime(2026, 9, 29, 15, tzinfo=UTC)


def one(**event: Any) -> FeedbackRequest:
    base: dict[str, Any] = {"event_id": "e", "user_id": "u", "item_id": "i", "kind": "click"}
    return FeedbackRequest(events=[FeedbackEvent(**{**base, **event})])


def test_a_row_follows_the_contract_and_keeps_the_request() -> None:
    (row,) = rows(one(kind="purchase", value=0.0, request_id="r"), NOW)
    assert row["at"] == NOW and row["request_id"] == "r"
    assert INTERACTIONS.table([row]).num_rows == 1


@given(
    st.datetimes(
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-12))])
    )
)
def test_a_time_is_kept_in_utc_or_refused_by_name(at: datetime) -> None:
    if EARLIEST <= at <= NOW + AHEAD:
        (row,) = rows(one(at=at), NOW)
        assert row["at"] == at and row["at"].tzinfo is UTC
    else:
        with pytest.raises(Problem) as raised:
            rows(one(at=at), NOW)
        assert raised.value.status == 400 and raised.value.detail[0]["loc"] == ["events", 0, "at"]


@pytest.mark.parametrize(
    ("ahead", "taken"), [(timedelta(minutes=4, seconds=59), True), (timedelta(minutes=6), False)]
)
def test_a_clock_may_be_five_minutes_ahead(ahead: timedelta, taken: bool) -> None:
    if taken:
        assert rows(one(at=NOW + ahead), NOW)[0]["at"] == NOW + ahead
    else:
        with pytest.raises(Problem, match="future"):
            rows(one(at=NOW + ahead), NOW)


@pytest.mark.parametrize(
    ("kind", "value", "taken"),
    [
        ("rating", 1.0, True), ("rating", 5.0, True), ("rating", 0.5, False), ("rating", 5.5, False),
        ("rating", None, False), ("purchase", None, True), ("purchase", 0.0, True), ("view", 1.0, False),
        ("view", None, True),
    ],
)  # fmt: skip
def test_only_ratings_and_purchases_carry_a_value(kind: str, value: float | None, taken: bool) -> None:
    if taken:
        assert rows(one(kind=kind, value=value), NOW)[0]["value"] == value
    else:
        with pytest.raises(Problem, match="value"):
            rows(one(kind=kind, value=value), NOW)


def test_the_problem_names_the_event_among_many() -> None:
    good, bad = one().events[0], one(kind="rating").events[0]
    with pytest.raises(Problem, match=r"events\[2\]\.value"):
        rows(FeedbackRequest(events=[good, good, bad]), NOW)


def test_of_what_was_sent_the_events_that_were_taken_in_are_told_each_id_once() -> None:
    sent = [
        {"event_id": "a", "item_id": "1"},
        {"event_id": "a", "item_id": "2"},
        {"event_id": "b", "item_id": "3"},
    ]
    assert [row["item_id"] for row in stored(sent, {"a"})] == ["1"]
    assert stored(sent, set()) == []
