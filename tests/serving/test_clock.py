"""What time it is to serving."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from nightshift.lake import Lake
from nightshift.settings import Settings
from serving.clock import Clock
from tests.conftest import TINY_START, publish_day, tiny_day


def make(home: Path, clock: str) -> Settings:
    return Settings(_env_file=None, home=home, clock=clock)  # type: ignore[call-arg, arg-type]


def near(moment: datetime, expected: datetime) -> bool:
    return abs(moment - expected) < timedelta(seconds=30)


def test_the_data_clock_is_the_day_after_the_last_published_one_at_the_real_time_of_day(
    tmp_path: Path,
) -> None:
    clock, lake = Clock(make(tmp_path, "data")), Lake(tmp_path / "lake")
    assert near(clock.now(), datetime.now(UTC))  # nothing is published: there is no data time yet
    for days, expected in ((0, date(2026, 9, 2)), (3, date(2026, 9, 5))):
        publish_day(lake, tiny_day(TINY_START + timedelta(days=days), start=TINY_START))
        wall = datetime.now(UTC)
        assert near(clock.now(), datetime.combine(expected, wall.timetz()))


def test_the_wall_clock_does_not_look_at_the_lake(tmp_path: Path) -> None:
    publish_day(Lake(tmp_path / "lake"), tiny_day(TINY_START))
    assert near(Clock(make(tmp_path, "wall")).now(), datetime.now(UTC))


@pytest.mark.parametrize("harm", ["gone", "cut", "another version"])
def test_a_lake_that_cannot_be_read_leaves_the_clock_where_it_is(tmp_path: Path, harm: str) -> None:
    publish_day(Lake(tmp_path / "lake"), tiny_day(TINY_START))
    clock, manifest = Clock(make(tmp_path, "data")), tmp_path / "lake" / "manifest.json"
    clock.now()
    if harm == "gone":
        shutil.rmtree(tmp_path / "lake")
    else:
        manifest.write_text(manifest.read_text()[:40] if harm == "cut" else '{"version": 99}')
    assert clock.now().date() == date(2026, 9, 2)
