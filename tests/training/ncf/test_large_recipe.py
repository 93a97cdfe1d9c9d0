from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from nightshift.errors import SettingsError
from nightshift.lake import Lake
from nightshift.settings import Settings
from training.baselines.popularity import Popularity
from training.exams.ranking import score_model
from training.exams.recommender import build_exam
from training.meetings import read_meetings
from training.ncf import large_recipe
from training.ncf.coded import Size
from training.ncf.large import Hyper, Network
from training.ncf.large_predictor import Factors
from training.ncf.large_recipe import attributions, planned, wanted
from training.ncf.memory import Limit
from training.recipe import Night, Setup, Trained

SMALL = Setup(hyper={"factors": 8, "batch": 64, "negatives": 32, "max_epochs": 8})


@pytest.fixture(scope="module")
def night(lake: Lake, tiny_night: Night) -> Night:
    return tiny_night


@pytest.fixture(scope="module")
def made(
    featured_home: Settings, lake: Lake, night: Night, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    return run(featured_home, lake, night, tmp_path_factory.mktemp("large"))


def run(home: Settings, lake: Lake, night: Night, folder: Path, setup: Setup = SMALL) -> Trained:
    found = large_recipe.size(lake, night.met_from or night.train_start, night.train_end)
    return large_recipe.train(
        night, home, folder, found, smoke=False, seed=1, log_epoch=lambda epoch, metrics: None, setup=setup
    )


def served(trained: Trained) -> Factors:
    model = Factors()
    model.load_context(SimpleNamespace(artifacts=trained.package.artifacts))
    return model


def test_it_hands_over_all_that_a_run_keeps(made: Trained, lake: Lake, night: Night) -> None:
    meetings = read_meetings(lake, night.train_start, night.train_end)
    assert made.params["positives"] == len(meetings.user) == len(made.data)
    assert made.params["path"] == "large" and 1 <= made.params["epochs"] <= 8
    assert made.metrics and all(np.isfinite(value) for value in made.metrics.values())
    assert set(made.figures) == {"learning_curve.png", "shap.png"}
    assert all(isinstance(figure, Figure) for figure in made.figures.values())
    assert (made.reference["interactions_1d"] > 0).all() and len(made.reference)
    assert made.measures["positives_per_cpu_second"] > 0


def test_what_it_learnt_beats_popularity_at_the_nights_exam(
    made: Trained, featured_home: Settings, lake: Lake, store: Any, night: Night
) -> None:
    exam = build_exam(lake, store, night, featured_home)
    events = lake.read("interactions", night.train_start, night.train_end).to_pandas()
    items = lake.latest("items", night.train_end).to_pandas()
    popular = score_model(Popularity(events, items), exam).means()
    learnt = score_model(served(made), exam).means()

    assert learnt["auc"] > popular["auc"] + 0.05
    assert learnt["ndcg_at_10"] > popular["ndcg_at_10"]


def test_what_users_met_is_what_the_lake_says(made: Trained, lake: Lake, night: Night) -> None:
    model, meetings = served(made), read_meetings(lake, night.train_start, night.train_end)
    rows = pd.DataFrame(meetings.met, columns=["user", "item", "day"])
    names = meetings.items["item_id"].tolist()
    for number, group in rows.groupby("user"):
        expected = {names[item - 1] for item in group["item"]}
        assert {model.items[place] for place in model.seen(meetings.users[number - 1])} == expected


def test_who_has_no_positive_is_a_stranger(
    featured_home: Settings, lake: Lake, night: Night, tmp_path: Path
) -> None:
    late = replace(night, train_start=night.train_end, met_from=night.train_start)
    model, meetings = (
        served(run(featured_home, lake, late, tmp_path)),
        read_meetings(lake, late.train_start, late.train_end, late.met_from),
    )
    here = set(meetings.user)
    away = [user for number, user in enumerate(meetings.users, 1) if number not in here]
    assert away and not any(model.known(user) for user in away)
    assert all(len(model.seen(user)) for user in away)
    scores = model.score(pd.DataFrame({"user_id": [away[0], "nobody", meetings.users[meetings.user[0] - 1]]}))
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.allclose(scores[0], scores[2])


def test_the_same_seed_makes_the_same_bytes(
    made: Trained, featured_home: Settings, lake: Lake, night: Night, tmp_path: Path
) -> None:
    again = run(featured_home, lake, night, tmp_path)
    for name in ("weights", "seen"):
        assert again.package.artifacts[name].read_bytes() == made.package.artifacts[name].read_bytes()


def test_the_package_answers_alone_without_torch_or_us(made: Trained, tmp_path: Path) -> None:
    import mlflow.pyfunc

    folder = tmp_path / "model"
    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(made.package.predictor),
        artifacts={name: str(path) for name, path in made.package.artifacts.items()},
        input_example=made.package.input_example,
        pip_requirements=made.package.requirements,
    )
    answer = mlflow.pyfunc.load_model(str(folder)).predict(made.package.input_example)
    pd.testing.assert_frame_equal(answer, made.package.output_example, atol=1e-6)
    probe = (
        "import sys, json, mlflow.pyfunc;"
        f"m = mlflow.pyfunc.load_model({str(folder)!r}).unwrap_python_model();"
        "print(json.dumps([n for n in ('torch', 'nightshift', 'training', 'feast') if n in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False, cwd=tmp_path,
        env=dict(os.environ),
    )  # fmt: skip
    assert json.loads(done.stdout or "null") == [], done.stderr[-2000:]


def test_every_score_is_finite_float32_and_every_reason_one_line(made: Trained) -> None:
    model = served(made)
    for asked in (pd.DataFrame({"user_id": ["u000", "a stranger"]}), pd.DataFrame({"user_id": []})):
        scores = model.score(asked)
        assert scores.shape == (len(asked), len(model.items)) and scores.dtype == np.float32
        assert np.isfinite(scores).all()
    for column in range(len(model.items)):
        assert all("\n" not in model.reason(user, column) for user in ("u000", "a stranger"))
    assert model.predict(None, pd.DataFrame({"user_id": ["u000"], "k": [3]}))["item_ids"].map(
        len
    ).tolist() == [3]


# --- which way a night takes ---------------------------------------------------------------------------


def test_a_small_shop_keeps_the_ordinary_path(lake: Lake, night: Night) -> None:
    assert wanted(lake, night) is None


@pytest.mark.parametrize("bound", ["IDS", "INTERACTIONS"])
def test_ids_or_interactions_beyond_their_bound_take_the_large_path_by_themselves(
    bound: str,
    monkeypatch: pytest.MonkeyPatch,
    featured_home: Settings,
    lake: Lake,
    night: Night,
    tmp_path: Path,
) -> None:
    from training.ncf.recipe import RECIPE

    found = large_recipe.size(lake, night.train_start, night.train_end)
    most = {"IDS": found.users + found.items, "INTERACTIONS": found.rows}[bound]
    monkeypatch.setattr(large_recipe, bound, most)
    assert wanted(lake, night) is None
    monkeypatch.setattr(large_recipe, bound, most - 1)
    assert wanted(lake, night) == found
    studied = Setup(hyper={"first": 16})  # a study's, of the ordinary way: the large one has no such setting
    trained = RECIPE.train(
        night, featured_home, tmp_path, smoke=True, seed=0, log_epoch=lambda *_: None, setup=studied
    )
    assert trained.params["path"] == "large" and "first" not in trained.params


def test_tables_that_do_not_fit_are_refused_in_words_before_anything_is_read(
    featured_home: Settings, lake: Lake, night: Night, tmp_path: Path
) -> None:
    tight = featured_home.model_copy(update={"recommender_memory_gb": 3e-4})
    wide = Setup(hyper={**SMALL.hyper, "factors": 2_048})
    with pytest.raises(SettingsError, match=r"set factors to \d+ at most.*NIGHTSHIFT_RECOMMENDER_MEMORY_GB"):
        run(tight, lake, night, tmp_path, wide)
    assert not list(tmp_path.iterdir())


def test_tables_are_kept_in_bfloat16_where_float32_would_not_fit() -> None:
    many = Size(rows=10, users=1_000_000, items=10_000_000, days=3)
    assert planned(Hyper(), many, Limit(12, "the card has left"))[0].dtype == "fp32"
    assert planned(Hyper(), many, Limit(2.5, "the card has left"))[0].dtype == "bf16"
    with pytest.raises(SettingsError, match="fp32"):
        planned(replace(Hyper(), dtype="fp32"), many, Limit(2.5, "the card has left"))


def test_the_attributions_of_a_pair_sum_to_its_lead_over_the_mean_item() -> None:
    network = Network(20, 15, replace(Hyper(), factors=4, std=1.0), 0, torch.device("cpu"))
    random = np.random.default_rng(0)
    pairs = np.stack([random.integers(1, 21, 60), random.integers(0, 15, 60)], axis=1)
    found = attributions(network, pairs)
    shown = len(found.values)
    items = network.item.weight.numpy()
    mean = items[pairs[shown:, 1]].mean(axis=0)
    user = network.user.weight.numpy()[pairs[:shown, 0]]
    expected = (user * (items[pairs[:shown, 1]] - mean)).sum(axis=1)
    np.testing.assert_allclose(found.values.sum(axis=1), expected, atol=1e-5)
