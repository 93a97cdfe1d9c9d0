"""The digest of a package, on plain folders; that MLflow's own packages keep theirs is in test_registry's loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightshift.packages import package_digest, package_size


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "package" / "artifacts").mkdir(parents=True)
    (tmp_path / "package" / "MLmodel").write_text("flavors: {}")
    (tmp_path / "package" / "artifacts" / "weights.bin").write_bytes(bytes(1000))
    return tmp_path / "package"


def test_the_digest_is_the_contents_and_not_the_folders(package: Path) -> None:
    before = package_digest(package)
    assert package_digest(package.rename(package.with_name("elsewhere"))) == before


@pytest.mark.parametrize("change", ["flip", "rename", "move", "add", "delete"])
def test_whatever_changes_changes_the_digest(package: Path, change: str) -> None:
    weights = package / "artifacts" / "weights.bin"
    before = package_digest(package)
    if change == "flip":
        weights.write_bytes(bytes(999) + b"\1")
    elif change == "rename":
        weights.rename(weights.with_name("weight.bin"))
    elif change == "move":
        weights.rename(package / "weights.bin")
    elif change == "add":
        (package / "artifacts" / "hook.py").touch()
    else:
        weights.unlink()
    assert package_digest(package) != before


def test_what_a_download_adds_is_left_out_and_nothing_else_of_that_name(package: Path) -> None:
    digest, size = package_digest(package), package_size(package)
    (package / "registered_model_meta").write_text("model_version: 3")
    assert (package_digest(package), package_size(package)) == (digest, size)
    (package / "artifacts" / "registered_model_meta").write_text("model_version: 3")
    assert package_digest(package) != digest


def test_the_size_is_that_of_its_files(package: Path) -> None:
    assert package_size(package) == 1000 + len("flavors: {}")
