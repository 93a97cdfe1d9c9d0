"""What a data contract is made of: a table, its columns, what each means, a tiny valid sample.

The Parquet schema, the Great Expectations suite and the documentation are all read from here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from typing import Any

import pyarrow as pa

from nightshift.errors import ContractError

MISFITS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError, TypeError)
TIMESTAMP = pa.timestamp("us", tz="UTC")
FINITE = 1e15  # no price or count comes near; keeps infinity, which is ≥ any minimum, out of the features


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, what it means, and what values it may hold."""

    name: str
    type: pa.DataType
    meaning: str
    nullable: bool = False
    unique: bool = False
    allowed: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None
    pattern: str | None = None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the greatest number that it may hold; None if it holds no numbers."""
        if not pa.types.is_floating(self.type):
            return None
        low = -FINITE if self.minimum is None else self.minimum
        return low, FINITE if self.maximum is None else self.maximum


@dataclass(frozen=True)
class Contract:
    """A named table. `key` identifies a row; `time` is the column that says when it happened.

    order: the columns by which a day's rows lie in the lake, so that a reader of some of them passes over the others.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    time: str
    sample: tuple[dict[str, Any], ...]
    may_be_empty: bool = False
    order: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    def fits(self, row: dict[str, Any]) -> bool:
        """Whether one row keeps to what its columns allow: present, among the allowed, in range and form."""
        return all(_allows(column, row.get(column.name)) for column in self.columns)

    def table(self, rows: list[dict[str, Any]]) -> pa.Table:
        """Rows as an Arrow table of this schema.

        Raises:
            ContractError: naming the first row, column and value that does not fit.
        """
        columns = []
        for column in self.columns:
            values = [row.get(column.name) for row in rows]
            columns.append(self._convert(column, values, partial(pa.array, type=column.type)))
        return pa.table(columns, schema=self.schema)

    def cast(self, table: pa.Table) -> pa.Table:
        """`table` with this contract's columns, order and types.

        Raises:
            ContractError: a column is missing or cannot be read as its type.
        """
        missing = [c.name for c in self.columns if c.name not in table.column_names and not c.nullable]
        if missing:
            raise ContractError(
                f"{self.name}: column {missing[0]!r} is missing (found: {', '.join(table.column_names)})"
            )
        columns = []
        for column in self.columns:
            if column.name not in table.column_names:
                columns.append(pa.nulls(table.num_rows, column.type))
                continue
            given = table[column.name]
            columns.append(self._convert(column, given, methodcaller("cast", column.type)))
        return pa.table(columns, schema=self.schema)

    def ordered(self, table: pa.Table) -> pa.Table:
        """The rows in this contract's order, texts by their bytes; those that are equal in it stay as they were."""
        return table.sort_by([(name, "ascending") for name in self.order]) if self.order else table

    def _convert(self, column: Column, values: Any, convert: Callable[[Any], Any]) -> Any:
        """`convert(values)`; when that fails, value by value, to name the first that does not fit."""
        try:
            return convert(values)
        except MISFITS as error:
            for row in range(len(values)):
                try:
                    convert(values[row : row + 1])
                except MISFITS:
                    found = values[row]
                    shown = found.as_py() if isinstance(found, pa.Scalar) else found
                    where = f"{self.name} row {row}: column {column.name!r}"
                    raise ContractError(f"{where}: {shown!r} is not {column.type}") from error
            raise ContractError(f"{self.name}: column {column.name!r}: {error}") from error


def _allows(column: Column, value: Any) -> bool:
    if value is None:
        return column.nullable
    return (
        (column.allowed is None or value in column.allowed)
        and (column.max_length is None or len(value) <= column.max_length)
        and (column.pattern is None or re.match(column.pattern, value) is not None)
        and (column.bounds is None or column.bounds[0] <= value <= column.bounds[1])
    )
