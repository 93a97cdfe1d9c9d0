"""Users in shares: everybody is in exactly one, and features do not depend on how users were cut."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.features import world
from feature_repo import engines
from feature_repo.build import compute
from feature_repo.engines import open_engine
from feature_repo.shares import EVERYBODY, Share, shares
from nightshift import lake as lakes
from nightshift.contracts import INTERACTIONS
from nightshift.contracts.features import ITEM_VIEW, USER_VIEW
from nightshift.settings import Settings

WINDOW = (world.START, world.LAST)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A lake of 20,000 interactions of 800 users, in row groups of 100."""
    place = tmp_path_factory.mktemp("shares")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lakes, "ROW_GROUP", 100)
        world.write_lake(place / "lake", 20_000)
    return Settings(_env_file=None, home=place)  # type: ignore[call-arg]


def paths(home: Settings) -> list[Path]:
    return lakes.Lake(home.lake_dir).paths("interactions", *WINDOW)


def test_features_are_the_same_bytes_however_users_are_cut(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, found = lakes.Lake(home.lake_dir), []
    for rows in (20_000, 3_000):
        monkeypatch.setattr(engines, "ROWS", rows)
        with open_engine(home) as engine:
            assert len(engine.shares(lake, *WINDOW)) == (1 if rows == 20_000 else 7)
            found.append(compute(lake, world.LAST, engine, [USER_VIEW, ITEM_VIEW]))
    whole, cut = found
    assert whole[USER_VIEW].equals(cut[USER_VIEW]) and whole[USER_VIEW].num_rows == 800
    assert whole[ITEM_VIEW].equals(cut[ITEM_VIEW]) and whole[ITEM_VIEW].num_rows == 200


@settings(max_examples=25)
@given(rows=st.integers(1, 30_000))
def test_everybody_is_in_exactly_one_share_and_shares_are_about_as_large_as_asked(
    home: Settings, rows: int
) -> None:
    cut = shares(paths(home), rows)
    assert cut[0].above is None and cut[-1].to is None
    for one, other in pairwise(cut):
        assert one.to == other.above and (one.above or "") < str(one.to)
    assert len(cut) <= max(1, round(20_000 / rows))
    if rows >= 2_800:  # a row group of each day: less cannot be told apart by footers
        users = [
            user for path in paths(home) for user in pq.ParquetFile(path).read(["user_id"])[0].to_pylist()
        ]
        held = [sum(_in(share, user) for user in users) for share in cut]
        assert sum(held) == 20_000 and max(held) <= rows * 1.5 + 2_800


def test_a_lake_that_is_in_no_order_is_read_once_as_a_whole(home: Settings, tmp_path: Path) -> None:
    assert len(shares(paths(home), 2_000)) == 10
    old = tmp_path / "of-an-earlier-version.parquet"
    pq.write_table(pq.ParquetFile(paths(home)[0]).read(), old)
    assert shares([*paths(home), old], 2_000) == EVERYBODY


def test_a_day_without_rows_hinders_nothing(home: Settings, tmp_path: Path) -> None:
    empty = tmp_path / "empty.parquet"
    pq.write_table(INTERACTIONS.schema.empty_table(), empty)
    assert shares([empty, *paths(home)], 2_000) == shares(paths(home), 2_000)
    assert shares([empty], 2_000) == shares([], 2_000) == EVERYBODY


def _in(share: Share, user: str) -> bool:
    return (share.above is None or user > share.above) and (share.to is None or user <= share.to)
