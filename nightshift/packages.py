"""A packaged model on disk: what it weighs, and the digest by which it is known again.

The digest is of what MLflow keeps, taken from a download. Measured with MLflow 3.17: neither registration, tags,
aliases nor loading change a byte of it. A download adds one file, `registered_model_meta`, which names the model or
the version that it was asked for by: that one, and no other, is left out.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

ADDED_BY_DOWNLOAD = (
    "registered_model_meta"  # beside MLmodel; a file of that name deeper down is the package's own
)


def package_digest(folder: Path) -> str:
    """sha256 over the relative path and the sha256 of every file: equal digests mean equal packages."""
    files = {path.relative_to(folder).as_posix(): _sha256(path) for path in _files(folder)}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def package_size(folder: Path) -> int:
    """Bytes of all its files."""
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if path != folder / ADDED_BY_DOWNLOAD]


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
