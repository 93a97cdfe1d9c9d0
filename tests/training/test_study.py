"""A study of ncf in a tiny shop, with a real MLflow server; and the night that tries what a study proposed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from nightshift import studies
from nightshift.errors import NoDataError, SettingsError
from nightshift.registry import Registry
from nightshift.seats import SEATS
from nightshift.settings import Settings
from nightshift.studies import Proposal
from tests.training.conftest import TINY_NIGHT
from training.families import FAMILIES
from training.run import train
from training.study import EXPERIMENT, study

SEAT = SEATS["recommender"]


@pytest.fixture(scope="module")
def home(
    featured_home: Settings, mlflow_server: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    folder = tmp_path_factory.mktemp("study_home")
    shutil.copytree(featured_home.home, folder, dirs_exist_ok=True)
    return mlflow_server.model_copy(update={"home": folder, "exam_users": 0})


def command(home: Settings, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **home.exportable()}
    return subprocess.Popen(
        [sys.executable, "-m", "training.study", "ncf", "--night", str(TINY_NIGHT), *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def kept(home: Settings) -> optuna.Study:
    storage = f"sqlite:///{studies.folder(home) / 'ncf.db'}"
    (name,) = (one.study_name for one in optuna.get_all_study_summaries(storage))
    return optuna.load_study(study_name=name, storage=storage)


@pytest.fixture(scope="module")
def done(home: Settings) -> dict[str, Any]:
    """A study that was killed after its first trial, and run again until it had five."""
    first = command(home, "--trials", "5")
    deadline = time.monotonic() + 240
    while first.poll() is None and time.monotonic() < deadline:
        if (studies.folder(home) / "ncf.db").exists() and first.stderr is not None:
            line = first.stderr.readline()
            if line.startswith("trial 0"):
                break
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = len(kept(home).get_trials(states=(optuna.trial.TrialState.COMPLETE,)))
    second = command(home, "--trials", "5")
    out, err = second.communicate(timeout=500)
    assert second.returncode == 0, err[-3000:]
    return {"before": before, "result": json.loads(out.splitlines()[-1]), "err": err}


def test_killed_it_goes_on_where_it_was(home: Settings, done: dict[str, Any]) -> None:
    found = kept(home)
    assert done["before"] == 1
    assert done["result"]["trials"] == len(found.trials) >= 5
    states = [one.state for one in found.trials]
    assert optuna.trial.TrialState.RUNNING not in states
    assert "trial 0" not in done["err"] and "best" in done["err"]


def test_the_settings_of_now_come_first_and_the_others_are_all_different(
    home: Settings, done: dict[str, Any]
) -> None:
    from training.ncf.fit import Hyper

    trials = kept(home).trials
    assert trials[0].params["factors"] == Hyper().factors and trials[0].params["l2"] == Hyper().l2
    assert done["result"]["before"] == trials[0].value
    drawn = [json.dumps(one.params, sort_keys=True) for one in trials if one.params]
    assert len(set(drawn)) == len(drawn)


def test_its_page_has_a_run_for_each_trial_and_the_pictures(
    home: Settings, done: dict[str, Any], tmp_path: Path
) -> None:
    registry = Registry(home)
    page = registry.client.get_run(done["result"]["run_id"])
    assert page.info.status == "FINISHED" and page.data.tags["outcome"] == done["result"]["outcome"]
    found = registry.client.get_experiment_by_name(EXPERIMENT)
    assert found is not None
    query = f"tags.`mlflow.parentRunId` = '{page.info.run_id}'"
    nested = registry.client.search_runs([found.experiment_id], query)
    assert len(nested) >= 3
    for one in nested:
        assert one.info.status == "FINISHED" and one.data.tags["state"] in ("complete", "pruned")
        assert one.data.params["factors"] and "epoch/val_ndcg_at_100" in one.data.metrics
        assert (one.data.tags["state"] == "complete") == ("val_ndcg_at_100" in one.data.metrics)
    everything = registry.client.search_runs([found.experiment_id], "attributes.status = 'RUNNING'")
    assert not everything, "what the kill left running is closed"
    picture = registry.artifact(page.info.run_id, "figures/optimisation_history.png", tmp_path)
    assert picture.stat().st_size > 5_000


def test_it_proposes_only_what_was_better_than_the_settings_of_now(
    home: Settings, done: dict[str, Any]
) -> None:
    result, proposal = done["result"], studies.read(home, "ncf")
    assert (result["outcome"] == "proposed") == (result["best"] > result["before"]) == (proposal is not None)
    if proposal is not None:
        assert proposal.hyper == result["hyper"] and proposal.night is None
        assert proposal.until < TINY_NIGHT  # of the exam nothing was looked at


def test_a_study_without_time_says_so_and_proposes_nothing(home: Settings, tmp_path: Path) -> None:
    alone = home.model_copy(update={"home": tmp_path / "alone"})
    shutil.copytree(home.home, alone.home, ignore=shutil.ignore_patterns("studies"))
    with pytest.raises(NoDataError, match="goes on where it is"):
        study(FAMILIES["ncf"], TINY_NIGHT, alone, minutes=0.0001, trials=None, seed=0)
    assert studies.read(alone, "ncf") is None


def test_a_family_without_a_space_is_refused_with_those_that_have_one(home: Settings) -> None:
    with pytest.raises(SettingsError, match="no settings to study; those that have: ncf"):
        study(FAMILIES["item_knn"], TINY_NIGHT, home, minutes=1, trials=1, seed=0)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_family_is_marked_as_studied_if_and_only_if_its_recipe_can_be(name: str) -> None:
    recipe = FAMILIES[name].load()
    if FAMILIES[name].studied:
        assert set(recipe.space) <= set(vars(recipe.defaults))  # type: ignore[attr-defined]
        assert callable(recipe.rehearsal)  # type: ignore[attr-defined]


def test_the_next_night_tries_a_proposal_once(home: Settings, tmp_path: Path) -> None:
    alone = home.model_copy(update={"home": tmp_path / "alone"})
    shutil.copytree(home.home, alone.home, ignore=shutil.ignore_patterns("studies"))
    proposal = Proposal(
        "ncf", "recommender", {"factors": 16, "first": 16}, TINY_NIGHT.replace(year=2020), "val", 0.2, 0.1, 9
    )
    studies.write(alone, proposal)
    smoke = train(FAMILIES["ncf"], TINY_NIGHT, alone, smoke=True, seed=77)
    assert "hyper" not in smoke and studies.read(alone, "ncf") == proposal
    tried = train(FAMILIES["ncf"], TINY_NIGHT, alone, smoke=False, seed=77)
    version = Registry(alone).get(SEAT, tried["version"])
    assert json.loads(version.tags["hyper"]) == proposal.hyper
    run = Registry(alone).client.get_run(version.run_id)
    assert run.data.params["factors"] == "16" and run.data.tags["hyper"] == version.tags["hyper"]
    after = studies.read(alone, "ncf")
    assert after is not None and (after.night, after.version) == (TINY_NIGHT, version.number)
