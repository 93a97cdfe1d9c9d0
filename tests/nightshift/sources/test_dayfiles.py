"""Every way a day file can be wrong is said in one line: the file, the line, the column, the value, what to do."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from nightshift.errors import ContractError, SettingsError, SourceError
from nightshift.settings import Settings
from nightshift.sources.dayfiles import as_day, filled, numbers, read_csv_text, source_folder, times

GOOD = "id,what\n1,감귤\n2,\n"


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "2026-09-01.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_everything_is_text_and_only_an_empty_field_is_null(tmp_path: Path) -> None:
    table = read_csv_text(written(tmp_path, 'id,what\n007,NA\n2,\n3,null\n4,"a, b"\n'), ["id"])
    assert table.to_pydict() == {"id": ["007", "2", "3", "4"], "what": ["NA", None, "null", "a, b"]}


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    table = read_csv_text(written(tmp_path, b"\xef\xbb\xbfid,what\r\n1,x\r\n"), ["id", "what"])
    assert table.to_pydict() == {"id": ["1"], "what": ["x"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "2026-09-01.csv: the file is empty"),
        ("\n\n", "the file is empty"),
        ("id,what\n", "a header and no rows"),
        ("id,what\n1,x\n2", r"line 3: '2' has no line end, so the file was cut short; copy it again"),
        ("id,what\n1,x\n2,United King", "line 3: '2,United King' has no line end"),
        ("id,what", "line 1: 'id,what' has no line end"),
        ("id,what\n1,x\n2\n3,y\n", r"line 3: 1 field\(s\) instead of 2"),
        ("id,what\n1,x,y\n", r"line 2: 3 field\(s\) instead of 2"),
        (b"id,what\n1,\xa3\n", "line 2: byte 0xa3 is not UTF-8"),
    ],
)
def test_an_unreadable_file_is_a_source_error_that_names_the_line(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        read_csv_text(written(tmp_path, content), ["id"])


def test_a_blank_line_is_a_row_without_values_so_that_later_lines_keep_their_numbers(tmp_path: Path) -> None:
    table = read_csv_text(written(tmp_path, "id,what\n1,x\n\n2,y\n"), ["id"])
    with pytest.raises(ContractError, match="line 3: id is empty"):
        filled(pd.Series(table["id"].to_pandas(), name="id"), "2026-09-01.csv")


@pytest.mark.parametrize("cut", range(1, len(GOOD.encode())))
def test_a_file_cut_anywhere_but_at_the_end_of_a_line_is_refused(tmp_path: Path, cut: int) -> None:
    content = GOOD.encode()[:cut]
    rows = content.count(b"\n") - 1
    if content.endswith(b"\n") and rows > 0:
        assert read_csv_text(written(tmp_path, content), ["id"]).num_rows == rows
    else:
        with pytest.raises(SourceError):
            read_csv_text(written(tmp_path, content), ["id"])


def test_a_missing_or_doubled_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"2026-09-01.csv: column 'price' is missing \(found: id, what\)"):
        read_csv_text(written(tmp_path, GOOD), ["id", "price"])
    with pytest.raises(ContractError, match="column 'id' is there twice"):
        read_csv_text(written(tmp_path, "id,id\n1,2\n"), ["id"])


def test_a_file_that_is_not_there_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        read_csv_text(tmp_path / "2026-09-01.csv", ["id"])


@pytest.mark.parametrize("wrong", ["abc", "1,5", "nan", "inf", "-inf", "£3", " ", "--1"])
def test_text_where_a_number_belongs_is_named_with_its_line(wrong: str) -> None:
    text = pd.Series(["1", None, wrong, "also wrong"], name="price")
    with pytest.raises(ContractError, match=r"day.csv line 4: price '.*' is not a number; correct the file"):
        numbers(text, "day.csv")


def test_numbers_are_read_and_empty_ones_stay_empty() -> None:
    values = numbers(pd.Series(["1", None, "-2.5", "1e3"], name="price"), "day.csv")
    assert values[[0, 2, 3]].tolist() == [1.0, -2.5, 1000.0] and values.isna().tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_times_without_a_zone_are_utc_and_others_are_brought_to_it() -> None:
    text = pd.Series(
        ["2026-09-01 09:30:00", "2026-09-01T09:30:00Z", "2026-09-01T18:30:00+09:00", None], name="at"
    )
    values = times(text, "day.csv")
    assert str(values.dtype) == "datetime64[us, UTC]"
    assert set(values[:3]) == {pd.Timestamp("2026-09-01 09:30", tz="UTC")} and pd.isna(values[3])


@pytest.mark.parametrize(
    "wrong", ["yesterday", "now", "today", "20260901", "2026-13-01", "01/09/2026", "2026-09-01 25:00"]
)
def test_text_where_a_time_belongs_is_named_with_its_row(wrong: str) -> None:
    text = pd.Series(["2026-09-01", wrong], name="at")
    with pytest.raises(ContractError, match=r"day.parquet row 2: at '.*' is not a time such as 2026-09-01T"):
        times(text, "day.parquet", first=1)


def test_a_value_that_must_be_there_is_missed() -> None:
    with pytest.raises(ContractError, match=r"day.csv line 3: user_id is empty; correct the file"):
        filled(pd.Series(["u1", None], name="user_id"), "day.csv")


def test_only_iso_days_are_days() -> None:
    assert as_day("2026-09-01") == date(2026, 9, 1)
    assert [as_day(name) for name in ("20260901", "2026-9-1", "notes", "2026-02-30", "")] == [None] * 5


def test_the_folder_must_be_set_and_be_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="NIGHTSHIFT_SOURCE_PATH is not set"):
        source_folder(Settings(_env_file=None), "files")
    with pytest.raises(SourceError, match="is not a folder"):
        source_folder(Settings(_env_file=None, source_path=tmp_path / "absent"), "files")
