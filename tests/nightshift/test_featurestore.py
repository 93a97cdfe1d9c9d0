"""The door to Feast against a join made by hand, at the edges of time, and with what it does not know."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import typeguard

from feature_repo.build import build
from nightshift import featurestore
from nightshift.contracts import INDICATORS, INTERACTIONS
from nightshift.contracts.features import (
    ITEM_FEATURES,
    ITEM_VIEW,
    TOPIC_FEATURES,
    TOPIC_VIEW,
    USER_FEATURES,
    USER_VIEW,
    VIEWS,
    WINDOW_DAYS,
)
from nightshift.contracts.indicators import INDICATOR_NAMES, weeks_after
from nightshift.errors import FeatureError
from nightshift.featurestore import historical, online, open_store, rows
from nightshift.lake import Lake
from nightshift.partitions import newest
from nightshift.settings import Settings
from nightshift.sources import DayBatch
from tests.conftest import publish_day

TOPIC_REFS = [f"{TOPIC_VIEW}:{f.name}" for f in TOPIC_FEATURES]
OPENING = date(2026, 9, 2)  # of topics, with 60 weeks up to 2026-W35; 12 days more tell of them, 5 days apart
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


def test_while_feast_is_imported_typeguard_compiles_nothing_and_then_it_does_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, seen = typeguard.typechecked, []

    class Feasts:
        """As Feast declares its classes."""

    def importing(name: str) -> None:
        seen.append(typeguard.typechecked(Feasts))
        raise ImportError(name)

    monkeypatch.setattr(featurestore.importlib, "import_module", importing)
    with pytest.raises(ImportError, match="feast"):
        featurestore.import_feast()
    assert seen == [Feasts] and typeguard.typechecked is real


@pytest.fixture(scope="module")
def store(home):
    return open_store(home)


@pytest.fixture(scope="module")
def partitions(home) -> pd.DataFrame:
    files = sorted((home.features_dir / USER_VIEW).glob("*.parquet"))
    return pd.concat([pd.read_parquet(path) for path in files], ignore_index=True)


@pytest.fixture(scope="module")
def topics(tmp_path_factory) -> Settings:
    """A home that was told of ten topics' weeks: new, late and revised; the last day tells nothing."""
    settings = Settings(_env_file=None, home=tmp_path_factory.mktemp("topics_home"))  # type: ignore[call-arg]
    random = np.random.default_rng(0)
    weeks = {OPENING: [weeks_after("2026-W35", -ago) for ago in range(60)]}
    for n in range(1, 13):
        last = weeks_after("2026-W35", (5 * n + 2) // 7)
        weeks[OPENING + timedelta(days=5 * n)] = [last, weeks_after(last, -1), weeks_after(last, -2)]
    weeks[OPENING + timedelta(days=65)] = []
    for n, (day, names) in enumerate(weeks.items()):
        told = [
            {
                "topic": f"주제{topic}",
                "week": week,
                **dict(zip(INDICATOR_NAMES, random.random(5).tolist(), strict=True)),
            }
            for topic in range(10)
            for week in names
            if n == 0 or random.random() < (0.4 if topic else 0.0)  # nothing more is told of the first
        ]
        tables = {"interactions": INTERACTIONS.table([]), "indicators": INDICATORS.table(told)}
        publish_day(Lake(settings.lake_dir), DayBatch(day=day, tables=tables))
    build(settings, max(weeks))
    return settings


@pytest.fixture(scope="module")
def topic_rows(topics) -> pd.DataFrame:
    """All that was written of topics, as it lies in the partitions."""
    files = sorted((topics.features_dir / TOPIC_VIEW).glob("*.parquet"))
    written = pd.concat([pd.read_parquet(path) for path in files], ignore_index=True)
    return written.sort_values(["topic", "event_timestamp"], ignore_index=True)


def asked(rows: int, seed: int = 0) -> pd.DataFrame:
    """Users (one unknown) at whole days and in between, from before the first partition to after the last's TTL."""
    random = np.random.default_rng(seed)
    users = [f"u{n:03d}" for n in random.integers(0, 41, rows)]
    hours = np.where(
        random.random(rows) < 0.5, 24 * random.integers(0, 40, rows), random.integers(0, 960, rows)
    )
    times = pd.Timestamp("2026-09-01", tz="UTC") + pd.to_timedelta(hours, unit="h")
    return pd.DataFrame({"user_id": users, "event_timestamp": times, "label": random.random(rows)})


def joined_by_hand(
    entities: pd.DataFrame, partitions: pd.DataFrame, key: str = "user_id", days: int = WINDOW_DAYS
) -> pd.DataFrame:
    entities = entities.assign(
        row=range(len(entities)), event_timestamp=entities.event_timestamp.astype("M8[us, UTC]")
    )
    found = pd.merge_asof(
        entities.sort_values("event_timestamp"),
        partitions.assign(event_timestamp=partitions.event_timestamp.astype("M8[us, UTC]")).sort_values(
            "event_timestamp"
        ),
        on="event_timestamp",
        by=key,
        tolerance=pd.Timedelta(days=days),
    )
    return found.sort_values("row", ignore_index=True)


def test_the_join_equals_one_made_by_hand_row_by_row_in_the_given_order(store, partitions) -> None:
    entities = asked(3_000)
    found = historical(store, entities, USER_REFS)
    assert found[["user_id", "event_timestamp", "label"]].equals(entities)
    expected = joined_by_hand(entities, partitions)
    assert 0.05 < expected["interactions_28d"].isna().mean() < 0.6  # both kinds of rows are there
    pd.testing.assert_frame_equal(found[NAMES], expected[NAMES], check_dtype=False)


def test_the_join_equals_feasts_own(store) -> None:
    entities = asked(500, seed=2).drop_duplicates(["user_id", "event_timestamp"], ignore_index=True)
    rows = entities.assign(row=range(len(entities)))
    with featurestore._own_duckdb():
        found = store.get_historical_features(entity_df=rows, features=USER_REFS).to_df()
    expected = found.sort_values("row", ignore_index=True)
    found = historical(store, entities, USER_REFS)
    pd.testing.assert_frame_equal(found[NAMES], expected[NAMES], check_dtype=False, check_exact=True)


def test_a_moment_finer_than_a_microsecond_sees_nothing_later(store, partitions) -> None:
    midnight = pd.Timestamp("2026-09-05", tz="UTC")
    entities = pd.DataFrame(
        {"user_id": ["u001"], "event_timestamp": [midnight - pd.Timedelta(nanoseconds=1)]}
    )
    found = historical(store, entities, [f"{USER_VIEW}:recency_days"])
    mine = partitions[partitions.user_id == "u001"].set_index("event_timestamp")["recency_days"]
    assert found["recency_days"].tolist() == [mine.loc[midnight - pd.Timedelta(days=1)]]


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
    for _, same in found.groupby(["user_id", "event_timestamp"]):
        assert same["spend_28d"].nunique(dropna=False) == 1


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


# --- topics, whose rows come when something was told ----------------------------------------------------


def test_the_join_of_topics_equals_one_made_by_hand(topics, topic_rows) -> None:
    random = np.random.default_rng(1)
    exactly = topic_rows.sample(200, random_state=1)[["topic", "event_timestamp"]]
    before = exactly.assign(event_timestamp=exactly["event_timestamp"] - pd.Timedelta(microseconds=1))
    hours = pd.to_timedelta(random.integers(-24 * 500, 24 * 150, 600), unit="h")
    somewhen = pd.DataFrame(
        {
            "topic": [f"주제{n}" for n in random.integers(0, 11, 600)],
            "event_timestamp": pd.Timestamp(OPENING, tz="UTC") + hours,
        }
    )
    entities = pd.concat([exactly, before, somewhen])
    names = [f.name for f in TOPIC_FEATURES]
    found = historical(open_store(topics), entities, TOPIC_REFS)
    expected = joined_by_hand(entities, topic_rows, "topic", days=60)
    assert 0.05 < expected["week"].isna().mean() < 0.6
    pd.testing.assert_frame_equal(
        found[names].reset_index(drop=True), expected[names], check_dtype=False, check_exact=True
    )


def test_all_rows_of_a_view_are_given_by_key_and_time_with_both_ends(topics, topic_rows) -> None:
    store, times = open_store(topics), sorted(topic_rows["event_timestamp"].unique())
    start, end = times[3], times[-3]
    whole = rows(store, TOPIC_VIEW, times[0], times[-1])
    assert whole.columns.tolist() == topic_rows.columns.tolist()
    pd.testing.assert_frame_equal(whole, topic_rows, check_dtype=False, check_exact=True)
    assert whole.duplicated(["topic", "week"]).any()  # what was told anew is there each time
    some = topic_rows[topic_rows["event_timestamp"].between(start, end)].reset_index(drop=True)
    given = rows(store, TOPIC_VIEW, start, end)
    pd.testing.assert_frame_equal(given, some, check_dtype=False, check_exact=True)
    inside = rows(store, TOPIC_VIEW, start + timedelta(microseconds=1), end - timedelta(microseconds=1))
    assert 0 < len(inside) < len(given) and inside["event_timestamp"].between(start, end, "neither").all()
    assert rows(store, TOPIC_VIEW, end, start).empty


def test_all_rows_of_a_daily_view_are_given_too_whatever_the_clock_of_the_machine(
    store, partitions, monkeypatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    try:
        found = rows(store, USER_VIEW, datetime(2026, 9, 3, tzinfo=UTC), datetime(2026, 9, 5, tzinfo=UTC))
    finally:
        monkeypatch.undo()
        time.tzset()
    expected = partitions[partitions["event_timestamp"].dt.day.between(3, 5)]
    expected = expected.sort_values(["user_id", "event_timestamp"], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_rows_of_no_view_or_between_times_without_a_zone_are_refused(store) -> None:
    now = datetime(2026, 9, 3, tzinfo=UTC)
    with pytest.raises(FeatureError, match="nope: no such view; there are user_features, item_features"):
        rows(store, "nope", now, now)
    with pytest.raises(FeatureError, match="time zone"):
        rows(store, USER_VIEW, datetime(2026, 9, 3), now)


def test_online_answers_of_topics_by_their_own_key(topics, topic_rows) -> None:
    last = topic_rows.groupby("topic").tail(1).set_index("topic")
    table, times = online(open_store(topics), ["주제3", "주제7"], TOPIC_REFS, key="topic")
    for n, name in enumerate(["주제3", "주제7"]):
        expected = [None if pd.isna(v) else v for v in last.loc[name, [f.name for f in TOPIC_FEATURES]]]
        assert table.loc[n, [f.name for f in TOPIC_FEATURES]].tolist() == expected
        assert times[n] == last.loc[name, "event_timestamp"]


@pytest.mark.parametrize("days", [0, 1, 4, 5, 30, 57, 58, 59, 60, 64, 65, 900])
def test_the_newest_rows_are_those_that_a_join_at_the_end_of_that_day_finds(topics, topic_rows, days) -> None:
    until = OPENING + timedelta(days=days)
    day, found = newest(topics, TOPIC_VIEW, until)
    assert day == OPENING + timedelta(days=min(days // 5, 12) * 5)  # the newest that told something
    end = pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=1)
    everyone = pd.DataFrame({"topic": [f"주제{n}" for n in range(10)], "event_timestamp": end})
    expected = joined_by_hand(everyone, topic_rows, "topic", days=60)
    expected = expected[expected["week"].notna()]
    assert len(expected) == (10 if days < 60 else 9)  # of the first nothing was told any more
    names = ["topic", *(f.name for f in TOPIC_FEATURES)]
    pd.testing.assert_frame_equal(
        found[names], expected[names].reset_index(drop=True), check_dtype=False, check_exact=True
    )


def test_the_newest_rows_of_a_daily_view_are_the_newest_partition(home, partitions) -> None:
    for until, day in ((None, date(2026, 9, 8)), (date(2026, 9, 5), date(2026, 9, 5))):
        found_day, found = newest(home, USER_VIEW, until)
        expected = partitions[
            partitions["event_timestamp"] == pd.Timestamp(day, tz="UTC") + timedelta(days=1)
        ]
        assert found_day == day
        pd.testing.assert_frame_equal(found, expected.reset_index(drop=True), check_dtype=False)


def test_where_nothing_was_written_or_it_is_damaged_the_newest_rows_say_so(home, tmp_path) -> None:
    with pytest.raises(FeatureError, match=r"user_features: no features up to 2026-08-31; run"):
        newest(home, USER_VIEW, date(2026, 8, 31))
    folder = tmp_path / "features" / TOPIC_VIEW
    folder.mkdir(parents=True)
    (folder / "day=2026-09-02.parquet").write_bytes(b"PAR1")
    with pytest.raises(FeatureError, match=r"day=2026-09-02.parquet cannot be read .*; delete it and build"):
        newest(Settings(_env_file=None, home=tmp_path), TOPIC_VIEW)  # type: ignore[call-arg]


def test_every_view_can_be_asked_for_by_its_key() -> None:
    assert [view.key for view in VIEWS.values()] == ["user_id", "item_id", "topic"]
