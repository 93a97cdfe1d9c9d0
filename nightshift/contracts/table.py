"""What a data contract is made of: a table, its columns, what each means, a tiny valid sample.

The Parquet schema, the Great Expectations suite and the documentation are all read from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from nightshift.errors import ContractError

TIMESTAMP = pa.timestamp("us", tz="UTC")


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


@dataclass(frozen=True)
class Contract:
    """A named table. `key` identifies a row; `time` is the column that says when it happened."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    time: str
    sample: tuple[dict[str, Any], ...]
    may_be_empty: bool = False

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    def table(self, rows: list[dict[str, Any]]) -> pa.Table:
        """Rows as an Arrow table of this schema.

        Raises:
            ContractError: naming the first row, column and value that does not fit.
        """
        columns = []
        for column in self.columns:
            values = [row.get(column.name) for row in rows]
            try:
                columns.append(pa.array(values, type=column.type))
            except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, TypeError) as error:
                raise ContractError(self._first_misfit(column, values, error)) from error
        return pa.table(columns, schema=self.schema)

    def _first_misfit(self, column: Column, values: list[Any], error: Exception) -> str:
        for row, value in enumerate(values):
            try:
                pa.array([value], type=column.type)
            except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, TypeError):
                return f"{self.name} row {row}: column {column.name!r}: {value!r} is not {column.type}"
        return f"{self.name}: column {column.name!r}: {error}"

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
            try:
                columns.append(table[column.name].cast(column.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                values = table[column.name].to_pylist()
                raise ContractError(self._first_misfit(column, values, error)) from error
        return pa.table(columns, schema=self.schema)
