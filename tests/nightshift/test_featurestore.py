"""The door to Feast against a join made by hand, at the edges of time, and with what it does not know."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from feature_repo.build import build
from nightshift.contracts.features import ITEM_FEATURES, ITEM_VIEW, USER_FEATURES, USER_VIEW, WINDOW_DAYS
from nightshift.errors import FeatureError
from nightshift.featurestore import historical, online, open_store
from nightshift.lake import Lake
from nightshift.settings import Settings

USER_REFS = [f"{USER_VIEW}:{f.name}" for f in USER_FEATURES]
NAMES = [f.name for f in USER_FEATURES]


@pytest.fixture(scope="module")
def home(tiny_home, tmp_path_factory) -> Settings:
    """Eight published days with their features built."""
    folder = tmp_path_factory.mktemp("features_home")
    shutil.copytree(tiny_home.lake_dir, folder / "lake")
    settings = Settings(_env_file=None, home=folder)  # type: ignore[call-arg]
    last = Lake(settings.lake_dir).last_day()
    assert last is not None
    build(settings, last)
    return settings


@pytest.fixture(scope="module")
def store(home):
    return open_store(home)


@pytest.fixture(scope="module")
def partitions(home) -> pd.DataFrame:
    files = sorted((home.features_dir / USER_VIEW).glob("*.parquet"))
    return pd.concat([pd.read_parquet(path) for path in files], ignore_index=True)


def asked(rows: int, seed: int = 0) -> pd.DataFrame:
    """Users (one unknown) at whole days and in between, from before the first partition to after the last's TTL."""
    random = np.random.default_rng(seed)
    users = [f"u{n:03d}" for n in random.integers(0, 41, rows)]
    hours = np.where(
        random.random(rows) < 0.5, 24 * random.integers(0, 40, rows), random.integers(0, 960, rows)
    )
    times = pd.Timestamp("2026-09-01", tz="UTC") + pd.to_timedelta(hours, unit="h")
    return pd.DataFrame({"user_id": users, "event_timestamp": times, "label": random.random(rows)})


def joined_by_hand(entities: pd.DataFrame, partitions: pd.DataFrame) -> pd.DataFrame:
    entities = entities.assign(
        row=range(len(entities)), event_timestamp=entities.event_timestamp.astype("M8[us, UTC]")
    )
    found = pd.merge_asof(
        entities.sort_values("event_timestamp"),
        partitions.assign(event_timestamp=partitions.event_timestamp.astype("M8[us, UTC]")).sort_values(
            "event_timestamp"
        ),
        on="event_timestamp",
        by="user_id",
        tolerance=pd.Timedelta(days=WINDOW_DAYS),
    )
    return found.sort_values("row", ignore_index=True)


def test_the_join_equals_one_made_by_hand_row_by_row_in_the_given_order(store, partitions) -> None:
    entities = asked(3_000)
    found = historical(store, entities, USER_REFS)
    assert found[["user_id", "event_timestamp", "label"]].equals(entities)
    expected = joined_by_hand(entities, partitions)
    assert 0.05 < expected["interactions_28d"].isna().mean() < 0.6  # both kinds of rows are there
    pd.testing.assert_frame_equal(found[NAMES], expected[NAMES], check_dtype=False)


def test_what_a_day_knows_is_known_at_its_midnight_and_not_a_moment_before(store, partitions) -> None:
    midnight = pd.Timestamp("2026-09-05", tz="UTC")
    entities = pd.DataFrame(
        {"user_id": "u001", "event_timestamp": [midnight, midnight - pd.Timedelta(microseconds=1)]}
    )
    names = ["recency_days", "interactions_28d"]  # one of them changes every day
    found = historical(store, entities, [f"{USER_VIEW}:{name}" for name in names])[names].to_numpy().tolist()
    mine = partitions[partitions.user_id == "u001"].set_index("event_timestamp")[names]
    assert found == [mine.loc[t].tolist() for t in (midnight, midnight - pd.Timedelta(days=1))]
    assert found[0] != found[1]


def test_the_index_and_repeated_rows_are_kept(store) -> None:
    entities = asked(50).sample(200, replace=True, random_state=1)
    found = historical(store, entities, [f"{USER_VIEW}:spend_28d", f"{USER_VIEW}:favourite_category_28d"])
    assert found.index.equals(entities.index)
    for _, rows in found.groupby(["user_id", "event_timestamp"]):
        assert rows["spend_28d"].nunique(dropna=False) == 1


def test_items_are_joined_by_their_own_key(store) -> None:
    entities = pd.DataFrame(
        {"item_id": ["i003", "nothing"], "event_timestamp": pd.Timestamp("2026-09-04", tz="UTC")}
    )
    found = historical(store, entities, [f"{ITEM_VIEW}:{f.name}" for f in ITEM_FEATURES])
    assert found["price"].iloc[0] == 13.0 and found.iloc[1][["price", "interactions_28d"]].isna().all()


def test_nobody_to_ask_about_is_answered_with_no_rows(store) -> None:
    assert historical(store, asked(5).head(0), USER_REFS).columns.tolist()[-len(NAMES) :] == NAMES


def test_the_clock_of_the_machine_does_not_shift_time(store, home, partitions, monkeypatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    try:
        entities = asked(200, seed=3)
        found = historical(store, entities, USER_REFS)
        expected = joined_by_hand(entities, partitions)
    finally:
        monkeypatch.undo()
        time.tzset()
    pd.testing.assert_frame_equal(found[NAMES], expected[NAMES], check_dtype=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": [f"{USER_VIEW}:nope"]}, "nope"),
        ({"features": ["nope:spend_28d"]}, "nope"),
        ({"features": ["spend_28d"]}, "spend_28d"),
        ({"entities": asked(2).drop(columns="user_id")}, "user_id, item_id"),
        ({"entities": asked(2).assign(event_timestamp=datetime(2026, 9, 1))}, "time zone"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_naming_what_is_wrong(store, change, message) -> None:
    with pytest.raises(FeatureError, match=message):
        historical(store, **{"entities": asked(2), "features": USER_REFS, **change})


def test_a_home_without_features_says_what_to_run(tmp_path) -> None:
    with pytest.raises(FeatureError, match="nightshift features"):
        open_store(Settings(_env_file=None, home=tmp_path))  # type: ignore[call-arg]


def test_opening_a_store_leaves_the_environment_alone(home, monkeypatch) -> None:
    monkeypatch.delenv("NIGHTSHIFT_HOME", raising=False)
    open_store(home)
    assert "NIGHTSHIFT_HOME" not in os.environ


def test_online_gives_the_newest_values_with_their_time_and_none_for_the_unknown(store, partitions) -> None:
    table, times = online(store, ["u002", "모르는 사람", "u001", "u002"], USER_REFS)
    newest = partitions[partitions.event_timestamp == partitions.event_timestamp.max()].set_index("user_id")
    assert table.columns.tolist() == ["user_id", *NAMES]
    assert table["user_id"].tolist() == ["u002", "모르는 사람", "u001", "u002"]
    for row in (0, 2, 3):
        expected = newest.loc[table["user_id"][row]]
        assert [None if pd.isna(v) else v for v in expected[NAMES]] == table.loc[row, NAMES].tolist()
    assert table.loc[1, NAMES].tolist() == [None] * len(NAMES)
    moment = datetime(2026, 9, 9, tzinfo=UTC)
    assert times == [moment, None, moment, moment]


def test_online_refuses_a_feature_that_is_not_there(store) -> None:
    with pytest.raises(FeatureError, match="nope"):
        online(store, ["u001"], [f"{USER_VIEW}:nope"])
    assert online(store, [], USER_REFS)[1] == []


def test_one_store_answers_many_threads(store) -> None:
    users = [f"u{n:03d}" for n in range(40)] * 10
    alone = {user: online(store, [user], USER_REFS)[0].iloc[0].tolist() for user in users[:40]}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda user: online(store, [user], USER_REFS)[0].iloc[0].tolist(), users))
    assert answers == [alone[user] for user in users]


def test_the_age_of_a_value_can_be_judged_by_its_time(store) -> None:
    now = datetime(2026, 9, 12, tzinfo=UTC)
    _, times = online(store, ["u001"], USER_REFS)
    assert times[0] is not None and now - times[0] == timedelta(days=3)
