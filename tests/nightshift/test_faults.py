"""A night's steps on a disk that gets full, and killed at a write: run again, it ends as an undisturbed one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from benchmarks.night_kills import DATA, feedback, run, small_market, state, steps, undisturbed
from nightshift.parts import environment
from nightshift.settings import PROJECT, Settings


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, that can be filled without harm."""
    place = tmp_path / "volume"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True
    ).returncode:
        pytest.skip("needs the right to mount a tmpfs (root)")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(volume: Path) -> Path:
    """A file that leaves no room."""
    filler = volume / "filler"
    with filler.open("wb", buffering=0) as handle:
        try:
            while True:
                handle.write(b"\0" * 65536)
        except OSError:
            pass
    return filler


def refused(config: Settings, command: list[str]) -> None:
    """The step says in one line that the disk is full."""
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment(config), cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Traceback" not in done.stderr and ("disk" in done.stderr and "full" in done.stderr), done.stderr[
        -2000:
    ]


def test_a_night_on_a_full_disk_and_killed_in_its_steps_ends_as_an_undisturbed_one(
    tmp_path: Path, volume: Path
) -> None:
    calm, config = small_market(tmp_path / "calm"), small_market(volume / "var")
    night = config.market_start + timedelta(days=config.history_days - 1)
    for each in (calm, config):
        feedback(each)
    writes = undisturbed(calm, night, DATA)
    seed = int(os.environ.get("NIGHTSHIFT_TEST_SEED", random.randrange(10_000)))
    print(f"NIGHTSHIFT_TEST_SEED={seed}")
    for name in DATA:
        command = steps(night)[name]
        if name != "audit":  # killed and cut short in tests/monitoring/test_quality.py; slow to start
            filler = fill(volume)
            refused(config, command)
            filler.unlink()
            run(config, command, random.Random(f"{seed}{name}").randint(1, writes[name]))
        run(config, command)  # raises if it does not go on
    assert state(config, night, with_models=False) == state(calm, night, with_models=False)
