from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from benchmarks.features import by_pandas, cost, world
from benchmarks.features_scale import judged
from nightshift.contracts.features import ITEM_VIEW, USER_VIEW, WINDOW_DAYS
from nightshift.lake import Lake


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    world.write_lake(folder / "lake", 4_000)
    return folder


def test_the_world_is_a_window_of_days_with_all_that_the_pipelines_tell_apart(home: Path) -> None:
    lake = Lake(home / "lake")
    rows = lake.read("interactions", world.START, world.LAST)
    assert (len(lake.days()), rows.num_rows) == (WINDOW_DAYS, 4_000)
    assert set(rows["kind"].to_pylist()) == set(world.KINDS) and 0 < rows["session_id"].null_count < 800
    assert pc.count_distinct(rows["event_id"]).as_py() == 4_000
    newest, first = lake.latest("items", world.LAST), lake.latest("items", world.START)
    assert newest.num_rows == first.num_rows and newest["price"] != first["price"]  # some were told anew


def test_pandas_and_the_pipelines_agree_on_every_feature(home: Path) -> None:
    rows = cost.ours(home)
    assert rows == cost.pandas(home) and cost.equal(home) == {"differ": []}
    users, items = by_pandas.features(Lake(home / "lake"), world.LAST)
    for frame, view in ((users, USER_VIEW), (items, ITEM_VIEW)):
        assert len(frame) == rows[view]
    assert users.notna().any().all() and items.notna().any().all()  # no feature is compared by absence alone


def test_a_feature_that_is_off_is_named() -> None:
    right = pa.table({"user_id": ["a", "b"], "x": [1.0, None], "y": ["p", None]})
    assert cost.differing(right, right) == []
    wrong = pa.table({"user_id": ["a", "b"], "x": [1.0, 0.0], "y": ["p", "q"]})
    assert cost.differing(wrong, right) == ["x", "y"]
    assert cost.differing(right.slice(1), right) == ["user_id", "x", "y"]


def test_a_size_that_costs_more_a_row_than_the_one_before_fails_its_bar() -> None:
    small = {"rows": 1_000_000, "seconds": 3.0, "cpu_seconds": 2.0, "peak_gib": 0.5, "equal": True}
    large = {"rows": 10_000_000, "seconds": 61.0, "cpu_seconds": 20.5, "peak_gib": 4.0}
    assert judged([small, large]) == {
        "equal": True, "10m_in_60_s": False, "10m_in_8_gib": True, "linear_time": False, "linear_memory": True,
    }  # fmt: skip
