"""A night's steps on a disk that gets full, and killed at a write: run again, it ends as an undisturbed one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest

from benchmarks.night_kills import DATA, feedback, run, small_market, state, steps, undisturbed
from nightshift import eventlog
from nightshift.eventlog import EventLog
from nightshift.parts import environment
from nightshift.settings import PROJECT, Settings
from tests.nightshift.test_eventlog import NIGHT, NOON, an_event, ids


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


@dataclass(frozen=True)
class Calm:
    """A night that nobody disturbed. writes: how many each of its steps made. state: what it left."""

    night: date
    writes: dict[str, int]
    state: dict[str, Any]


def few_days(home: Path) -> Settings:
    """Three days are enough to have some before the night, and each costs its audit and its features."""
    return small_market(home, history_days=3)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    config = few_days(tmp_path_factory.mktemp("calm"))
    night = config.market_start + timedelta(days=config.history_days - 1)
    feedback(config, night)
    writes = undisturbed(config, night, DATA)
    return Calm(night, writes, state(config, night, with_models=False))


@pytest.mark.long  # every command of four nights; a full disk and kills have quicker tests where each thing is written
def test_a_night_on_a_full_disk_and_killed_in_its_steps_ends_as_an_undisturbed_one(
    volume: Path, calm: Calm
) -> None:
    config, night = few_days(volume / "var"), calm.night
    feedback(config, night)
    seed = int(os.environ.get("NIGHTSHIFT_TEST_SEED", random.randrange(10_000)))
    print(f"NIGHTSHIFT_TEST_SEED={seed}")
    for name in DATA:
        command = steps(night)[name]
        if name != "audit":  # killed and cut short in tests/monitoring/test_quality.py; slow to start
            filler = fill(volume)
            refused(config, command)
            filler.unlink()
            run(config, command, random.Random(f"{seed}{name}").randint(1, calm.writes[name]))
        run(config, command)  # raises if it does not go on
    ended = state(config, night, with_models=False)
    assert ended == calm.state and len(ended["feedback"]) == 20 and len(ended["features"]) == 9


@pytest.mark.long  # of which test_intake.py and test_lake.py hold each step
def test_two_nights_of_the_same_date_at_once_publish_the_day_once_and_whole(
    tmp_path: Path, calm: Calm
) -> None:
    """Another schedule, another shell: each step of the one meets a step of the other."""
    config, night = few_days(tmp_path / "var"), calm.night
    feedback(config, night)
    names = ("ingest", "audit", "publish")
    script = "set -e; " + "; ".join(f"{sys.executable} -m {' '.join(steps(night)[name])}" for name in names)
    both = [
        subprocess.Popen(
            ["bash", "-c", script],
            env=environment(config),
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    said = [each.communicate(timeout=600)[1].decode() for each in both]
    assert any(each.returncode == 0 for each in both), said
    assert not any("Traceback" in words for words in said), said
    ended = state(config, night, with_models=False)
    assert ended == {**calm.state, "features": {}} and len(ended["feedback"]) == 20


class AnyMoment(type):
    def __instancecheck__(cls, one: object) -> bool:
        return isinstance(one, datetime)


class Clock(datetime, metaclass=AnyMoment):
    """A clock that was set."""

    off = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + cls.off


@pytest.mark.parametrize("jump", [timedelta(days=1), -timedelta(days=1)], ids=["forward", "back"])
def test_a_clock_that_jumps_a_day_loses_no_feedback_and_the_service_remembers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    from serving import sessions

    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    memory = sessions.Sessions(log)
    memory._look()
    log.append([an_event("before")])
    memory._look()
    for module in (eventlog, sessions):
        monkeypatch.setattr(module, "datetime", Clock)
    monkeypatch.setattr(Clock, "off", jump)
    log.append([an_event("after", item_id="i2")])
    memory._look()
    memory._look()
    assert memory.of("u1", NOON + timedelta(hours=1)).met == {"i1", "i2"}
    assert log.append([an_event("before"), an_event("after")]) == 0
    assert ids(log.claim(NIGHT)) == ["after", "before"]
    monkeypatch.setattr(Clock, "off", timedelta())
    log.append([an_event("and back", item_id="i3")])
    memory._look()
    memory._look()
    assert memory.of("u1", NOON + timedelta(hours=1)).met == {"i1", "i2", "i3"}
    log.close()
