"""The engine reads the lake's files itself: the same rows as the lake tells, within the memory that it was given."""

from __future__ import annotations

from datetime import date

from feature_repo.engines import Engine, memory_mib, open_engine
from nightshift.contracts import ITEMS
from nightshift.lake import Lake
from nightshift.machine import memory_bytes
from nightshift.settings import Settings
from nightshift.sources import DayBatch

FIRST, EMPTY, LAST = date(2026, 9, 1), date(2026, 9, 2), date(2026, 9, 3)


def test_files_are_read_as_the_lake_reads_them(small_home: Settings) -> None:
    lake = Lake(small_home.lake_dir)
    with open_engine(small_home) as engine:
        found = engine.arrow(engine.read(lake, "interactions", FIRST, LAST).order_by("event_id"))
        told = lake.read("interactions", FIRST, LAST).sort_by("event_id")
        assert found.to_pylist() == told.to_pylist() and found.num_rows == 7
        assert engine.arrow(engine.read(lake, "interactions", LAST, LAST)).num_rows == 3
        nothing = engine.read(lake, "interactions", date(2026, 1, 1), date(2026, 1, 2))
        assert nothing.schema() == engine.read(lake, "interactions", FIRST, LAST).schema()
        assert engine.arrow(nothing).num_rows == 0


def test_the_newest_row_of_a_key_is_the_last_one_told_up_to_the_day(small_home: Settings) -> None:
    lake, late = Lake(small_home.lake_dir), date(2026, 9, 4)
    dearer = [{**row, "price": 1_000.0} for row in lake.latest("items", LAST).to_pylist()[:1]]
    lake.stage(DayBatch(day=late, tables={"items": ITEMS.table(dearer)}))
    lake.record_audit(late, {"passed": True})
    lake.publish(late)
    with open_engine(small_home) as engine:
        for day, price in ((LAST, 100.0), (late, 1_000.0)):
            rows = engine.arrow(engine.latest(lake, "items", day).order_by("item_id"))
            told = lake.latest("items", day).select(rows.column_names).sort_by("item_id")
            assert rows.to_pylist() == told.to_pylist() and rows["price"][0].as_py() == price


def test_it_keeps_to_its_memory_and_leaves_nothing_on_disk(small_home: Settings) -> None:
    left = small_home.home / "spill" / "of-a-night-that-was-killed"
    left.parent.mkdir()
    left.touch()
    tight = small_home.model_copy(update={"features_memory_gb": 0.125})
    with open_engine(tight) as engine:
        assert not left.exists()
        assert _setting(engine, "memory_limit") == "128.0 MiB"
        # 200 MB of texts do not fit, and are kept all the same.
        texts = "SELECT repeat(hash(n)::VARCHAR, 10) FROM range(1_000_000) AS of(n)"
        engine.connection.raw_sql(f"CREATE TEMP TABLE texts AS {texts}")
        assert sum(path.stat().st_size for path in (small_home.home / "spill").iterdir()) > 2**20
    assert not (small_home.home / "spill").exists()


def test_by_default_it_holds_a_third_of_the_memory(small_home: Settings) -> None:
    assert small_home.features_memory_gb is None
    assert memory_mib(small_home) == memory_bytes() // 3 // 2**20


def _setting(engine: Engine, name: str) -> str:
    ((value,),) = engine.connection.raw_sql(f"SELECT current_setting('{name}')").fetchall()
    return str(value)
