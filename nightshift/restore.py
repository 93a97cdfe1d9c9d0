"""`nightshift restore`: a backup checked, and put where the settings say that the state lives.

The state is built beside its place and moved there in one rename, so a restore that was cut short changed nothing.
What was there is moved aside and never deleted. What can be made again, Feast's registry and online store, is made
again from the partitions at the end, for it holds the paths of the home that it was made in.
"""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightshift import upgrade
from nightshift.backup import Database, Progress, buckets, databases
from nightshift.contracts.features import USER_VIEW
from nightshift.dumps import (
    check_dump,
    check_sqlite,
    dump_postgresql,
    filled_tables,
    restore_postgresql,
    sqlite_file,
)
from nightshift.errors import BackupError
from nightshift.lake import MANIFEST, open_lake
from nightshift.parts import environment
from nightshift.settings import PROJECT, Settings
from nightshift.stack import running
from nightshift.store import shared
from nightshift.vault import Vault, copy_out, read_list

if TYPE_CHECKING:
    from nightshift.s3 import S3Store


@dataclass(frozen=True)
class Chosen:
    """A backup: its list, and the folder that has its bytes."""

    path: Path
    vault: Vault
    told: dict[str, Any]


def find(path: Path) -> Chosen:
    """The backup that a path names: its list, or the folder of backups, whose newest it is then.

    Raises BackupError if there is none, or it was made by a newer Nightshift.
    """
    path = path.expanduser().resolve()
    if path.is_dir():
        names = Vault(path).names()
        if not names:
            raise BackupError(f"{path}: holds no backup")
        path = path / f"{names[-1]}.json"
    told = read_list(path)
    upgrade.refuse_newer(told["schemas"], str(path))
    return Chosen(path, Vault(path.parent), told)


def check(chosen: Chosen, progress: Progress = lambda what, done, of: None) -> None:
    """Read every byte of a backup. Raises BackupError, naming the first that is wrong and how many are."""
    wrong, done = [], 0
    files = chosen.told["files"]
    total = sum(each["size"] for each in files)
    for each in files:
        progress(each["path"], done, total)
        found = chosen.vault.check(each["sha256"], each["size"]) or _unreadable(chosen, each)
        wrong += [f"{each['path']}: {found}"] if found else []
        done += each["size"]
    progress("", total, total)
    if wrong:
        raise BackupError(f"{chosen.path}: {len(wrong)} of {len(files)} files are not whole; {wrong[0]}")


def _unreadable(chosen: Chosen, each: dict[str, Any]) -> str | None:
    try:
        if each["kind"] == "sqlite":
            check_sqlite(chosen.vault.blob(each["sha256"]))
        elif each["kind"] == "pg_dump" and shutil.which("pg_restore"):
            check_dump(chosen.vault.blob(each["sha256"]))
    except BackupError as error:
        return str(error)
    return None


def restore(
    chosen: Chosen, config: Settings, *, force: bool = False, progress: Progress = lambda what, done, of: None
) -> list[str]:
    """Put a backup in the place that `config` names; what was moved aside, in words.

    Raises:
        BackupError: the stack runs there; there is a state already and `force` is not set; the backup is not whole;
            the settings name another kind of database; the disk is full. Nothing was changed then, but for
            databases of PostgreSQL, which are each restored wholly or not at all, and named.
    """
    alive = running(config.home)
    if alive:
        raise BackupError(
            f"{config.home}: the stack runs there ({', '.join(alive)}); `nightshift down` first"
        )
    placed = _databases(chosen, config)
    within = _buckets(chosen, config)
    filled = {
        one.role: filled_tables(one.url, one.tables) for one, _ in placed if sqlite_file(one.url) is None
    }
    in_the_way = [str(path) for path in _places(config, placed) if _there(path)]
    in_the_way += [
        f"the database of {role} ({', '.join(names[:3])} …)" for role, names in filled.items() if names
    ]
    if in_the_way and not force:
        raise BackupError(
            f"there is a state already: {'; '.join(in_the_way)}; --force moves it aside, or choose another --home"
        )
    for store in within.values():
        if store.objects():
            raise BackupError(
                f"{store.where}: holds a state already, and what is in a bucket is not moved aside; name an empty "
                "place: NIGHTSHIFT_STORE_URL=s3://bucket/another, and NIGHTSHIFT_MLFLOW_ARTIFACTS_URL likewise"
            )
    check(chosen, progress)
    staging = _staging(config)
    try:
        _build(chosen, config, placed, staging, progress)
        aside = _clear(config, placed, filled)
        for one, each in placed:
            if sqlite_file(one.url) is None:
                restore_postgresql(one.url, chosen.vault.blob(each["sha256"]), one.extension)
        _fill(chosen, within, progress)
        _move(staging, config, placed)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        why = "the disk is full" if full else f"{error.strerror}: {error.filename}"
        raise BackupError(f"{config.home}: cannot be restored ({why}); the backup is whole") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    upgrade.prepare(config)
    _features(config)
    return aside


def _databases(chosen: Chosen, config: Settings) -> list[tuple[Database, dict[str, Any]]]:
    """The backup's databases, each with where it goes by the settings."""
    kept = {each["path"]: each for each in chosen.told["files"]}
    found = []
    for one in databases(config):
        each = kept.get(f"databases/{one.role}")
        if each is None:
            continue
        here = "sqlite" if sqlite_file(one.url) is not None else "pg_dump"
        if each["kind"] != here:
            names = {"sqlite": "SQLite", "pg_dump": "PostgreSQL"}
            raise BackupError(
                f"{chosen.path}: its {one.role} is of {names[each['kind']]}, and the settings name {names[here]}; "
                "set the database's URL as it was when the backup was made"
            )
        found.append((one, each))
    return found


def _buckets(chosen: Chosen, config: Settings) -> dict[str, S3Store]:
    """Where the backup's objects go by the settings."""
    named = {"store": "NIGHTSHIFT_STORE_URL", "artifacts": "NIGHTSHIFT_MLFLOW_ARTIFACTS_URL"}
    within = buckets(config)
    kept = set(chosen.told["buckets"])
    for name, setting in named.items():
        if (name in kept) != (name in within):
            was, here = ("a bucket", "a folder") if name in kept else ("a folder", "a bucket")
            raise BackupError(
                f"{chosen.path}: was made with {setting} in {was}, and the settings name {here}; set it as it was"
            )
    return within


def _fill(chosen: Chosen, within: dict[str, S3Store], progress: Progress) -> None:
    """Put the backup's objects into their buckets; the lake's manifest last, so that no reader finds half a lake."""
    objects = [each for each in chosen.told["files"] if each["kind"] == "object"]
    objects.sort(key=lambda each: f"/{MANIFEST}/" in each["path"])
    total, done = sum(each["size"] for each in objects), 0
    for each in objects:
        progress(each["path"], done, total)
        name, _, key = each["path"].partition("/")
        within[name].put(key, chosen.vault.blob(each["sha256"]))
        done += each["size"]


def _places(config: Settings, placed: list[tuple[Database, dict[str, Any]]]) -> Iterator[Path]:
    yield config.home
    if config.home not in config.models_dir.parents:
        yield config.models_dir
    for one, _ in placed:
        file = sqlite_file(one.url)
        if file is not None and config.home not in file.parents:
            yield file


def _there(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and bool(_content(path)))


def _content(folder: Path) -> list[Path]:
    """What of a folder is a state: on a volume, what is built there and what was moved aside there is none."""
    ours = (".restoring", "lost+found", "before-") if folder.is_mount() else ()
    return [child for child in folder.iterdir() if not child.name.startswith(ours)]


def _staging(config: Settings) -> Path:
    """Where the state is built: on the disk that it is for. A home that is a disk of its own cannot be renamed."""
    home = config.home
    home.parent.mkdir(parents=True, exist_ok=True)
    staging = home / ".restoring" if home.is_mount() else home.with_name(f".{home.name}.restoring")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(mode=0o700)
    return staging


def _build(
    chosen: Chosen,
    config: Settings,
    placed: list[tuple[Database, dict[str, Any]]],
    staging: Path,
    progress: Progress,
) -> None:
    targets = {}
    for one, each in placed:
        file = sqlite_file(one.url)
        if file is not None:
            inside = config.home in file.parents
            targets[each["path"]] = str(file.relative_to(config.home)) if inside else f".outside/{one.role}"
    files = [
        each
        for each in chosen.told["files"]
        if each["path"] in targets or not (_is_database(each["path"]) or each["kind"] == "object")
    ]
    total, done = sum(each["size"] for each in files), 0
    if total > shutil.disk_usage(staging).free:
        raise OSError(errno.ENOSPC, "No space left on device")
    outside = config.home not in config.models_dir.parents
    for each in files:
        path = each["path"]
        progress(path, done, total)
        place = targets.get(path, f".outside/{path}" if outside and path.startswith("models/") else path)
        copy_out(chosen.vault, each["sha256"], staging / place, each["mode"])
        done += each["size"]
    progress("", total, total)


def _is_database(path: str) -> bool:
    return path.startswith("databases/")


def _clear(
    config: Settings, placed: list[tuple[Database, dict[str, Any]]], filled: dict[str, list[str]]
) -> list[str]:
    """Move what is in the way aside; where to, in words."""
    mark, told = f"before-{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}", []
    for path in _places(config, placed):
        if not _there(path):
            continue
        if path.is_mount():
            aside = path / mark
            aside.mkdir()
            for child in _content(path):
                child.rename(aside / child.name)
        else:
            aside = path.rename(path.with_name(f"{path.name}.{mark}"))
        told.append(f"{path} is now {aside}")
    for one, _ in placed:
        if filled.get(one.role):
            dump = config.home.with_name(f"{config.home.name}.{one.role}.{mark}.pg_dump")
            dump_postgresql(one.url, dump, one.tables)
            told.append(f"what {one.role}'s database held is in {dump}")
    return told


def _move(staging: Path, config: Settings, placed: list[tuple[Database, dict[str, Any]]]) -> None:
    outside = staging / ".outside"
    for one, _ in placed:
        file = sqlite_file(one.url)
        if (outside / one.role).is_file() and file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(outside / one.role, file)
    if (outside / "models").is_dir():
        config.models_dir.parent.mkdir(parents=True, exist_ok=True)
        if config.models_dir.is_dir():
            config.models_dir.rmdir()
        shutil.move(outside / "models", config.models_dir)
    shutil.rmtree(outside, ignore_errors=True)
    if config.home.is_mount():
        for child in staging.iterdir():
            child.rename(config.home / child.name)
        return
    if config.home.is_dir():
        config.home.rmdir()  # empty: else it was moved aside
    staging.rename(config.home)


def _features(config: Settings) -> None:
    """Feast's registry and online store, from the partitions: they hold paths of the home that they were made in."""
    newest = open_lake(config).last_day()
    if newest is None or not shared(config).names(f"features/{USER_VIEW}"):
        return
    done = subprocess.run(
        [sys.executable, "-m", "feature_repo.build", "--night", newest.isoformat()],
        env=environment(config), cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-300:]
        raise BackupError(
            f"{config.home} is restored, but its online features could not be made ({said}); "
            "make them with `nightshift features`"
        )
