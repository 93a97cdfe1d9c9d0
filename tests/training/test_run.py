from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nightshift.commands import step_path
from nightshift.contracts.features import USER_FEATURES, numeric
from nightshift.errors import LakeError, RegistryError
from nightshift.lake import Lake
from nightshift.registry import Registry
from nightshift.seats import SEATS
from nightshift.settings import Settings
from tests import mlflow_server as mlflow_server_of_tests
from tests.conftest import free_port
from tests.serving.conftest import Process
from tests.training.conftest import TINY_NIGHT
from training.evidence import Lineage
from training.exams import examiner
from training.exams.recommender import EXAMINER
from training.families import FAMILIES, Family
from training.lineage import CONTENT, look_up
from training.recipe import Night
from training.run import train
from training.tracking import ENVIRONMENT, StoppedError, open_run

TASK = f"ncf@{TINY_NIGHT}"
EXPERIMENT = "nightshift/recommender"


@pytest.fixture(scope="module")
def home(
    featured_home: Settings, mlflow_server: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """The tiny world with its features, and the real MLflow server."""
    folder = tmp_path_factory.mktemp("run_home")
    shutil.copytree(featured_home.home, folder, dirs_exist_ok=True)
    return mlflow_server.model_copy(update={"home": folder})


def command(home: Settings, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "NIGHTSHIFT_HOME": str(home.home), "NIGHTSHIFT_MLFLOW_URL": home.mlflow_uri}
    return subprocess.Popen(
        [sys.executable, "-m", "training.run", "ncf", "--night", str(TINY_NIGHT), "--smoke", *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def statuses(home: Settings) -> list[str]:
    """Of the task's runs, newest first."""
    client = Registry(home).client
    found = client.get_experiment_by_name(EXPERIMENT)
    query = f"tags.`nightshift.task` = '{TASK}'"
    return [run.info.status for run in client.search_runs([found.experiment_id], query)] if found else []


@pytest.fixture(scope="module")
def done(home: Settings) -> dict[str, Any]:
    """What one real command left behind."""
    process = command(home, "--seed", "4")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return {"result": json.loads(out.splitlines()[-1]), "lines": out.splitlines(), "err": err}


def test_the_command_prints_one_json_line_and_keeps_it_as_the_step(
    home: Settings, done: dict[str, Any]
) -> None:
    assert len(done["lines"]) == 1
    result = done["result"]
    assert json.loads(step_path(home, TINY_NIGHT, "train-ncf").read_text()) == result
    assert result["family"] == "ncf" and result["seat"] == "recommender"
    assert result["train_rows"] > 0 and result["epochs"] >= 1 and 0 < result["metrics"]["ndcg_at_10"] <= 1
    assert "\x1b" not in done["err"]  # no bar where nobody watches


def test_the_run_has_everything_a_reviewer_asks_for(
    home: Settings, done: dict[str, Any], tmp_path: Path
) -> None:
    registry = Registry(home)
    run = registry.client.get_run(done["result"]["run_id"])

    assert run.info.status == "FINISHED"
    assert run.data.tags["nightshift.task"] == TASK
    assert {"git_commit", "dirty", "night", "family", "seat"} <= set(run.data.tags)
    assert run.data.params["seed"] == "4" and run.data.params["learning_rate"]
    assert run.data.metrics["val_ndcg_at_10"] == pytest.approx(done["result"]["metrics"]["ndcg_at_10"])
    curve = registry.client.get_metric_history(run.info.run_id, "epoch/val_ndcg_at_10")
    assert [point.step for point in curve] == list(range(1, len(curve) + 1)) and curve
    for picture in ("learning_curve.png", "shap.png"):
        assert registry.artifact(run.info.run_id, f"figures/{picture}", tmp_path).stat().st_size > 5_000
    reference = pd.read_parquet(registry.artifact(run.info.run_id, "features/reference.parquet", tmp_path))
    assert set(numeric(USER_FEATURES)) <= set(reference.columns) and len(reference)


def test_the_data_digest_is_the_lakes_own(home: Settings, done: dict[str, Any]) -> None:
    registry = Registry(home)
    run = registry.client.get_run(done["result"]["run_id"])
    version = registry.get(SEATS["recommender"], done["result"]["version"])
    lake = Lake(home.lake_dir)
    night = EXAMINER.night(lake, TINY_NIGHT, home)
    digest = lake.digest(night.train_start, night.train_end)

    assert version.tags["data_digest"] == digest
    assert run.inputs is not None
    (logged,) = run.inputs.dataset_inputs
    assert logged.dataset.digest == digest[:36]
    assert {"lake_digest": digest}.items() <= {tag.key: tag.value for tag in logged.tags}.items()


def test_the_version_says_where_it_came_from_and_loads(home: Settings, done: dict[str, Any]) -> None:
    registry = Registry(home)
    version = registry.get(SEATS["recommender"], done["result"]["version"])

    assert version.run_id == done["result"]["run_id"]
    night = EXAMINER.night(Lake(home.lake_dir), TINY_NIGHT, home)
    assert version.tags["night"] == str(TINY_NIGHT)
    assert version.tags["exam_start"] == str(night.exam_start)
    assert version.tags["family"] == "ncf" and version.tags["train_end"] < version.tags["exam_start"]
    champion = registry.champion(SEATS["recommender"])
    assert champion is None or champion.number != version.number  # training seats nobody
    model = registry.load(SEATS["recommender"], version.number)
    assert model.score(pd.DataFrame({"user_id": ["u000"]})).shape == (1, len(model.items))


def test_its_lineage_is_complete_and_holds(home: Settings, done: dict[str, Any], tmp_path: Path) -> None:
    registry, seat = Registry(home), SEATS["recommender"]
    version, lake = registry.get(seat, done["result"]["version"]), Lake(home.lake_dir)
    night = EXAMINER.night(lake, TINY_NIGHT, home)

    found = look_up(registry, lake, home, seat, version, night, examiner("recommender"))
    assert found == Lineage(commit=version.tags["git_commit"], dirty=found.dirty)
    kept = json.loads(registry.artifact(version.run_id, CONTENT, tmp_path).read_text())
    assert min(kept) == version.tags["train_start"] and max(kept) == version.tags["train_end"]
    assert set(kept) == {str(day) for day in lake.days() if night.train_start <= day <= night.train_end}
    with_what = json.loads(registry.artifact(version.run_id, ENVIRONMENT, tmp_path).read_text())
    assert (
        with_what["python"] == platform.python_version() and with_what["packages"]["numpy"] == np.__version__
    )


def test_a_run_told_to_stop_ends_killed_and_exits_143(home: Settings, done: dict[str, Any]) -> None:
    before = len(Registry(home).versions(SEATS["recommender"]))
    process = command(home)
    deadline = time.monotonic() + 120
    while "RUNNING" not in statuses(home) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)

    assert process.returncode == 143
    assert "Traceback" not in err and "KILLED" in err
    assert statuses(home)[0] == "KILLED" and "RUNNING" not in statuses(home)
    assert len(Registry(home).versions(SEATS["recommender"])) == before


def test_a_run_that_was_killed_outright_is_closed_by_the_next_of_its_task(mlflow_server: Settings) -> None:
    client = Registry(mlflow_server).client
    experiment = client.create_experiment("orphans")
    mine = client.create_run(experiment, tags={"nightshift.task": "ncf@2026-01-01"}).info.run_id
    other = client.create_run(experiment, tags={"nightshift.task": "ncf@2026-01-02"}).info.run_id

    with open_run(client, "orphans", "n", "ncf@2026-01-01", {}) as run:
        assert client.get_run(mine).info.status == "KILLED"
        assert client.get_run(other).info.status == "RUNNING"
        assert client.get_run(run.id).info.status == "RUNNING"
    assert client.get_run(run.id).info.status == "FINISHED"


def test_orphans_of_other_nights_are_closed_once_they_are_older_than_a_task_may_be(
    mlflow_server: Settings,
) -> None:
    client = Registry(mlflow_server).client
    experiment = client.create_experiment("old orphans")
    hour, now = 3_600_000, int(time.time() * 1000)

    def left(task: str, age: float) -> str:
        run = client.create_run(experiment, int(now - age * hour), {"nightshift.task": task})
        return str(run.info.run_id)

    lost, by_hand = left("ncf@2026-01-02", 6.1), left("ncf@2026-01-03", 5.9)
    elsewhere, namesake = left("gru@2026-01-02", 9), left("ncf-wide@2026-01-02", 9)
    with open_run(client, "old orphans", "n", "ncf@2026-01-05", {}) as run:
        status = {r: client.get_run(r).info.status for r in (lost, by_hand, elsewhere, namesake, run.id)}
    assert status.pop(lost) == "KILLED"
    assert set(status.values()) == {"RUNNING"}


def test_a_run_that_breaks_is_failed_with_the_reason(mlflow_server: Settings) -> None:
    client = Registry(mlflow_server).client
    with pytest.raises(ValueError), open_run(client, "broken", "n", "x@2026-01-01", {}) as run:
        raise ValueError("the loss is NaN")

    ended = client.get_run(run.id)
    assert ended.info.status == "FAILED"
    assert ended.data.tags["error"] == "ValueError: the loss is NaN"


def test_the_signal_handler_is_put_back(mlflow_server: Settings) -> None:
    client = Registry(mlflow_server).client
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError), open_run(client, "signals", "n", "y@2026-01-01", {}) as run:
        signal.raise_signal(signal.SIGTERM)

    assert signal.getsignal(signal.SIGTERM) == before
    assert client.get_run(run.id).info.status == "KILLED"


class Unused:
    def train(self, night: Night, settings: Settings, workdir: Path, **_: Any) -> Any:
        raise AssertionError("trained although nothing could come of it")


@pytest.fixture
def untrainable(monkeypatch: pytest.MonkeyPatch) -> Family:
    monkeypatch.setattr(Family, "load", lambda self: Unused())
    return FAMILIES["ncf"]


class Breaks:
    def train(self, night: Night, settings: Settings, workdir: Path, **_: Any) -> Any:
        raise ValueError(f"trained from {night.train_start} on")


def test_a_smoke_run_says_on_its_page_from_which_day_on_it_was_trained(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(home.lake_dir)
    night = EXAMINER.night(lake, TINY_NIGHT, home)
    start = night.train_end - timedelta(days=2)
    assert night.train_start < start
    monkeypatch.setattr("training.exams.recommender.SMOKE_DAYS", 3)
    monkeypatch.setattr(Family, "load", lambda self: Breaks())
    with pytest.raises(ValueError, match=f"trained from {start} on"):
        train(FAMILIES["ncf"], TINY_NIGHT, home, smoke=True, seed=0)

    client = Registry(home).client
    found = client.get_experiment_by_name(EXPERIMENT)
    assert found is not None
    (page,) = client.search_runs([found.experiment_id], max_results=1)
    assert page.data.params["train_start"] == page.data.tags["train_start"] == str(start)
    assert page.data.tags["data_digest"] == lake.digest(start, night.train_end)


def test_mlflow_down_is_said_before_the_work_not_after(home: Settings, untrainable: Family) -> None:
    down = home.model_copy(update={"mlflow_url": f"http://127.0.0.1:{free_port()}"})
    with pytest.raises(RegistryError, match="MLflow at"):
        train(untrainable, TINY_NIGHT, down, smoke=True, seed=0)


def test_a_night_that_is_not_published_is_refused(home: Settings, untrainable: Family) -> None:
    with pytest.raises(LakeError, match="2027-01-01 is not published"):
        train(untrainable, TINY_NIGHT.replace(year=2027, month=1, day=1), home, smoke=True, seed=0)


def test_an_mlflow_that_dies_during_training_fails_the_step_in_words_and_the_retry_ends_well(
    featured_home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    words, variables = mlflow_server_of_tests.command(tmp_path, port), mlflow_server_of_tests.ENVIRONMENT
    server = Process(words, variables, tmp_path / "mlflow.log", f"http://127.0.0.1:{port}/health")
    shutil.copytree(featured_home.home, tmp_path / "home")
    config = featured_home.model_copy(
        update={"home": tmp_path / "home", "mlflow_url": f"http://127.0.0.1:{port}"}
    )
    recipe = FAMILIES["item_knn"].load()

    class Dying:
        def train(self, *given: Any, **more: Any) -> Any:
            trained = recipe.train(*given, **more)
            server.stop()
            return trained

    server.start()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Family, "load", lambda self: Dying())
            with pytest.raises(RegistryError, match="MLflow"):
                train(FAMILIES["item_knn"], TINY_NIGHT, config, smoke=True, seed=0)
        server.start()
        train(FAMILIES["item_knn"], TINY_NIGHT, config, smoke=True, seed=0)
        client = Registry(config).client
        found = client.get_experiment_by_name(EXPERIMENT)
        assert found is not None
        runs = client.search_runs([found.experiment_id])
        assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED"]
        assert len(Registry(config).versions(SEATS["recommender"])) == 1
    finally:
        server.stop()


def losses(home: Settings, run_id: str) -> list[float]:
    return [point.value for point in Registry(home).client.get_metric_history(run_id, "epoch/loss")]


@pytest.mark.long  # test_together.py trains by two processes, and test_warm_run.py a version through MLflow
def test_torchrun_starts_two_processes_and_one_version_comes_of_it_learnt_as_by_one(
    home: Settings, done: dict[str, Any]
) -> None:
    registry = Registry(home)
    before = {version.number for version in registry.versions(SEATS["recommender"])}
    torchrun = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*torchrun, "-m", "training.run", "ncf", "--night", str(TINY_NIGHT), "--smoke", "--seed", "4"],
        env={**os.environ, "NIGHTSHIFT_HOME": str(home.home), "NIGHTSHIFT_MLFLOW_URL": home.mlflow_uri},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    result = json.loads(ended.stdout)  # the leader's line and nobody else's
    run = registry.client.get_run(result["run_id"])
    assert run.data.params["processes"] == "2" and run.info.status == "FINISHED"
    after = {version.number for version in registry.versions(SEATS["recommender"])}
    assert after - before == {result["version"]}
    of_one = losses(home, done["result"]["run_id"])
    assert losses(home, result["run_id"]) == pytest.approx(of_one, rel=1e-3) and len(of_one) == 2
