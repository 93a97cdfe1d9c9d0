"""Every family's packaged model obeys its seat's protocol, loaded as serving loads it: from a folder, alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from mlflow.models import infer_signature

from nightshift.contracts.features import USER_FEATURES, numeric
from training.recipe import Trained

FEATURES = numeric(USER_FEATURES)


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


def people(*users: str) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(random.random((len(users), len(FEATURES))) * 9, columns=FEATURES).assign(
        user_id=list(users)
    )


def test_titles_and_categories_stand_beside_the_items(model: Any) -> None:
    assert len(model.items) == len(model.titles) == len(model.categories) == len(set(model.items)) > 0
    assert all(view == "user_features" for view in (name.partition(":")[0] for name in model.user_features))


def test_scores_are_finite_float32_for_anybody_with_any_features(model: Any) -> None:
    rows = people("u000", "u001", "a stranger")
    rows.loc[1, FEATURES] = np.nan
    rows.loc[2, FEATURES] = 1e12
    for users in (rows, rows[["user_id"]], rows.astype({name: object for name in FEATURES}), rows.iloc[:0]):
        scores = model.score(users)
        assert scores.shape == (len(users), len(model.items))
        assert scores.dtype == np.float32 and np.isfinite(scores).all()


def test_a_user_gets_the_same_scores_alone_as_among_others(model: Any) -> None:
    rows = people(*(f"u{n:03d}" for n in range(40)))
    alone = np.concatenate([model.score(rows.iloc[[n]]) for n in range(len(rows))])

    np.testing.assert_allclose(model.score(rows), alone, atol=1e-5)


def test_only_users_of_the_window_are_known_and_have_seen_anything(model: Any) -> None:
    assert model.known("u000") and not model.known("a stranger")
    assert len(model.seen("a stranger")) == 0
    seen = model.seen("u000")
    assert seen.dtype == np.int64 and 0 < len(seen) == len(set(seen)) and seen.max() < len(model.items)


def test_every_reason_is_one_short_line(model: Any) -> None:
    for user in ("u000", "a stranger"):
        for column in range(len(model.items)):
            reason = model.reason(user, column)
            assert 0 < len(reason) < 700 and "\n" not in reason


def test_predict_leaves_out_what_was_seen_and_puts_the_best_first(packaged: Path, model: Any) -> None:
    loaded = mlflow.pyfunc.load_model(str(packaged))
    answer = loaded.predict(pd.DataFrame({"user_id": ["u000", "a stranger"], "k": [5.0, None]}))

    assert [len(ids) for ids in answer["item_ids"]] == [5, 10]
    assert all(list(scores) == sorted(scores, reverse=True) for scores in answer["scores"])
    seen = {model.items[i] for i in model.seen("u000")}
    assert not seen & set(answer["item_ids"][0])


def test_the_package_loads_without_torch_or_us_and_without_pickle(packaged: Path) -> None:
    probe = (
        "import sys, mlflow.pyfunc;"
        f"m = mlflow.pyfunc.load_model({str(packaged)!r}).unwrap_python_model();"
        "print([n for n in ('torch', 'nightshift', 'training', 'feast') if n in sys.modules], len(m.items))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False, cwd=packaged.parent
    )

    assert done.stdout.startswith("[] "), done.stdout + done.stderr[-2000:]
    assert not [path for path in packaged.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]


def test_the_recipe_hands_over_figures_and_what_the_drift_watch_compares_with(trained: Trained) -> None:
    assert {"learning_curve.png", "shap.png"} <= set(trained.figures)
    assert all(isinstance(figure, Figure) for figure in trained.figures.values())
    assert trained.metrics and all(np.isfinite(value) for value in trained.metrics.values())
    assert set(FEATURES) <= set(trained.reference.columns) and 0 < len(trained.reference) <= 5_000
    # active user-days at their end: nobody of them was away
    assert (trained.reference["interactions_1d"] > 0).all()
