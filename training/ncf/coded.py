"""A training window as integers on disk: what the large path reads instead of `training.meetings`.

    scratch/window.duckdb   users, items: id → number; coded: (day, user, item, weight, steered), one row a user, item
                            and day, as `training.meetings` has it
    scratch/shards/         the positives, shuffled (`training.ncf.shards`)

The lake is read some days at a time by DuckDB, which sorts and joins on disk when MEMORY is used up; nothing here holds
the interactions. What does grow in this process's memory is with the catalogue and the users alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from nightshift.errors import LakeError
from nightshift.lake import Lake
from training.meetings import LOW_RATING, WEIGHT
from training.ncf.shards import ROW, Counts, number_of, write_set

MEMORY = "1GB"  # of DuckDB; what does not fit is sorted and joined under the scratch folder
EVENTS_AT_ONCE = 4_000_000  # days are coded together up to so many: each time all ids are looked up anew
BATCH_ROWS = 1 << 17  # rows that are handed over at a time
SAMPLE_ROWS = 100_000  # positives that the run's page keeps as "what was learnt from"


@dataclass(frozen=True)
class Size:
    """What a window holds: interactions, and distinct ids; items with those that were listed and never met."""

    rows: int
    users: int
    items: int
    days: int


def size(lake: Lake, start: date, end: date) -> Size:
    """Counted by DuckDB over the ids' columns alone."""
    with _database(None) as database:
        met, listed = lake.paths("interactions", start, end), _listed(lake, end)
        rows = sum(_rows(lake, day) for day in lake.days() if start <= day <= end)
        users = _one(database, f"SELECT count(DISTINCT user_id) FROM {_files(met)}") if met else 0
        items = _one(database, f"SELECT count(*) FROM ({_item_ids(met, listed)})") if met or listed else 0
    return Size(rows, users, items, len(met))


class Window:
    """A window that was coded under `folder`.

    days: the published days; a day's number in `coded` is its place among them, below 0 = before the window.
    Users have the numbers 1.., items 0.., both in order of their ids.
    """

    def __init__(
        self, database: duckdb.DuckDBPyConnection, folder: Path, days: list[date], events: int
    ) -> None:
        self.database, self.folder, self.days = database, folder, days
        self.users = _one(database, "SELECT count(*) FROM users")
        self.items = _one(database, "SELECT count(*) FROM items")
        self.number = number_of(events)

    def write_shards(self, name: str, first: int, last: int, random: np.random.Generator) -> Counts:
        """The positives of the days first..last-1 as a set of shards."""
        query = (
            'SELECT "user", item, weight FROM coded '
            f"WHERE weight > 0 AND day >= {first} AND day < {last}"  # in the order in which they were coded
        )
        return write_set(
            self.folder / "shards", name, self._rows(query), number=self.number, users=self.users,
            items=self.items, random=random,
        )  # fmt: skip

    def seen(self) -> Iterator[np.ndarray]:
        """(user, item) of everything met, sorted, int32 [n, 2] at a time."""
        for batch in self.batches('SELECT DISTINCT "user", item FROM coded ORDER BY "user", item'):
            yield np.stack([batch["user"].to_numpy(), batch["item"].to_numpy()], axis=1)

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        with self.database.cursor() as cursor:
            yield from cursor.sql(query).to_arrow_reader(BATCH_ROWS)

    def export(self, query: str, path: Path) -> None:
        """The rows of a query as one Parquet file."""
        name = str(path).replace("'", "''")
        self.database.execute(f"COPY ({query}) TO '{name}' (FORMAT parquet)")

    def user_id(self, code: int) -> str:
        ((found,),) = self.database.execute("SELECT user_id FROM users WHERE code = ?", [code]).fetchall()
        return str(found)

    def sample(self, seed: int) -> pd.DataFrame:
        """Up to SAMPLE_ROWS positives as people read them: user_id, item_id, day, weight; rows of random users."""
        found = self.database.execute(
            f"""
            SELECT user_id, item_id, day, weight FROM
            (SELECT * FROM coded WHERE weight > 0 AND day >= 0
             ORDER BY hash("user", item, day, {seed}) LIMIT {SAMPLE_ROWS}) AS chosen
            JOIN users ON users.code = chosen."user" JOIN items ON items.code = chosen.item
            ORDER BY day, user_id, item_id
            """
        ).df()
        return found.assign(day=[self.days[day].isoformat() for day in found["day"]])

    def active(self, seed: int, limit: int) -> pd.DataFrame:
        """user_id and day of up to `limit` random user-days on which the user did something that is a positive."""
        found = self.database.execute(
            f"""
            SELECT user_id, day FROM
            (SELECT DISTINCT "user", day FROM coded WHERE weight > 0 AND day >= 0
             ORDER BY hash("user", day, {seed}) LIMIT {limit}) AS chosen
            JOIN users ON users.code = chosen."user" ORDER BY day, user_id
            """
        ).df()
        return found.assign(day=[self.days[day] for day in found["day"]])

    def pairs(self, seed: int, limit: int) -> np.ndarray:
        """(user, item) of up to `limit` random positives, int64 [n, 2]."""
        found = self.database.execute(
            f"""
            SELECT "user", item FROM coded WHERE weight > 0 AND day >= 0
            ORDER BY hash("user", item, day, {seed + 1}) LIMIT {limit}
            """
        ).fetchnumpy()
        return np.stack([found["user"], found["item"]], axis=1).astype(np.int64)

    def _rows(self, query: str) -> Iterator[np.ndarray]:
        for batch in self.batches(query):
            rows = np.empty(batch.num_rows, ROW)
            for name in ROW.names or ():
                rows[name] = batch[name].to_numpy()
            yield rows


@contextmanager
def code(lake: Lake, start: date, end: date, folder: Path, met_from: date | None = None) -> Iterator[Window]:
    """The published days start..end as integers under `folder`; `met_from` as for `training.meetings`.

    Raises:
        LakeError: nobody did anything in the window.
    """
    folder.mkdir(parents=True, exist_ok=True)
    met = lake.paths("interactions", met_from or start, end)
    days = [day for day in lake.days() if start <= day <= end]
    told = [day for day in lake.days() if (met_from or start) <= day <= end]
    events = sum(_rows(lake, day) for day in told)
    if not events:
        raise LakeError(f"training window {start}..{end}: no interactions; ingest more days first")
    with _database(folder) as database:
        _number_users(database, met)
        _number_items(database, met, _listed(lake, end))
        database.execute(
            'CREATE TABLE coded (day SMALLINT, "user" INTEGER, item INTEGER, weight FLOAT, steered BOOLEAN)'
        )
        for part in _together(lake, told):
            _code_days(database, lake, part, {day: n + len(days) - len(told) for n, day in enumerate(told)})
        yield Window(database, folder, days, events)


def _number_users(database: duckdb.DuckDBPyConnection, met: list[Path]) -> None:
    database.execute(
        f"""
        CREATE TABLE users AS SELECT user_id, (row_number() OVER (ORDER BY user_id))::INTEGER AS code
        FROM (SELECT DISTINCT user_id FROM {_files(met)}) ORDER BY user_id
        """
    )


def _number_items(database: duckdb.DuckDBPyConnection, met: list[Path], listed: list[Path]) -> None:
    """Every item as it was listed last, and those that were met and never listed."""
    known = (
        f"SELECT item_id, arg_max(title, day) AS title, arg_max(category, day) AS category FROM {_files(listed)} "
        "GROUP BY item_id"
        if listed
        else "SELECT NULL::VARCHAR AS item_id, NULL::VARCHAR AS title, NULL::VARCHAR AS category WHERE false"
    )
    database.execute(
        f"""
        CREATE TABLE items AS
        SELECT item_id, coalesce(title, item_id) AS title, coalesce(category, 'unknown') AS category,
               (row_number() OVER (ORDER BY item_id) - 1)::INTEGER AS code
        FROM ({_item_ids(met, listed)}) LEFT JOIN ({known}) USING (item_id) ORDER BY item_id
        """
    )


def _item_ids(met: list[Path], listed: list[Path]) -> str:
    parts = [f"SELECT item_id FROM {_files(paths)}" for paths in (met, listed) if paths]
    return " UNION ".join(parts)  # distinct


def _together(lake: Lake, days: list[date]) -> Iterator[list[date]]:
    """Days after days, up to EVENTS_AT_ONCE interactions together."""
    part: list[date] = []
    total = 0
    for day in days:
        rows = _rows(lake, day)
        if part and total + rows > EVENTS_AT_ONCE:
            yield part
            part, total = [], 0
        part, total = [*part, day], total + rows
    if part:
        yield part


def _code_days(
    database: duckdb.DuckDBPyConnection, lake: Lake, part: list[date], number: dict[date, int]
) -> None:
    """One row per day, user and item, with the weight of the strongest kind; 0 where it is no positive."""
    paths = lake.paths("interactions", part[0], part[-1])
    place = "CASE day " + " ".join(f"WHEN DATE '{day}' THEN {number[day]}" for day in part) + " END"
    kinds = " ".join(f"WHEN '{kind}' THEN {weight}" for kind, weight in WEIGHT.items())
    database.execute(
        f"""
        INSERT INTO coded
        SELECT ({place})::SMALLINT AS day, users.code AS "user", items.code AS item,
               max(CASE WHEN kind = 'rating' AND coalesce("value" <= {LOW_RATING}, false) THEN 0
                        ELSE CASE kind {kinds} END END)::FLOAT,
               bool_or(channel = 'recommendation')
        FROM {_files(paths)} JOIN users USING (user_id) JOIN items USING (item_id)
        GROUP BY ALL ORDER BY 1, 2, 3
        """
    )


def _listed(lake: Lake, end: date) -> list[Path]:
    days = lake.days()
    return lake.paths("items", days[0], end) if days else []


def _rows(lake: Lake, day: date) -> int:
    entry = lake.entry(day)
    table = entry["tables"].get("interactions") if entry else None
    return int(table["rows"]) if table else 0


def _files(paths: list[Path]) -> str:
    """A DuckDB source with the folders' `day` as a date column. The paths are the lake's own."""
    names = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{names}], hive_partitioning = true, hive_types = {{'day': DATE}})"


def _one(database: duckdb.DuckDBPyConnection, query: str) -> int:
    ((found,),) = database.execute(query).fetchall()
    return int(found)


@contextmanager
def _database(folder: Path | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """On disk under `folder`, or in memory; one thread, so that the same data are read in the same order."""
    database = duckdb.connect(str(folder / "window.duckdb") if folder else ":memory:")
    try:
        database.execute(f"SET memory_limit = '{MEMORY}'; SET threads = 1")
        if folder:
            scratch = str(folder).replace("'", "''")
            database.execute(f"SET temp_directory = '{scratch}/spill'")
        yield database
    finally:
        database.close()
