"""Shared by the tests of the registry: packaged models on a real MLflow server, and a seat of one's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest

from nightshift import turns
from nightshift.registry import Registry
from nightshift.seats import RECOMMENDER, Seat
from nightshift.settings import PROJECT, Settings
from nightshift.versions import REFERENCE

PREDICTOR = Path(__file__).parents[1] / "training" / "tiny_predictor.py"


@pytest.fixture(scope="session")
def package(
    mlflow_server: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[dict[str, Any]], tuple[str, str]]:
    """(run id, model URI) of a packaged model that answers from a table."""

    def _package(content: dict[str, Any]) -> tuple[str, str]:
        Registry(mlflow_server)
        mlflow.set_experiment("registry tests")
        path = tmp_path_factory.mktemp("packaged") / "table.json"
        path.write_text(json.dumps(content))
        with mlflow.start_run() as run:
            info = mlflow.pyfunc.log_model(
                name="model", python_model=str(PREDICTOR), artifacts={"table": str(path)}, pip_requirements=[]
            )
        return run.info.run_id, info.model_uri

    return _package


@pytest.fixture(scope="session")
def packaged(package: Callable[[dict[str, Any]], tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """(run id, model URI) of a model that works, and of one whose package is torn."""
    return {"good": package({"items": ["i1"], "scores": {"u1": [0.5]}}), "torn": package({"broken": True})}


@pytest.fixture
def registry(mlflow_server: Settings) -> Registry:
    return Registry(mlflow_server)


@pytest.fixture
def seat() -> Seat:
    """A seat that no other test has sat in."""
    return replace(RECOMMENDER, registered_model=f"seat-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def submit(registry: Registry, seat: Seat, packaged: dict[str, tuple[str, str]]) -> Callable[..., int]:
    def _submit(which: str = "good", **tags: str) -> int:
        run_id, uri = packaged[which]
        return registry.submit(seat, run_id=run_id, model_uri=uri, tags=tags).number

    return _submit


@pytest.fixture
def no_other_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is on the server, so a mover need not wait for the claims of others."""
    monkeypatch.setattr(turns, "WAIT", 0.0)
    monkeypatch.setattr(turns, "LATE", 60.0)


@pytest.fixture(scope="session")
def at_once() -> Callable[..., list[str]]:
    """Runs `script` in processes at the same time, one for each list of arguments: what each of them prints."""

    def _at_once(
        config: Settings | list[Settings], script: str, arguments: list[list[str]], **more: str
    ) -> list[str]:
        configs = config if isinstance(config, list) else [config] * len(arguments)
        running = []
        for each, words in zip(configs, arguments, strict=True):
            own = {"NIGHTSHIFT_HOME": str(each.home), "NIGHTSHIFT_MLFLOW_URL": each.mlflow_uri}
            running.append(
                subprocess.Popen(
                    [sys.executable, "-c", script, *words],
                    env={**os.environ, **own, **more}, cwd=PROJECT, stdout=subprocess.PIPE, text=True,
                )
            )  # fmt: skip
        printed = [process.communicate(timeout=300)[0] for process in running]
        assert [process.returncode for process in running] == [0] * len(running)
        return printed

    return _at_once


def aliases(registry: Registry, seat: Seat) -> dict[str, int]:
    """Who sits in the seat, and who a rollback returns to."""
    found = registry.client.get_registered_model(seat.registered_model).aliases
    return {alias: int(number) for alias, number in found.items() if alias != REFERENCE}
