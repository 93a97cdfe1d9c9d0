"""What the feature pipelines run on, and how they come by the lake: the one place that knows an engine's name.

The pipelines are Ibis expressions over tables that lie as files. An engine reads them itself, so that a window of any
length passes through a bounded memory; what is held here is only what comes out, a row per user or item.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from feature_repo.shares import ROWS, Share, shares
from nightshift.contracts import CONTRACTS
from nightshift.lake import Lake
from nightshift.machine import memory_bytes
from nightshift.settings import Settings

SHARE = 3  # a third of the memory: what comes out, and other tasks of a night, need some too


class Engine:
    """DuckDB in this process; `connection` is its Ibis backend. `feature_repo.spark` is the other one."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def read(self, lake: Lake, table: str, start: date, end: date) -> ir.Table:
        """`table` of the published days start..end, with the published day as its column `day`."""
        paths = lake.paths(table, start, end)
        if not paths:
            columns = [(column.name, column.type) for column in CONTRACTS[table].columns]
            return self.empty(pa.schema([*columns, ("day", pa.date32())]))
        found = self.files(paths)
        return found.mutate(day=found.day.cast("date"))

    def latest(self, lake: Lake, table: str, as_of: date) -> ir.Table:
        """The newest row per key of `users` or `items` at the end of `as_of`, its columns that are never null.

        A key has one row a day at most: the audit sees to it.
        """
        rows, contract = self.read(lake, table, date.min, as_of), CONTRACTS[table]
        (key,) = contract.key
        kept = [column.name for column in contract.columns if not column.nullable and column.name != key]
        return rows.group_by(key).aggregate(**{name: rows[name].argmax(rows.day) for name in kept})

    def shares(self, lake: Lake, start: date, end: date) -> list[Share]:
        """How to cut the users of these days, so that what is held at a time does not grow with them."""
        return shares(lake.paths("interactions", start, end), ROWS)

    def kept(self, name: str, expression: ir.Table) -> ir.Table:
        """The rows of an expression that is asked more than once, computed now, until something else has the name."""
        # By hand: what Ibis makes of this, DuckDB does not parse.
        self.connection.raw_sql(f"DROP TABLE IF EXISTS {name}")
        found: ir.Table = self.connection.create_table(name, expression, temp=True)
        return found

    def files(self, paths: list[Path]) -> ir.Table:
        """Parquet files as one table; `day` comes from the names of their folders."""
        found: ir.Table = self.connection.read_parquet(paths, hive_partitioning=True)
        return found

    def empty(self, schema: pa.Schema) -> ir.Table:
        return ibis.memtable(schema.empty_table())

    def arrow(self, expression: ir.Table) -> pa.Table:
        """The rows of an expression, in its order."""
        found: pa.Table = self.connection.to_pyarrow(expression)
        return found


@contextmanager
def open_engine(settings: Settings) -> Iterator[Engine]:
    """The engine that the settings name, for a while.

    One at a time under a home: what it leaves on disk is swept away before and after.

    Raises:
        FeatureError: the engine is not installed, or does not start.
    """
    spill = settings.home / "spill"
    shutil.rmtree(spill, ignore_errors=True)
    try:
        if settings.features_engine == "spark":
            from feature_repo.spark import open_spark

            with open_spark(settings, spill) as engine:
                yield engine
        else:
            with open_duckdb(settings, spill) as engine:
                yield engine
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def memory_mib(settings: Settings) -> int:
    """What an engine may hold: what the settings say, or one part in SHARE of what there is."""
    if settings.features_memory_gb is not None:
        return max(1, round(settings.features_memory_gb * 1024))
    return memory_bytes() // SHARE // 2**20


@contextmanager
def open_duckdb(settings: Settings, spill: Path) -> Iterator[Engine]:
    limit = f"{memory_mib(settings)}MiB"
    connection = ibis.duckdb.connect(temp_directory=str(spill), memory_limit=limit)
    # Every output is put in order at its end; to keep what lies between in one, too, costs 3 to 7 % (benchmarks.md).
    connection.raw_sql("SET preserve_insertion_order = false")
    try:
        yield Engine(connection)
    finally:
        connection.disconnect()
