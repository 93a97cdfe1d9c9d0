from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift import featurestore, retrains
from nightshift.contracts import INTERACTIONS
from nightshift.contracts.features import USER_FEATURES
from nightshift.lake import Lake, write_json
from nightshift.settings import Settings
from nightshift.sources import DayBatch
from tests.conftest import publish_day, tiny_day
from training.exams import EmptyExamError
from training.exams.ranking import score_model
from training.exams.recommender import EXAMINER, build_exam, discoveries, steered_items
from training.recipe import Night

MONTH = [date(2026, 9, 1) + timedelta(days=n) for n in range(24)]
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


@given(before=PAIRS, during=MEETINGS)
def test_what_was_steered_is_what_nobody_could_have_known_of_it_is_left_out_and_was_not_met_before(
    before: list[tuple[str, str]], during: list[tuple[str, str, str]]
) -> None:
    users, _, seen = discoveries(frame(before), meetings(during))
    steered = steered_items(frame(before), meetings(during), users)
    assert set(steered) <= set(users)
    for user, left_out in zip(users, seen, strict=True):
        known = {item for who, item in before if who == user}
        assert set(left_out) - set(steered.get(user, [])) == known


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


def test_who_and_what_is_told_apart_by_what_was_known_on_the_eve(
    featured_home: Settings, tiny_night: Night, store: object
) -> None:
    lake = Lake(featured_home.lake_dir)
    exam = build_exam(lake, store, tiny_night, featured_home)  # type: ignore[arg-type]
    events = lake.read("interactions", tiny_night.train_start, tiny_night.train_end).to_pandas()
    assert exam.popularity == events["item_id"].value_counts().to_dict()
    assert exam.category["i004"] == "food" and set(exam.category) == set(exam.catalogue)
    popularity = EXAMINER.baselines(lake, featured_home, tiny_night)["popularity"]
    slices = score_model(popularity, exam).slices
    # Nobody's country is told in the tiny world.
    assert {name.partition(":")[0] for name in slices} == {"users", "items", "category"}


def test_the_content_of_a_day_is_the_digest_of_its_interactions_and_a_day_without_any_has_none(
    featured_home: Settings, tiny_night: Night, tmp_path: Path
) -> None:
    lake = Lake(featured_home.lake_dir)
    content = EXAMINER.content(lake, featured_home, tiny_night)
    days = {day.isoformat() for day in lake.days()}
    assert set(content.training) | set(content.exam) == days and not set(content.training) & set(content.exam)
    assert set(content.exam) == {day for day in days if day >= tiny_night.exam_start.isoformat()}
    told = lake.entry(tiny_night.night)
    assert told is not None
    assert content.exam[tiny_night.night.isoformat()] == told["tables"]["interactions"]["sha256"]
    assert not set(content.training.values()) & set(content.exam.values())

    quiet = Lake(tmp_path / "lake")
    empty = INTERACTIONS.table([])
    for number in range(3):
        tables = [{}, {"interactions": empty}, {"interactions": empty}][number]
        publish_day(quiet, DayBatch(tiny_night.night + timedelta(days=number), tables))
    last = tiny_night.night + timedelta(days=2)
    night = Night(last, tiny_night.night, last - timedelta(days=1), last)
    content = EXAMINER.content(quiet, featured_home, night)
    assert content.training == content.exam == {}, "two empty days are alike and yet share nothing"


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


# --- which days are the exam ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """24 days of a small world in which 2 users come a day, and never again."""
    home = tmp_path_factory.mktemp("month")
    for day in MONTH:
        batch = tiny_day(day, start=MONTH[0], users=2)
        rows = batch.tables["interactions"]
        names = pa.array([f"{day}-{user}" for user in rows["user_id"].to_pylist()])
        batch.tables["interactions"] = rows.set_column(rows.column_names.index("user_id"), "user_id", names)
        publish_day(Lake(home / "lake"), batch)
    return Settings(_env_file=None, home=home, exam_users=8, exam_users_after_drift=1)  # type: ignore[call-arg]


def exam_days(settings: Settings, lake: Lake, night: date) -> int:
    window = EXAMINER.night(lake, night, settings)
    assert (window.exam_start - window.train_end).days == 1
    return (night - window.exam_start).days + 1


def test_in_the_week_after_a_drift_the_exam_is_short_and_then_long_again(
    month: Settings, tmp_path: Path
) -> None:
    lake = Lake(month.lake_dir)
    ordinary = exam_days(month, lake, MONTH[-1])
    assert ordinary > 1
    drifted = month.model_copy(update={"home": tmp_path})
    (tmp_path / "lake").symlink_to(month.lake_dir)
    for seat, day in (("recommender", MONTH[-8]), ("forecaster", MONTH[-2])):
        fact = {
            "fact": "RetrainRequested",
            "seat": seat,
            "day": str(day),
            "champion": 3,
            "published": str(day),
        }
        write_json(tmp_path / "triggers" / f"{day}-{seat}-v3.json", fact)
    found = {night: exam_days(drifted, lake, night) for night in MONTH[-9:]}
    assert list(found.values()) == [ordinary, ordinary, 1, 1, 1, 1, 1, 1, ordinary]
    night = EXAMINER.night(lake, MONTH[-7], drifted)
    assert night.train_end == MONTH[-8], "the first night after it trains on the day that drifted"


def test_a_request_that_comes_once_the_night_is_published_does_not_change_its_exam(
    month: Settings, tmp_path: Path
) -> None:
    """The training has read it, the gate has not yet."""
    lake = Lake(month.lake_dir)
    late = month.model_copy(update={"home": tmp_path})
    (tmp_path / "lake").symlink_to(month.lake_dir)
    before = EXAMINER.night(lake, MONTH[-1], late)
    retrains.keep(late, MONTH[-2], "recommender", 3, {})
    assert EXAMINER.night(lake, MONTH[-1], late) == before


def test_a_setting_for_less_than_after_a_drift_is_kept_after_one(month: Settings, tmp_path: Path) -> None:
    lake = Lake(month.lake_dir)
    fewer = {"home": tmp_path, "exam_users": 1, "exam_users_after_drift": 8}
    drifted = month.model_copy(update=fewer)
    fact = {"seat": "recommender", "day": str(MONTH[-2]), "champion": 3}
    write_json(tmp_path / "triggers" / "a.json", fact)
    assert exam_days(drifted, lake, MONTH[-1]) == 1


# --- the standing baselines ----------------------------------------------------------------------------


def test_the_standing_baselines_know_the_training_window_alone(
    featured_home: Settings, tiny_night: Night
) -> None:
    lake = Lake(featured_home.lake_dir)
    found = EXAMINER.baselines(lake, featured_home, tiny_night)
    assert list(found) == ["popularity", "item-kNN"]
    shorter = replace(tiny_night, exam_start=tiny_night.night + timedelta(days=9), night=tiny_night.train_end)
    again = EXAMINER.baselines(lake, featured_home, shorter)
    asked = pd.DataFrame({"user_id": ["u000", "u001", "nobody"]})
    events = lake.read("interactions", tiny_night.train_start, tiny_night.train_end).to_pandas()
    for name, model in found.items():
        assert (model.score(asked) == again[name].score(asked)).all()
        met = set(events.loc[events["user_id"] == "u000", "item_id"])
        assert {model.items[column] for column in model.seen("u000")} == met
