"""What is different between the champion and tonight's candidate: data, code, parameters, packages.

Read from what MLflow and git keep; what is not on record is "unknown", never guessed. Not covered: uncommitted edits.
A dirty tree is flagged, but what was in it nobody can look up.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightshift.errors import RegistryError

if TYPE_CHECKING:
    from nightshift.registry import Registry, Version
from nightshift.settings import PROJECT

UNKNOWN = "unknown"
SHOWN = 30  # commits and files; the counts are of all
FOLDERS = ("training", "feature_repo")  # the code that decides what a model learns
SIZES = (
    "users",
    "items",
    "positives",
    "topics",
    "examples",
)  # run parameters that tell of the data, not of the model
WINDOW = ("night", "train_start", "train_end", "exam_start")
SECRET = re.compile(r"password|passwd|secret|token|credential|api_?key", re.IGNORECASE)


@dataclass(frozen=True)
class Change:
    name: str
    before: str
    now: str

    @property
    def same(self) -> bool:
        return self.before == self.now


@dataclass(frozen=True)
class Code:
    """before, now: commits, or "unknown". commits: "abc1234 subject", newest first; files: of FOLDERS.

    count, file_count: how many there are in all; None if git cannot tell, and `note` says why.
    """

    before: str = UNKNOWN
    now: str = UNKNOWN
    dirty_before: str = UNKNOWN
    dirty_now: str = UNKNOWN
    count: int | None = None
    commits: tuple[str, ...] = ()
    file_count: int | None = None
    files: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Changes:
    """champion: None if nobody sat in the seat: then there is nothing to compare, and `before` is empty throughout.

    data: all that is known, the same or not. params, packages: only what differs. same_data: None = not known.
    """

    champion: int | None = None
    candidate: int | None = None
    data: tuple[Change, ...] = ()
    same_data: bool | None = None
    code: Code = field(default_factory=Code)
    params: tuple[Change, ...] = ()
    packages: tuple[Change, ...] = ()
    packages_known: bool = False

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def since(
    registry: Registry, champion: Version | None, candidate: Version | None, folder: Path = PROJECT
) -> Changes:
    """What changed from the champion to the candidate; `folder`: the working tree whose history is asked.

    Raises:
        RegistryError: MLflow cannot be reached.
    """
    if candidate is None:
        return Changes(champion=champion.number if champion else None)
    now = _Known.of(registry, candidate)
    before = _Known.of(registry, champion) if champion is not None else _Known({}, {}, None)
    names = sorted({*before.packages, *now.packages}) if champion is not None else []
    digests = [known.tags.get("data_digest", UNKNOWN) for known in (before, now)]
    return Changes(
        champion=champion.number if champion else None,
        candidate=candidate.number,
        data=_data(before, now),
        same_data=None if UNKNOWN in digests else digests[0] == digests[1],
        code=_code(before.tags, now.tags, folder) if champion is not None else _code_of(now.tags),
        params=_params(before, now) if champion is not None else (),
        packages=_differing(before.packages, now.packages, names),
        packages_known=bool(before.packages and now.packages),
    )


@dataclass(frozen=True)
class _Known:
    """What is on record of one version."""

    tags: Mapping[str, str]
    params: Mapping[str, str]
    rows: int | None
    packages: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(registry: Registry, version: Version) -> _Known:
        from mlflow.exceptions import MlflowException

        try:
            run = registry.client.get_run(version.run_id)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return _Known(version.tags, {}, None)
            raise RegistryError(
                f"MLflow does not tell about run {version.run_id} of {version.seat} version {version.number}; "
                "`nightshift status` tells whether it is up"
            ) from error
        return _Known(version.tags, run.data.params, _rows(run), _packages(version))


def _rows(run: Any) -> int | None:
    """How many rows the run's training data had, as its data set's profile tells."""
    for given in run.inputs.dataset_inputs if run.inputs else ():
        try:
            return int(json.loads(given.dataset.profile)["num_rows"])
        except (ValueError, KeyError, TypeError):
            continue
    return None


def _packages(version: Version) -> dict[str, str]:
    """Package → version, as the packaged model asks for them; empty if it does not say."""
    import mlflow.artifacts
    import requests
    from mlflow.exceptions import MlflowException

    from nightshift.seats import SEATS

    uri = f"models:/{SEATS[version.seat].registered_model}/{version.number}/requirements.txt"
    with tempfile.TemporaryDirectory(prefix="nightshift-") as folder:
        try:
            lines = (
                Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
                .read_text("utf-8")
                .splitlines()
            )
        except (MlflowException, requests.RequestException, OSError, UnicodeDecodeError):
            return {}
    pinned = (re.fullmatch(r"([\w.\[\]-]+)==([\w.+!-]+)", line.partition(";")[0].strip()) for line in lines)
    return {match[1]: match[2] for match in pinned if match}


def _data(before: _Known, now: _Known) -> tuple[Change, ...]:
    rows = [Change(name, _clean(ask(before)), _clean(ask(now))) for name, ask in _ASKED.items()]
    sizes = [Change(f"{n} in it", *(_count(k.params.get(n)) for k in (before, now))) for n in SIZES]
    return tuple(row for row in (*rows, *sizes) if row.before or row.now)


def _window(known: _Known) -> str:
    start, end = known.tags.get("train_start", ""), known.tags.get("train_end", "")
    return f"{start} to {end}" if start or end else ""


def _days(known: _Known) -> str:
    try:
        start, end = (date.fromisoformat(known.tags[name]) for name in ("train_start", "train_end"))
    except (KeyError, ValueError):
        return ""
    return str((end - start).days + 1)


_ASKED = {
    "night": lambda known: known.tags.get("night", ""),
    "training window": _window,
    "days in it": _days,
    "rows learnt from": lambda known: _count(known.rows),
    "data digest": lambda known: known.tags.get("data_digest", "")[:12],
}


def _count(found: object) -> str:
    text = "" if found is None else str(found)
    return f"{int(text):,}" if text.isascii() and text.isdigit() else _clean(text)


def _params(before: _Known, now: _Known) -> tuple[Change, ...]:
    """The run's parameters that differ; the family stands first, for it explains the others."""
    was = {"family": before.tags.get("family", UNKNOWN), **before.params}
    given = {"family": now.tags.get("family", UNKNOWN), **now.params}
    names = [name for name in dict.fromkeys([*was, *given]) if name not in (*SIZES, *WINDOW)]
    return _differing(was, given, names)


def _differing(before: Mapping[str, str], now: Mapping[str, str], names: list[str]) -> tuple[Change, ...]:
    rows = [(name, before.get(name, "not set"), now.get(name, "not set")) for name in names]
    hidden = "(hidden)"
    return tuple(
        Change(name, hidden, hidden) if SECRET.search(name) else Change(name, _clean(was), _clean(given))
        for name, was, given in rows
        if was != given
    )


def _clean(text: str) -> str:
    """Short, on one line, without the user and the password of a URI."""
    text = " ".join(re.sub(r"(?<=://)[^\s/]*@", "***@", str(text)).split())
    return text if len(text) <= 160 else text[:159] + "…"


def _code_of(tags: Mapping[str, str]) -> Code:
    return Code(now=_clean(tags.get("git_commit", UNKNOWN)), dirty_now=_clean(tags.get("dirty", UNKNOWN)))


def _code(before: Mapping[str, str], now: Mapping[str, str], folder: Path) -> Code:
    old, new = (_clean(tags.get("git_commit", UNKNOWN)) for tags in (before, now))
    was_dirty, is_dirty = (_clean(tags.get("dirty", UNKNOWN)) for tags in (before, now))
    known = Code(old, new, was_dirty, is_dirty)
    if not all(
        re.fullmatch(r"[0-9a-f]{7,40}", commit) for commit in (old, new)
    ):  # nothing else may reach git
        return replace(known, note="which commit one of them was trained by is not on record")
    if old == new:
        return replace(known, count=0, file_count=0)
    try:
        commits = _git(folder, "log", "--format=%h %s", "--no-show-signature", f"{old}..{new}")
        files = _git(folder, "diff", "--name-only", "--no-ext-diff", old, new, "--", *FOLDERS)
        back = _git(folder, "rev-list", f"{new}..{old}")
    except (OSError, subprocess.SubprocessError):
        return replace(known, note="git does not know both commits here")
    note = f"commits of the champion's code that the candidate's has not: {len(back)}" if back else ""
    shown = tuple(map(_clean, commits[:SHOWN]))
    return replace(known, count=len(commits), commits=shown, file_count=len(files),
                   files=tuple(map(_clean, files[:SHOWN])), note=note)  # fmt: skip


def _git(folder: Path, *arguments: str) -> list[str]:
    command = ["git", "-c", "core.quotepath=off", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=20)
    return done.stdout.decode("utf-8", "replace").splitlines()
