"""Reading day files that people and programs made: every way they can be wrong, said in one line.

A message names the file, the line, the column and the value, and what to do. The first line of a file, its
header, is line 1; a line break inside quotes is not counted, so lines after one are named too low.

Not covered: a file that was cut exactly at the end of a line looks like a shorter day. The audit's day-to-day
checks are what can notice that.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from nightshift.errors import ContractError, SettingsError, SourceError
from nightshift.settings import Settings

AGAIN = "correct the file and ingest the day again"


def source_folder(settings: Settings, source: str) -> Path:
    """The folder that `settings.source_path` names.

    Raises:
        SettingsError: it is not set.
        SourceError: it is not a folder.
    """
    folder = settings.source_path
    if folder is None:
        raise SettingsError(
            f"source {source}: NIGHTSHIFT_SOURCE_PATH is not set; set it to the folder of day files"
        )
    if not folder.is_dir():
        raise SourceError(f"source {source}: {folder} is not a folder; correct NIGHTSHIFT_SOURCE_PATH")
    return folder


def as_day(name: str) -> date | None:
    """The day that a name such as `2011-11-01` stands for, or None."""
    try:
        day = date.fromisoformat(name)
    except ValueError:
        return None
    return day if day.isoformat() == name else None


def read_csv_text(path: Path, required: Sequence[str]) -> pa.Table:
    """A CSV file as text: every column a string, empty fields null; at least one row.

    Raises:
        SourceError: the file is absent, empty, cut short or not UTF-8, or a line has too few or many fields.
        ContractError: a column of `required` is missing, or a column is there twice.
    """
    name = path.name
    content = whole(path)
    bad: list[tuple[int, int, int]] = []  # (line, fields expected, fields found)

    def note(row: pa.csv.InvalidRow) -> str:
        bad.append((row.number, row.expected_columns, row.actual_columns))
        return "skip"

    header = pa.csv.read_csv(pa.BufferReader(content[: content.index(b"\n") + 1])).column_names
    _check_header(name, header, required)
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(content),
            read_options=pa.csv.ReadOptions(use_threads=False),  # or lines lose their numbers
            parse_options=pa.csv.ParseOptions(invalid_row_handler=note, ignore_empty_lines=False),
            convert_options=pa.csv.ConvertOptions(
                column_types={column: pa.string() for column in header},
                null_values=[""],  # not "NA" or "null": those may be ids
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        raise SourceError(f"{name}: not a CSV file ({error}); {AGAIN}") from error
    if bad:
        line, expected, found = bad[0]
        raise SourceError(f"{name} line {line}: {found} field(s) instead of {expected}; {AGAIN}")
    if table.num_rows == 0:
        raise SourceError(f"{name}: a header and no rows; if nothing happened that day, remove the file")
    return table


def whole(path: Path, *, private: bool = False) -> bytes:
    """The file's bytes, which are text that ends in a line end.

    private: nothing of what the file says may be in an error.

    Raises:
        SourceError: it is not there, empty, cut short or not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); see that it is there") from error
    if not content.strip():
        raise SourceError(f"{path.name}: the file is empty; if nothing happened that day, remove it")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SourceError(
            f"{path.name} line {line}: byte 0x{content[error.start]:02x} is not UTF-8 text; save it as UTF-8"
        ) from error
    if not content.endswith(b"\n"):
        lines = content.split(b"\n")
        shown = "it" if private else repr(lines[-1].decode()[-60:])
        raise SourceError(
            f"{path.name} line {len(lines)}: {shown} has no line end, so the file was cut short; copy it again"
        )
    return content


def _check_header(name: str, header: list[str], required: Sequence[str]) -> None:
    missing = [column for column in required if column not in header]
    if missing:
        raise ContractError(f"{name}: column {missing[0]!r} is missing (found: {', '.join(header)}); {AGAIN}")
    twice = [column for column in header if header.count(column) > 1]
    if twice:
        raise ContractError(f"{name}: column {twice[0]!r} is there twice; {AGAIN}")


def filled(text: pd.Series, where: str, *, first: int = 2) -> pd.Series:
    """`text` if it has no nulls. where: the file's name; first: the number of its first row.

    Raises:
        ContractError: naming the first row without a value.
    """
    _raise_first(text.isna(), text, where, first, "is empty")
    return text


def numbers(text: pd.Series, where: str, *, first: int = 2) -> pd.Series:
    """Text as float64; null stays NaN.

    Raises:
        ContractError: naming the first value that is not a finite number.
    """
    values = pd.to_numeric(text, errors="coerce").astype(float)
    _raise_first(text.notna() & ~np.isfinite(values), text, where, first, "is not a number")
    return values


def times(text: pd.Series, where: str, *, first: int = 2) -> pd.Series:
    """ISO 8601 text as datetime64[us, UTC]; without a time zone it is taken as UTC; null stays NaT.

    Raises:
        ContractError: naming the first value that is not a time.
    """
    values = times_or_nat(text)
    _raise_first(
        text.notna() & values.isna(), text, where, first, "is not a time such as 2026-09-01T09:30:00Z"
    )
    return values


def times_or_nat(text: pd.Series) -> pd.Series:
    """As `times`, but NaT for what is not a time."""
    dated = text.where(text.str.match(r"\d{4}-\d\d-\d\d", na=False))  # pandas would take "now" for a time
    values = pd.to_datetime(dated, format="ISO8601", utc=True, errors="coerce")
    return values.astype("datetime64[us, UTC]")


def _raise_first(wrong: pd.Series, text: pd.Series, where: str, first: int, what: str) -> None:
    rows = np.flatnonzero(wrong.to_numpy())
    if len(rows):
        row = int(rows[0])
        value = text.iloc[row]
        shown = "" if pd.isna(value) else f" {value!r}"
        line = "line" if where.endswith(".csv") else "row"
        raise ContractError(f"{where} {line} {row + first}: {text.name}{shown} {what}; {AGAIN}")
