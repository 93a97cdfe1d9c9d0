"""What machines share: one folder here by default, a bucket by `NIGHTSHIFT_STORE_URL`. The only door to it.

    lake/  features/  nights/  triggers/  studies/      the names are the same in both

Three kinds of things are kept, and each is whole or not there:
- files, written once and never changed (`new_file`), read as local files (`path`);
- folders, which appear, move and go as a whole (`building`, `folder`, `move`, `drop`);
- documents, small JSON that is changed by compare-and-swap (`update`), so that two writers lose nothing.
Besides, plain small objects: `write` (the last one counts) and `create` (the first one counts).

Here, a folder (`LocalStore`); the bucket is `nightshift.s3.S3Store`. Per machine, and so never in the store: locks,
logs, secrets, checkpoints, base models, Data Docs, the GPU's lease.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from nightshift.settings import Settings

Change = Callable[[dict[str, Any] | None], dict[str, Any]]


class Store(Protocol):
    """Names are relative, with `/` between their parts. Every method raises StoreError if the store is away."""

    @property
    def where(self) -> str:
        """The place, for a person: a path or a URL, never with a secret."""

    def within(self, folder: str) -> Store:
        """The part of this store under a folder."""

    def names(self, folder: str) -> list[str]:
        """The plain names of the files and objects that lie right in a folder, sorted."""

    def read(self, name: str) -> bytes | None:
        """An object's content, or None."""

    def write(self, name: str, content: bytes) -> None:
        """Put an object there, whatever was there before."""

    def create(self, name: str, content: bytes) -> bool:
        """Put an object there unless there is one; whether it was put."""

    def remove(self, name: str) -> None:
        """Take an object away, if it is there."""

    def new_file(self, name: str) -> AbstractContextManager[Path]:
        """A path to write a file to; when the block ends, the file is in the store, durably."""

    def path(self, name: str, sha256: str | None = None) -> Path:
        """A local path to read a file at. sha256: what it must hash to where it had to be fetched."""

    def intact(self, name: str, sha256: str) -> bool:
        """Whether the store itself has this file with this content, looked up anew."""

    def building(self, folder: str) -> AbstractContextManager[Path]:
        """A local folder to fill; when the block ends it is the store's `folder`, in place of what was there."""

    def folder(self, folder: str) -> Path | None:
        """A local path to read a folder at, or None if there is none."""

    def folders(self, under: str) -> list[str]:
        """The plain names of the folders under a folder, sorted."""

    def add(self, folder: str, name: str, content: bytes) -> None:
        """Put a small file into a folder, which need not be there."""

    def move(self, folder: str, target: str) -> None:
        """Move a folder, in place of what is at `target`."""

    def drop(self, folder: str) -> None:
        """Remove a folder, if it is there."""

    def document(self, name: str) -> dict[str, Any] | None:
        """A document as it is now, or None."""

    def update(self, name: str, change: Change) -> None:
        """Change a document: `change` gets it as it is, and may be asked again if somebody else was faster."""

    def changing(self, name: str) -> AbstractContextManager[Path]:
        """A local path of a file to read and change, there or not; when the block ends, as it is then it is kept.

        Raises StoreError if another machine changed it meanwhile; then nothing of this change is kept.
        """

    def stamp(self, name: str) -> Hashable | None:
        """Something that differs once a document has changed; None if there is none. Cheap to ask."""


def shared(settings: Settings) -> Store:
    """The store of these settings."""
    if settings.store_url is None:
        return LocalStore(settings.home)
    from nightshift.s3 import S3Store  # the client's import takes 0.4 s of CPU

    return S3Store(settings.store_url, settings.home / "cache")


class LocalStore:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def where(self) -> str:
        return str(self.root)

    def within(self, folder: str) -> LocalStore:
        return LocalStore(self.root / folder)

    def names(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.root / folder).glob("[!.]*") if path.is_file())

    def read(self, name: str) -> bytes | None:
        path = self.root / name
        return path.read_bytes() if path.exists() else None

    def write(self, name: str, content: bytes) -> None:
        write_whole(self.root / name, content)

    def create(self, name: str, content: bytes) -> bool:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path, content) as temporary:
            try:
                os.link(temporary, path)  # unlike a rename, it takes nobody's place
            except FileExistsError:
                return False
        return True

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        building = path.with_name(f".{path.name}.building")  # no reader takes a name like this
        yield building
        with building.open("rb") as handle:
            os.fsync(handle.fileno())  # else a power cut could leave an empty file under the final name
        building.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def path(self, name: str, sha256: str | None = None) -> Path:
        return self.root / name

    def intact(self, name: str, sha256: str) -> bool:
        path = self.root / name
        return path.exists() and digest_of(path) == sha256

    @contextmanager
    def building(self, folder: str) -> Iterator[Path]:
        path = self.root / folder
        building = path.with_name(path.name + ".building")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        yield building
        shutil.rmtree(path, ignore_errors=True)
        building.rename(path)

    def folder(self, folder: str) -> Path | None:
        path = self.root / folder
        return path if path.is_dir() else None

    def folders(self, under: str) -> list[str]:
        path = self.root / under
        return sorted(p.name for p in path.iterdir() if "." not in p.name) if path.exists() else []

    def add(self, folder: str, name: str, content: bytes) -> None:
        write_whole(self.root / folder / name, content)

    def move(self, folder: str, target: str) -> None:
        path = self.root / target
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        (self.root / folder).rename(path)

    def drop(self, folder: str) -> None:
        shutil.rmtree(self.root / folder, ignore_errors=True)

    def document(self, name: str) -> dict[str, Any] | None:
        content = self.read(name)
        return None if content is None else json.loads(content)

    def update(self, name: str, change: Change) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            write_json(path, change(self.document(name)))

    @contextmanager
    def changing(self, name: str) -> Iterator[Path]:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path

    def stamp(self, name: str) -> Hashable | None:
        try:
            return (self.root / name).stat().st_mtime_ns
        except OSError:
            return None


def as_json(value: Any) -> bytes:
    """`value` as we write it everywhere: for people to read, and the same bytes for the same value."""
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True, default=str).encode()


def write_json(path: Path, value: Any) -> None:
    """Write `value` so that a reader sees the old file or the new one, never half of it."""
    write_whole(path, as_json(value))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path, content) as temporary:
        temporary.replace(path)


@contextmanager
def _temporary(path: Path, content: bytes) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    yield temporary
    temporary.unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
