"""Great Expectations suites, built from the data contracts.

What a contract says becomes expectations by itself; what only makes sense for behaviour (a day's events
happened by the end of that day, a rating is 1 to 5 stars, items are known) is added for `interactions`.
Types of list columns are not checked here: the lake casts every table to its contract's Arrow schema
when it stages it, and Great Expectations has no name for them.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from great_expectations.expectations.row_conditions import Column as Where

from nightshift.contracts import INTERACTIONS, Column, Contract
from nightshift.contracts.table import TIMESTAMP

FINITE = 1e15  # no price or rating comes near; keeps infinity, which is ≥ any minimum, out of the features
KNOWN_SHARE = 0.99  # below this, recommendations would lack titles and prices too often
UNKNOWN_ITEM = "unknown_item_id"  # added to each batch: the item id where nobody has described the item

_TYPES: dict[pa.DataType, str] = {pa.string(): "str", pa.float64(): "float64", TIMESTAMP: "Timestamp"}


def suite(contract: Contract) -> gx.ExpectationSuite:
    """The suite of one table, named after it.

    The suite of `interactions` takes the parameters of `day_parameters` and the column of `batch_frame`.
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
    if contract.name == INTERACTIONS.name:
        expectations += _behaviour()
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
    if pa.types.is_floating(column.type):
        high = FINITE if column.maximum is None else column.maximum
        low = -FINITE if column.minimum is None else column.minimum
        found.append(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high))
    return found


def _behaviour() -> list[Any]:
    rated = Where("kind") == "rating"
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="at",
            max_value={"$PARAMETER": "day_end"},
            strict_max=True,
            description="Nothing happened later than the end of the day.",
        ),
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


def day_parameters(day: date) -> dict[str, datetime]:
    """What the suites compare with on `day`: its end (UTC).

    Nothing is too old: late feedback joins the night that first sees it, however long it was away.
    """
    return {"day_end": datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)}


def batch_frame(contract: Contract, table: pa.Table, known_items: pa.Array) -> pd.DataFrame:
    """`table` as Great Expectations takes it (it refuses Arrow), with `unknown_item_id` for interactions.

    known_items: ids (string) that some day up to this one has described.
    """
    if contract.name == INTERACTIONS.name and "item_id" in table.column_names:
        ids = table["item_id"]
        known = pc.is_in(ids, value_set=known_items)
        table = table.append_column(UNKNOWN_ITEM, pc.if_else(known, pa.scalar(None, pa.string()), ids))
    return table.to_pandas()
