"""The features step: partitions are written once and whole, and the online store only moves forward."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from feature_repo.build import build, build_partitions
from nightshift.contracts import INTERACTIONS
from nightshift.contracts.features import ITEM_VIEW, TOPIC_VIEW, USER_FEATURES, USER_VIEW, VIEWS
from nightshift.errors import FeatureError, LakeError
from nightshift.featurestore import online, open_store
from nightshift.lake import Lake
from nightshift.settings import PROJECT, Settings
from nightshift.sources import DayBatch

FIRST, EMPTY, LAST = date(2026, 9, 1), date(2026, 9, 2), date(2026, 9, 3)
RECENCY = [f"{USER_VIEW}:recency_days"]


def partitions(settings: Settings) -> dict[str, bytes]:
    files = sorted(settings.features_dir.rglob("day=*.parquet"))
    return {str(path.relative_to(settings.features_dir)): path.read_bytes() for path in files}


def online_recency(settings: Settings, user: str = "u1") -> tuple[float | None, datetime | None]:
    table, times = online(open_store(settings), [user], RECENCY)
    return table["recency_days"][0], times[0]


def at_home(home: Path) -> Settings:
    return Settings(_env_file=None, home=home)  # type: ignore[call-arg]


def test_the_first_night_builds_every_published_day_up_to_it(small_home) -> None:
    result = build(small_home, LAST)
    assert sorted(partitions(small_home)) == [
        f"{view}/day={day}.parquet"
        for view in (ITEM_VIEW, TOPIC_VIEW, USER_VIEW)
        for day in (FIRST, EMPTY, LAST)
    ]
    assert (result["days_built"], result["users"], result["items"], result["topics"]) == (3, 3, 3, 0)
    assert result["materialized"] == 6
    assert result["features"][0] == f"{USER_VIEW}:{USER_FEATURES[0].name}"
    assert online_recency(small_home) == (0, datetime(2026, 9, 4, tzinfo=UTC))


def test_nights_one_by_one_and_a_replay_give_the_same_bytes(tmp_path, small_home, publish_small_day) -> None:
    build_partitions(small_home, LAST)
    other = at_home(tmp_path / "other")
    for day in (FIRST, EMPTY, LAST):
        publish_small_day(other.home, day)
        before = partitions(other)
        build_partitions(other, day)
        assert partitions(other).items() >= before.items()  # what was written stays as it was
    assert partitions(other) == partitions(small_home)


def test_a_second_run_does_nothing_starts_no_engine_and_says_so(small_home, monkeypatch) -> None:
    build(small_home, LAST)
    files = [*small_home.features_dir.rglob("*.parquet"), *(small_home.home / "feast").iterdir()]
    stamps = {path: path.stat().st_mtime_ns for path in files}
    monkeypatch.setattr("feature_repo.build.open_engine", None)
    again = build(small_home, LAST)
    assert (again["message"], again["days_built"], again["materialized"]) == ("nothing new", 0, 0)
    assert {path: path.stat().st_mtime_ns for path in files} == stamps


def test_the_next_night_moves_the_online_store_forward_and_an_older_one_never_back(small_home) -> None:
    build(small_home, FIRST)
    assert online_recency(small_home, "사용자2") == (0, datetime(2026, 9, 2, tzinfo=UTC))
    build(small_home, LAST)
    newest = (2, datetime(2026, 9, 4, tzinfo=UTC))
    assert online_recency(small_home, "사용자2") == newest
    (small_home.home / "feast" / "written.json").unlink()  # even if it is forgotten what was written
    build(small_home, FIRST)
    assert online_recency(small_home, "사용자2") == newest


def test_a_lost_online_store_is_written_again(small_home) -> None:
    build(small_home, LAST)
    (small_home.home / "feast" / "online.db").unlink()
    with pytest.raises(FeatureError, match=r"online\.db is missing"):
        open_store(small_home)
    assert build(small_home, LAST)["message"] == "no new day; 6 rows online"
    assert online_recency(small_home)[0] == 0


def test_serving_reads_while_a_night_writes(small_home) -> None:
    build(small_home, LAST)
    store = open_store(small_home)
    writer = sqlite3.connect(small_home.home / "feast" / "online.db")
    writer.execute("BEGIN EXCLUSIVE")
    writer.execute(f"DELETE FROM nightshift_{USER_VIEW}")
    table, _ = online(store, ["u1"], RECENCY)
    writer.rollback()
    writer.close()
    assert table["recency_days"][0] == 0


def test_a_build_that_was_killed_is_finished_by_the_next(small_home) -> None:
    build_partitions(small_home, LAST)
    whole = partitions(small_home)
    cut = small_home.features_dir / ITEM_VIEW / f"day={LAST}.parquet"
    cut.with_name(f".{cut.name}.building").write_bytes(cut.read_bytes()[:100])
    cut.unlink()
    kept = small_home.features_dir / USER_VIEW / f"day={LAST}.parquet"
    stamp = kept.stat().st_mtime_ns
    assert build_partitions(small_home, LAST) == [LAST]
    assert partitions(small_home) == whole and kept.stat().st_mtime_ns == stamp
    assert not list(small_home.features_dir.rglob("*.building"))


def test_a_day_published_late_gets_its_partition_and_changes_no_other(small_home) -> None:
    build_partitions(small_home, LAST)
    before = partitions(small_home)
    late = date(2026, 8, 31)
    lake = Lake(small_home.lake_dir)
    rows = Lake(small_home.lake_dir).read("interactions", FIRST, FIRST).drop_columns(["day"]).to_pylist()
    renamed = [{**row, "event_id": f"late{n}"} for n, row in enumerate(rows)]
    lake.stage(DayBatch(day=late, tables={"interactions": INTERACTIONS.table(renamed)}))
    lake.record_audit(late, {"passed": True})
    lake.publish(late)
    assert build_partitions(small_home, LAST) == [late]
    assert partitions(small_home).items() >= before.items() and len(partitions(small_home)) == 12


def test_partitions_have_the_contracts_columns_and_one_row_per_key(small_home) -> None:
    build_partitions(small_home, EMPTY)
    for name, view in VIEWS.items():
        table = pq.ParquetFile(small_home.features_dir / name / f"day={EMPTY}.parquet").read()
        assert table.column_names == [view.key, "event_timestamp", *(f.name for f in view.features)]
        keys = table[view.key].to_pylist()
        assert keys == sorted(set(keys)) and len(keys) == (3 if view.daily else 0)
        assert set(table["event_timestamp"].to_pylist()) <= {datetime(2026, 9, 3, tzinfo=UTC)}


def test_a_night_that_is_not_published_is_refused_in_one_line(small_home) -> None:
    with pytest.raises(LakeError, match=r"night 2026-09-04 is not published; run `nightshift ingest"):
        build(small_home, date(2026, 9, 4))


def test_partitions_of_other_definitions_are_refused_with_what_to_do(small_home) -> None:
    folder = small_home.features_dir / USER_VIEW
    build_partitions(small_home, LAST)
    newest = folder / f"day={LAST}.parquet"
    pq.write_table(pq.ParquetFile(newest).read().drop_columns(["spend_28d"]), newest)
    with pytest.raises(FeatureError, match=r"differs in spend_28d.*move .*user_features away"):
        build(small_home, LAST)


def test_the_command_prints_one_json_line_keeps_it_and_does_not_wait_for_torch(small_home) -> None:
    """Feast alone would load it, and have checks of types compiled into itself: seconds and megabytes for nothing."""
    script = (
        "import runpy, sys; sys.argv[0] = 'feature_repo.build';"
        "runpy.run_module('feature_repo.build', run_name='__main__', alter_sys=True);"
        "from feast import FeatureView;"
        "print('torch' in sys.modules, 'TypeCheckMemo' in FeatureView.__init__.__code__.co_names, file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, "--night", str(LAST)]
    environment = {"NIGHTSHIFT_HOME": str(small_home.home), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "False False\n")
    printed = json.loads(done.stdout.splitlines()[-1])
    kept = json.loads((small_home.nights_dir / str(LAST) / "features.json").read_text())
    assert printed == kept and printed["days_built"] == 3 and printed["users"] == 3
