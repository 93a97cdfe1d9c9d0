"""What happened, as Parquet tables partitioned by day: stage, publish, read a window.

    lake/
      manifest.json                      the published days; replaced in one rename, so a day is in or out
      data/<table>/day=2026-09-28/<digest>.parquet
      staging/2026-09-28/<table>.parquet written first, audited, then published or quarantined
      quarantine/2026-09-28/             the rejected rows with report.json

Readers go by the manifest alone: a file that it does not name was never published. Not covered here:
two writers at once (the nightly DAG has max_active_runs=1; `publish` still takes a lock file).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.contracts import CONTRACTS
from nightshift.errors import LakeError
from nightshift.sources import DayBatch

MAX_EXAM_DAYS = 7  # a week: beyond it the candidate would be judged on a world that it is too old for


def write_json(path: Path, value: Any) -> None:
    """Write `value` so that a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as handle:
        json.dump(value, handle, ensure_ascii=False, indent=1, sort_keys=True, default=str)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


class Lake:
    """The lake under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._manifest_path = root / "manifest.json"

    # --- write -----------------------------------------------------------------------------------------

    def stage(self, batch: DayBatch) -> Path:
        """Write a day where nobody reads it yet; replaces what was staged for that day before.

        Raises:
            ContractError: a table does not have its contract's columns and types.
        """
        tables = {name: CONTRACTS[name].cast(table) for name, table in batch.tables.items()}
        folder = self._staging(batch.day)
        building = folder.with_name(folder.name + ".building")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        for name, table in tables.items():
            pq.write_table(table, building / f"{name}.parquet")
        write_json(building / "counts.json", batch.counts)
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
        return folder

    def staged_days(self) -> list[date]:
        """Days that are staged and not yet published or quarantined, in order."""
        folder = self.root / "staging"
        if not folder.exists():
            return []
        return sorted(date.fromisoformat(p.name) for p in folder.iterdir() if "." not in p.name)

    def staged(self, day: date) -> DayBatch:
        """What is staged for `day`. Raises LakeError if nothing is, or a file is cut short."""
        folder = self._staging(day)
        if not folder.exists():
            raise LakeError(f"day {day}: nothing is staged; run `nightshift ingest --night {day}` first")
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
        write_json(self._staging(day) / "audit.json", {**report, "content": self._content(day)})

    def publish(self, day: date) -> dict[str, Any]:
        """Move a staged day into the lake in one step and return its manifest entry.

        Publishing the same content twice changes nothing.

        Raises:
            LakeError: the day was not audited as it stands, or is published already with other content.
        """
        batch = self.staged(day)
        audit_path = self._staging(day) / "audit.json"
        audit = json.loads(audit_path.read_text()) if audit_path.exists() else {}
        if audit.get("content") != self._content(day):
            raise LakeError(f"day {day} has not passed an audit as it stands; run `nightshift audit` first")
        with self._lock():
            manifest = self._manifest()
            entry: dict[str, Any] = {"counts": batch.counts, "audit": audit, "tables": {}}
            for name, table in batch.tables.items():
                source = self._staging(day) / f"{name}.parquet"
                digest = hashlib.sha256(source.read_bytes()).hexdigest()
                relative = f"data/{name}/day={day}/{digest[:16]}.parquet"
                target = self.root / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy_durably(source, target)
                entry["tables"][name] = {"path": relative, "rows": table.num_rows, "sha256": digest}
            known = manifest["days"].get(day.isoformat())
            if known is not None and known["tables"] != entry["tables"]:
                raise LakeError(
                    f"day {day} is published already with other content; published days never change. "
                    "Late events join the next night by themselves."
                )
            manifest["days"][day.isoformat()] = entry
            write_json(self._manifest_path, manifest)
        shutil.rmtree(self._staging(day), ignore_errors=True)
        return entry

    def discard_staged(self, day: date) -> None:
        """Forget what is staged for a day."""
        shutil.rmtree(self._staging(day), ignore_errors=True)

    def quarantine(self, day: date, report: dict[str, Any]) -> Path:
        """Move a staged day aside with the report that says why; the lake is unchanged."""
        target, staged = self.root / "quarantine" / day.isoformat(), self._staging(day)
        write_json(staged / "report.json", report)  # before the move: a day aside always has its reason
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(target)
        return target

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
            self.root / manifest[day]["tables"][table]["path"]
            for day in sorted(manifest)
            if start.isoformat() <= day <= end.isoformat() and table in manifest[day]["tables"]
        ]

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
        folder = self.root / "quarantine"
        days = {date.fromisoformat(p.name) for p in folder.iterdir()} if folder.exists() else set()
        return sorted(days - set(self.days()))

    # --- inside ----------------------------------------------------------------------------------------

    def _staging(self, day: date) -> Path:
        return self.root / "staging" / day.isoformat()

    def _content(self, day: date) -> dict[str, str]:
        files = sorted(self._staging(day).glob("*.parquet"))
        return {p.stem: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    def _manifest(self) -> dict[str, Any]:
        if not self._manifest_path.exists():
            return {"version": 1, "days": {}}
        manifest: dict[str, Any] = json.loads(self._manifest_path.read_text())
        if manifest.get("version") != 1:
            raise LakeError(
                f"{self._manifest_path}: is of version {manifest.get('version')!r}; this Nightshift knows version 1: "
                "run the version that wrote it, or restore a backup made before"
            )
        return manifest

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _copy_durably(source: Path, target: Path) -> None:
    """Copy a file so that after a power cut it is there whole or not at all; the manifest names it next."""
    building = target.with_suffix(".building")
    shutil.copyfile(source, building)
    with building.open("rb") as handle:
        os.fsync(handle.fileno())
    building.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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
