"""The folder that backups lie in: bytes under their own sha256, once, and one list of files for each backup.

    BACKUPS/
      data/3f/3fa9…             a file's bytes, named by their sha256, whichever backups it belongs to
      2026-11-28T184300Z.json   a backup: what it holds, by path and sha256; written last, in one rename

A list names only bytes that are on disk, so a backup that was cut short is none: what it left is used by the next
one, or cleared away. Nothing here knows what the files mean. One writer at a time, by a lock.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from nightshift.errors import BackupError
from nightshift.lake import write_json

CHUNK = 1 << 20
BUILDING = ".building"


class Vault:
    """Backups under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The only writer for a while. Raises BackupError if another one is at it, or the disk gets full."""
        try:
            (self.root / "data").mkdir(parents=True, exist_ok=True, mode=0o700)
            self.root.chmod(0o700)  # it holds what users said and did
            with (self.root / ".lock").open("w") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise BackupError(
                        f"{self.root}: another backup is being made there; wait for it"
                    ) from None
                yield
        except OSError as error:
            raise BackupError(self._why(error)) from error
        finally:
            for left in self.root.glob(f"data/*{BUILDING}*") if self.root.exists() else ():
                left.unlink(missing_ok=True)

    def _why(self, error: OSError) -> str:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return (
                f"{self.root}: the disk is full; free some, or give another folder with --to; this backup was not "
                "made, and the earlier ones are whole"
            )
        return f"{self.root}: cannot be written ({error.strerror or error}: {error.filename}); this backup was not made"

    def room(self) -> int:
        """Bytes that are free on its disk."""
        return shutil.disk_usage(self.root).free

    # --- bytes -----------------------------------------------------------------------------------------

    def blob(self, digest: str) -> Path:
        return self.root / "data" / digest[:2] / digest

    def has(self, digest: str, size: int) -> bool:
        try:
            return self.blob(digest).stat().st_size == size
        except OSError:
            return False

    def put(self, source: BinaryIO) -> tuple[str, int, bool]:
        """Keep what `source` reads, on disk for good when it returns: (sha256, bytes, whether they were new)."""
        building = self.scratch("blob")
        with building.open("wb") as handle:
            digest, size = _copy(source, handle)
        return digest, size, self.take(building, digest, size)

    def take(self, building: Path, digest: str, size: int) -> bool:
        """Keep a scratch file; whether its bytes were new."""
        if self.has(digest, size):
            building.unlink()
            return False
        with building.open("rb") as handle:
            os.fsync(handle.fileno())
        target = self.blob(digest)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        building.chmod(0o600)
        building.replace(target)
        _sync_folder(target.parent)
        return True

    def scratch(self, name: str) -> Path:
        """A file for somebody to write that is cleared away unless it is taken."""
        return self.root / "data" / f"{name}.{os.getpid()}{BUILDING}"

    def check(self, digest: str, size: int) -> str | None:
        """What is wrong with kept bytes; None if they are what they were."""
        try:
            with self.blob(digest).open("rb") as handle:
                found, length = _copy(handle, None)
        except OSError as error:
            return f"{self.blob(digest)}: {error.strerror}"
        if (found, length) != (digest, size):
            return f"{self.blob(digest)}: its bytes are not those that were kept"
        return None

    # --- lists -----------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The backups, oldest first."""
        return sorted(path.stem for path in self.root.glob("*.json") if not path.name.startswith("."))

    def read(self, name: str) -> dict[str, Any]:
        """A backup's list. Raises BackupError if it is none."""
        return read_list(self.root / f"{name}.json")

    def write(self, name: str, told: dict[str, Any]) -> Path:
        """Make it a backup: from now on it is one."""
        _sync_folder(self.root / "data")
        path = self.root / f"{name}.json"
        write_json(path, told)
        path.chmod(0o600)
        _sync_folder(self.root)
        return path

    def keep(self, number: int, besides: str) -> list[str]:
        """Delete all backups but the newest `number`, and the bytes that none names any more; their names.

        besides: one that stays whatever its date, the one just made: a clock may have been set back.
        """
        names = self.names()
        stay = {besides, *[name for name in names if name != besides][-(number - 1) :][: number - 1]}
        gone = [name for name in names if name not in stay]
        named = {each["sha256"] for name in stay for each in self.read(name)["files"]}
        for name in gone:
            (self.root / f"{name}.json").unlink()
        for path in self.root.glob("data/??/*"):
            if path.name not in named:
                path.unlink()
        return gone


def read_list(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        format_ = told["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(
            f"{path}: not a backup that can be read ({type(error).__name__}: {error})"
        ) from error
    if format_ != 1:
        raise BackupError(
            f"{path}: a backup of format {format_!r}; this version of Nightshift reads format 1"
        )
    return dict(told)


def _copy(source: BinaryIO, target: BinaryIO | None) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while piece := source.read(CHUNK):
        digest.update(piece)
        size += len(piece)
        if target is not None:
            target.write(piece)
    return digest.hexdigest(), size


def copy_out(vault: Vault, digest: str, target: Path, mode: int) -> None:
    """Write kept bytes to a file of its own. Raises BackupError if they are not what they were."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with vault.blob(digest).open("rb") as source, target.open("wb") as handle:
        found, _ = _copy(source, handle)
    if found != digest:
        raise BackupError(f"{vault.blob(digest)}: its bytes are not those that were kept")
    target.chmod(mode)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
