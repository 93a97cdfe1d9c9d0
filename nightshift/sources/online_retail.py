"""UCI Online Retail: the purchases of a UK gift wholesaler, 2010-12-01 to 2011-12-09, one CSV per day.

D. Chen, UCI Machine Learning Repository, doi 10.24432/C5BW33, CC BY 4.0. `settings.source_path` is a folder of
`YYYY-MM-DD.csv`; there is no trade on Saturdays, so the next day is the next file.

Every row is kept as a purchase or left out for the first of REASONS that holds, and counted. Times in the files
are UK local without a zone; they are taken as UTC, an hour late in summer, which keeps each event on its day.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from nightshift.contracts import INTERACTIONS, ITEMS, USERS
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
)
from nightshift.sources.retail_categories import category_of

COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
REASONS = (
    "duplicate",
    "cancelled",
    "no_customer",
    "not_a_product",
    "quantity_not_positive",
    "price_not_positive",
)
PRODUCT = r"\d{5}[A-Z]*"  # others are POST, D, M, BANK CHARGES, AMAZONFEE, gift vouchers, …


class OnlineRetail:
    """Day files of UCI Online Retail as purchases."""

    name = "online_retail"

    def __init__(self, settings: Settings) -> None:
        self._folder = source_folder(settings, self.name)

    def first_day(self) -> date:
        days = self._days()
        if not days:
            raise SourceError(f"source {self.name}: no YYYY-MM-DD.csv in {self._folder}")
        return days[0]

    def next_day(self, after: date) -> date | None:
        return next((day for day in self._days() if day > after), None)

    def read(self, day: date) -> DayBatch:
        """The day's purchases, and the customers and products in them.

        A customer's `registered_at` and a product's `created_at` are when any file up to this one first
        names them, so that they do not depend on the day the lake begins with.

        Raises:
            SourceError: there is no such file, it is empty, cut short, or no row of it can be kept.
            ContractError: a column is missing, or a value is not what its column holds.
        """
        path = self._path(day)
        if not path.exists():
            raise SourceError(
                f"source {self.name}: no file {path.name} in {self._folder} (no trade that day?)"
            )
        rows = _typed(read_csv_text(path, COLUMNS).to_pandas(), path.name, day)
        verdict = _verdict(rows)
        kept = rows[verdict == "kept"].reset_index(drop=True)
        counts = {"read": len(rows), "kept": len(kept)}
        counts |= {reason: int((verdict == reason).sum()) for reason in REASONS}
        if kept.empty:
            left_out = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
            raise SourceError(
                f"{path.name}: no row is a purchase ({left_out}); if that is right, remove the file"
            )
        first = self._first_seen(day)
        tables = {
            "interactions": _interactions(kept),
            "users": _users(kept, first),
            "items": _items(kept, first),
        }
        return DayBatch(day=day, tables=tables, counts=counts)

    def _path(self, day: date) -> Path:
        return self._folder / f"{day}.csv"

    def _days(self) -> list[date]:
        return sorted(day for path in self._folder.glob("*.csv") if (day := as_day(path.stem)) is not None)

    def _first_seen(self, day: date) -> pd.Series:
        """When each customer and product was first named up to `day`: text by id, over all files till then."""
        paths = [self._path(earlier) for earlier in self._days() if earlier <= day]
        named = pa.concat_tables([_named(path, path.stat().st_mtime_ns) for path in paths])
        codes, customers = (
            named.group_by(column).aggregate([("InvoiceDate", "min")]).to_pandas().dropna().set_index(column)
            for column in ("StockCode", "CustomerID")
        )
        codes.index = codes.index.str.upper()
        customers.index = customers.index.str.removesuffix(".0")
        first = pd.concat([codes, customers])["InvoiceDate_min"].sort_values(kind="stable")
        return first[~first.index.duplicated()]


@lru_cache(maxsize=1_000)
def _named(path: Path, changed: int) -> pa.Table:
    """What each row of a file names, and when, as text. `changed` only keys the cache.

    An unreadable file names nothing here; its own night says what is wrong with it. 0.7 ms a file.
    """
    columns = ["StockCode", "CustomerID", "InvoiceDate"]
    options = pa.csv.ConvertOptions(
        include_columns=columns,
        column_types=dict.fromkeys(columns, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
    )
    try:
        return pa.csv.read_csv(path, convert_options=options)
    except (pa.ArrowInvalid, KeyError):
        return pa.table({column: pa.array([], pa.string()) for column in columns})


def _typed(text: pd.DataFrame, file: str, day: date) -> pd.DataFrame:
    """The file's rows with ids as we keep them and numbers and times as such, and which rows repeat."""
    rows = pd.DataFrame(
        {
            "invoice": filled(text["InvoiceNo"], file),
            "item_id": filled(text["StockCode"], file).str.upper(),
            "description": text["Description"],
            "quantity": numbers(filled(text["Quantity"], file), file),
            "at": times(filled(text["InvoiceDate"], file), file),
            "price": numbers(filled(text["UnitPrice"], file), file),
            "customer": numbers(text["CustomerID"], file),
            "country": text["Country"],
            "repeated": text.duplicated(list(COLUMNS)),
        }
    )
    other_day = np.flatnonzero(rows["at"].dt.date != day)
    if len(other_day):
        raise ContractError(
            f"{file} line {other_day[0] + 2}: InvoiceDate {text['InvoiceDate'].iloc[other_day[0]]!r} is not on "
            f"{day}; {AGAIN}"
        )
    return rows


def _verdict(rows: pd.DataFrame) -> np.ndarray:
    """Per row `kept` or the first of REASONS to leave it out."""
    holds = {
        "duplicate": rows["repeated"],
        "cancelled": rows["invoice"].str.startswith("C"),
        "no_customer": rows["customer"].isna(),
        "not_a_product": ~rows["item_id"].str.fullmatch(PRODUCT),
        "quantity_not_positive": rows["quantity"] <= 0,
        "price_not_positive": rows["price"] <= 0,
    }
    return np.select([holds[reason] for reason in REASONS], REASONS, default="kept")


def _interactions(kept: pd.DataFrame) -> pa.Table:
    count = kept.groupby(["invoice", "item_id"]).cumcount() + 1
    return INTERACTIONS.cast(
        pa.table(
            {
                "event_id": kept["invoice"] + "-" + kept["item_id"] + "-" + count.astype(str),
                "user_id": _customer(kept),
                "item_id": kept["item_id"],
                "kind": ["purchase"] * len(kept),
                "value": (kept["quantity"] * kept["price"]).round(2),
                "at": kept["at"],
                "session_id": kept["invoice"],
                "device": ["unknown"] * len(kept),
                "channel": ["unknown"] * len(kept),
            }
        )
    )


def _customer(kept: pd.DataFrame) -> pd.Series:
    return kept["customer"].astype("int64").astype(str)  # 17733.0 in the files


def _users(kept: pd.DataFrame, first: pd.Series) -> pa.Table:
    """One row per customer of the day, in the order of ids."""
    met = (
        kept.assign(user_id=_customer(kept))
        .groupby("user_id")
        .agg(at=("at", "min"), country=("country", "first"))
    )
    columns = {"user_id": met.index, "registered_at": _since(met["at"], first), "country": met["country"]}
    return USERS.cast(pa.table(columns))


def _items(kept: pd.DataFrame, first: pd.Series) -> pa.Table:
    """One row per product of the day, in the order of ids: median price, most frequent description."""
    title = kept["description"].str.split().str.join(" ").str.capitalize()
    titled = kept.assign(title=title.where(title.fillna("") != "", kept["item_id"]))
    frequent = titled.groupby(["item_id", "title"]).size().reset_index(name="times")
    frequent = frequent.sort_values(["times", "title"], ascending=[False, True], kind="stable")
    met = titled.groupby("item_id").agg(at=("at", "min"), price=("price", "median"))
    met["title"] = frequent.drop_duplicates("item_id").set_index("item_id")["title"]
    columns = {
        "item_id": met.index,
        "title": met["title"],
        "category": met["title"].map(category_of),
        "price": met["price"],
        "created_at": _since(met["at"], first),
    }
    return ITEMS.cast(pa.table(columns))


def _since(today: pd.Series, first: pd.Series) -> pd.Series:
    """The first time of each id; today's, should an earlier file have something else than a time."""
    earlier = times_or_nat(first.reindex(today.index))
    return earlier.where(earlier <= today, today)
