"""How a seat changes hands: promote, roll back, hold, reject, freeze, and what a kill leaves of them.

Setting an alias is one transaction, a move of the seat is not. So a move is first written down as started
(nightshift.moves), then `previous` is set, then `production`, last the tags that mirror it and the record that it is
done: a kill between any two of them leaves a champion in the seat, and the next move first finishes or undoes what it
finds started. Moves are made one after another (nightshift.turns). What does not move the seat is written down in the
same history, so that it tells everything that was decided about the seat.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import EllipsisType
from typing import Any, Literal

from nightshift import moves
from nightshift.errors import NoChampionError, RegistryError
from nightshift.moves import Action, Move
from nightshift.seats import Seat
from nightshift.turns import Turn, locked, turn
from nightshift.versions import PREVIOUS, PRODUCTION, REFERENCE, WITHDRAWN, SeatState, Version

_MEANWHILE = ("meanwhile", "nothing was changed; look at `nightshift history`")


class Seating(ABC):
    """The moves of a seat, over the few calls that the registry answers (the abstract methods)."""

    def __init__(self, lock_path: Path) -> None:
        self._lock_path = lock_path

    # --- read ------------------------------------------------------------------------------------------

    def reference(self, seat: Seat) -> Version | None:
        """The frozen version that no champion may fall behind; None only while nobody has ever sat in the seat.

        Where the alias is missing (an older state, or its version was deleted) it is the first champion that still
        exists and was not withdrawn since; the next move sets the alias.
        """
        return self._reference(seat, self._state(seat))

    def history(self, seat: Seat) -> list[dict[str, Any]]:
        """All that was decided about the seat, oldest first; see `Move.row` for what each record holds.

        `from` and `to` are the champion before and after: the same where the decision left the seat alone.
        """
        return self.audit(seat)[0]

    def audit(self, seat: Seat) -> tuple[list[dict[str, Any]], list[str]]:
        """The history, and what is wrong with it in words: nothing, unless somebody wrote to its records."""
        state = self._state(seat)
        rows = [move.row() for move in state.log if move.took_place(state.champion)]
        return rows, moves.breaks(state.log)

    # --- write -----------------------------------------------------------------------------------------

    def promote(
        self,
        seat: Seat,
        number: int,
        *,
        by: str,
        reason: str,
        exam_digest: str = "",
        expected: int | EllipsisType | None = ...,
        action: Literal["promote", "approve", "override"] = "promote",
    ) -> None:
        """Give the seat to a version. Does nothing if it sits there already.

        expected: the champion that the version was examined against, None for an empty seat; `...`: anyone.
        action: by the gate, by a reviewer whom the gate asked, or by one against its verdict.

        Raises:
            RegistryError: there is no such version, it is not ready, it was rejected or rolled back (an override may
                seat it all the same), no reason is given, the champion is not the expected one any more, or another
                mover came first.
        """
        with self._turn(seat, by) as (mine, state):
            if state.champion != number:
                exam, again = ("during the exam", "run the gate again") if action == "promote" else _MEANWHILE
                _expect(seat, state.champion, expected, exam, again)
            version = self.get(seat, number)
            if version.withdrawn and action != "override" and state.champion != number:
                raise RegistryError(
                    f"seat {seat.name}: version {number} was withdrawn ({version.withdrawn}): "
                    f"{'run the gate again; ' if action == 'promote' else ''}{_instead(version)}"
                )
            self._move(seat, state, version, action, mine, by=by, reason=reason, exam_digest=exam_digest)

    def rollback(
        self,
        seat: Seat,
        *,
        to: int | None,
        by: str,
        reason: str,
        expected: int | EllipsisType | None = ...,
    ) -> Version:
        """Give the seat back to `to`, or to the version that held it before. Returns the new champion.

        The version that loses the seat is tagged `rolled_back` with the reason: the gate does not seat it
        again. A second rollback goes one champion further back, never forward again. If it was the reference as
        well, the version that gets the seat back is the reference from then on.

        expected: the champion that was found bad; `...`: anyone.

        Raises:
            NoChampionError: there is no earlier champion to go back to.
            RegistryError: `to` does not exist, was rejected, or holds the seat already; the champion is not the
                expected one any more, or another mover came first.
        """
        with self._turn(seat, by) as (mine, state):
            _expect(seat, state.champion, expected, *_MEANWHILE)
            if to is None:
                to = self._way_back(seat, moves.succession(state.log, state.champion))
            if to is None:
                raise NoChampionError(
                    f"seat {seat.name}: no earlier champion to go back to; name one with --to"
                )
            if to == state.champion:
                raise RegistryError(
                    f"seat {seat.name}: version {to} holds the seat already; nothing was changed"
                )
            version = self.get(seat, to)
            if "rejected" in version.tags:
                raise RegistryError(
                    f"seat {seat.name}: version {to} was rejected ({version.tags['rejected']}): a rollback does not "
                    f"return to it; {_instead(version)}"
                )
            self._move(seat, state, version, "rollback", mine, by=by, reason=reason)
        return self.get(seat, to)

    def hold(self, seat: Seat, number: int, *, by: str, reason: str, exam_digest: str) -> None:
        """Put a version on hold until a person decides. Does nothing if this exam put it there already.

        Raises:
            RegistryError: it holds the seat, was rejected or rolled back, there is no such version, or no reason is
                given.
        """
        with self._turn(seat, by) as (mine, state):
            version = self.get(seat, number)
            if version.withdrawn:
                raise RegistryError(
                    f"seat {seat.name}: version {number} was withdrawn ({version.withdrawn}): run the gate again; "
                    f"{_instead(version)}"
                )
            held = [move for move in state.log if move.version == number and move.action == "hold"]
            staged = version.tags.get("stage") == "Staging"
            if not (staged and held and held[-1].exam_digest == exam_digest):
                self._move(seat, state, version, "hold", mine, by=by, reason=reason, exam_digest=exam_digest)

    def reject(self, seat: Seat, number: int, *, by: str, reason: str) -> None:
        """Turn a version down: the gate does not seat it, and a rollback does not return to it.

        Raises:
            RegistryError: it holds the seat, is the reference, or was rejected before; there is no such version, or
                no reason is given.
        """
        with self._turn(seat, by) as (mine, state):
            version = self.get(seat, number)
            if "rejected" in version.tags:
                raise RegistryError(
                    f"seat {seat.name}: version {number} was rejected already ({version.tags['rejected']})"
                )
            self._move(seat, state, version, "reject", mine, by=by, reason=reason)

    def freeze(self, seat: Seat, number: int, *, by: str, reason: str) -> None:
        """Make a version the reference that no champion may fall behind.

        Raises:
            RegistryError: it is the reference already, or was withdrawn; there is no such version, or no reason is
                given.
        """
        with self._turn(seat, by) as (mine, state):
            version = self.get(seat, number)
            if state.aliases.get(REFERENCE) == number:
                raise RegistryError(f"seat {seat.name}: version {number} is the reference already")
            if version.withdrawn:
                raise RegistryError(
                    f"seat {seat.name}: version {number} was withdrawn ({version.withdrawn}); "
                    "what was found bad cannot be what others are held against"
                )
            self._move(seat, state, version, "freeze", mine, by=by, reason=reason)

    def settle(self, seat: Seat) -> None:
        """Finish or undo a move that was killed half-way; without one, nothing happens."""
        if self._state(seat).unfinished:
            with self._turn(seat, "settling"):  # waits for a move that is not dead but under way
                pass

    # --- inside ----------------------------------------------------------------------------------------

    @contextmanager
    def _turn(self, seat: Seat, by: str) -> Iterator[tuple[Turn | None, SeatState]]:
        """A turn to move the seat, and the seat, of which nothing is half-done; no turn without any version."""
        with locked(self._lock_path) as home:
            state = self._state(seat)
            if not state.exists:
                yield None, state
                return
            with turn(_Tags(self, seat), home, by) as mine:
                state = self._state(seat)
                if state.unfinished is not None:
                    self._settle(seat, state, state.unfinished)
                    state = self._state(seat)
                yield mine, state

    def _settle(self, seat: Seat, state: SeatState, move: Move) -> None:
        """Finish or undo the move that was killed. Versions may have been deleted since, whatever it is about."""
        if move.seats and not move.took_place(state.champion):
            back = move.previous
            if back is not None and not self._is_there(seat, back):
                back = self._way_back(seat, moves.succession(state.log, state.champion))
            self._set_alias(seat, PREVIOUS, back)
            self._keep(seat, replace(move, state="abandoned"))
        elif not self._is_there(seat, move.version):
            self._keep(seat, replace(move, state="abandoned"))
        else:  # what does not move the seat can be done over from any point
            self._finish(seat, move)

    def _move(
        self,
        seat: Seat,
        state: SeatState,
        version: Version,
        action: Action,
        mine: Turn | None,
        *,
        by: str,
        reason: str,
        exam_digest: str = "",
    ) -> None:
        """Write down, do, and close one action of the seat of which none is started."""
        number, champion, seats = version.number, state.champion, action in moves.SEATING
        if not reason.strip():
            raise RegistryError(f"seat {seat.name}: version {number}: a move needs a reason that can be read")
        if not version.ready:
            raise RegistryError(f"seat {seat.name}: version {number} is not ready yet; try again in a while")
        if seats and champion == number:
            return
        reference = self._reference(seat, state)
        yardstick = reference.number if reference else None
        if action in ("hold", "reject") and number == champion:
            raise RegistryError(f"seat {seat.name}: version {number} holds the seat; roll it back instead")
        if action == "reject" and number == yardstick:
            raise RegistryError(
                f"seat {seat.name}: version {number} is the reference; freeze another version first"
            )
        wanted = Move(
            0, datetime.now(UTC).isoformat(timespec="seconds"), action, number, champion,
            number if seats else champion, by, reason, exam_digest, state.aliases.get(PREVIOUS),
            moves.reference_after(action, number, champion, yardstick),
        )  # fmt: skip
        move = moves.append(state.log, wanted)
        self._keep(seat, move)
        if seats:
            line = moves.succession([*state.log, replace(move, state="done")], number)
            self._set_alias(seat, PREVIOUS, self._way_back(seat, line))
            if mine is not None:
                mine.must_stand()
            self._set_alias(seat, PRODUCTION, number)
        self._finish(seat, move)

    def _finish(self, seat: Seat, move: Move) -> None:
        """What follows the alias: the reference, the tags that mirror it all, and the record that it is done."""
        if (move.seats or move.action == "freeze") and self._is_there(seat, move.reference):
            self._set_alias(seat, REFERENCE, move.reference)
        if move.seats:
            for tag in self.get(seat, move.version).tags.keys() & set(WITHDRAWN):  # somebody wants it back
                self._remove_version_tag(seat, move.version, tag)
        self.annotate(seat, move.version, tags=moves.marks(move))
        if move.seats and move.source is not None and self._is_there(seat, move.source):
            self.annotate(seat, move.source, tags=moves.marks_of_the_loser(move))
        if move.action == "reject":  # it may have been the version before
            state = self._state(seat)
            self._set_alias(seat, PREVIOUS, self._way_back(seat, moves.succession(state.log, state.champion)))
        self._keep(seat, replace(move, state="done"))

    def _is_there(self, seat: Seat, number: int | None) -> bool:
        return number is not None and self._find(seat, number) is not None

    def _keep(self, seat: Seat, move: Move) -> None:
        self._set_tag(seat, moves.key_of(move), moves.written(move))

    def _reference(self, seat: Seat, state: SeatState) -> Version | None:
        log, begun = state.log, state.unfinished
        moved = begun is not None and begun.took_place(state.champion)
        named = begun.reference if begun and moved else state.aliases.get(REFERENCE)
        found = self._find(seat, named) if named is not None else None
        if found is not None:
            return found
        known = (self._find(seat, number) for number in moves.champions(log, state.champion))
        return next((version for version in known if version and not version.withdrawn), None)

    def _way_back(self, seat: Seat, line: list[int]) -> int | None:
        """Whom a rollback returns to: the last of the line before the champion that can still be seated."""
        known = (self._find(seat, number) for number in reversed(line[:-1]) if number != line[-1])
        return next((version.number for version in known if version and not version.withdrawn), None)

    # --- what the registry answers ---------------------------------------------------------------------

    @abstractmethod
    def get(self, seat: Seat, number: int) -> Version: ...

    @abstractmethod
    def annotate(
        self, seat: Seat, number: int, *, tags: dict[str, str], description: str | None = None
    ) -> None: ...

    @abstractmethod
    def _find(self, seat: Seat, number: int) -> Version | None: ...

    @abstractmethod
    def _state(self, seat: Seat) -> SeatState: ...

    @abstractmethod
    def _set_alias(self, seat: Seat, alias: str, number: int | None) -> None: ...

    @abstractmethod
    def _set_tag(self, seat: Seat, key: str, value: str | None) -> None: ...

    @abstractmethod
    def _remove_version_tag(self, seat: Seat, number: int, key: str) -> None: ...


@dataclass(frozen=True)
class _Tags:
    """The seat's registered model as a board for claims."""

    registry: Seating
    seat: Seat

    def read(self) -> dict[str, str]:
        return self.registry._state(self.seat).tags

    def put(self, key: str, value: str) -> None:
        self.registry._set_tag(self.seat, key, value)

    def remove(self, key: str) -> None:
        self.registry._set_tag(self.seat, key, None)


def _instead(version: Version) -> str:
    """What to do about a refusal: everything else about a withdrawn version is a person's decision."""
    seated = f'nightshift override {version.seat}/{version.number} --reason "…"'
    return f"nothing was changed; to seat it all the same: {seated}"


def _expect(
    seat: Seat, champion: int | None, expected: int | EllipsisType | None, when: str, advice: str
) -> None:
    if expected is not ... and champion != expected:
        was, now = (f"v{one}" if one is not None else "nobody" for one in (expected, champion))
        raise RegistryError(f"seat {seat.name}: the champion changed {when} (was {was}, is {now}); {advice}")
