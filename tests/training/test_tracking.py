"""Of which code a run says it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightshift.settings import settings
from training.tracking import code_tags

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def no_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """As in an image: no git, and no checkout."""
    monkeypatch.setenv("PATH", str(tmp_path))
    settings.cache_clear()
    yield monkeypatch
    settings.cache_clear()


@pytest.mark.parametrize(("told", "dirty"), [(COMMIT, "false"), (f"{COMMIT}-dirty", "true")])
def test_an_image_says_of_which_commit_its_code_is(no_git: pytest.MonkeyPatch, told: str, dirty: str) -> None:
    no_git.setenv("NIGHTSHIFT_COMMIT", told)
    assert code_tags() == {"git_commit": COMMIT, "dirty": dirty, "mlflow.source.git.commit": COMMIT}


def test_code_that_nobody_knows_is_told_as_unknown(no_git: pytest.MonkeyPatch) -> None:
    no_git.delenv("NIGHTSHIFT_COMMIT", raising=False)
    assert code_tags() == {"git_commit": "unknown", "dirty": "unknown"}
