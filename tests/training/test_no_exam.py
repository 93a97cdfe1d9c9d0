"""A version that holds no day back for an exam: for whoever always promotes, as `nightshift backtest` has it."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from nightshift.commands import read_step
from nightshift.errors import RegistryError
from nightshift.night import run_step
from nightshift.registry import Registry
from nightshift.seats import RECOMMENDER
from nightshift.settings import Settings
from tests.training.conftest import TINY_NIGHT
from training.examine import candidates
from training.next_day import judge

FAMILY = "item_knn"
NIGHT = TINY_NIGHT - timedelta(days=1)  # so that there is a day after it


@pytest.fixture
def config(featured_home: Settings, mlflow_server: Settings, tmp_path: Path) -> Settings:
    shutil.copytree(featured_home.home, tmp_path, dirs_exist_ok=True)
    return mlflow_server.model_copy(update={"home": tmp_path})


def test_it_knows_the_night_itself_and_the_gate_never_sees_it(config: Settings) -> None:
    registry, command = Registry(config), ["training.run", FAMILY, "--night", str(NIGHT), "--smoke"]
    usual = run_step(config, command)
    fresh = run_step(config, [*command, "--no-exam"])
    assert (read_step(config, NIGHT, f"train-{FAMILY}"), read_step(config, NIGHT, f"no-exam-{FAMILY}")) == (
        usual,
        fresh,
    )
    tags = registry.get(RECOMMENDER, fresh["version"]).tags
    assert tags["train_end"] == str(NIGHT) > registry.get(RECOMMENDER, usual["version"]).tags["train_end"]
    assert fresh["train_rows"] > usual["train_rows"]
    # It is newer than the candidate, and yet neither a candidate nor a further try at this or the next night's exam.
    assert candidates(registry, RECOMMENDER, NIGHT, [FAMILY])[FAMILY].number == usual["version"]
    for exam_start in (NIGHT, TINY_NIGHT):
        tries = registry.versions(RECOMMENDER, exam_start=str(exam_start))
        assert fresh["version"] not in [version.number for version in tries]

    told, _ = judge(config, RECOMMENDER, NIGHT, [usual["version"], fresh["version"]])
    assert len(told["versions"]) == 2
    with pytest.raises(RegistryError, match=f"was trained on data up to {NIGHT}"):
        judge(config, RECOMMENDER, NIGHT - timedelta(days=1), [fresh["version"]])
