"""Every family's packaged model obeys its seat's protocol, loaded as serving loads it: from a folder, alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from mlflow.models import infer_signature

from nightshift.confidence import checked
from nightshift.contracts.features import TOPIC_FEATURES, TOPIC_VIEW, USER_FEATURES, VIEWS, numeric
from nightshift.language.bases import BaseRef
from nightshift.language.engine import Engine, open_engine
from nightshift.seats import CONTEXT, FORECASTER, LANGUAGE, RECOMMENDER, SEATS, Seat
from nightshift.settings import Settings
from training.exams.forecasts import ANSWER
from training.families import FAMILIES
from training.qlora.small import base_ref
from training.recipe import Trained

FEATURES, TOPIC_NUMBERS = numeric(USER_FEATURES), numeric(TOPIC_FEATURES)


def families_of(seat: Seat) -> pytest.MarkDecorator:
    """Runs a test on what the families of one seat made; without it a test runs on all of them."""
    names = sorted(name for name, family in FAMILIES.items() if family.seat == seat.name)
    return pytest.mark.parametrize("trained", names, indirect=True, scope="session")


@pytest.fixture(scope="module")
def packaged(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packaged") / "model"
    package = trained.package
    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(package.predictor),
        artifacts={name: str(path) for name, path in package.artifacts.items()},
        signature=infer_signature(package.input_example, package.output_example),
        input_example=package.input_example,
        pip_requirements=package.requirements,
    )
    return folder


@pytest.fixture(scope="module")
def model(packaged: Path) -> Any:
    return mlflow.pyfunc.load_model(str(packaged)).unwrap_python_model()


# --- every seat ----------------------------------------------------------------------------------------


# Loads each package that it is told of in a fork of its own: MLflow is imported once, and nothing else is shared.
LOADER = """
import os, sys, traceback, mlflow.pyfunc
for path in sys.stdin:
    if not (child := os.fork()):
        try:
            model = mlflow.pyfunc.load_model(path.strip()).unwrap_python_model()
            found = [n for n in ("torch", "nightshift", "training", "feast") if n in sys.modules]
            print(found, type(model).__name__, flush=True)
        except BaseException:
            print(" ".join(traceback.format_exc().split()), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], str]]:
    """What a process without this project loads a package with, and what that brought along."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOADER], cwd=tmp_path_factory.mktemp("elsewhere"), text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    into, out = process.stdin, process.stdout

    def load(package: Path) -> str:
        into.write(f"{package}\n")
        return out.readline()

    yield load
    into.close()
    assert process.wait(timeout=60) == 0


def test_the_package_loads_without_torch_or_us_and_without_pickle(
    packaged: Path, loader: Callable[[Path], str]
) -> None:
    assert loader(packaged).startswith("[] ")
    assert not [path for path in packaged.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]


def test_the_recipe_hands_over_figures_and_what_the_drift_watch_compares_with(
    trained: Trained, request: pytest.FixtureRequest
) -> None:
    view = SEATS[FAMILIES[request.node.callspec.params["trained"]].seat].view
    assert {"learning_curve.png"} | ({"shap.png"} if view else set()) <= set(trained.figures)
    assert all(isinstance(figure, Figure) for figure in trained.figures.values())
    assert trained.metrics and all(np.isfinite(value) for value in trained.metrics.values())
    assert 0 < len(trained.reference) <= 5_000 and len(trained.data) > 0
    assert view is None or set(VIEWS[view].watched) <= set(trained.reference.columns)


def test_loaded_for_mlflow_it_answers_its_own_example(packaged: Path, trained: Trained) -> None:
    answer = mlflow.pyfunc.load_model(str(packaged)).predict(trained.package.input_example)
    pd.testing.assert_frame_equal(answer, trained.package.output_example, atol=1e-6)


# --- the recommender -----------------------------------------------------------------------------------


def people(*users: str) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(random.random((len(users), len(FEATURES))) * 9, columns=FEATURES).assign(
        user_id=list(users)
    )


@families_of(RECOMMENDER)
def test_titles_and_categories_stand_beside_the_items(model: Any) -> None:
    assert len(model.items) == len(model.titles) == len(model.categories) == len(set(model.items)) > 0
    assert all(view == "user_features" for view in (name.partition(":")[0] for name in model.user_features))


@families_of(RECOMMENDER)
def test_scores_are_finite_float32_for_anybody_with_any_features(model: Any) -> None:
    rows = people("u000", "u001", "a stranger")
    rows.loc[1, FEATURES] = np.nan
    rows.loc[2, FEATURES] = 1e12
    for users in (rows, rows[["user_id"]], rows.astype({name: object for name in FEATURES}), rows.iloc[:0]):
        scores = model.score(users)
        assert scores.shape == (len(users), len(model.items))
        assert scores.dtype == np.float32 and np.isfinite(scores).all()


@families_of(RECOMMENDER)
def test_a_user_gets_the_same_scores_alone_as_among_others(model: Any) -> None:
    rows = people(*(f"u{n:03d}" for n in range(40)))
    alone = np.concatenate([model.score(rows.iloc[[n]]) for n in range(len(rows))])

    np.testing.assert_allclose(model.score(rows), alone, atol=1e-5)


@families_of(RECOMMENDER)
def test_only_users_of_the_window_are_known_and_have_seen_anything(model: Any) -> None:
    assert model.known("u000") and not model.known("a stranger")
    assert len(model.seen("a stranger")) == 0
    seen = model.seen("u000")
    assert seen.dtype == np.int64 and 0 < len(seen) == len(set(seen)) and seen.max() < len(model.items)


@families_of(RECOMMENDER)
def test_whatever_a_request_brings_along_the_scores_stay_finite_and_an_unknown_context_changes_nothing(
    model: Any,
) -> None:
    wanted = list(getattr(model, "context", []))
    assert set(wanted) <= set(CONTEXT)
    told = {
        "recent_items": [model.items[0], "an item of tomorrow"],
        "hour": 23,
        "device": "mobile",
        "channel": "home",
    }
    rows = people("u000", "a stranger")
    for values in (told, {**told, "recent_items": []}):
        known = rows.assign(**{name: pd.Series([values[name]] * 2, dtype=object) for name in wanted})
        scores = model.score(known)
        assert scores.shape == (2, len(model.items)) and np.isfinite(scores).all()
    unknown = rows.assign(**{name: pd.Series([None] * 2, dtype=object) for name in wanted})
    np.testing.assert_allclose(model.score(unknown), model.score(rows), atol=1e-6)


@families_of(RECOMMENDER)
def test_how_sure_it_is_stands_in_the_package_and_on_the_runs_page(model: Any, trained: Trained) -> None:
    calibration = checked(model.calibration)
    assert calibration is not None and calibration.dtype == np.float64
    assert 0 <= trained.metrics["calibration_error_at_10"] < 0.2
    assert "reliability.png" in trained.figures


@families_of(RECOMMENDER)
def test_every_reason_is_one_short_line(model: Any) -> None:
    for user in ("u000", "a stranger"):
        for column in range(len(model.items)):
            reason = model.reason(user, column)
            assert 0 < len(reason) < 700 and "\n" not in reason


@families_of(RECOMMENDER)
def test_predict_leaves_out_what_was_seen_and_puts_the_best_first(packaged: Path, model: Any) -> None:
    loaded = mlflow.pyfunc.load_model(str(packaged))
    answer = loaded.predict(pd.DataFrame({"user_id": ["u000", "a stranger"], "k": [5.0, None]}))

    assert [len(ids) for ids in answer["item_ids"]] == [5, 10]
    assert all(list(scores) == sorted(scores, reverse=True) for scores in answer["scores"])
    seen = {model.items[i] for i in model.seen("u000")}
    assert not seen & set(answer["item_ids"][0])


@families_of(RECOMMENDER)
def test_the_reference_is_of_user_days_on_which_the_user_was_there(trained: Trained) -> None:
    assert set(FEATURES) <= set(trained.reference.columns)
    assert (trained.reference["interactions_1d"] > 0).all()


# --- the forecaster ------------------------------------------------------------------------------------


def topics(count: int) -> pd.DataFrame:
    """Rows as Feast tells them; the numbers are of the size that they have in life."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(count, len(TOPIC_NUMBERS))), columns=TOPIC_NUMBERS)
    rows[[name for name in TOPIC_NUMBERS if name.endswith("_spread")]] = 0.7
    return rows.assign(topic=[f"t{n}" for n in range(count)], velocity=50.0)


@families_of(FORECASTER)
def test_it_names_topics_features_and_what_is_typical(model: Any, trained: Trained) -> None:
    known = {f"{TOPIC_VIEW}:{feature.name}" for feature in TOPIC_FEATURES}
    assert set(model.features) <= known and model.features == trained.features
    assert model.topics == sorted(set(trained.data["topic"]))
    usual = {name for name in TOPIC_NUMBERS if name.endswith(("_usual", "_spread"))}
    assert usual <= set(model.typical) and all(np.isfinite(value) for value in model.typical.values())
    assert all(model.typical[name] >= 0 for name in usual if name.endswith("_spread"))


@families_of(FORECASTER)
def test_a_forecast_is_finite_and_inside_its_intervals_for_any_row(model: Any) -> None:
    rows = topics(4)
    rows.loc[1, TOPIC_NUMBERS] = np.nan
    rows.loc[2, TOPIC_NUMBERS] = 1e12
    rows.loc[3, TOPIC_NUMBERS] = np.inf
    for asked in (
        rows, rows[["topic"]], rows.astype({name: object for name in TOPIC_NUMBERS}), rows.iloc[:0],
        rows[TOPIC_NUMBERS[:20]], rows.iloc[::-1], rows[rows.columns[::-1]],
    ):  # fmt: skip
        answer = model.forecast(asked)
        values = answer[list(ANSWER)].to_numpy(np.float64)
        assert values.shape == (len(asked), len(ANSWER)) and np.isfinite(values).all()
        assert (answer["low_95"] <= answer["low_80"]).all() and (answer["low_80"] <= answer["change"]).all()
        assert (answer["change"] <= answer["high_80"]).all() and (
            answer["high_80"] <= answer["high_95"]
        ).all()


@families_of(FORECASTER)
def test_a_topic_gets_the_same_forecast_alone_as_among_others(model: Any) -> None:
    rows = topics(40)
    alone = pd.concat([model.forecast(rows.iloc[[n]]) for n in range(len(rows))], ignore_index=True)

    pd.testing.assert_frame_equal(model.forecast(rows), alone, atol=1e-5)
    assert alone["change"].std() > 0


@families_of(FORECASTER)
def test_a_forecast_does_not_change_what_it_is_given(model: Any) -> None:
    rows = topics(5)
    before = rows.copy()
    model.forecast(rows)
    pd.testing.assert_frame_equal(rows, before)


# --- the language seat ---------------------------------------------------------------------------------

TALK = [
    [
        {"role": "user", "content": "요즘 일이 재미없어요."},
        {"role": "assistant", "content": "무엇이 힘드세요?"},
    ],
    [{"role": "user", "content": "I am bored."}, {"role": "assistant", "content": "Since when?"}],
]


@pytest.fixture(scope="module")
def engine(talks_home: Settings, model: Any) -> Iterator[Engine]:
    found = open_engine(talks_home, model)
    yield found
    found.close()


@families_of(LANGUAGE)
def test_an_adapter_names_its_base_and_has_finite_float32_lora_weights_alone(
    model: Any, talks_home: Settings
) -> None:
    assert BaseRef(model.base, model.revision) == base_ref(talks_home)
    assert model.lora["r"] == talks_home.language_rank and model.weights
    for name, weight in model.weights.items():
        assert "lora_" in name and weight.dtype == np.float32 and np.isfinite(weight).all()


@families_of(LANGUAGE)
def test_an_adapter_fits_its_base_changes_what_it_says_and_leaves_no_trace(
    engine: Engine, model: Any
) -> None:
    before = engine.surprise(TALK, None)
    engine.add("tried", model)
    told, answer = engine.surprise(TALK, "tried"), engine.answer(TALK[0][:1], "tried", max_tokens=6)
    alone = [engine.surprise([talk], "tried")[0] for talk in TALK]
    again = engine.answer(TALK[0][:1], "tried", max_tokens=6)
    engine.remove("tried")

    assert all(np.isfinite(one.nats) and one.tokens > 0 for one in told)
    assert [one.nats for one in told] != [one.nats for one in before]
    assert told == alone and answer == again
    assert engine.surprise(TALK, None) == before and not engine.names


@families_of(LANGUAGE)
def test_the_base_is_not_in_the_package(packaged: Path) -> None:
    assert sum(path.stat().st_size for path in packaged.rglob("*") if path.is_file()) < 4 * 2**20
