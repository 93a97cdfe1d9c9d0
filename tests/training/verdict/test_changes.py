"""What changed since the champion, read from a real MLflow server and a real git repository."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import mlflow.data
import pandas as pd
import pytest
from mlflow.entities import DatasetInput, Param

from nightshift import seats
from nightshift.errors import RegistryError
from nightshift.registry import Registry, Version
from nightshift.seats import RECOMMENDER, Seat
from nightshift.settings import Settings
from tests.conftest import free_port
from training.verdict.changes import Change, Changes, since

Make = Callable[..., Version]


@pytest.fixture
def seat(monkeypatch: pytest.MonkeyPatch) -> Seat:
    own = replace(RECOMMENDER, registered_model=f"seat-{uuid.uuid4().hex[:8]}")
    monkeypatch.setitem(seats.SEATS, "recommender", own)
    return own


@pytest.fixture
def registry(mlflow_server: Settings) -> Registry:
    return Registry(mlflow_server)


@pytest.fixture
def make(registry: Registry, seat: Seat) -> Make:
    """A version with the run that training makes: parameters, a data set, tags, and a model's requirements."""

    def made(params: dict[str, str], rows: int = 3, packages: str | None = None, **tags: str) -> Version:
        experiment = mlflow.set_experiment("changes").experiment_id
        run = registry.client.create_run(experiment).info.run_id
        registry.client.log_batch(run, params=[Param(name, value) for name, value in params.items()])
        data = mlflow.data.from_pandas(pd.DataFrame({"x": ["row"] * rows}), name="interactions")  # type: ignore[attr-defined]
        registry.client.log_inputs(run, [DatasetInput(data._to_mlflow_entity())])
        uri = registry.client.get_run(run).info.artifact_uri + "/model"
        registry.log_text(run, "model/MLmodel", "{}")
        if packages is not None:
            registry.log_text(run, "model/requirements.txt", packages)
        return registry.submit(seat, run_id=run, model_uri=uri, tags={"family": "ncf", **tags})

    return made


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., str]:
    """`tree(subject, path)` commits a change of a file and returns the commit; `tree.folder` is where."""

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=Mina", "-c", "user.email=mina@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")

    def commit(subject: str, path: str = "README.md") -> str:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(subject)
        git("add", "-A")
        git("commit", "-q", "-m", subject)
        return git("rev-parse", "HEAD")

    return commit


WINDOW = {"train_start": "2026-08-31", "train_end": "2026-09-27", "night": "2026-09-28"}
LATER = {"train_start": "2026-09-03", "train_end": "2026-09-30", "night": "2026-10-01"}


def test_data_parameters_packages_and_code_are_compared(
    registry: Registry, make: Make, tree: Callable[..., str], tmp_path: Path
) -> None:
    old = tree("The beginning")
    tree("NCF: more negatives 부정", "training/ncf/recipe.py")
    tree("Docs only", "docs/x.md")
    new = tree("Views by the hour", "feature_repo/views.py")
    asked = "numpy=={}\nmlflow==3.17.2\n"
    champion = make({"negatives": "4", "users": "1903", "seed": "0"}, rows=3, packages=asked.format("2.2.6"),
                    git_commit=old, dirty="false", data_digest="a" * 64, **WINDOW)  # fmt: skip
    candidate = make({"negatives": "8", "users": "1921", "seed": "0"}, rows=4, packages=asked.format("2.3.1"),
                     git_commit=new, dirty="true", data_digest="b" * 64, **LATER)  # fmt: skip
    found = since(registry, champion, candidate, tmp_path)
    assert (found.champion, found.candidate, found.same_data) == (champion.number, candidate.number, False)
    told = {row.name: (row.before, row.now) for row in found.data}
    assert told["training window"] == ("2026-08-31 to 2026-09-27", "2026-09-03 to 2026-09-30")
    assert told["days in it"] == ("28", "28") and told["rows learnt from"] == ("3", "4")
    assert told["users in it"] == ("1,903", "1,921") and told["data digest"] == ("a" * 12, "b" * 12)
    assert found.params == (Change("negatives", "4", "8"),)
    assert found.packages == (Change("numpy", "2.2.6", "2.3.1"),) and found.packages_known
    code = found.code
    assert (code.before, code.now, code.dirty_before, code.dirty_now) == (old, new, "false", "true")
    assert code.count == 3 and [line.partition(" ")[2] for line in code.commits] == [
        "Views by the hour", "Docs only", "NCF: more negatives 부정"]  # fmt: skip
    assert code.files == ("feature_repo/views.py", "training/ncf/recipe.py") and code.file_count == 2
    assert json.loads(json.dumps(found.plain()))["code"]["count"] == 3


def test_the_same_data_and_the_same_commit_are_told_as_the_same(
    registry: Registry, make: Make, tree: Callable[..., str], tmp_path: Path
) -> None:
    commit = tree("The beginning")
    both = [
        make({"seed": "0"}, git_commit=commit, dirty="false", data_digest="d", **WINDOW) for _ in range(2)
    ]
    found = since(registry, *both, tmp_path)
    assert (
        found.same_data is True and found.params == () and found.packages == () and not found.packages_known
    )
    assert (found.code.count, found.code.file_count, found.code.commits) == (0, 0, ())
    assert all(row.same for row in found.data)


def test_a_champion_with_newer_code_is_said_to_have_it(
    registry: Registry, make: Make, tree: Callable[..., str], tmp_path: Path
) -> None:
    old, new = tree("One"), tree("Two")
    found = since(registry, make({}, git_commit=new), make({}, git_commit=old), tmp_path)
    assert found.code.count == 0 and "the candidate's has not: 1" in found.code.note
    assert found.code.dirty_now == "unknown"


@pytest.mark.parametrize("commit", ["unknown", "", "--output=/tmp/x", "f" * 40, "HEAD"])
def test_a_commit_that_git_does_not_know_is_unknown_never_guessed(
    registry: Registry, make: Make, tree: Callable[..., str], tmp_path: Path, commit: str
) -> None:
    known = tree("One")
    found = since(registry, make({}, git_commit=commit), make({}, git_commit=known), tmp_path)
    assert found.code.count is None and found.code.note and found.code.commits == ()
    assert found.same_data is None


def test_outside_of_git_and_without_git_the_code_is_unknown(
    registry: Registry, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = make({}, git_commit="a" * 40), make({}, git_commit="b" * 40)
    assert since(registry, *both, tmp_path).code.count is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert since(registry, *both, tmp_path).code.note == "git does not know both commits here"


def test_the_first_champion_has_nothing_to_be_compared_with(registry: Registry, make: Make) -> None:
    found = since(
        registry, None, make({"seed": "0"}, git_commit="a" * 40, dirty="true", data_digest="d", **WINDOW)
    )
    assert (
        found.champion is None and found.same_data is None and found.params == () and found.code.count is None
    )
    assert found.code.now == "a" * 40 and found.code.dirty_now == "true"
    assert all(row.before == "" and row.now for row in found.data)
    assert since(registry, None, None) == Changes()


def test_passwords_in_parameters_are_not_shown(registry: Registry, make: Make) -> None:
    old = make({"store": "postgresql://ns:first@db/x", "api_key": "k1"}, night="2026-09-28")
    new = make({"store": "postgresql://ns:second@db/y", "api_key": "k2"}, night="2026-10-01")
    told = str(since(registry, old, new))
    assert "***@db/y" in told and not any(secret in told for secret in ("first", "second", "k1", "k2"))


def test_a_run_that_was_deleted_for_good_leaves_what_the_version_tells(
    registry: Registry, make: Make
) -> None:
    old, new = make({"seed": "0"}, **WINDOW), make({"seed": "1"}, **LATER)
    found = since(registry, replace(old, run_id=uuid.uuid4().hex), new)
    assert Change("seed", "not set", "1") in found.params
    assert Change("night", "2026-09-28", "2026-10-01") in found.data


def test_an_mlflow_that_does_not_answer_is_an_error(
    registry: Registry, make: Make, mlflow_server: Settings
) -> None:
    version: Any = make({})
    away = Registry(mlflow_server.model_copy(update={"mlflow_url": f"http://127.0.0.1:{free_port()}"}))
    with pytest.raises(RegistryError, match="nightshift status"):
        since(away, None, version)
    Registry(mlflow_server)  # MLflow's address is the process's: the next test wants this one
