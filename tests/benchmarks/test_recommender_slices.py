"""The recommender's benchmark of slices: who is asked about, what is new, and how leads are summed up."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import recommender_slices as slices
from benchmarks.recommender_sets import MOVIES, _films, _people, _ratings, found
from nightshift.errors import SettingsError
from tests.training.hybrid.conftest import DAYS, world
from training.hybrid.halves import half_visits

CUT = DAYS - 2


def test_slices_ask_new_users_apart_and_each_with_and_without_a_word_of_the_visit() -> None:
    window = world()
    exam = half_visits(window, CUT, 2)
    assert exam is not None
    parts = slices._slices(exam, window, CUT)
    late = {f"u{user}" for user in (36, 37, 38, 39)}
    strangers = parts["strangers (nothing met), visit told"]
    assert set(strangers.users) == late & set(exam.users) and strangers.users
    assert not set(parts["returning users, visit told"].users) & late
    assert "recent_items" in strangers.features
    assert "recent_items" not in parts["strangers (nothing met), nothing told"].features
    assert all(len(part.users) == len(part.features) == len(part.relevant) for part in parts.values())


def test_asked_for_new_items_alone_the_others_are_out_of_the_ranking() -> None:
    exam = half_visits(world(), CUT, 2)
    assert exam is not None
    wanted = exam.relevant[0][0]
    only = slices._only(exam, {wanted})
    assert all(items == [wanted] for items in only.relevant)
    row = exam.users.index(only.users[0])
    assert set(only.seen[0]) == set(exam.seen[row]) | (set(exam.relevant[row]) - {wanted})


def test_a_user_of_two_nights_counts_once_and_the_lead_is_paired() -> None:
    random = np.random.default_rng(0)
    base = random.random(60)
    part = pd.DataFrame({"slice": "s", "night": "n", "user_id": [f"u{n % 50}" for n in range(60)]})
    for metric in slices.METRICS:
        part[f"popularity {metric}"], part[f"hybrid {metric}"] = base, base + 0.01
    told = slices._summary(part, "seed")
    assert told["users"] == 50 and told["visits"] == 60
    assert told["hybrid-popularity_ndcg_at_10"] == pytest.approx(
        [0.01] * 3
    )  # the users' own spread is no noise
    assert "hybrid-ncf_ndcg_at_10" not in told


def test_films_ratings_and_people_follow_the_contract() -> None:
    films = pd.DataFrame({"item_id": ["1", "2"], "movie_title": ["Toy Story", ""], "release_year": ["1995", ""],
                          "class": ["Animation Comedy", ""]})  # fmt: skip
    listed = _films(films, datetime(1997, 9, 1, tzinfo=UTC)).to_pylist()
    assert [row["category"] for row in listed] == ["Animation", "unknown"]
    assert [row["title"] for row in listed] == ["Toy Story", "2"]
    rows = pd.DataFrame({"user_id": ["7"], "item_id": ["1"], "rating": ["4"],
                         "at": pd.to_datetime(["1998-01-01T10:00Z"]), "day": ["1998-01-01"]})  # fmt: skip
    (rating,) = _ratings(rows).to_pylist()
    assert (rating["kind"], rating["value"], rating["session_id"]) == ("rating", 4.0, "7-1998-01-01")
    told = pd.DataFrame({"age": ["24"], "gender": ["F"], "occupation": ["writer"]}, index=["7"])
    (person,) = _people(rows, told).to_pylist()
    assert (person["age_group"], person["tier"], person["country"]) == ("20s", "F", "writer")


def test_a_set_can_be_measured_by_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []
    one = SimpleNamespace(name="mine")

    def make(name: str) -> Any:
        made.append(name)
        return one

    monkeypatch.setattr(slices, "market", lambda home, quick: make("market"))
    monkeypatch.setattr(slices, "found", lambda folder, home: make(folder.name))
    monkeypatch.setattr(slices, "measure", lambda one, families, smoke: {"cpu_s": {}})
    monkeypatch.setattr(slices, "show", lambda results: None)
    for more, expected in (([], ["market", "shop"]), (["--without-market"], ["shop"])):
        made.clear()
        monkeypatch.setattr("sys.argv", ["recommender_slices", "--data", "shop", *more])
        slices.main()
        assert made == expected
    assert capsys.readouterr().out.splitlines()[-1] == '{"mine": {"cpu_s": {}}}'


def test_a_folder_of_something_else_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=MOVIES[0]):
        found(tmp_path, tmp_path / "home")
