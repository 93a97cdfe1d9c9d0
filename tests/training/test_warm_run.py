"""Two nights of ncf with a real MLflow server: the second goes on from the first, and can be trained again."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import Any

import mlflow
import pytest

from nightshift.lake import Lake
from nightshift.registry import Registry
from nightshift.seats import SEATS
from nightshift.settings import Settings
from nightshift.versions import Version
from tests.training.conftest import TINY_NIGHT
from training import warm
from training.exams import examiner
from training.exams.recommender import EXAMINER
from training.families import FAMILIES
from training.lineage import look_up
from training.ncf.fit import Hyper
from training.run import train

SEAT = SEATS["recommender"]
NIGHTS = (TINY_NIGHT - timedelta(days=1), TINY_NIGHT)


@pytest.fixture(scope="module")
def home(
    featured_home: Settings, mlflow_server: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    folder = tmp_path_factory.mktemp("warm_home")
    shutil.copytree(featured_home.home, folder, dirs_exist_ok=True)
    # Other tests' versions in the same registry, of these nights and this family, are none of this shop's.
    return mlflow_server.model_copy(update={"home": folder, "exam_users": 0})


def version(home: Settings, result: dict[str, Any]) -> Version:
    return Registry(home).get(SEAT, result["version"])


@pytest.fixture(scope="module")
def nights(home: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    mlflow.set_tracking_uri(home.mlflow_url)
    mlflow.set_experiment(
        "somebody else's"
    )  # as an environment may have it: a run belongs to its own all the same
    first, second = (train(FAMILIES["ncf"], night, home, smoke=False, seed=91) for night in NIGHTS)
    return first, second


def test_the_second_night_goes_on_from_the_first_and_says_so(home: Settings, nights: Any) -> None:
    first, second = (version(home, one) for one in nights)
    assert nights[0]["full_retrain_reason"] == first.tags["full_retrain_reason"]
    assert nights[1]["warm_from"] == second.tags["warm_from"] == str(first.number)
    assert second.tags["warm_digest"] == first.tags["state_digest"] != second.tags["state_digest"]
    assert second.tags["full_night"] == str(NIGHTS[0])
    run = Registry(home).client.get_run(second.run_id)
    assert run.data.tags["warm_from"] == str(first.number)
    assert int(run.data.params["epochs"]) == Hyper().warm_epochs
    assert "fit_cpu_s" in run.data.metrics, "what going on saves is to be seen on its page"


def test_its_lineage_reaches_back_to_the_version_it_went_on_from(home: Settings, nights: Any) -> None:
    lake = Lake(home.lake_dir)
    tonight = EXAMINER.night(lake, TINY_NIGHT, home)

    def found(one: Version, night: Any = tonight) -> Any:
        return look_up(Registry(home), lake, home, SEAT, one, night, examiner("recommender"))

    second = version(home, nights[1])
    fine = found(second)
    assert not (fine.problem or fine.shared or fine.changed or fine.absent)
    gone = Version(**{**vars(second), "tags": {**second.tags, "warm_from": "100000"}})
    assert found(gone).absent == (f"version 100000, which version {second.number} went on from",)
    other = Version(**{**vars(second), "tags": {**second.tags, "warm_digest": "other"}})
    assert found(other).changed == (f"the state of version {nights[0]['version']}",)


def test_the_same_night_again_is_the_same_model_whoever_came_since(home: Settings, nights: Any) -> None:
    again = train(FAMILIES["ncf"], TINY_NIGHT, home, smoke=False, seed=91)
    one, two = version(home, nights[1]), version(home, again)
    assert two.tags["warm_from"] == one.tags["warm_from"]
    assert two.tags["state_digest"] == one.tags["state_digest"]


def test_from_nothing_if_it_is_asked_for_or_a_smoke_night(home: Settings, nights: Any) -> None:
    asked = train(FAMILIES["ncf"], TINY_NIGHT, home, smoke=False, seed=91, full=True)
    assert asked["full_retrain_reason"] == warm.ASKED and "warm_from" not in asked
    smoke = train(FAMILIES["ncf"], TINY_NIGHT, home, smoke=True, seed=91)
    assert smoke["full_retrain_reason"] == "a smoke night"
