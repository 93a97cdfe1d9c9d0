"""Where a version comes from: what training writes down, and whether all of it is there and still holds.

Training records, piece by piece, the digest of what it was trained on (`lineage/content.json` on its run), a digest
of that list and of its package as tags, and by which commit and seed. The gate looks all of it up again.

Not covered: somebody who may write to MLflow and to the lake alike can write a lineage that holds together.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from nightshift.errors import PackageError, RegistryError
from nightshift.lake import Lake
from nightshift.seats import Seat
from nightshift.settings import Settings
from training.evidence import Lineage
from training.exams import Examiner
from training.recipe import Night

if TYPE_CHECKING:
    from nightshift.registry import Registry, Version

CONTENT = "lineage/content.json"
KEPT = ("features/features.json", "features/reference.parquet", CONTENT)
TAGS = (
    "family",
    "night",
    "train_start",
    "train_end",
    "exam_start",
    "data_digest",
    "git_commit",
    "seed",
    "content_digest",
    "package_digest",
)


def listed(training: dict[str, str]) -> tuple[str, str]:
    """The list of what was trained on as it is kept, and its sha256."""
    text = json.dumps(training, ensure_ascii=False, indent=1, sort_keys=True)
    return text, hashlib.sha256(text.encode()).hexdigest()


def look_up(
    registry: Registry,
    lake: Lake,
    config: Settings,
    seat: Seat,
    version: Version,
    night: Night,
    examiner: Examiner,
) -> Lineage:
    """What can be found out about where a version comes from; night: the exam's that it sits.

    Raises:
        RegistryError: MLflow cannot be reached: that says nothing about the version.
    """
    try:
        return _Search(registry, lake, config, seat, version, night, examiner).found()
    except RegistryError:
        raise
    except Exception as error:  # noqa: BLE001 - a torn lake, features that are gone: whatever it is, it is not known
        return Lineage(problem=f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class _Search:
    registry: Registry
    lake: Lake
    config: Settings
    seat: Seat
    version: Version
    night: Night
    examiner: Examiner

    def found(self) -> Lineage:
        tags, window = self.version.tags, self._window()
        status, files = self._run()
        absent = [f"tag {name}" for name in TAGS if not tags.get(name)]
        absent += [f"finished run (it is {status})"] if status != "FINISHED" else []
        absent += [name for name in KEPT if name not in files]
        recorded, changed = self._recorded(self.version) if CONTENT in files else ({}, [])
        content = self.examiner.content(self.lake, self.config, self.night)
        absent += [f"content in {CONTENT}"] if CONTENT in files and not recorded else []
        exam = set(content.exam.values())
        if recorded:
            now = (
                content if window == self.night else self.examiner.content(self.lake, self.config, window)
            ).training
            changed += [name for name in sorted({*recorded, *now}) if recorded.get(name) != now.get(name)]
        if tags.get("data_digest", "") not in ("", self.examiner.digest(self.lake, window)):
            changed.append("the published data of its training window")
        unaudited, rewritten = self._days(window)
        known, otherwise, lost = self._ancestry()
        return Lineage(
            unaudited=tuple(unaudited),
            shared=tuple(name for name, digest in sorted({**known, **recorded}.items()) if digest in exam),
            changed=tuple([*changed, *otherwise, *rewritten, *self._package()]),
            absent=tuple([*absent, *lost]),
            commit=tags.get("git_commit", ""),
            dirty={"true": True, "false": False}.get(tags.get("dirty", "")),
        )

    def _window(self) -> Night:
        """The night that it was trained for, by its tags; what they do not tell is taken to be as tonight."""

        def told(name: str) -> date:
            tag = self.version.tags.get(name)
            found: date = date.fromisoformat(tag) if tag else getattr(self.night, name)
            return found

        return Night(told("night"), told("train_start"), told("train_end"), told("exam_start"))

    def _run(self) -> tuple[str, frozenset[str]]:
        return self.registry.run(self.version.run_id) if self.version.run_id else ("GONE", frozenset())

    def _ancestry(self) -> tuple[dict[str, str], list[str], list[str]]:
        """What it knows from the versions that it went on from, what of them has changed, and what is gone.

        Their days may have left its own window, and are in its weights all the same.
        """
        known: dict[str, str] = {}
        changed: list[str] = []
        one = self.version
        versions = {found.number: found for found in self.registry.versions(self.seat)}
        while number := one.tags.get("warm_from"):
            base = versions.get(int(number))
            if base is None or base.number >= one.number:
                return known, changed, [f"version {number}, which version {one.number} went on from"]
            if base.tags.get("state_digest") != one.tags.get("warm_digest"):
                changed.append(f"the state of version {number}")
            if CONTENT not in self.registry.run(base.run_id)[1]:
                return known, changed, [f"{CONTENT} of version {number}, which it went on from"]
            content, otherwise = self._recorded(base)
            known |= {f"{name} (known from version {number})": digest for name, digest in content.items()}
            changed += [f"{name} of version {number}" for name in otherwise]
            one = base
        return known, changed, []

    def _recorded(self, version: Version) -> tuple[dict[str, str], list[str]]:
        """What its run says it was trained on, and that list's own name if it is not the one that was tagged."""
        with TemporaryDirectory(prefix="nightshift-lineage-") as folder:
            text = self.registry.artifact(version.run_id, CONTENT, Path(folder)).read_text(encoding="utf-8")
        tagged = version.tags.get("content_digest")
        changed = [CONTENT] if tagged and hashlib.sha256(text.encode()).hexdigest() != tagged else []
        return json.loads(text), changed

    def _days(self, window: Night) -> tuple[list[str], list[str]]:
        """Days of training and exam without an audit that they passed, and files that were rewritten since."""
        unaudited, rewritten = [], []
        for day in self.lake.days():
            if not (
                window.train_start <= day <= window.night or self.night.exam_start <= day <= self.night.night
            ):
                continue
            entry = self.lake.entry(day) or {}
            audit, tables = entry.get("audit", {}), entry.get("tables", {})
            digests = {name: table["sha256"] for name, table in tables.items()}
            if audit.get("passed") is not True or audit.get("content") != digests:
                unaudited.append(day.isoformat())
            for name, table in tables.items():
                if not self.lake.intact(table):
                    rewritten.append(f"{day} {name}")
        return unaudited, rewritten

    def _package(self) -> list[str]:
        with TemporaryDirectory(prefix="nightshift-lineage-") as folder:
            try:
                self.registry.package(self.seat, self.version.number, Path(folder))
            except PackageError:
                return ["its package"]
        return []
