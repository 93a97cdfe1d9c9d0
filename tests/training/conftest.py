"""The tiny world with its features built, and what each family makes of it, trained once a session."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from nightshift.lake import Lake
from nightshift.settings import Settings
from tests.conftest import TINY_DAYS, TINY_START
from training.families import FAMILIES
from training.recipe import Night, Trained, resolve_night

TINY_NIGHT = TINY_START + timedelta(days=TINY_DAYS - 1)


@pytest.fixture(scope="session")
def featured_home(tiny_home: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose home holds the tiny lake and its features. Read it; copy it to write."""
    home = tmp_path_factory.mktemp("featured_home")
    shutil.copytree(tiny_home.lake_dir, home / "lake")
    build_features(home)
    return tiny_home.model_copy(update={"home": home})


def build_features(home: Path) -> None:
    """By command, as a night does: this room does not import the feature repository."""
    done = subprocess.run(
        [sys.executable, "-m", "feature_repo.build", "--night", str(TINY_NIGHT)],
        env={**os.environ, "NIGHTSHIFT_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="session")
def tiny_night(featured_home: Settings) -> Night:
    return resolve_night(Lake(featured_home.lake_dir), TINY_NIGHT, featured_home)


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def trained(
    request: pytest.FixtureRequest,
    featured_home: Settings,
    tiny_night: Night,
    tmp_path_factory: pytest.TempPathFactory,
) -> Trained:
    """What each family's recipe gives on the tiny world."""
    recipe = FAMILIES[request.param].load()
    folder = tmp_path_factory.mktemp(f"trained_{request.param}")
    return recipe.train(
        tiny_night, featured_home, folder, smoke=True, seed=3, log_epoch=lambda epoch, metrics: None
    )
