"""What the user and the item pipeline share: the window, sums that do not depend on row order, the output.

Every sum of fractions goes through `exact_sum`, so that the same rows give the same bytes whatever order they
are read in and however many threads read them; a night can then be replayed and compared file by file.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import reduce
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from nightshift.contracts.features import WINDOW_DAYS, Feature

EVENT_TIMESTAMP = "event_timestamp"


def end_of(day: date) -> datetime:
    """The midnight (UTC) that ends `day`: from then on its features are known."""
    return datetime.combine(day + timedelta(days=1), time(), tzinfo=UTC)


def in_window(interactions: ir.Table, day: date) -> ir.Table:
    """The rows published on the last WINDOW_DAYS days up to `day`; nothing later, whatever was passed in."""
    start = day - timedelta(days=WINDOW_DAYS - 1)
    return interactions.filter(interactions.day >= ibis.date(start), interactions.day <= ibis.date(day))


def days_between(later: date, earlier: ir.DateValue) -> ir.Value:
    """Whole days from `earlier` to `later`, as float64."""
    return ibis.date(later).delta(earlier, unit="day").cast("float64")


@ibis.udf.scalar.builtin(name="bit_count", signature=(("int64",), "int64"))
def _bit_count(bits: Any) -> Any:
    """Of DuckDB and Spark: how many bits are set."""


@ibis.udf.agg.builtin(name="bit_or", signature=(("int64",), "int64"))
def _bit_or(bits: Any) -> Any:
    """Of DuckDB and Spark: the bits that are set in any row; Ibis' own is not known for Spark."""


def distinct_days(days: ir.DateColumn, last: date) -> ir.Value:
    """On how many days of the window that ends with `last`: a bit to a day, so that no set of days is kept."""
    ago = ibis.date(last).delta(days, unit="day")
    return _bit_count(_bit_or(ibis.literal(1, "int64") << ago))


@ibis.udf.scalar.builtin(name="epoch", signature=(("timestamp",), "float64"))
def _epoch(at: Any) -> Any:
    """Of DuckDB: seconds since 1970 of a timestamp without time zone, microseconds ÷ 1e6 as float64."""


def epoch(at: ir.TimestampValue) -> ir.FloatingValue:
    """Seconds since 1970 with their fraction; Ibis' own `epoch_seconds` has one on DuckDB and none on Spark."""
    seconds: ir.FloatingValue = _epoch(at.cast("timestamp"))
    return seconds


def exact(values: ir.Value) -> ir.Value:
    """A float column in fixed point (9 decimals), whose sum is the same in any order. NaN becomes null."""
    return values.try_cast("decimal(38, 9)")


def exact_sum(values: ir.Value) -> ir.Value:
    """Sum of a float column by `exact`, as float64."""
    return exact(values).sum().cast("float64")


def ratio(part: ir.Value, whole: ir.Value) -> ir.Value:
    """part ÷ whole as float64; null where `whole` is 0 or null."""
    return part.cast("float64") / whole.cast("float64").nullif(0.0)


def attach(table: ir.Table, parts: list[ir.Table], key: str) -> ir.Table:
    """`table` with the columns of `parts` (one row per key each) beside it; null where a part lacks the key."""

    def left_join(left: ir.Table, part: ir.Table) -> ir.Table:
        return left.left_join(part, key).drop(f"{key}_right")

    return reduce(left_join, parts, table)


def output(table: ir.Table, key: str, features: tuple[Feature, ...], day: date) -> ir.Table:
    """The contract's columns in its order, rows in order of key: key, event_timestamp, features."""
    columns = {f.name: table[f.name].cast("float64" if f.dtype == "float" else "string") for f in features}
    return table.select(
        table[key], ibis.timestamp(end_of(day)).cast("timestamp('UTC', 6)").name(EVENT_TIMESTAMP), **columns
    ).order_by(key)


def schema(key: str, features: tuple[Feature, ...]) -> pa.Schema:
    """The Arrow schema of a partition."""
    columns = [pa.field(f.name, pa.float64() if f.dtype == "float" else pa.string()) for f in features]
    return pa.schema(
        [pa.field(key, pa.string()), pa.field(EVENT_TIMESTAMP, pa.timestamp("us", tz="UTC")), *columns]
    )
