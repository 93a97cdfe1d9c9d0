"""UCI Online Retail: what is kept, what is left out and counted, and files that are wrong."""

from __future__ import annotations

import os
import time
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from nightshift.contracts import CONTRACTS
from nightshift.errors import ContractError, SettingsError, SourceError
from nightshift.lake import Lake
from nightshift.settings import PROJECT, Settings
from nightshift.sources import open_source
from nightshift.sources.online_retail import REASONS, OnlineRetail

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
DAY = date(2011, 11, 1)
LANTERN = "573744,21314,RED METAL LANTERN,8,2011-11-01 08:16:00,2.1,17733.0,United Kingdom"
MUG = "573745,22139,RETROSPOT TEA MUG,2,2011-11-01 09:00:00,4.25,12583.0,France"
REAL = (
    Path(os.environ.get("NIGHTSHIFT_TEST_DATA", PROJECT.parent / "shared" / "data"))
    / "online-retail"
    / "by-day"
)
needs_real_data = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"no real Online Retail at {REAL} (set NIGHTSHIFT_TEST_DATA)"
)


def write(folder: Path, *lines: str, day: date = DAY, header: str = HEADER, end: str = "\n") -> OnlineRetail:
    (folder / f"{day}.csv").write_text("\n".join([header, *lines]) + end, encoding="utf-8")
    return OnlineRetail(Settings(_env_file=None, source_path=folder))


def rows(source: OnlineRetail, table: str, day: date = DAY) -> list[dict]:
    return source.read(day).tables[table].to_pylist()


# --- what is kept --------------------------------------------------------------------------------------


def test_a_row_becomes_a_purchase(tmp_path: Path) -> None:
    (event,) = rows(write(tmp_path, LANTERN), "interactions")
    assert event == {
        "event_id": "573744-21314-1",
        "user_id": "17733",
        "item_id": "21314",
        "kind": "purchase",
        "value": 16.8,
        "at": pd.Timestamp("2011-11-01 08:16", tz="UTC"),
        "session_id": "573744",
        "device": "unknown",
        "channel": "unknown",
    }


def test_customers_and_products_of_the_day_are_described(tmp_path: Path) -> None:
    source = write(tmp_path, LANTERN, MUG)
    assert [(u["user_id"], u["country"]) for u in rows(source, "users")] == [
        ("12583", "France"),
        ("17733", "United Kingdom"),
    ]
    lantern, mug = rows(source, "items")
    assert (lantern["title"], lantern["category"], lantern["price"]) == ("Red metal lantern", "candles", 2.1)
    assert (mug["title"], mug["category"]) == ("Retrospot tea mug", "kitchen")


def test_the_most_frequent_description_of_the_day_is_the_title_and_the_median_the_price(
    tmp_path: Path,
) -> None:
    lines = [
        f"5800{n},21314,{text},1,2011-11-01 08:16:0{n},{price},17733.0,France"
        for n, (text, price) in enumerate([("WRONG", 9), ("RED  LANTERN ", 2), ("", 3), ("RED LANTERN", 1)])
    ]
    (item,) = rows(write(tmp_path, *lines), "items")
    assert (item["title"], item["price"]) == ("Red lantern", 2.5)


def test_a_product_without_any_description_is_titled_by_its_code(tmp_path: Path) -> None:
    (item,) = rows(write(tmp_path, LANTERN.replace("RED METAL LANTERN", "")), "items")
    assert (item["title"], item["category"]) == ("21314", "other")


def test_the_same_product_twice_on_an_invoice_is_two_events_numbered_in_order(tmp_path: Path) -> None:
    other = LANTERN.replace(",8,", ",3,")
    events = rows(write(tmp_path, LANTERN, MUG, other), "interactions")
    assert [e["event_id"] for e in events] == ["573744-21314-1", "573745-22139-1", "573744-21314-2"]


def test_letter_case_of_a_code_does_not_make_another_product(tmp_path: Path) -> None:
    small = LANTERN.replace("21314", "85123a")
    source = write(tmp_path, small, small.replace("85123a", "85123A").replace(",8,", ",9,"))
    assert [item["item_id"] for item in rows(source, "items")] == ["85123A"]


# --- what is left out, and counted ---------------------------------------------------------------------

NOT_PRODUCTS = ["POST", "D", "M", "m", "DOT", "BANK CHARGES", "AMAZONFEE", "CRUK", "C2", "PADS", "S", "B"]
NOT_PRODUCTS += ["gift_0001_20", "TEST001", "DCGS0003", "1234", "123456"]
LEFT_OUT = {
    "duplicate": [LANTERN],
    "cancelled": ["C573746,21314,RED LANTERN,-8,2011-11-01 10:00:00,2.1,17733.0,United Kingdom"],
    "no_customer": ["573747,21314,RED LANTERN,8,2011-11-01 10:00:00,2.1,,United Kingdom"],
    "not_a_product": [
        f"573748,{code},Some text,1,2011-11-01 10:00:00,2.1,17733.0,United Kingdom" for code in NOT_PRODUCTS
    ],
    "quantity_not_positive": [
        f"573749,21314,RED LANTERN,{quantity},2011-11-01 10:00:00,2.1,17733.0,France" for quantity in (0, -4)
    ],
    "price_not_positive": [
        f"573750,21314,RED LANTERN,1,2011-11-01 10:00:00,{price},17733.0,France"
        for price in ("0.0", "-11062.06")
    ],
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_to_leave_a_row_out_is_counted(tmp_path: Path, reason: str) -> None:
    batch = write(tmp_path, LANTERN, *LEFT_OUT[reason]).read(DAY)
    assert batch.counts[reason] == len(LEFT_OUT[reason]) > 0
    assert batch.counts["kept"] == batch.tables["interactions"].num_rows == 1
    assert sum(batch.counts[other] for other in REASONS) == len(LEFT_OUT[reason])


def test_what_is_read_is_kept_or_counted_once(tmp_path: Path) -> None:
    every = [line for lines in LEFT_OUT.values() for line in lines]
    counts = write(tmp_path, LANTERN, *every, *every).read(DAY).counts
    assert counts["read"] == 1 + 2 * len(every) == counts["kept"] + sum(counts[reason] for reason in REASONS)


def test_what_nobody_bought_is_not_described(tmp_path: Path) -> None:
    batch = write(tmp_path, LANTERN, *LEFT_OUT["no_customer"], *LEFT_OUT["not_a_product"]).read(DAY)
    assert batch.tables["items"].num_rows == batch.tables["users"].num_rows == 1


# --- days ----------------------------------------------------------------------------------------------


def test_the_next_day_is_the_next_file(tmp_path: Path) -> None:
    write(tmp_path, LANTERN, day=date(2011, 11, 6))
    source = write(tmp_path, LANTERN, day=date(2011, 11, 4))
    (tmp_path / "notes.csv").write_text("not a day")
    assert source.first_day() == date(2011, 11, 4)
    assert source.next_day(date(2011, 11, 4)) == date(2011, 11, 6)
    assert source.next_day(date(2011, 11, 6)) is None


def test_a_customer_is_registered_when_any_earlier_file_first_names_them(tmp_path: Path) -> None:
    write(tmp_path, LANTERN.replace("11-01", "10-03").replace("21314", "POST"), day=date(2011, 10, 3))
    write(tmp_path, LANTERN.replace("11-01", "10-20"), day=date(2011, 10, 20))
    write(tmp_path, LANTERN.replace("11-01", "11-02"), day=date(2011, 11, 2))
    source = write(tmp_path, LANTERN, MUG)
    users = {u["user_id"]: u["registered_at"] for u in rows(source, "users")}
    items = {i["item_id"]: i["created_at"] for i in rows(source, "items")}
    assert users["17733"] == pd.Timestamp("2011-10-03 08:16", tz="UTC")
    assert items["21314"] == pd.Timestamp("2011-10-20 08:16", tz="UTC")
    assert users["12583"] == items["22139"] == pd.Timestamp("2011-11-01 09:00", tz="UTC")


def test_a_product_is_the_same_in_earlier_files_whatever_its_letter_case(tmp_path: Path) -> None:
    write(tmp_path, LANTERN.replace("11-01", "10-20").replace("21314", "85123a"), day=date(2011, 10, 20))
    (item,) = rows(write(tmp_path, LANTERN.replace("21314", "85123A")), "items")
    assert item["created_at"] == pd.Timestamp("2011-10-20 08:16", tz="UTC")


@pytest.mark.parametrize("rubbish", ["", "half a", "StockCode,CustomerID,InvoiceDate\n21314,17733.0,0\n"])
def test_an_unreadable_earlier_file_does_not_spoil_the_day(tmp_path: Path, rubbish: str) -> None:
    (tmp_path / "2011-10-31.csv").write_text(rubbish)
    (user,) = rows(write(tmp_path, LANTERN), "users")
    assert user["registered_at"] == pd.Timestamp("2011-11-01 08:16", tz="UTC")


def test_a_corrected_file_is_read_anew(tmp_path: Path) -> None:
    assert len(rows(write(tmp_path, LANTERN), "interactions")) == 1
    assert len(rows(write(tmp_path, LANTERN, MUG), "users")) == 2


# --- files that are wrong ------------------------------------------------------------------------------


def test_a_day_without_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no file 2011-11-05.csv in .*no trade that day"):
        write(tmp_path, LANTERN).read(date(2011, 11, 5))


def test_an_empty_folder_has_no_first_day(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no YYYY-MM-DD.csv"):
        OnlineRetail(Settings(_env_file=None, source_path=tmp_path)).first_day()


def test_the_folder_must_be_set() -> None:
    with pytest.raises(SettingsError, match="NIGHTSHIFT_SOURCE_PATH"):
        open_source("online_retail", Settings(_env_file=None))


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.7, 0.9])
def test_a_file_cut_in_half_is_refused(tmp_path: Path, keep: float) -> None:
    source = write(tmp_path, *[LANTERN, MUG] * 20)
    path = tmp_path / f"{DAY}.csv"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(
        SourceError, match=r"2011-11-01.csv line \d+: .* no line end, so the file was cut short"
    ):
        source.read(DAY)


@pytest.mark.parametrize("column", HEADER.split(","))
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    names = HEADER.split(",")
    gone = names.index(column)
    line = ",".join(value for n, value in enumerate(LANTERN.split(",")) if n != gone)
    header = ",".join(name for name in names if name != column)
    with pytest.raises(ContractError, match=f"2011-11-01.csv: column '{column}' is missing"):
        write(tmp_path, line, header=header).read(DAY)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",2,2011", ",two,2011", "line 3: Quantity 'two' is not a number"),
        ("4.25", "4.2.5", "line 3: UnitPrice '4.2.5' is not a number"),
        ("12583.0", "guest", "line 3: CustomerID 'guest' is not a number"),
        ("2011-11-01 09:00:00", "morning", "line 3: InvoiceDate 'morning' is not a time"),
        (
            "2011-11-01 09:00:00",
            "2011-11-02 09:00:00",
            "line 3: InvoiceDate '2011-11-02 09:00:00' is not on 2011-11-01",
        ),
        (",2,2011", ",,2011", "line 3: Quantity is empty"),
        ("573745", "", "line 3: InvoiceNo is empty"),
        ("22139", "", "line 3: StockCode is empty"),
    ],
)
def test_a_wrong_value_is_named_with_its_line_and_column(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ContractError, match=f"2011-11-01.csv {message}"):
        write(tmp_path, LANTERN, MUG.replace(old, new, 1)).read(DAY)


def test_an_empty_day_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="a header and no rows"):
        write(tmp_path).read(DAY)
    with pytest.raises(SourceError, match="the file is empty"):
        write(tmp_path, header="", end="").read(DAY)


def test_a_day_of_which_nothing_can_be_kept_says_why(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no row is a purchase \(2 read, 1 cancelled, 1 no_customer\)"):
        write(tmp_path, *LEFT_OUT["cancelled"], *LEFT_OUT["no_customer"]).read(DAY)


# --- the real thing ------------------------------------------------------------------------------------


@needs_real_data
@pytest.mark.parametrize("day", [date(2010, 12, 1), date(2011, 11, 1)])
def test_a_real_day_follows_the_contracts_and_its_counts_add_up(tmp_path: Path, day: date) -> None:
    source = OnlineRetail(Settings(_env_file=None, source_path=REAL))
    batch = source.read(day)
    assert batch.counts["read"] == batch.counts["kept"] + sum(batch.counts[reason] for reason in REASONS)
    assert batch.counts["kept"] == batch.tables["interactions"].num_rows > 1_000
    assert set(batch.tables) == {"interactions", "users", "items"}, "it knows of no topics"
    for name, table in batch.tables.items():
        assert table.schema.equals(CONTRACTS[name].schema)
        keys = table[CONTRACTS[name].key[0]].to_pandas()
        assert keys.is_unique and keys.notna().all()
    items = batch.tables["items"].to_pandas()
    assert (items.category == "other").mean() < 0.12
    assert items.title.str.match(r"\S").all()
    Lake(tmp_path / "lake").stage(batch)


@needs_real_data
def test_a_real_day_is_read_in_less_than_half_a_second() -> None:
    source = OnlineRetail(Settings(_env_file=None, source_path=REAL))
    source.read(date(2011, 3, 1))
    began = time.process_time()
    source.read(date(2011, 3, 2))
    assert time.process_time() - began < 0.5  # measured 0.08
