"""One mover of a seat at a time: on this machine by a lock, among machines that share MLflow by claims.

The lock is on a file in NIGHTSHIFT_HOME, and the kernel lets it go when its holder is killed. MLflow has no
compare-and-swap, so movers with different homes keep apart as in Fischer's algorithm (Lamport, A Fast Mutual
Exclusion Algorithm, 1987): look that nobody has claimed the seat, write a claim (a tag of one's own), wait as long as
anybody's look and write may have taken, and look again. Whoever did not see the other's claim the first time sees it
now, and both know by the claims' names which of them goes on. One whose own look and write took longer than that
withdraws and starts over.

A claim outlives a killed mover. One of this home is dead for sure, because its lock was free; another home's is waited
for, and removed if it is still there after LEASE. A mover looks that its claim still stands, and is young, right
before it moves the seat.

Not covered: a mover that is held up for longer than LEASE / 2 between that look and the write after it; clocks that
tick at different rates; and aliases set by hand in MLflow during a move.
"""

from __future__ import annotations

import fcntl
import json
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nightshift.errors import RegistryError

LATE = 0.5  # s; a look and a write are two calls of 5 to 50 ms
WAIT = LATE  # no less: see above
LEASE = 60.0  # s; a move is some twenty calls, and MLflow may take 9 s for the slowest
TRIES = 40
PREFIX = "claim."


class Board(Protocol):
    """Where claims hang for all to see: a registered model's tags."""

    def read(self) -> dict[str, str]: ...

    def put(self, key: str, value: str) -> None: ...

    def remove(self, key: str) -> None: ...


@dataclass(frozen=True)
class Turn:
    """The right to move a seat, for a while."""

    board: Board
    key: str
    until: float

    def must_stand(self) -> None:
        """Raises RegistryError if another mover may have taken this one for dead."""
        if time.monotonic() > self.until or self.key not in self.board.read():
            raise RegistryError(
                "MLflow took too long: the move was given up before the seat changed; try again"
            )


@contextmanager
def locked(path: Path) -> Iterator[str]:
    """One mover at a time among all processes of this home; the others wait. Yields the home's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.seek(0)
        name = handle.read()
        if not name:
            name = uuid.uuid4().hex
            handle.write(name)
            handle.flush()
        # With the machine's name: a home that was copied to another one is another home, for its lock is.
        yield f"{socket.gethostname()}/{name}"


@contextmanager
def turn(board: Board, home: str, by: str) -> Iterator[Turn]:
    """A turn to move the seat of this board; the caller holds the lock of `home`.

    Raises:
        RegistryError: another mover came first at the same moment, or does not come to an end.
    """
    held = _claim(board, home, by)
    try:
        yield held
    finally:
        with suppress(RegistryError):  # then it lapses
            board.remove(held.key)


def _claim(board: Board, home: str, by: str) -> Turn:
    for _ in range(TRIES):
        looked = _wait_for_others(board, home)
        key = PREFIX + uuid.uuid4().hex
        board.put(key, json.dumps({"home": home, "by": by}, ensure_ascii=False))
        if time.monotonic() - looked > LATE:
            board.remove(key)
            continue
        time.sleep(WAIT)
        rivals = {other: claim for other, claim in _claims(board).items() if other < key}
        if not rivals:
            return Turn(board, key, looked + LEASE / 2)
        board.remove(key)
        who = rivals[min(rivals)].get("by", "somebody")
        raise RegistryError(f"{who} moves the same seat at this moment; nothing was changed; see the history")
    raise RegistryError(f"MLflow took longer than {LATE} s in {TRIES} tries to claim the seat; try again")


def _wait_for_others(board: Board, home: str) -> float:
    """Returns once nobody claims the seat: the time (monotonic) at which that was looked up."""
    met: dict[str, float] = {}
    while True:
        looked = time.monotonic()
        claims = _claims(board)
        if not claims:
            return looked
        for key, claim in claims.items():
            since = met.setdefault(key, looked)
            if claim.get("home") == home or looked - since > LEASE:
                board.remove(key)
        time.sleep(0.0 if all(claim.get("home") == home for claim in claims.values()) else 0.1)


def _claims(board: Board) -> dict[str, dict[str, Any]]:
    """Every claim by its tag; one that cannot be read is somebody's all the same."""
    return {key: _told(text) for key, text in board.read().items() if key.startswith(PREFIX)}


def _told(text: str) -> dict[str, Any]:
    try:
        claim = json.loads(text)
    except ValueError:
        return {}
    return claim if isinstance(claim, dict) else {}
