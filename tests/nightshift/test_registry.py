"""The registry's door, against a real MLflow server: versions, packages, figures, and a server that is not there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from nightshift.errors import PackageError, RegistryError
from nightshift.registry import Registry, _redacted
from nightshift.seats import RECOMMENDER, Seat
from nightshift.settings import PROJECT, Settings


def test_an_empty_seat_has_no_champion_no_versions_and_no_history(registry: Registry, seat: Seat) -> None:
    assert registry.champion(seat) is None
    assert registry.versions(seat) == []
    assert registry.history(seat) == []


def test_asking_the_registry_imports_neither_feast_nor_torch(mlflow_server: Settings) -> None:
    ask = (
        "import sys\n"
        "from nightshift.registry import Registry\n"
        "from nightshift.seats import RECOMMENDER\n"
        "from nightshift.settings import settings\n"
        "Registry(settings()).champion(RECOMMENDER)\n"
        "print([name for name in ('feast', 'torch') if name in sys.modules])"
    )
    environment = {**os.environ, "NIGHTSHIFT_MLFLOW_URL": mlflow_server.mlflow_uri}
    done = subprocess.run(
        [sys.executable, "-c", ask], env=environment, cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr[-2000:]


def test_a_submitted_candidate_is_found_by_its_tags_and_sits_nowhere(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    submit(family="ncf", night="2026-09-28")
    again = submit(family="ncf", night="2026-09-28")
    submit(family="ncf", night="2026-09-29")
    assert [v.number for v in registry.versions(seat, night="2026-09-28", family="ncf")] == [1, again]
    told = {"family": "ncf", "night": "2026-09-28", "stage": "None"}
    assert told.items() <= registry.get(seat, again).tags.items()
    assert registry.champion(seat) is None


def test_a_packaged_model_loads_and_a_torn_one_says_which_it_is(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    good, torn = submit("good"), submit("torn")
    assert registry.load(seat, good).items == ["i1"]
    with pytest.raises(PackageError, match=rf"version {torn} cannot be loaded: .*the table is torn"):
        registry.load(seat, torn)


def test_a_nights_figures_are_dated_by_the_night_and_logged_once(
    registry: Registry, packaged: dict[str, tuple[str, str]]
) -> None:
    run_id = packaged["good"][0]
    for _ in range(2):
        registry.log_metrics(run_id, {"exam_auc": 0.75}, date(2026, 9, 28))
    registry.log_metrics(run_id, {"exam_auc": 0.5}, date(2026, 9, 29))
    assert registry.metrics(run_id)["exam_auc"] == 0.5
    points = registry.client.get_metric_history(run_id, "exam_auc")
    assert [(p.value, date.fromordinal(p.step).isoformat()) for p in points] == [
        (0.75, "2026-09-28"),
        (0.5, "2026-09-29"),
    ]


def test_text_beside_a_run_can_be_read_back_and_replaced(
    registry: Registry, packaged: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    run_id = packaged["good"][0]
    registry.log_text(run_id, "verdict/verdict.md", "# eins")
    registry.log_text(run_id, "verdict/verdict.md", "# 판정")
    kept = registry.artifact(run_id, "verdict/verdict.md", tmp_path)
    assert kept.read_text(encoding="utf-8") == "# 판정"
    with pytest.raises(RegistryError):
        registry.artifact(run_id, "verdict/none.md", tmp_path)


@pytest.mark.parametrize("answers", ["refuses the call", "never answers"])
def test_an_mlflow_that_is_not_there_is_an_error_in_words_within_seconds(
    mlflow_server: Settings, answers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) + 1
    assert tries * int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) <= 20
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # the same wait, in less of a test's time
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        if answers == "never answers":
            door.listen(8)
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        gone = Registry(mlflow_server.model_copy(update={"mlflow_url": url}))
        began = time.monotonic()
        with pytest.raises(RegistryError, match=f"MLflow at {url} does not answer; `nightshift status`"):
            gone.champion(RECOMMENDER)
        assert time.monotonic() - began < 10


def test_no_error_names_the_user_or_password_of_an_address(mlflow_server: Settings) -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{door.getsockname()[1]}"
        for login in ("mina:open-sesame", "mina:p@ss-open-sesame", "mina:open-sesame" + 400 * "e"):
            gone = Registry(mlflow_server.model_copy(update={"mlflow_url": f"http://{login}@{where}"}))
            with pytest.raises(RegistryError, match=rf"MLflow at http://\*\*\*@{where} does not") as caught:
                gone.champion(RECOMMENDER)
            assert "sesame" not in str(caught.value) and "mina" not in str(caught.value)
    assert _redacted("at postgresql+psycopg2://u:p@db:5432/x, http://h/a@b") == (
        "at postgresql+psycopg2://***@db:5432/x, http://h/a@b"
    )


# --- pickles ---------------------------------------------------------------------------------------------


class Canary:
    """Unpickling it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


class Pickled(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]
    def __init__(self, canary: Canary) -> None:
        self.canary = canary

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        return model_input


LOAD = """
import sys
from dataclasses import replace
from nightshift.registry import Registry
from nightshift.seats import RECOMMENDER
from nightshift.settings import settings
seat = replace(RECOMMENDER, registered_model=sys.argv[1])
try:
    Registry(settings()).load(seat, 1)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_pickled_version_is_refused_unread_whatever_the_surroundings_allow(
    registry: Registry,
    seat: Seat,
    mlflow_server: Settings,
    tmp_path: Path,
    at_once: Callable[..., list[str]],
) -> None:
    sprung = tmp_path / "sprung"
    with mlflow.start_run() as run:
        model = Pickled(Canary(str(sprung)))
        uri = mlflow.pyfunc.log_model(name="model", python_model=model, pip_requirements=[]).model_uri
    registry.submit(seat, run_id=run.info.run_id, model_uri=uri, tags={})
    with pytest.raises(PackageError, match=r"version 1 cannot be loaded: it is pickled, .* from code$"):
        registry.load(seat, 1)
    allowed = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true"}
    (other,) = at_once(mlflow_server, LOAD, [[seat.registered_model]], **allowed)
    assert other.startswith("PackageError") and "it is pickled" in other
    assert not sprung.exists()
