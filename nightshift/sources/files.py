"""Day folders that follow the data contracts: `YYYY-MM-DD/interactions.(csv|parquet)`, also users, items, indicators;
and `conversations.(jsonl|parquet)`.

A day has interactions, indicators or conversations, or more of them.

Times without a zone are UTC; empty text is null; `device` and `channel` may be left out or empty and are then
`unknown`; in a CSV, tags are separated by `|`. A row of interactions or indicators that repeats another of its file
exactly is left out. The counts `read`, `kept` and `duplicate` are of the rows of both and of conversations together;
those of users and items are not counted. A line of JSON Lines is one conversation: `{"conversation_id": "c1",
"user_id": "u1", "at": "2026-09-01T09:30:00Z", "messages": [{"role": "user", "content": "…"}, …], "consent": true}`;
`said_by` may join them: `coach` where the assistant's turns are a model's of ours, else they are a `person`'s.
Those that come again are left out when they are cleaned (nightshift/cleaning.py).

A file must have the contract's form: its columns, types, and a value where one is required. What a value may
*be* (a known kind, a rating of 1 to 5, ids that occur once, times up to the day's end) is for the audit to say,
which keeps a bad day in quarantine with a report instead of refusing it.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.cleaning import mask
from nightshift.contracts import CONTRACTS, CONVERSATIONS, INDICATORS, INTERACTIONS, Column, Contract
from nightshift.contracts.conversations import MESSAGES
from nightshift.errors import ContractError, SourceError
from nightshift.settings import Settings
from nightshift.sources import DayBatch
from nightshift.sources.dayfiles import (
    AGAIN,
    as_day,
    filled,
    numbers,
    read_csv_text,
    source_folder,
    times,
    times_or_nat,
    whole,
)

LEFT_OUT = {
    "device": "unknown",
    "channel": "unknown",
    "said_by": "person",
}  # what a column is that may be left out
TAG_SEPARATOR = "|"


class Files:
    """Folders of CSV or Parquet files, one per day."""

    name = "files"

    def __init__(self, settings: Settings) -> None:
        self._folder = source_folder(settings, self.name)

    def first_day(self) -> date:
        days = self._days()
        if not days:
            raise SourceError(f"source {self.name}: no folder YYYY-MM-DD in {self._folder}")
        return days[0]

    def next_day(self, after: date) -> date | None:
        return next((day for day in self._days() if day > after), None)

    def read(self, day: date) -> DayBatch:
        """The day's tables; those without a file are empty, `interactions` is left out then.

        Raises:
            SourceError: there is no such day, it has none of interactions, indicators and conversations, or a file is
                empty, cut short or unreadable.
            ContractError: a column is missing, unknown or of another type, or a required value is empty.
        """
        found = {name: self._table(contract, day) for name, contract in CONTRACTS.items()}
        tables = {name: table for name, table in found.items() if table is not None}
        others = tables[INDICATORS.name].num_rows + tables[CONVERSATIONS.name].num_rows
        if INTERACTIONS.name not in tables and not others:
            raise SourceError(
                f"source {self.name}: no interactions.csv or .parquet in {self._folder / day.isoformat()}, "
                "nor indicators, nor conversations"
            )
        counts = {"read": 0, "kept": 0, "duplicate": 0}
        for name in (INTERACTIONS.name, INDICATORS.name):
            if name in tables:
                rows = tables[name]
                tables[name] = rows.filter(pa.array(~rows.to_pandas().duplicated()))
                counts["read"] += rows.num_rows
                counts["kept"] += tables[name].num_rows
                counts["duplicate"] += rows.num_rows - tables[name].num_rows
        for count in ("read", "kept"):
            counts[count] += tables[CONVERSATIONS.name].num_rows
        return DayBatch(day=day, tables=tables, counts=counts)

    def _days(self) -> list[date]:
        days = (as_day(path.name) for path in self._folder.iterdir() if path.is_dir())
        return sorted(day for day in days if day is not None)

    def _table(self, contract: Contract, day: date) -> pa.Table | None:
        """What the day's file holds; without one, an empty table, or None if the contract's may not be empty."""
        folder = self._folder / day.isoformat()
        text = "csv"
        if contract is CONVERSATIONS:
            text = "jsonl"
            if (folder / f"{contract.name}.csv").exists():
                raise SourceError(
                    f"{folder}: conversations.csv is not read; write conversations.jsonl or .parquet"
                )
        found = [path for end in (text, "parquet") if (path := folder / f"{contract.name}.{end}").exists()]
        if len(found) > 1:
            raise SourceError(f"{folder}: both {found[0].name} and {found[1].name} are there; remove one")
        if not found:
            return contract.table([]) if contract.may_be_empty else None
        return _by_contract(contract, _read(contract, found[0]), f"{day}/{found[0].name}")


def _read(contract: Contract, path: Path) -> pa.Table:
    if path.suffix == ".jsonl":
        return _read_json_lines(path)
    if path.suffix == ".csv":
        return read_csv_text(path, [])
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{path}: not a whole Parquet file ({error}); copy it again") from error
    if table.num_rows == 0 and not contract.may_be_empty:
        raise SourceError(f"{path}: no rows; if nothing happened that day, remove the day's folder")
    return table


def _read_json_lines(path: Path) -> pa.Table:
    """Conversations, one JSON object a line.

    Raises:
        SourceError: the file is empty or cut short, or a line is no JSON object.
        ContractError: naming line, field and value of the first that is missing, unknown or of another type.
    """
    rows = []
    # Not splitlines: a text may hold other characters that end a line.
    for number, line in enumerate(
        whole(path, private=True).decode("utf-8").removesuffix("\n").split("\n"), start=1
    ):
        where = f"{path.parent.name}/{path.name} line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{where}: no JSON ({error}); {AGAIN}") from error
        if not isinstance(row, dict):
            raise SourceError(f"{where}: {_shown(row)} is no JSON object; {AGAIN}")
        rows.append(_conversation(row, where))
    return CONVERSATIONS.table(rows)


def _conversation(row: dict[str, Any], where: str) -> dict[str, Any]:
    """One conversation of a file, its time as a moment."""
    row = {**row, "said_by": row.get("said_by", LEFT_OUT["said_by"])}
    wanted = {
        "conversation_id": str,
        "user_id": str,
        "at": str,
        "messages": list,
        "consent": bool,
        "said_by": str,
    }
    for name in [*wanted, *row]:
        if name not in row:
            raise ContractError(f"{where}: field {name!r} is missing; {AGAIN}")
        if name not in wanted:
            raise ContractError(
                f"{where}: field {_shown(name)} is not in the contract (it has: {', '.join(wanted)})"
            )
        if not isinstance(row[name], wanted[name]) or row[name] == "":
            found = _kind(row[name]) if name == "messages" else _shown(row[name])
            raise ContractError(f"{where}: {name} {found} is no {wanted[name].__name__}; {AGAIN}")
    for place, message in enumerate(row["messages"]):
        both = isinstance(message, dict) and set(message) == {"role", "content"}
        if not both or not all(isinstance(value, str) for value in message.values()):
            raise ContractError(
                f"{where}: messages[{place}] {_kind(message)} is not role and content; {AGAIN}"
            )
    at = times_or_nat(pd.Series([row["at"]])).iloc[0]
    if pd.isna(at):
        raise ContractError(
            f"{where}: at {_shown(row['at'])} is not a time such as 2026-09-01T09:30:00Z; {AGAIN}"
        )
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ContractError(f"{where}: holds half a character (a lone surrogate); {AGAIN}") from error
    return {**row, "at": at.to_pydatetime()}


def _shown(value: Any) -> str:
    """A value for a message that people read: short, and without personal data."""
    text = mask(repr(value))
    return text if len(text) <= 60 else f"{text[:60]}…"


def _kind(value: Any) -> str:
    """What a value is that people may have said something in: its type and its contract's keys, and no word of it."""
    if not isinstance(value, dict):
        return f"({type(value).__name__})"
    known = [f"{name}: {type(value[name]).__name__}" for name in ("role", "content") if name in value]
    others = len(value) - len(known)
    return f"({', '.join(['dict', *known, *([f'{others} other keys'] if others else [])])})"


def _by_contract(contract: Contract, table: pa.Table, file: str) -> pa.Table:
    """`table` with the contract's columns and types, no nulls where none may be."""
    names = [column.name for column in contract.columns]
    unknown = [name for name in table.column_names if name not in names]
    if unknown:
        raise ContractError(
            f"{file}: column {unknown[0]!r} is not in the contract {contract.name!r} "
            f"(it has: {', '.join(names)}); rename or remove it"
        )
    columns = [_column(column, table, file) for column in contract.columns]
    return pa.table(columns, schema=contract.schema)


def _column(column: Column, table: pa.Table, file: str) -> pa.Array:
    """One column by contract. Text is parsed; other Arrow types are cast."""
    rows = table.num_rows
    if column.name not in table.column_names:
        if column.name in LEFT_OUT:
            return pa.array([LEFT_OUT[column.name]] * rows)
        if column.nullable:
            return pa.nulls(rows, column.type)
        found = ", ".join(table.column_names)
        raise ContractError(f"{file}: column {column.name!r} is missing (found: {found}); {AGAIN}")
    values = table[column.name].combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    first = 2 if file.endswith(".csv") else 1
    parsed = _parsed(column, values, file, first)
    if column.name in LEFT_OUT:
        return parsed.fill_null(LEFT_OUT[column.name])
    if not column.nullable and parsed.null_count:
        filled(pd.Series(parsed.to_pandas(), name=column.name), file, first=first)
    return parsed


def _parsed(column: Column, values: pa.Array, file: str, first: int) -> pa.Array:
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        try:
            return values.cast(column.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ContractError(
                f"{file}: column {column.name!r} is {values.type}, not {column.type} ({error}); {AGAIN}"
            ) from error
    text = pc.if_else(pc.equal(values, ""), pa.scalar(None, values.type), values).cast(pa.string())
    if pa.types.is_string(column.type):
        return text
    if column.type in (MESSAGES, pa.bool_()):
        raise ContractError(f"{file}: column {column.name!r} is text, not {column.type}; {AGAIN}")
    if pa.types.is_list(column.type):
        return pc.split_pattern(text, TAG_SEPARATOR)
    series = pd.Series(text.to_pandas(), name=column.name)
    parse = numbers if pa.types.is_floating(column.type) else times
    return pa.array(parse(series, file, first=first), type=column.type, from_pandas=True)
