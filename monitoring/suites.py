"""Great Expectations suites, built from the data contracts.

What a contract says becomes expectations by itself; what only makes sense for behaviour (a day's events
happened by the end of that day, a rating is 1 to 5 stars, items are known) is added for `interactions`, and what
only makes sense for weeks (the calendar has them, they were over by the end of the day) for `indicators`, and what
only makes sense for talk (both sides take turns, nobody's personal data are left) for `conversations`. What somebody
said is never in a report: a conversation is named by its id.
Types of list columns are not checked here: the lake casts every table to its contract's Arrow schema
when it stages it, and Great Expectations has no name for them.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from great_expectations.expectations.row_conditions import Column as Where

from nightshift.cleaning import has_empty_turn, in_order, mask, too_long
from nightshift.contracts import CONVERSATIONS, INDICATORS, INTERACTIONS, Column, Contract
from nightshift.contracts.conversations import MAX_CHARACTERS, MAX_MESSAGES
from nightshift.contracts.indicators import WEEK, has_ended
from nightshift.contracts.table import TIMESTAMP
from nightshift.errors import ContractError

KNOWN_SHARE = 0.99  # below this, recommendations would lack titles and prices too often
# Columns added to a batch: the wrong value where there is one, else null.
UNKNOWN_ITEM = "unknown_item_id"  # an item that nobody has described
NO_SUCH_WEEK, WEEK_NOT_OVER = "no_such_week", "week_not_over"  # "week of topic"
SPOILT = {  # id of a conversation, by what is wrong with its messages
    "turns_out_of_order": "Roles alternate user and assistant, the assistant last; a system message may come first.",
    "turn_too_long": f"Up to {MAX_MESSAGES} messages of up to {MAX_CHARACTERS:,} characters each.",
    "empty_turn": "No message is empty.",
    "personal_data": "No phone, resident registration or card number and no e-mail address is left in it.",
}

_TYPES: dict[pa.DataType, str] = {
    pa.string(): "str",
    pa.float64(): "float64",
    pa.bool_(): "bool",
    TIMESTAMP: "Timestamp",
}


def suite(contract: Contract) -> gx.ExpectationSuite:
    """The suite of one table, named after it.

    It takes the parameters of `day_parameters` and the columns of `batch_frame`.
    """
    expectations: list[Any] = [
        gxe.ExpectTableColumnsToMatchSet(
            column_set=[column.name for column in contract.columns], exact_match=False
        )
    ]
    if not contract.may_be_empty:
        expectations.append(gxe.ExpectTableRowCountToBeBetween(min_value=1))
    for column in contract.columns:
        expectations += _column(column)
    if len(contract.key) > 1:
        expectations.append(
            gxe.ExpectCompoundColumnsToBeUnique(
                column_list=list(contract.key),
                description=f"One row for each {' and '.join(contract.key)}: no two that say different things.",
            )
        )
    if contract.name == INTERACTIONS.name:
        expectations += _behaviour()
    if contract.name == INDICATORS.name:
        expectations += _weeks()
    if contract.name == CONVERSATIONS.name:
        expectations += _talk()
    return gx.ExpectationSuite(name=contract.name, expectations=expectations)


def _column(column: Column) -> list[Any]:
    name = column.name
    found: list[Any] = []
    if column.type in _TYPES:
        found.append(gxe.ExpectColumnValuesToBeOfType(column=name, type_=_TYPES[column.type]))
    if not column.nullable:
        found.append(gxe.ExpectColumnValuesToNotBeNull(column=name))
    if column.unique:
        found.append(gxe.ExpectColumnValuesToBeUnique(column=name))
    if column.allowed is not None:
        found.append(gxe.ExpectColumnValuesToBeInSet(column=name, value_set=list(column.allowed)))
    if column.max_length is not None:
        found.append(gxe.ExpectColumnValueLengthsToBeBetween(column=name, max_value=column.max_length))
    if column.pattern is not None:
        found.append(gxe.ExpectColumnValuesToMatchRegex(column=name, regex=column.pattern))
    if column.bounds is not None:
        low, high = column.bounds
        found.append(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high))
    return found


def _by_the_end_of_the_day() -> Any:
    return gxe.ExpectColumnValuesToBeBetween(
        column="at",
        max_value={"$PARAMETER": "day_end"},
        strict_max=True,
        description="Nothing happened later than the end of the day.",
    )


def _behaviour() -> list[Any]:
    rated = Where("kind") == "rating"
    return [
        _by_the_end_of_the_day(),
        gxe.ExpectColumnValuesToNotBeNull(
            column="value", row_condition=rated, description="A rating has a value."
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="value",
            min_value=1,
            max_value=5,
            row_condition=rated,
            description="A rating is 1 to 5 stars.",
        ),
        gxe.ExpectColumnValuesToBeNull(
            column=UNKNOWN_ITEM,
            mostly=KNOWN_SHARE,
            description=f"At least {KNOWN_SHARE:.0%} of the events are about items that are known.",
        ),
    ]


def _weeks() -> list[Any]:
    return [
        gxe.ExpectColumnValuesToBeNull(column=NO_SUCH_WEEK, description="The year has such an ISO week."),
        gxe.ExpectColumnValuesToBeNull(
            column=WEEK_NOT_OVER, description="A week is told of when it is over: on its Sunday or later."
        ),
    ]


def _talk() -> list[Any]:
    agreed = gxe.ExpectColumnValuesToBeInSet(
        column="consent", value_set=[True], description="The user agreed that it may be learnt from."
    )
    clean = [
        gxe.ExpectColumnValuesToBeNull(column=column, description=meaning)
        for column, meaning in SPOILT.items()
    ]
    return [_by_the_end_of_the_day(), agreed, *clean]


def day_parameters(day: date) -> dict[str, datetime]:
    """What the suites compare with on `day`: its end (UTC).

    Nothing is too old: late feedback joins the night that first sees it, however long it was away.
    """
    return {"day_end": datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)}


def batch_frame(contract: Contract, table: pa.Table, day: date, known_items: pa.Array) -> pd.DataFrame:
    """`table` of `day` as Great Expectations takes it (it refuses Arrow), with the columns that say what is wrong.

    known_items: ids (string) that some day up to this one has described.
    """
    if contract.name == INTERACTIONS.name and "item_id" in table.column_names:
        ids = table["item_id"]
        known = pc.is_in(ids, value_set=known_items)
        table = table.append_column(UNKNOWN_ITEM, pc.if_else(known, pa.scalar(None, pa.string()), ids))
    frame = table.to_pandas()
    if contract.name == CONVERSATIONS.name and {"conversation_id", "messages"} <= set(frame):
        wrong_with = [_wrong_with(messages) for messages in table["messages"].to_pylist()]
        for column in SPOILT:
            frame[column] = frame["conversation_id"].where([column in wrong for wrong in wrong_with], None)
    if contract.name == INDICATORS.name and {"topic", "week"} <= set(frame):
        wrong = {week: _wrong(week, day) for week in frame["week"].unique()}
        named = frame["week"] + " of " + frame["topic"]
        for column in (NO_SUCH_WEEK, WEEK_NOT_OVER):
            frame[column] = named.where(frame["week"].map(wrong) == column, None)
    return frame


def _wrong_with(messages: list[dict[str, str]] | None) -> set[str]:
    """The columns of SPOILT that a conversation belongs in. That it has messages at all has its own expectation."""
    if messages is None:
        return set()
    said = [(message or {}).get("content") or "" for message in messages]
    found = {
        "turns_out_of_order": not in_order(messages),
        "turn_too_long": too_long(messages),
        "empty_turn": has_empty_turn(messages),
        "personal_data": any(mask(text) != text for text in said),
    }
    return {column for column, is_so in found.items() if is_so}


def _wrong(week: str | None, day: date) -> str | None:
    """The column that a week told on `day` belongs in, or None. Its form has an expectation of its own."""
    if week is None or not re.match(WEEK, week):
        return None
    try:
        return None if has_ended(week, day) else WEEK_NOT_OVER
    except ContractError:
        return NO_SUCH_WEEK
