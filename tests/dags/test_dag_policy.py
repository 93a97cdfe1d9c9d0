"""What every DAG of ours must be, read from the DAGs as Airflow reads them."""

from __future__ import annotations

import copy
import importlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nightshift.settings import PROJECT
from training.families import FAMILIES

FIRST = {"nightly": "plan", "watch": "plan", "study": "study"}  # DAG → its first task
NAMES = tuple(FIRST)


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
        patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        patch.syspath_prepend(str(PROJECT / "dags"))
        patch.delenv("NIGHTSHIFT_STUDY_SCHEDULE", raising=False)
        return {name: getattr(importlib.import_module(name), first).dag for name, first in FIRST.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_dag_has_an_owner_tags_docs_retries_and_one_run_at_a_time(
    dags: dict[str, Any], name: str
) -> None:
    dag = dags[name]
    assert dag.max_active_runs == 1 and dag.catchup is False
    assert "nightshift" in dag.tags and dag.doc_md and dag.description
    for task in dag.tasks:
        assert task.owner == "data-science"
        assert task.retries >= 1 and task.retry_exponential_backoff
        assert task.execution_timeout is not None


def test_every_family_of_the_form_exists_and_trains_in_the_gpu_pool(dags: dict[str, Any]) -> None:
    nightly = dags["nightly"]
    assert nightly.params["families"] == list(FAMILIES)
    for seat in {family.seat for family in FAMILIES.values()}:
        assert nightly.get_task(f"train_{seat}").pool == "gpu"
        assert nightly.get_task(f"gate_{seat}").upstream_task_ids == {f"train_{seat}"}


def test_a_seat_that_is_skipped_takes_no_other_seat_along(dags: dict[str, Any]) -> None:
    """Airflow's `all_done_min_one_success` skips a task of which any upstream was skipped."""
    nightly = dags["nightly"]
    report = nightly.get_task("report")
    assert report.trigger_rule == "none_failed_min_one_success"
    assert "features" in report.upstream_task_ids, "a night on which every seat was skipped is done too"
    for seat in {family.seat for family in FAMILIES.values()}:
        others = {name for name in nightly.task_ids if name.endswith(f"_{seat}")}
        for name in others:
            near = nightly.get_task(name).upstream_task_ids | nightly.get_task(name).downstream_task_ids
            assert near <= others | {"features", "report"}, name


def test_the_night_follows_write_audit_publish(dags: dict[str, Any]) -> None:
    chain = [
        "plan",
        "ingest",
        "audit",
        "publish",
        "features",
        "train_recommender",
        "gate_recommender",
        "report",
    ]
    nightly = dags["nightly"]
    for before, after in itertools.pairwise(chain):
        assert after in nightly.get_task(before).downstream_task_ids


def test_a_retrain_request_wakes_the_nightly_dag(dags: dict[str, Any]) -> None:
    (asset,) = dags["watch"].get_task("request_retrain").outlets
    condition = dags["nightly"].timetable.asset_condition
    assert asset.name in {wanted.name for _, wanted in condition.iter_assets()}


def test_live_outcomes_are_judged_whatever_becomes_of_the_day(dags: dict[str, Any]) -> None:
    outcomes = dags["watch"].get_task("outcomes")
    assert not outcomes.upstream_task_ids and not outcomes.downstream_task_ids
    assert outcomes.bash_command.endswith(" -m monitoring.outcomes")
    assert not outcomes.outlets, "a rollback asks for no retrain"


def test_a_study_runs_by_hand_in_the_gpu_pool_for_as_long_as_the_form_says(dags: dict[str, Any]) -> None:
    study = dags["study"]
    assert type(study.timetable).__name__ == "NullTimetable", "off unless it is given a schedule"
    (task,) = study.tasks
    assert task.pool == "gpu"
    assert task.bash_command.endswith(" -m training.study {{ params.family }} --minutes {{ params.minutes }}")
    studied = [name for name, family in FAMILIES.items() if family.studied]
    assert study.params.get_param("family").schema["enum"] == studied and study.params["family"] in studied


@pytest.mark.parametrize("drift", [True, False])
def test_the_request_of_a_retrain_succeeds_on_drift_and_is_skipped_without(
    dags: dict[str, Any], drift: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    night = tmp_path / "nights" / "2026-10-12"
    night.mkdir(parents=True)
    seen = {"drift": drift, "reason": "", "champion": 4, "share": 1, "columns": [], "run_id": "run"}
    told = {"drift": drift, "reason": "", "day": night.name, "seats": {"recommender": seen}}
    (night / "watch.json").write_text(json.dumps(told))
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path))
    request = copy.copy(dags["watch"].get_task("request_retrain"))
    words = request.bash_command.partition(" -m ")[2].split()
    assert words[:3] == ["monitoring.watch", "--request", "--night"]
    assert " ".join(words[3:]) == "{{ ti.xcom_pull(task_ids='compare')['day'] }}"
    assert request.upstream_task_ids == {"compare"}
    request.bash_command = f"exec {sys.executable} -m {' '.join(words[:3])} {night.name}"
    if drift:
        assert request.execute({})["day"] == night.name
    else:
        with pytest.raises(AirflowSkipException):
            request.execute({})


@pytest.mark.parametrize("values", [{"night": "yesterday"}, {"families": ["astrology"]}, {"families": []}])
def test_the_form_refuses_what_cannot_be_run(dags: dict[str, Any], values: dict[str, Any]) -> None:
    from airflow.sdk.definitions.param import ParamsDict
    from airflow.sdk.exceptions import ParamValidationError

    known = dags["nightly"].params
    with pytest.raises(ParamValidationError):
        ParamsDict({name: known.get_param(name) for name in known}).update(values)


@pytest.mark.parametrize("name", [*NAMES, "steps"])
def test_a_dag_file_is_short(name: str) -> None:
    assert len((PROJECT / "dags" / f"{name}.py").read_text().splitlines()) < 90


def test_reading_the_dags_loads_no_heavy_library(tmp_path: Path) -> None:
    # 4.5 s a parse were measured with torch and mlflow, and every task parses its file again.
    heavy = [
        "torch",
        "mlflow",
        "feast",
        "great_expectations",
        "evidently",
        "shap",
        "pandas",
        "pyarrow",
        "bentoml",
    ]
    script = f"import nightly, watch, study, sys; print([m for m in {heavy} if m in sys.modules])"
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "PYTHONPATH": str(PROJECT / "dags"),
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_there_is_no_other_dag_file() -> None:
    assert {path.stem for path in Path(PROJECT / "dags").glob("*.py")} == {*NAMES, "steps"}


def test_what_needs_the_card_gets_a_pod_with_one_on_kubernetes_and_is_a_plain_task_elsewhere(
    dags: dict[str, Any], tmp_path: Path
) -> None:
    wanted = {"train_recommender", "train_forecaster", "train_language", "gate_language", "study"}
    tasks = {task.task_id: task for dag in dags.values() for task in dag.tasks}
    assert not any(tasks[name].executor_config for name in tasks), (
        "nothing is asked for where there is no template"
    )
    script = (
        "import importlib, json\n"
        f"names = {FIRST!r}\n"
        "dags = [getattr(importlib.import_module(n), first).dag for n, first in names.items()]\n"
        "print(json.dumps({task.task_id: task.executor_config for dag in dags for task in dag.tasks}))\n"
    )
    variables = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "NIGHTSHIFT_GPU_POD_TEMPLATE": "/etc/gpu.yaml",
        "PYTHONPATH": f"{PROJECT}:{PROJECT / 'dags'}",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=variables, cwd=PROJECT, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert {name for name, config in found.items() if config} == wanted
    assert all(found[name] == {"pod_template_file": "/etc/gpu.yaml"} for name in wanted)
