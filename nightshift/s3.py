"""The store in a bucket of S3 or of anything that speaks its protocol: objects there, a read-through cache here.

    <prefix>/lake/data/…/<digest>.parquet        a file
    <prefix>/lake/staging/<day>/index.json       a folder: its files with their digests; there once they all are
    <prefix>/lake/manifest.json/0000000012       a document, or a file that changes: a version each change; the highest
                                                 number is in force
    home/cache/<bucket>-<digest>/                files that were read here; may be deleted whenever nothing runs

A change of a document creates its next number, and only if nobody else did (`If-None-Match: *`, which S3
decides atomically): so of two writers one is refused, reads again and tries once more, and nothing is lost. A
store that ignores the condition is found out before the first change, and refused.
Files are immutable: their content's digest, or the entity tag that the store's listing tells, says whether a cached
one is still it; one that is not is fetched again. Endpoint, keys and region come from the standard variables
(AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION), or from the machine's role.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nightshift.buckets import bucket, on_disk
from nightshift.errors import StoreError
from nightshift.store import Change, as_json, digest_of, write_whole

KEPT_VERSIONS = 50  # of a document; older ones are deleted, long after anybody can be reading them
KEPT_FILES = 3  # versions of a file that is changed
TRIES = 30  # of a change that others were faster with; each waits up to a second
INDEX = "index.json"


class S3Store:
    """The part of a bucket under a prefix.

    url: `s3://bucket` or `s3://bucket/prefix`. cache: a folder of this machine.
    """

    def __init__(self, url: str, cache: Path) -> None:
        name, _, prefix = url.removeprefix("s3://").partition("/")
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        # One client for all stores of a process: each takes 0.1 s of CPU to make, and may not be taken through a fork.
        self._bucket, self._prefix = bucket(name, endpoint, os.getpid()), prefix.strip("/")
        place = hashlib.sha256(f"{endpoint} {name}".encode()).hexdigest()[:8]
        self._cache = cache / f"{name}-{place}"

    @property
    def where(self) -> str:
        return f"s3://{self._bucket.name}/{self._prefix}".rstrip("/")

    def within(self, folder: str) -> S3Store:
        part = S3Store.__new__(S3Store)
        part._bucket, part._cache = self._bucket, self._cache
        part._prefix = self._key(folder)
        return part

    # --- objects ---------------------------------------------------------------------------------------

    def names(self, folder: str) -> list[str]:
        key, began = self._key(folder) + "/", time.time()
        found = {name: tag for name, tag in self._bucket.list(key) if "/" not in name[len(key) :]}
        self._bucket.tags.update(found)
        names = sorted(name[len(key) :] for name in found)
        self._forget_others(self._cache / key, set(names), began)
        return names

    def read(self, name: str) -> bytes | None:
        return self._bucket.get(self._key(name))

    def write(self, name: str, content: bytes) -> None:
        self._bucket.put(self._key(name), content)

    def create(self, name: str, content: bytes) -> bool:
        return self._bucket.create(self._key(name), content)

    def remove(self, name: str) -> None:
        self._bucket.delete(self._key(name))

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        key = self._key(name)
        with self._room() as room:
            building = room / "file"
            yield building
            if self._bucket.upload_new(key, building):
                return
        self._bucket.tags.pop(key, None)  # somebody else wrote it first, and theirs is the one that counts

    def path(self, name: str, sha256: str | None = None) -> Path:
        key = self._key(name)
        cached = self._cache / key
        if sha256 is None:
            self._by_tag(key, cached)
        elif not _holds(cached, sha256):
            self._fetch(key, cached, sha256)
        return cached

    def intact(self, name: str, sha256: str) -> bool:
        with self._room() as room:
            copy = room / "file"
            return self._bucket.download(self._key(name), copy) is not None and digest_of(copy) == sha256

    # --- as it lies there, for backups -----------------------------------------------------------------

    def objects(self) -> list[tuple[str, str]]:
        """Every object under the prefix: its name in this part of the store, and its entity tag."""
        prefix = self._prefix + "/" if self._prefix else ""
        return [(key.removeprefix(prefix), tag) for key, tag in self._bucket.list(prefix)]

    def fetch(self, name: str, target: Path) -> bool:
        """Write an object to a local file; whether there is one."""
        return self._bucket.download(self._key(name), target) is not None

    def put(self, name: str, source: Path) -> None:
        """Put a local file there, of any size, whatever was there before."""
        self._bucket.upload(self._key(name), source)

    # --- folders ---------------------------------------------------------------------------------------

    @contextmanager
    def building(self, folder: str) -> Iterator[Path]:
        with self._room() as room:
            yield room
            before = self._index(folder) or {}
            index = {path.name: digest_of(path) for path in sorted(room.iterdir())}
            for name, digest in index.items():
                self._bucket.upload(self._key(_stored(folder, name, digest)), room / name)
        self._name(folder, index, before)

    def folder(self, folder: str) -> Path | None:
        index = self._index(folder)
        if index is None:
            return None
        path = self._cache / self._key(folder)
        path.mkdir(parents=True, exist_ok=True)
        for name, digest in index.items():
            if not _holds(path / name, digest):
                self._fetch(self._key(_stored(folder, name, digest)), path / name, digest)
        self._forget_others(path, set(index), time.time())
        return path

    def folders(self, under: str) -> list[str]:
        key = self._key(under) + "/"
        parts = [name[len(key) :].split("/") for name, _ in self._bucket.list(key)]
        return sorted(part[0] for part in parts if part[1:] == [INDEX])

    def add(self, folder: str, name: str, content: bytes) -> None:
        before = self._index(folder) or {}
        digest = hashlib.sha256(content).hexdigest()
        self.write(_stored(folder, name, digest), content)
        self._name(folder, {**before, name: digest}, before)

    def move(self, folder: str, target: str) -> None:
        source = self.folder(folder)
        if source is None:
            raise StoreError(f"{self.where}/{folder}: there is no such folder to move")
        with self.building(target) as room:
            for path in source.iterdir():
                shutil.copyfile(path, room / path.name)
        self.drop(folder)

    def drop(self, folder: str) -> None:
        index = self._index(folder)
        if index is not None:
            self.remove(f"{folder}/{INDEX}")  # first: from here on it is not there
            self._name(folder, {}, index)
        shutil.rmtree(self._cache / self._key(folder), ignore_errors=True)

    def _index(self, folder: str) -> dict[str, str] | None:
        content = self.read(f"{folder}/{INDEX}")
        return None if content is None else json.loads(content)

    def _name(self, folder: str, index: dict[str, str], before: dict[str, str]) -> None:
        """Say which files a folder has, and remove those that it had before and has no more."""
        if index:
            self.write(f"{folder}/{INDEX}", as_json(index))
        for name, digest in before.items():
            if index.get(name) != digest:
                self.remove(_stored(folder, name, digest))

    # --- documents -------------------------------------------------------------------------------------

    def document(self, name: str) -> dict[str, Any] | None:
        return self._version(name, self._newest(name))

    def update(self, name: str, change: Change) -> None:
        self._bucket.must_honour_conditions(self._key(f"{name}.probe"))
        for _ in range(TRIES):
            number = self._newest(name)
            before = self._version(name, number)
            after = change(before)
            if before is not None and as_json(after) == as_json(before):
                return
            if self.create(f"{name}/{number + 1:010d}", as_json(after)):
                self._forget(name, number + 1 - KEPT_VERSIONS)
                return
            time.sleep(random.uniform(0.02, 1.0))  # noqa: S311 - so that two do not meet again and again
        raise StoreError(f"{self.where}/{name}: {TRIES} others changed it first each time; try again")

    @contextmanager
    def changing(self, name: str) -> Iterator[Path]:
        self._bucket.must_honour_conditions(self._key(f"{name}.probe"))
        number = self._newest(name)
        with self._room() as room:
            path = room / Path(name).name
            if number:
                self._bucket.download(self._key(f"{name}/{number:010d}"), path)
            before = digest_of(path) if number else None
            yield path
            if not path.exists() or digest_of(path) == before:
                return
            if not self._bucket.upload_new(self._key(f"{name}/{number + 1:010d}"), path):
                raise StoreError(
                    f"{self.where}/{name}: another machine changed it at the same time; run this again"
                )
        self._forget(name, number + 1 - KEPT_FILES)

    def stamp(self, name: str) -> Hashable | None:
        return self._newest(name) or None

    def _newest(self, name: str) -> int:
        numbers = self.names(name)
        return int(numbers[-1]) if numbers else 0

    def _version(self, name: str, number: int) -> dict[str, Any] | None:
        """A version never changes, so each is read once."""
        if number == 0:
            return None
        return json.loads(self._versions(f"{name}/{number:010d}"))

    def _versions(self, name: str) -> bytes:
        key = self._key(name)
        content = self._bucket.read_before.get(key)
        if content is None:
            content = self.read(name)
            if content is None:
                raise StoreError(f"{self.where}/{name}: it was listed, and is gone; try again")
            self._bucket.read_before = {key: content}
        return content

    def _forget(self, name: str, number: int) -> None:
        if number > 0:
            self.remove(f"{name}/{number:010d}")

    # --- the cache -------------------------------------------------------------------------------------

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}".strip("/")

    @contextmanager
    def _room(self) -> Iterator[Path]:
        """A folder for what is on its way, beside the cache."""
        with on_disk(self._cache):
            self._cache.mkdir(parents=True, exist_ok=True)
            room = TemporaryDirectory(prefix=".way-", dir=self._cache)
        with room as folder:
            yield Path(folder)

    def _forget_others(self, folder: Path, names: set[str], began: float) -> None:
        """Remove cached files that the store had not when it was asked: a reader of the folder would take them in."""
        for path in folder.iterdir() if folder.is_dir() else ():
            with suppress(FileNotFoundError):
                if path.name not in names and path.is_file() and path.stat().st_mtime < began:
                    path.unlink()

    def _by_tag(self, key: str, cached: Path) -> None:
        """The file is cached as the store has it: the entity tag and digest that it had when it was fetched hold."""
        note = self._cache / ".tags" / f"{key}.json"
        tag = self._bucket.tags.get(key) or self._bucket.tag(key)
        known = json.loads(note.read_text()) if note.exists() else {}
        if known.get("tag") == tag and _holds(cached, known["sha256"]):
            return
        self._bucket.tags[key] = self._fetch(key, cached)
        write_whole(note, as_json({"tag": self._bucket.tags[key], "sha256": digest_of(cached)}))

    def _fetch(self, key: str, cached: Path, sha256: str | None = None) -> str:
        """Fetch a file whole into the cache; its entity tag."""
        with self._room() as room:
            building = room / "file"
            tag = self._bucket.download(key, building)
            if tag is None:
                raise StoreError(f"{self._bucket.url(key)}: it is not there; was it deleted from the bucket?")
            if sha256 is not None and digest_of(building) != sha256:
                raise StoreError(
                    f"{self._bucket.url(key)}: what the store has is not what was put there (its sha256 differs); "
                    "bring it back from a backup"
                )
            with on_disk(cached):
                cached.parent.mkdir(parents=True, exist_ok=True)
                building.replace(cached)
        return tag


def _stored(folder: str, name: str, digest: str) -> str:
    return f"{folder}/{digest[:16]}/{name}"


_verified: dict[Path, tuple[int, int, str]] = {}


def _holds(cached: Path, sha256: str) -> bool:
    """Whether a cached file has this content; hashed once in a process, and again when it was written since."""
    try:
        status = cached.stat()
    except OSError:
        return False
    known = (status.st_mtime_ns, status.st_size, sha256)
    if _verified.get(cached) != known:
        if digest_of(cached) != sha256:
            return False
        _verified[cached] = known
    return True
