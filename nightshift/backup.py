"""`nightshift backup`: all that cannot be made again, while the stack runs.

What a backup holds and how it lies on disk: docs/backup.md. Each part is copied as it is at one moment, and the
parts in an order in which none tells of what another lacks:

    features        listed first: a day's partition whose day is not in the lake yet would be one too many
    lake            its manifest next; the files it names never change
    event log       after the lake: what a night claimed that the lake lacks is claimed again, and nothing twice
    MLflow          after the event log: a version that somebody was answered by is in the registry
    all other files artifacts of MLflow among them, last: a version in the registry has its package

The listing and the databases take seconds, and no step of a night publishes, trains and promotes in so few.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from nightshift import upgrade
from nightshift.dumps import copy_sqlite, dump_postgresql, is_sqlite, sqlite_file
from nightshift.errors import BackupError
from nightshift.lake import MANIFEST, open_lake
from nightshift.settings import Settings
from nightshift.store import digest_of
from nightshift.vault import Vault

if TYPE_CHECKING:
    from nightshift.s3 import S3Store

FORMAT = 1
# What is made again: by the stack when it starts, by the next build, or, a training cut short, by the next night.
MADE_AGAIN = frozenset(
    {
        "logs",
        "bentoml",
        "feast",
        "card",
        "checkpoints",
        "replay",
        "backtest",
        "cache",
        "stack.json",
        "moves.lock",
    }
)
BY_MANIFEST = frozenset({"lake", "features"})
SECRETS = frozenset(
    {"secrets.json", "airflow/passwords.json", "airflow/airflow.cfg",
     "airflow/simple_auth_manager_passwords.json.generated", "mlflow/auth.ini"}
)  # fmt: skip
PASSING_OBJECTS = ("lake/staging/",)
LISTINGS = 5  # of a bucket, while days are published
PASSING = (".tmp", ".building", ".lock", "-wal", "-shm", "-journal")
Progress = Callable[[str, int, int], None]  # what, bytes done, bytes in all


@dataclass(frozen=True)
class Database:
    """One that is ours. tables: the only ones of it that are; empty: all. extension: what PostgreSQL must have."""

    role: str
    url: str
    tables: tuple[str, ...] = ()
    extension: str | None = None


@dataclass
class Made:
    """A backup that was made. new: bytes that the folder did not have yet."""

    path: Path
    told: dict[str, Any]
    new: int = 0
    dropped: list[str] = field(default_factory=list)


def databases(config: Settings) -> list[Database]:
    """The databases in the order in which they are copied."""
    home = config.home
    found = [
        Database(
            "eventlog", config.eventlog_uri,
            ("events", "exposures", "conversations", "nightshift_eventlog"),
        ),
        Database(
            "profiles", _url(config.profiles_url, home / "profiles.db"),
            ("coach_profiles", "coach_topics", "coach_roadmaps", "coach_steps", "nightshift_profiles"), "vector",
        ),
        Database("feeds", _url(None, home / "feeds.db")),
        Database("mlflow", _url(config.mlflow_backend_url, home / "mlflow" / "mlflow.db")),
        Database("airflow", _url(config.airflow_database_url, home / "airflow" / "airflow.db")),
    ]  # fmt: skip
    return [one for one in found if one.role != "mlflow" or has_mlflow(config)]


def has_mlflow(config: Settings) -> bool:
    """Whether MLflow's database is ours: it runs here, or the settings say where it is."""
    return config.mlflow_url is None or config.mlflow_backend_url is not None


def buckets(config: Settings) -> dict[str, S3Store]:
    """What of the state lies in buckets: the name that it has in a backup, and where it is."""
    urls = {"store": config.store_url, "artifacts": config.mlflow_artifacts_url}
    from nightshift.s3 import S3Store

    return {
        name: S3Store(url, config.home / "cache")
        for name, url in urls.items()
        if url is not None and url.startswith("s3://")
    }


def _url(given: SecretStr | None, file: Path) -> str:
    return given.get_secret_value() if given is not None else f"sqlite:///{file}"


def left_out(config: Settings, secrets: bool) -> list[str]:
    """What a person might look for in a backup in vain, and why, in words."""
    told = [] if secrets else ["passwords and keys (--secrets takes them in); new ones are made"]
    if not has_mlflow(config):
        told.append(f"MLflow: {config.mlflow_url} is not of this stack; back it up where it runs")
    if config.source_path:
        told.append(f"the source's own files: {config.source_path}")
    return told


def make(
    config: Settings,
    to: Path | None = None,
    *,
    secrets: bool = False,
    keep: int | None = None,
    progress: Progress = lambda what, done, of: None,
    now: datetime | None = None,
) -> Made:
    """Make a backup and return it; the stack may run.

    to: folder of backups; default: settings' own. secrets: passwords and keys too. keep: delete all but the newest
    so many afterwards. now: for tests.

    Raises:
        BackupError: there is nothing to back up, the disk is full, a database cannot be copied, or the folder
            cannot be written; the backups made earlier are whole.
    """
    root = (to or config.backups_dir).expanduser().resolve()
    if not config.home.is_dir():
        raise BackupError(f"{config.home}: no such folder; NIGHTSHIFT_HOME says where the state lives")
    if root == config.home or config.home in root.parents:
        raise BackupError(
            f"{root}: lies in {config.home}, and would be lost with it; choose another folder by --to"
        )
    if root.exists() and not root.is_dir():
        raise BackupError(f"{root}: is a file; a backup goes to a folder")
    vault = Vault(root)
    with vault.writing():
        maker = _Maker(config, vault, secrets, progress)
        name = f"{now or datetime.now(UTC):%Y-%m-%dT%H%M%S.%fZ}"
        told = maker.all()
        made = Made(vault.write(name, told), told, maker.new)
        if keep is not None:
            made.dropped = vault.keep(keep, besides=name)
    return made


class _Maker:
    def __init__(self, config: Settings, vault: Vault, secrets: bool, progress: Progress) -> None:
        self.config, self.vault, self.secrets, self.progress = config, vault, secrets, progress
        self.files: list[dict[str, Any]] = []
        self.days: list[str] = []
        self.new = 0
        self.known = self._known()

    def _known(self) -> dict[str, dict[str, Any]]:
        """Files of the newest backup, by path: one with the same size and time was not written to since."""
        names = self.vault.names()
        return {each["path"]: each for each in self.vault.read(names[-1])["files"]} if names else {}

    def all(self) -> dict[str, Any]:
        within = buckets(self.config)
        if "store" in within:
            self.days, shared = self._listed(within["store"])
            here = []
        else:
            here, shared = [*self._features(), *self._lake()], []
        for one in databases(self.config):
            self._database(one)
        rest = [*here, *self._rest()]
        for name, objects in (
            ("store", shared),
            ("artifacts", within["artifacts"].objects() if "artifacts" in within else []),
        ):
            for key, tag in objects:
                self._object(name, within[name], key, tag)
        total = sum(size for *_, size in rest)
        missing = sum(size for path, _, size in rest if path not in self.known)
        if missing > self.vault.room():
            raise OSError(28, "No space left on device")
        done = 0
        for path, source, size in rest:
            self.progress(path, done, total)
            self._file(path, source)
            done += size
        self.progress("", total, total)
        return {
            "format": FORMAT,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "home": str(self.config.home),
            "schemas": upgrade.schemas(),
            "packages": upgrade.packages(),
            "buckets": sorted(within),
            "days": sorted(self.days),
            "left_out": left_out(self.config, self.secrets),
            "files": sorted(self.files, key=lambda each: str(each["path"])),
        }

    # --- the parts -------------------------------------------------------------------------------------

    def _features(self) -> list[tuple[str, Path, int]]:
        root = self.config.features_dir
        paths = sorted(root.glob("*/day=*.parquet"))
        return [
            (f"features/{path.relative_to(root).as_posix()}", path, path.stat().st_size) for path in paths
        ]

    def _lake(self) -> list[tuple[str, Path, int]]:
        """The manifest, kept as it is now, and the files that it names."""
        root = self.config.lake_dir
        open_lake(self.config).days()  # raises if it is of another version
        path = root / MANIFEST
        if not path.exists():
            return []
        told = path.read_bytes()
        self._bytes(f"lake/{MANIFEST}", told)
        self.days, named = _published(json.loads(told))
        found = [(f"lake/{name}", root / name, (root / name).stat().st_size) for name in named]
        return [*found, *self._walk(root / "quarantine", "lake/quarantine")]

    def _listed(self, store: S3Store) -> tuple[list[str], list[tuple[str, str]]]:
        """Published days, and the objects of the store, at a moment at which all that the manifest names is there.

        A listing is none of one moment: a day that is published meanwhile may have its place in it, and its files not.
        """
        lake = store.within("lake")
        for _ in range(LISTINGS):
            open_lake(self.config).days()
            objects = [(name, tag) for name, tag in store.objects() if not name.startswith(PASSING_OBJECTS)]
            there = {name for name, _ in objects}
            versions = sorted(name for name in there if name.startswith(f"lake/{MANIFEST}/"))
            content = store.read(versions[-1]) if versions else b'{"days": {}}'
            days, named = _published(json.loads(content)) if content is not None else ([], ["?"])
            if all(f"lake/{name}" in there for name in named):
                return days, objects
        raise BackupError(
            f"{lake.where}: its manifest names files that are not there; this backup was not made"
        )

    def _object(self, name: str, store: S3Store, key: str, tag: str) -> None:
        """An object, unless the last backup has it already: the same entity tag, the same bytes."""
        path = f"{name}/{key}"
        self.progress(path, 0, 0)
        entry = {"path": path, "mode": 0o600, "mtime": 0, "kind": "object", "tag": tag}
        known = self.known.get(path)
        if known is not None and known.get("tag") == tag and self.vault.has(known["sha256"], known["size"]):
            self.files.append({**entry, "sha256": known["sha256"], "size": known["size"]})
            return
        scratch = self.vault.scratch("object")
        if store.fetch(key, scratch):  # else it was replaced this moment, and is nothing that lasts
            self._scratch(entry, scratch)
        elif key.startswith(("lake/data/", "features/")):
            raise BackupError(
                f"{store.where}/{key}: is gone, though nothing deletes it; this backup was not made"
            )

    def _database(self, one: Database) -> None:
        source, path = sqlite_file(one.url), f"databases/{one.role}"
        self.progress(path, 0, 0)
        if source is not None and not source.exists():
            return
        scratch = self.vault.scratch(one.role)
        if source is not None:
            copy_sqlite(source, scratch)
        else:
            dump_postgresql(one.url, scratch, one.tables)
        kind = "sqlite" if source is not None else "pg_dump"
        self._scratch({"path": path, "mode": 0o600, "mtime": 0, "kind": kind}, scratch)

    def _rest(self) -> list[tuple[str, Path, int]]:
        """Every other file under home that is not made again, and the base models made here, wherever they lie."""
        home = self.config.home
        copied = {sqlite_file(one.url) for one in databases(self.config)}
        found: list[tuple[str, Path, int]] = []
        for top in sorted(home.iterdir()):
            aside = top.name.startswith(("before-", ".restoring"))  # by a restore, on a volume
            if aside or top.name in MADE_AGAIN | BY_MANIFEST or top == self.config.backups_dir:
                continue
            found += self._walk(top, top.name)
        if home not in self.config.models_dir.parents:
            found += self._walk(self.config.models_dir, "models")
        return [
            (path, source, size)
            for path, source, size in found
            if source not in copied and (self.secrets or path not in SECRETS)
        ]

    def _walk(self, top: Path, under: str) -> Iterator[tuple[str, Path, int]]:
        """(path in the backup, file, bytes) of what is below `top`, or `top` itself."""
        folders = os.walk(top, followlinks=True) if top.is_dir() else [(str(top.parent), [], [top.name])]
        for folder, _, names in folders:
            for name in names:
                source = Path(folder) / name
                path = under if source == top else f"{under}/{source.relative_to(top).as_posix()}"
                try:
                    if source.is_file() and not name.endswith(PASSING):
                        yield path, source, source.stat().st_size
                except FileNotFoundError:
                    continue  # gone this moment: nothing that lasts

    # --- one of them -----------------------------------------------------------------------------------

    def _file(self, path: str, source: Path) -> None:
        try:
            about = source.stat()
            if is_sqlite(source):  # a study's
                scratch = self.vault.scratch("database")
                copy_sqlite(source, scratch)
                return self._scratch({"path": path, "mode": 0o600, "mtime": 0, "kind": "sqlite"}, scratch)
            entry = {"path": path, "mode": about.st_mode & 0o777, "mtime": about.st_mtime_ns, "kind": "file"}
            known = self.known.get(path)
            same = known is not None and (known["size"], known["mtime"]) == (about.st_size, about.st_mtime_ns)
            if known is not None and same and self.vault.has(known["sha256"], known["size"]):
                self.files.append({**entry, "sha256": known["sha256"], "size": known["size"]})
                return None
            with source.open("rb") as handle:
                self._keep(entry, *self.vault.put(handle))
        except FileNotFoundError:
            if path.startswith(("lake/data/", "features/")):
                raise BackupError(
                    f"{source}: is gone, though nothing deletes it; this backup was not made"
                ) from None

    def _bytes(self, path: str, told: bytes) -> None:
        self._keep(
            {"path": path, "mode": 0o644, "mtime": 0, "kind": "file"}, *self.vault.put(io.BytesIO(told))
        )

    def _scratch(self, entry: dict[str, Any], scratch: Path) -> None:
        digest, size = digest_of(scratch), scratch.stat().st_size
        self._keep(entry, digest, size, self.vault.take(scratch, digest, size))

    def _keep(self, entry: dict[str, Any], digest: str, size: int, new: bool) -> None:
        self.files.append({**entry, "sha256": digest, "size": size})
        self.new += size if new else 0


def _published(manifest: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The days of a lake's manifest, and the files that it names."""
    entries = manifest["days"]
    return list(entries), sorted(
        table["path"] for entry in entries.values() for table in entry["tables"].values()
    )
