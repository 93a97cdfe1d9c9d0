"""What happened, as Parquet tables partitioned by day: stage, publish, read a window.

    lake/
      manifest.json                      the published days; changed at once, so a day is in or out
      data/<table>/day=2026-09-28/<digest>.parquet
      staging/2026-09-28/<table>.parquet written first, audited, then published or quarantined
      quarantine/2026-09-28/             the rejected rows with report.json

Readers go by the manifest alone: a file that it does not name was never published. Two that publish at once, on one
machine or on two that share a store, lose nothing: the manifest is changed by compare-and-swap. Not covered here: two
that stage the same day at once (the nightly DAG has max_active_runs=1); the last one's rows are then the staged ones.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Hashable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.contracts import CONTRACTS
from nightshift.contracts.table import Contract
from nightshift.errors import LakeError
from nightshift.settings import Settings
from nightshift.sources import DayBatch
from nightshift.store import LocalStore, Store, as_json, digest_of, shared
from nightshift.store import write_json as write_json  # most who write JSON here know it from this module

MANIFEST = "manifest.json"
ROW_GROUP = 65_536
MAX_EXAM_DAYS = 7  # a week: beyond it the candidate would be judged on a world that it is too old for


def open_lake(settings: Settings) -> Lake:
    """The lake in the store of these settings."""
    return Lake(shared(settings).within("lake"))


class Lake:
    """The lake in one place: a folder, or the part of a store."""

    def __init__(self, place: Path | Store) -> None:
        self.store: Store = LocalStore(place) if isinstance(place, Path) else place

    @property
    def where(self) -> str:
        """The place, for a person."""
        return self.store.where

    @property
    def root(self) -> Path:
        """The folder of a lake that has one. Raises LakeError if it is in a bucket."""
        if not isinstance(self.store, LocalStore):
            raise LakeError(f"{self.where}: this lake is no folder of this machine")
        return self.store.root

    # --- write -----------------------------------------------------------------------------------------

    def stage(self, batch: DayBatch) -> None:
        """Write a day where nobody reads it yet, each table in its contract's order; replaces what was staged before.

        Raises:
            ContractError: a table does not have its contract's columns and types.
        """
        tables = {name: CONTRACTS[name].cast(table) for name, table in batch.tables.items()}
        with self.store.building(_staging(batch.day)) as building:
            for name, table in tables.items():
                _write(CONTRACTS[name], table, building / f"{name}.parquet")
            write_json(building / "counts.json", batch.counts)

    def staged_days(self) -> list[date]:
        """Days that are staged and not yet published or quarantined, in order."""
        return [date.fromisoformat(name) for name in self.store.folders("staging")]

    def staged_folder(self, day: date) -> Path | None:
        """A local path to read what is staged for `day` at; None if nothing is."""
        return self.store.folder(_staging(day))

    def staged(self, day: date) -> DayBatch:
        """What is staged for `day`. Raises LakeError if nothing is, or a file is cut short."""
        folder = self._staged_folder(day)
        try:
            # ParquetFile, not read_table: a folder name with '=' would be read as a partition column.
            tables = {p.stem: pq.ParquetFile(p).read() for p in sorted(folder.glob("*.parquet"))}
            counts = json.loads((folder / "counts.json").read_text())
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise LakeError(
                f"day {day}: staged file in {folder} cannot be read ({error}); ingest again"
            ) from error
        return DayBatch(day=day, tables=tables, counts=counts)

    def record_audit(self, day: date, report: dict[str, Any]) -> None:
        """Write beside the staged day that exactly this content passed its audit."""
        told = {**report, "content": _content(self._staged_folder(day))}
        self.store.add(_staging(day), "audit.json", as_json(told))

    def publish(self, day: date) -> dict[str, Any]:
        """Move a staged day into the lake in one step and return its manifest entry.

        Publishing the same content twice changes nothing.

        Raises:
            LakeError: the day was not audited as it stands, or is published already with other content.
        """
        batch, folder = self.staged(day), self._staged_folder(day)
        audit_path = folder / "audit.json"
        audit = json.loads(audit_path.read_text()) if audit_path.exists() else {}
        content = _content(folder)
        if audit.get("content") != content:
            raise LakeError(f"day {day} has not passed an audit as it stands; run `nightshift audit` first")
        entry: dict[str, Any] = {"counts": batch.counts, "audit": audit, "tables": {}}
        for name, table in batch.tables.items():
            relative = f"data/{name}/day={day}/{content[name][:16]}.parquet"
            with self.store.new_file(relative) as target:
                shutil.copyfile(folder / f"{name}.parquet", target)
            entry["tables"][name] = {"path": relative, "rows": table.num_rows, "sha256": content[name]}
        self.store.update(MANIFEST, lambda manifest: _with_day(manifest, day, entry, self.where))
        self.store.drop(_staging(day))
        return entry

    def discard_staged(self, day: date) -> None:
        """Forget what is staged for a day."""
        self.store.drop(_staging(day))

    def quarantine(self, day: date, report: dict[str, Any]) -> None:
        """Move a staged day aside with the report that says why; the lake is unchanged."""
        # The reason before the move: a day aside always has it.
        self.store.add(_staging(day), "report.json", as_json(report))
        self.store.move(_staging(day), _quarantine(day))

    # --- read ------------------------------------------------------------------------------------------

    def days(self) -> list[date]:
        """Published days, in order."""
        return sorted(date.fromisoformat(day) for day in self._manifest()["days"])

    def last_day(self) -> date | None:
        days = self.days()
        return days[-1] if days else None

    def entry(self, day: date) -> dict[str, Any] | None:
        """The manifest entry of a published day: counts, and per table path, rows and sha256."""
        found: dict[str, Any] | None = self._manifest()["days"].get(day.isoformat())
        return found

    def paths(self, table: str, start: date, end: date) -> list[Path]:
        """Parquet files of `table` for the published days start..end, both included, in day order."""
        manifest = self._manifest()["days"]
        return [
            self.path(manifest[day]["tables"][table])
            for day in sorted(manifest)
            if start.isoformat() <= day <= end.isoformat() and table in manifest[day]["tables"]
        ]

    def path(self, table: dict[str, Any]) -> Path:
        """A local path of the Parquet file that a manifest entry's table names."""
        return self.store.path(table["path"], table["sha256"])

    def intact(self, table: dict[str, Any]) -> bool:
        """Whether the file that a manifest entry's table names is in the store as it was published."""
        return self.store.intact(table["path"], table["sha256"])

    def read(self, table: str, start: date, end: date) -> pa.Table:
        """Rows of `table` for the published days start..end, with their `day` as the last column (date32)."""
        schema = CONTRACTS[table].schema
        parts = []
        for path in self.paths(table, start, end):
            part = pq.ParquetFile(path).read()
            day = date.fromisoformat(path.parent.name.removeprefix("day="))
            parts.append(part.append_column("day", pa.array([day] * part.num_rows, pa.date32())))
        empty = schema.append(pa.field("day", pa.date32())).empty_table()
        return pa.concat_tables([empty, *parts]) if parts else empty

    def active_users(self, start: date, end: date) -> int:
        """How many users did something on the published days start..end."""
        files = self.paths("interactions", start, end)
        return len({user for p in files for user in pq.ParquetFile(p).read(["user_id"])[0].to_pylist()})

    def latest(self, table: str, as_of: date) -> pa.Table:
        """The newest row per key of `users` or `items` at the end of `as_of` (without `day`)."""
        days = self.days()
        rows = self.read(table, days[0], as_of) if days else self.read(table, as_of, as_of)
        (key,) = CONTRACTS[table].key
        newest = {value: row for row, value in enumerate(rows[key].to_pylist())}
        return rows.take(pa.array(sorted(newest.values()), pa.int64())).drop_columns(["day"])

    def digest(self, start: date, end: date, tables: Collection[str] | None = None) -> str:
        """sha256 over the published content of start..end: equal digests mean equal data.

        tables: the only ones that count; default: all.
        """
        manifest = self._manifest()["days"]
        content = [
            (day, name, table["sha256"])
            for day in sorted(manifest)
            if start.isoformat() <= day <= end.isoformat()
            for name, table in sorted(manifest[day]["tables"].items())
            if tables is None or name in tables
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def quarantined(self) -> list[date]:
        """Days that failed their audit and have not been published since."""
        days = {date.fromisoformat(name) for name in self.store.folders("quarantine")}
        return sorted(days - set(self.days()))

    def quarantined_folder(self, day: date) -> Path | None:
        """A local path to read a day in quarantine at, with its report.json; None if it is not there."""
        return self.store.folder(_quarantine(day))

    def stamp(self) -> Hashable | None:
        """Something that differs once a day was published. Cheap to ask; None for an empty lake."""
        return self.store.stamp(MANIFEST)

    # --- inside ----------------------------------------------------------------------------------------

    def _staged_folder(self, day: date) -> Path:
        folder = self.staged_folder(day)
        if folder is None:
            raise LakeError(f"day {day}: nothing is staged; run `nightshift ingest --night {day}` first")
        return folder

    def _manifest(self) -> dict[str, Any]:
        return _checked(self.store.document(MANIFEST), self.where)


def _staging(day: date) -> str:
    return f"staging/{day}"


def _quarantine(day: date) -> str:
    return f"quarantine/{day}"


def _write(contract: Contract, table: pa.Table, path: Path) -> None:
    """In its order, which the file tells; in groups of rows so small that a reader of a tenth leaves most of them."""
    by = [(name, "ascending") for name in contract.order]
    order = pq.SortingColumn.from_ordering(contract.schema, by) if by else None
    pq.write_table(contract.ordered(table), path, row_group_size=ROW_GROUP, sorting_columns=order)


def _content(folder: Path) -> dict[str, str]:
    return {path.stem: digest_of(path) for path in sorted(folder.glob("*.parquet"))}


def _checked(manifest: dict[str, Any] | None, where: str) -> dict[str, Any]:
    if manifest is None:
        return {"version": 1, "days": {}}
    if manifest.get("version") != 1:
        raise LakeError(
            f"{where}/{MANIFEST}: is of version {manifest.get('version')!r}; this Nightshift knows version 1: "
            "run the version that wrote it, or restore a backup made before"
        )
    return manifest


def _with_day(
    manifest: dict[str, Any] | None, day: date, entry: dict[str, Any], where: str
) -> dict[str, Any]:
    manifest = _checked(manifest, where)
    known = manifest["days"].get(day.isoformat())
    if known is not None and known["tables"] != entry["tables"]:
        raise LakeError(
            f"day {day} is published already with other content; published days never change. "
            "Late events join the next night by themselves."
        )
    return {**manifest, "days": {**manifest["days"], day.isoformat(): entry}}


def training_window(
    lake: Lake, night: date, *, window_days: int, exam_days: int, exam_users: int = 0
) -> tuple[date, date, date]:
    """(first training day, last training day, first exam day) of a night; the exam ends with the night.

    The exam is the last `exam_days` published days, and as many more (up to MAX_EXAM_DAYS, and a third of
    what is published) as it takes until `exam_users` users were active in it: a quiet shop's single day
    could not tell a better model from luck. Counted in published days, so a weekend makes no empty exam.

    Raises:
        LakeError: the night is not published, or leaves no day to train on.
    """
    days = [day for day in lake.days() if day <= night]
    if not days or days[-1] != night:
        raise LakeError(f"night {night} is not published; run `nightshift ingest --night {night}` first")
    if len(days) <= exam_days:
        raise LakeError(
            f"night {night}: {len(days)} published day(s), {exam_days} of them the exam: nothing to train on"
        )
    at_most = max(exam_days, min(MAX_EXAM_DAYS, len(days) // 3))
    while exam_days < at_most and lake.active_users(days[-exam_days], night) < exam_users:
        exam_days += 1
    last = days[-exam_days - 1]
    return max(days[0], last - timedelta(days=window_days - 1)), last, days[-exam_days]
