from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift import featurestore
from nightshift.contracts.features import USER_FEATURES
from nightshift.lake import Lake
from nightshift.settings import Settings
from training.exams import EmptyExamError
from training.exams.recommender import build_exam, discoveries
from training.recipe import Night

PAIRS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz")), max_size=25)
MEETINGS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz"), st.sampled_from(["home", "recommendation"])),
    max_size=25,
)


def frame(pairs: list[tuple[str, str]]) -> pd.DataFrame:
    return meetings([(user, item, "home") for user, item in pairs])


def meetings(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "item_id", "channel"], dtype=object)


@given(before=PAIRS, during=MEETINGS)
def test_what_the_champion_showed_counts_neither_for_nor_against_anybody(
    before: list[tuple[str, str]], during: list[tuple[str, str, str]]
) -> None:
    users, relevant, seen = discoveries(frame(before), meetings(during))

    shown = {(user, item) for user, item, channel in during if channel == "recommendation"}
    for user, wanted, met in zip(users, relevant, seen, strict=True):
        assert wanted
        assert not {(user, item) for item in wanted} & shown
        assert {item for who, item in shown if who == user} <= set(met)


@given(before=PAIRS, during=PAIRS)
def test_relevant_is_what_was_met_for_the_first_time_and_seen_what_was_met_before(
    before: list[tuple[str, str]], during: list[tuple[str, str]]
) -> None:
    users, relevant, seen = discoveries(frame(before), frame(during))

    new = set(during) - set(before)
    assert users == sorted({user for user, _ in new})
    for user, wanted, met in zip(users, relevant, seen, strict=True):
        assert wanted == sorted(item for who, item in new if who == user)
        assert met == sorted({item for who, item in before if who == user})


@pytest.fixture(scope="module")
def store(featured_home: Settings) -> object:
    return featurestore.open_store(featured_home)


def test_the_exam_is_the_night_itself_and_knows_nothing_of_it(
    featured_home: Settings, tiny_night: Night, store: object
) -> None:
    lake = Lake(featured_home.lake_dir)
    exam = build_exam(lake, store, tiny_night, featured_home)  # type: ignore[arg-type]

    assert (exam.start, exam.end) == (tiny_night.exam_start, tiny_night.night)
    assert 0 < len(exam.users) == len(exam.relevant) == len(exam.seen) == len(exam.features)
    assert exam.features["user_id"].tolist() == exam.users
    assert [*exam.features.columns] == ["user_id", *(f.name for f in USER_FEATURES)]
    assert {item for wanted in exam.relevant for item in wanted} <= set(exam.catalogue)
    # what a user did up to the eve, counted by hand: were the exam's day in it, these would be larger
    events = lake.read("interactions", tiny_night.train_start, tiny_night.train_end).to_pandas()
    expected = [float((events["user_id"] == user).sum()) for user in exam.users]
    assert exam.features["interactions_28d"].fillna(0).tolist() == expected


def test_the_same_night_gives_the_same_exam_and_another_window_another(
    featured_home: Settings, tiny_night: Night, store: object
) -> None:
    lake = Lake(featured_home.lake_dir)
    first = build_exam(lake, store, tiny_night, featured_home)  # type: ignore[arg-type]
    again = build_exam(lake, store, tiny_night, featured_home)  # type: ignore[arg-type]
    shorter = replace(tiny_night, train_start=tiny_night.train_end)

    assert first.digest == again.digest
    assert build_exam(lake, store, shorter, featured_home).digest != first.digest  # type: ignore[arg-type]


def test_an_exam_that_nobody_can_sit_says_what_to_do(
    featured_home: Settings, tiny_night: Night, store: object
) -> None:
    everything_seen = replace(tiny_night, train_start=tiny_night.exam_start, train_end=tiny_night.night)

    with pytest.raises(EmptyExamError, match="NIGHTSHIFT_EXAM_DAYS"):
        build_exam(Lake(featured_home.lake_dir), store, everything_seen, featured_home)  # type: ignore[arg-type]
