from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nightshift.lake import Lake
from nightshift.settings import Settings
from training.exams.ranking import score_model
from training.exams.recommender import build_exam, discoveries
from training.ncf.coded import code
from training.ncf.large import Hyper, Network
from training.ncf.large_package import write
from training.ncf.large_predictor import Factors
from training.ncf.large_validation import questions, validate
from training.recipe import Night


@pytest.fixture(scope="module")
def judged(
    lake: Lake,
    store: Any,
    tiny_night: Night,
    featured_home: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """One untrained network, by the exam's scorer as a package and by `validate`, on the same two last days."""
    end, folder = tiny_night.train_end, tmp_path_factory.mktemp("judged")
    with code(lake, tiny_night.train_start, end, folder / "scratch") as window:
        cut = len(window.days) - 2
        random = np.random.default_rng(0)
        early = window.write_shards("early", 0, cut, random)
        network = Network(
            window.users, window.items, replace(Hyper(), factors=4, std=1.0), 0, torch.device("cpu")
        )
        asked = questions(window, cut, seed=0)
        own = validate(network, asked, early.users > 0)
        package = write(network, window, early.users, replace(Hyper(), factors=4), folder)
        rehearsal = Night(end, window.days[0], window.days[cut - 1], window.days[cut])
        names = window.database.execute("SELECT user_id FROM users ORDER BY code").df()["user_id"]
    model = Factors()
    model.load_context(SimpleNamespace(artifacts=package.artifacts))
    exam = build_exam(lake, store, rehearsal, featured_home)
    return {
        "own": own, "exam": score_model(model, exam).means(), "asked": asked, "users": exam.users,
        "relevant": exam.relevant, "names": names, "items": model.items,
    }  # fmt: skip


def test_it_asks_what_the_exam_would_ask(judged: dict[str, Any]) -> None:
    asked = judged["asked"]
    assert [judged["names"][user - 1] for user in asked.users] == judged["users"]
    told = [[judged["items"][item] for item in items] for items in asked.relevant]
    assert told == judged["relevant"]


def test_its_figures_are_those_of_the_exams_scorer(judged: dict[str, Any]) -> None:
    for name, value in judged["own"].items():
        assert value == pytest.approx(judged["exam"][name], abs=1e-9), name


def test_what_was_met_through_a_recommendation_counts_neither_way(tmp_path: Path) -> None:
    """The same rows by the exam's own rule and by the query."""
    before = pd.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "x"], "channel": "home"})
    during = pd.DataFrame(
        [("a", "y", "home"), ("a", "z", "recommendation"), ("a", "x", "home"), ("b", "y", "recommendation")],
        columns=["user_id", "item_id", "channel"],
    )  # fmt: skip
    assert discoveries(before, during)[:2] == (["a"], [["y"]])
    import duckdb

    told = [(0, 1, 0, 1.0, False), (0, 2, 0, 1.0, False), (1, 1, 1, 1.0, False), (1, 1, 2, 1.0, True)]
    told += [(1, 1, 0, 1.0, False), (1, 2, 1, 1.0, True)]
    with duckdb.connect() as database:
        database.execute(
            'CREATE TABLE coded (day SMALLINT, "user" INTEGER, item INTEGER, weight FLOAT, steered BOOLEAN)'
        )
        database.executemany("INSERT INTO coded VALUES (?, ?, ?, ?, ?)", told)
        asked = questions(SimpleNamespace(database=database), 1, 0)  # type: ignore[arg-type]
    assert asked.users.tolist() == [1]
    assert [items.tolist() for items in asked.relevant] == [[1]]
    assert [sorted(items.tolist()) for items in asked.left_out] == [[0, 2]]
