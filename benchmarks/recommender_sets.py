"""The recommender's data sets as lakes with their features: the market, UCI Online Retail, MovieLens-100K by time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa

from nightshift.contracts import INTERACTIONS, ITEMS, USERS
from nightshift.errors import SettingsError
from nightshift.lake import Lake, open_lake
from nightshift.settings import Settings
from nightshift.sources import DayBatch
from nightshift.sources.market.source import Market
from nightshift.sources.online_retail import OnlineRetail

TABLES = ("interactions", "users", "items")
WINDOW_DAYS = 90  # that a night trains on
MOVIES = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")


@dataclass(frozen=True)
class Set:
    """One data set. nights: the last training days; the `exam_days` published days after each are asked about."""

    name: str
    settings: Settings
    nights: tuple[date, ...]
    exam_days: int

    @property
    def lake(self) -> Lake:
        return open_lake(self.settings)


def market(home: Path, *, quick: bool, seed: int = 11) -> Set:
    """A simulated world, another one than that on which the hybrid was made (`seed`)."""
    config = Settings(home=home / "market", market_seed=seed)
    if quick:
        config = config.model_copy(update={"market_users": 300, "market_items": 200, "exam_users": 200})
    start, days, exam = config.market_start, 14 if quick else 28, 2 if quick else 3
    world = Market(config)
    _fill(config, (world.read(start + timedelta(days=n)) for n in range(days + exam)))
    return Set("market", config, (start + timedelta(days=days - 1),), exam)


def online_retail(home: Path, folder: Path) -> Set:
    """Three weeks of trade, each asked about after the night before it."""
    config = Settings(home=home / "online_retail", source_path=folder)
    nights = (date(2011, 10, 16), date(2011, 10, 23), date(2011, 10, 30))
    shop = OnlineRetail(config)

    def days() -> Iterator[DayBatch]:
        day = shop.next_day(nights[0] - timedelta(days=WINDOW_DAYS))
        while day is not None and day <= nights[-1] + timedelta(days=7):
            yield shop.read(day)
            day = shop.next_day(day)

    _fill(config, days())
    return Set("online_retail", config, nights, exam_days=5)


def movielens(home: Path, folder: Path) -> Set:
    """Ratings by the day they were given; a film's content is its title, year and genres, its category the first genre.

    The contract has three attributes of a user: `age_group` is the decade, `tier` the gender, `country` the occupation.
    Every film is in the catalogue from the start; somebody is a user from the first rating on.
    """
    config = Settings(home=home / "movielens")
    nights = (date(1998, 3, 6), date(1998, 3, 20), date(1998, 4, 3))
    ratings, films, people = (
        pd.read_csv(folder / name, sep="\t", dtype=str, keep_default_na=False).rename(
            columns=lambda column: column.partition(":")[0]
        )
        for name in MOVIES
    )
    ratings["at"] = pd.to_datetime(ratings["timestamp"].astype(float), unit="s", utc=True)
    ratings = ratings.sort_values(["at", "user_id", "item_id"], ignore_index=True)
    ratings["day"] = ratings["at"].dt.date
    start, end = nights[0] - timedelta(days=WINDOW_DAYS), nights[-1] + timedelta(days=15)
    listed = _films(films, datetime.combine(start, time(), UTC))
    told = people.set_index("user_id")

    def days() -> Iterator[DayBatch]:
        for number, (day, rows) in enumerate(ratings[ratings["day"].between(start, end)].groupby("day")):
            assert isinstance(day, date)
            tables = {"interactions": _ratings(rows), "users": _people(rows, told)}
            yield DayBatch(day, tables | ({} if number else {"items": listed}))

    _fill(config, days())
    return Set("movielens", config, nights, exam_days=14)


def found(folder: Path, home: Path) -> Set:
    """The data set in a folder, told by its files. Raises SettingsError if it is none of them."""
    if (folder / MOVIES[0]).exists():
        return movielens(home, folder)
    if any(folder.glob("2011-*.csv")):
        return online_retail(home, folder)
    raise SettingsError(f"{folder} holds neither {MOVIES[0]} nor 2011-…csv (UCI Online Retail by day)")


def _fill(config: Settings, batches: Iterable[DayBatch]) -> None:
    """Publish days and build their features; a lake that is there is taken as it is."""
    lake = open_lake(config)
    if lake.days():
        return
    for batch in batches:
        tables = {name: table for name, table in batch.tables.items() if name in TABLES}
        lake.stage(DayBatch(batch.day, tables))
        lake.record_audit(batch.day, {"passed": True})
        lake.publish(batch.day)
    done = subprocess.run(
        [sys.executable, "-m", "feature_repo.build", "--night", str(lake.last_day())],
        env={**os.environ, "NIGHTSHIFT_HOME": str(config.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SettingsError(f"features of {config.home} were not built: {done.stderr[-1_000:]}")


def _ratings(rows: pd.DataFrame) -> pa.Table:
    columns = {
        "event_id": rows["user_id"] + "-" + rows["item_id"],
        "user_id": rows["user_id"],
        "item_id": rows["item_id"],
        "kind": ["rating"] * len(rows),
        "value": rows["rating"].astype(float),
        "at": rows["at"],
        "session_id": rows["user_id"] + "-" + rows["day"].astype(str),
        "device": ["unknown"] * len(rows),
        "channel": ["unknown"] * len(rows),
    }
    return INTERACTIONS.cast(pa.table(columns))


def _people(rows: pd.DataFrame, told: pd.DataFrame) -> pa.Table:
    first = rows.groupby("user_id")["at"].min()
    who = told.loc[first.index]
    columns = {
        "user_id": first.index,
        "registered_at": first,
        "country": who["occupation"],
        "age_group": (who["age"].astype(int) // 10 * 10).astype(str) + "s",
        "tier": who["gender"],
    }
    return USERS.cast(pa.table(columns))


def _films(films: pd.DataFrame, since: datetime) -> pa.Table:
    genres = films["class"].str.split()
    columns = {
        "item_id": films["item_id"],
        "title": films["movie_title"].where(films["movie_title"] != "", films["item_id"]),
        "description": films["release_year"],
        "category": genres.str[0].fillna("unknown"),
        "price": [0.0] * len(films),
        "tags": genres.tolist(),
        "created_at": [since] * len(films),
    }
    return ITEMS.cast(pa.table(columns))
