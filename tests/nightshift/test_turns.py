"""One mover at a time among machines that share MLflow: homes of their own, one server."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nightshift import turns
from nightshift.errors import RegistryError
from nightshift.registry import Registry
from nightshift.seats import Seat
from nightshift.settings import Settings
from nightshift.turns import PREFIX, locked, turn
from nightshift.versions import PREVIOUS, PRODUCTION
from tests.nightshift.conftest import aliases


class Wall:
    """A board in memory; `at` is called with the name of each call before it is made."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.at: Callable[[str], None] = lambda name: None

    def read(self) -> dict[str, str]:
        self.at("read")
        return dict(self.tags)

    def put(self, key: str, value: str) -> None:
        self.at("put")
        self.tags[key] = value

    def remove(self, key: str) -> None:
        self.at("remove")
        self.tags.pop(key, None)


def claim(home: str) -> str:
    return json.dumps({"home": home, "by": "jun"})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LATE", 0.1)
    monkeypatch.setattr(turns, "WAIT", 0.1)
    monkeypatch.setattr(turns, "LEASE", 0.6)


def test_a_turn_leaves_no_claim_behind_not_even_when_the_move_fails() -> None:
    wall = Wall()
    with contextlib.suppress(ZeroDivisionError), turn(wall, "mine", "mina") as mine:
        assert set(wall.tags) == {mine.key}
        raise ZeroDivisionError
    assert wall.tags == {}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("movers", [2, 5])
def test_of_movers_that_claim_at_the_same_moment_never_two_have_a_turn_at_once(movers: int) -> None:
    for _ in range(5):
        wall, inside, together = Wall(), [0], threading.Barrier(movers)
        wall.at = lambda name: time.sleep(random.uniform(0, 0.07) if name == "put" else 0)  # the network
        won: list[str] = []
        most = [0]

        def move(me: str, wall: Wall, inside: list[int], together: threading.Barrier, won: list[str],
                 most: list[int]) -> None:  # fmt: skip
            together.wait(10)
            try:
                with turn(wall, me, me):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    time.sleep(0.1)
                    inside[0] -= 1
                    won.append(me)
            except RegistryError as error:
                assert "moves the same seat at this moment; nothing was changed" in str(error)  # noqa: PT017

        threads = [
            threading.Thread(target=move, args=(f"home {n}", wall, inside, together, won, most))
            for n in range(movers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert most == [1] and won and wall.tags == {}


@pytest.mark.usefixtures("quick")
def test_one_whose_own_claim_came_late_starts_over_and_sees_the_other() -> None:
    wall, puts = Wall(), []

    def at(name: str) -> None:
        if name == "put":
            puts.append(time.monotonic())
            if len(puts) == 1:
                time.sleep(0.2)  # longer than the other one waits
                wall.tags[PREFIX + "0"] = claim("theirs")
                threading.Timer(0.3, lambda: wall.tags.pop(PREFIX + "0")).start()

    wall.at = at
    with turn(wall, "mine", "mina"):
        assert PREFIX + "0" not in wall.tags
    assert len(puts) == 2


@pytest.mark.usefixtures("quick")
def test_a_claim_of_a_dead_mover_is_removed_at_once_in_its_home_and_after_the_lease_elsewhere() -> None:
    for home, waited in (("mine", (0.0, 0.4)), ("theirs", (0.6, 3.0))):
        wall = Wall()
        wall.tags[PREFIX + "0"] = claim(home)
        began = time.monotonic()
        with turn(wall, "mine", "mina"):
            took = time.monotonic() - began
        assert waited[0] < took < waited[1] + 0.3 and wall.tags == {}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("torn", ["", "{", "[]", "7"])
def test_a_claim_that_cannot_be_read_is_waited_for_like_any_other(torn: str) -> None:
    wall = Wall()
    wall.tags[PREFIX + "0"] = torn
    with turn(wall, "mine", "mina") as mine:
        assert set(wall.tags) == {mine.key}


@pytest.mark.usefixtures("quick")
def test_a_turn_that_was_taken_for_dead_or_took_too_long_does_not_stand() -> None:
    wall = Wall()
    with turn(wall, "mine", "mina") as mine:
        mine.must_stand()
        kept = wall.tags.pop(mine.key)
        with pytest.raises(RegistryError, match="the move was given up before the seat changed"):
            mine.must_stand()
        wall.tags[mine.key] = kept
        time.sleep(0.35)
        with pytest.raises(RegistryError, match="the move was given up before the seat changed"):
            mine.must_stand()


HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from nightshift.turns import locked
with locked(Path(sys.argv[1])) as name:
    print(name, flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_mover_is_free_and_its_home_keeps_its_name(tmp_path: Path) -> None:
    path = tmp_path / "moves.lock"
    words = [sys.executable, "-c", HOLD_THE_LOCK, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        name = holder.stdout.readline().strip()
        holder.kill()
    with locked(path) as again:
        assert again == name
    with locked(tmp_path / "other.lock") as other:
        assert other != name


PROMOTE = """
import sys, time
from dataclasses import replace
from pathlib import Path
from nightshift.errors import RegistryError
from nightshift.registry import Registry
from nightshift.seats import RECOMMENDER
from nightshift.settings import settings
name, folder, me, other, version, expected = sys.argv[1:]
registry, seat = Registry(settings()), replace(RECOMMENDER, registered_model=name)
registry.champion(seat)
Path(folder, me).touch()
while not Path(folder, other).exists():
    time.sleep(0.001)
try:
    registry.promote(seat, int(version), by=me, reason="at once", expected=int(expected))
    print("seated")
except RegistryError as error:
    print(error)
"""


def test_of_two_machines_that_promote_at_once_one_wins_and_the_other_is_refused(
    registry: Registry,
    seat: Seat,
    submit: Callable[..., int],
    mlflow_server: Settings,
    tmp_path: Path,
    at_once: Callable[..., list[str]],
) -> None:
    first, *rivals = submit(), submit(), submit()
    registry.promote(seat, first, by="test", reason="first")
    homes = [mlflow_server.model_copy(update={"home": tmp_path / name}) for name in "ab"]
    words = [
        [seat.registered_model, str(tmp_path), me, other, str(version), str(first)]
        for me, other, version in zip("uv", "vu", rivals, strict=True)
    ]
    said = [line.strip() for line in at_once(homes, PROMOTE, words)]
    assert said.count("seated") == 1, said
    won, lost = rivals[said.index("seated")], said[1 - said.index("seated")]
    assert "moves the same seat at this moment" in lost or f"(was v{first}, is v{won})" in lost
    assert aliases(registry, seat) == {PRODUCTION: won, PREVIOUS: first}
    assert [move["to"] for move in registry.history(seat)] == [first, won]
    assert registry.audit(seat)[1] == []
    assert not [key for key in registry._state(seat).tags if key.startswith(PREFIX)]
