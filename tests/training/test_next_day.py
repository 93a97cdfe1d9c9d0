"""The Production model on the day after, with real features and a real MLflow server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from nightshift.commands import read_step
from nightshift.errors import LakeError, RegistryError
from nightshift.lake import Lake
from nightshift.registry import Registry
from nightshift.seats import RECOMMENDER, Seat
from nightshift.settings import PROJECT, Settings
from tests.conftest import TINY_START, publish_day, tiny_day
from training.exams import Scores
from training.exams.ranking import PER_USER, Exam
from training.hall import open_hall
from training.next_day import KEPT, figures, judge, main, next_day, values_path

PREDICTOR = Path(__file__).with_name("tiny_predictor.py")
DAYS = [TINY_START + timedelta(days=number) for number in range(5)]
NIGHT, AFTER = DAYS[-2], DAYS[-1]
USERS, ITEMS = 240, 60  # of whom some 150 sit a day's exam


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with five published days, 240 users × 60 items, and their features."""
    home = tmp_path_factory.mktemp("next_day_home")
    for day in DAYS:
        publish_day(Lake(home / "lake"), tiny_day(day, users=USERS, items=ITEMS))
    command = [sys.executable, "-m", "feature_repo.build", "--night", AFTER.isoformat()]
    environment = {**os.environ, "NIGHTSHIFT_HOME": str(home)}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return home


@pytest.fixture
def config(mlflow_server: Settings, home: Path) -> Settings:
    return mlflow_server.model_copy(update={"home": home})


@pytest.fixture
def seat() -> Seat:
    return replace(RECOMMENDER, registered_model=f"seat-{uuid.uuid4().hex[:8]}")


def submit(
    config: Settings, seat: Seat, tmp_path: Path, train_end: date = DAYS[-3], *, taste: bool = True
) -> int:
    """A model that knows the planted taste (user n likes items n % 3) or is blind to it, as NIGHT's candidate."""
    items = [f"i{n:03d}" for n in range(ITEMS)]
    scores = {
        f"u{u:03d}": [float(taste and n % 3 == u % 3) - n / 1000 for n in range(ITEMS)] for u in range(USERS)
    }
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"items": items, "scores": scores}))
    registry = Registry(config)
    mlflow.set_experiment("next day tests")
    with mlflow.start_run() as run:
        logged = mlflow.pyfunc.log_model(
            name="model", python_model=str(PREDICTOR), artifacts={"table": str(path)}, pip_requirements=[]
        )
    tags = {"family": "ncf", "night": NIGHT.isoformat(), "train_end": train_end.isoformat()}
    return registry.submit(seat, run_id=run.info.run_id, model_uri=logged.model_uri, tags=tags).number


def test_whoever_the_night_seated_is_judged_by_the_day_after_its_exam(
    config: Settings, seat: Seat, tmp_path: Path
) -> None:
    empty = next_day(config, seat, NIGHT)
    assert empty["version"] is None and empty["ndcg_at_10"] is None and empty["ndcg_at_10_interval"] is None
    version = submit(config, seat, tmp_path)
    Registry(config).promote(seat, version, by="test", reason="test")
    exam = open_hall(config, RECOMMENDER, NIGHT).about()
    assert exam["start"] == exam["end"] == NIGHT.isoformat()

    result = next_day(config, seat, NIGHT)
    assert (result["night"], result["scored_day"], result["version"]) == (NIGHT, AFTER, version)
    assert result["digest"] != exam["digest"]
    assert 30 <= result["users"] == empty["users"] <= USERS
    assert result["popularity_hr_at_10"] == empty["popularity_hr_at_10"]
    low, high = result["ndcg_at_10_interval"]
    assert low < result["ndcg_at_10"] < high
    assert result["hr_at_10"] > result["popularity_hr_at_10"] > 0
    with pytest.raises(LakeError, match=f"no day after {AFTER} is published yet"):
        next_day(config, seat, AFTER)


def test_the_baseline_knows_nothing_of_the_exam_day(config: Settings) -> None:
    """Its first item is what most people met on the days before, counted here by hand."""
    hall = open_hall(config, RECOMMENDER, NIGHT)
    before = Lake(config.lake_dir).read("interactions", DAYS[0], DAYS[-3]).to_pandas()
    counted = before.drop_duplicates(["user_id", "item_id"])["item_id"].value_counts()
    assert isinstance(hall.exam, Exam)
    baseline = hall.baselines["popularity"]
    scores = baseline.score(hall.exam.features[:1])[0]
    assert counted[baseline.items[int(np.argmax(scores))]] == counted.max()
    assert hall.night.train_end == DAYS[-3] and hall.night.exam_start == NIGHT


def test_a_day_that_the_champion_was_trained_on_cannot_judge_it(
    config: Settings, seat: Seat, tmp_path: Path
) -> None:
    version = submit(config, seat, tmp_path, train_end=AFTER)
    Registry(config).promote(seat, version, by="test", reason="test")
    with pytest.raises(RegistryError, match=f"trained on data up to {AFTER}: day {AFTER} cannot judge it"):
        next_day(config, seat, NIGHT)


def test_versions_are_judged_side_by_side_on_one_exam_and_every_users_values_are_kept(
    config: Settings, seat: Seat, tmp_path: Path
) -> None:
    knowing = submit(config, seat, tmp_path)
    blind = submit(config, seat, tmp_path, taste=False)
    Registry(config).promote(seat, knowing, by="test", reason="test")
    alone = next_day(config, seat, NIGHT)
    told, values = judge(config, seat, NIGHT, [blind, knowing, blind])
    assert (told["digest"], told["users"]) == (alone["digest"], alone["users"])
    assert told["versions"][str(knowing)] == {name: alone[name] for name in told["versions"][str(knowing)]}
    assert told["versions"][str(knowing)]["ndcg_at_10"] > told["versions"][str(blind)]["ndcg_at_10"]
    assert len(values) == 2 * told["users"] and list(values.columns) == ["night", "version", "user_id", *KEPT]
    for number, users in values.groupby("version"):
        for metric in KEPT:
            assert users[metric].mean() == pytest.approx(told["versions"][str(number)][metric])
    assert set(values["night"]) == {NIGHT.isoformat()}


def test_no_version_is_judged_if_one_of_them_has_seen_the_day(
    config: Settings, seat: Seat, tmp_path: Path
) -> None:
    fair, unfair = submit(config, seat, tmp_path), submit(config, seat, tmp_path, train_end=AFTER)
    with pytest.raises(RegistryError, match=f"version {unfair} was trained on data up to {AFTER}"):
        judge(config, seat, NIGHT, [fair, unfair])


def test_the_command_keeps_the_values_beside_the_step(
    config: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = config.model_copy(update={"home": tmp_path})
    for part in ("lake", "features", "feast"):
        (tmp_path / part).symlink_to(config.home / part)
    monkeypatch.setattr("training.next_day.settings", lambda: own)
    number = submit(own, RECOMMENDER, tmp_path)
    main(["recommender", "--night", NIGHT.isoformat(), "--version", str(number)])
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert read_step(own, NIGHT, "judged-recommender") == printed and list(printed["versions"]) == [
        str(number)
    ]
    assert len(pd.read_parquet(values_path(own, NIGHT, RECOMMENDER))) == printed["users"]


def test_intervals_hold_the_mean_and_narrow_with_more_users() -> None:
    def result(users: int) -> dict[str, object]:
        hits = np.random.default_rng(0).permutation(np.arange(users) % 4 == 0).astype(float)
        scores = Scores(dict.fromkeys(PER_USER, hits), {"coverage_at_10": 0.5})
        return figures("", scores, "digest")

    few, many = result(40), result(4_000)
    for each in (few, many):
        low, high = each["hr_at_10_interval"]  # type: ignore[misc]
        assert low < each["hr_at_10"] == 0.25 < high  # type: ignore[operator]
    (a, b), (c, d) = few["hr_at_10_interval"], many["hr_at_10_interval"]  # type: ignore[misc]
    assert (b - a) / (d - c) == pytest.approx(10, rel=0.25)
