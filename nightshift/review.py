"""What a reviewer decides about a version, as the commands call it: approve, reject, override, roll back, freeze.

Each returns the one line that tells what serves from now on and how to undo it. A yes to a version on hold counts only
for what the gate asked: the same champion, the same reference, and no newer candidate (of a later night, or of the same
night and family); for anything else there is `override`.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from nightshift.errors import RegistryError, SettingsError
from nightshift.moves import REASON_LIMIT
from nightshift.registry import Registry, Version
from nightshift.seats import SEATS, Seat, find_seat

_VERSION = re.compile(r"(?:(?P<seat>[^/]+)/)?v?(?P<number>\d{1,9})")


def find(registry: Registry, text: str, seats: Mapping[str, Seat] = SEATS) -> tuple[Seat, Version]:
    """The version that `recommender/12` names, or a bare `12` where only one seat has a version of that number.

    Raises:
        SettingsError: it names no version, an unknown seat, or more than one version; the choices are listed.
        RegistryError: there is no such version.
    """
    named = _VERSION.fullmatch(text.strip())
    if named is None:
        raise SettingsError(f"{text!r} names no version; say it like {next(iter(seats))}/12")
    number = int(named["number"])
    if named["seat"] is not None:
        seat = find_seat(named["seat"], seats)
        return seat, registry.get(seat, number)
    found = [(seat, v) for seat in seats.values() for v in registry.versions(seat) if v.number == number]
    if len(found) == 1:
        return found[0]
    if not found:
        raise RegistryError(f"no seat has a version {number}; the seats are {', '.join(seats)}")
    choices = " or ".join(_name(seat, number) for seat, _ in found)
    raise SettingsError(f"there is more than one version {number}: say {choices}")


def reviewer() -> str:
    """The name that a decision made here is recorded under: the user's."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return f"user {os.getuid()}"


def approve(registry: Registry, seat: Seat, number: int, *, by: str, reason: str) -> str:
    """Seat a version that the gate put on hold.

    Raises:
        PackageError: it cannot be loaded: the service would go on with the version it has.
        RegistryError: it is not on hold, was reviewed or withdrawn before, was examined against another champion or
            reference than the seat has now, or a newer candidate was examined since.
    """
    reason = _reason(reason)
    registry.settle(seat)
    version, champion = registry.get(seat, number), registry.champion(seat)
    against = _may_be_approved(registry, seat, version, champion)
    registry.load(seat, number)
    digest = version.tags.get("exam_digest", "")
    registry.promote(
        seat, number, by=by, reason=reason, exam_digest=digest, expected=against, action="approve"
    )
    _note(registry, seat, number, "Approved", by, reason)
    return _seated(seat, number, champion)


def override(registry: Registry, seat: Seat, number: int, *, by: str, reason: str) -> str:
    """Seat any version that can be loaded, whatever the gate said of it; the line says what that was.

    Raises:
        PackageError: it cannot be loaded: the service would go on with the version it has.
        RegistryError: it holds the seat already, or the champion changed meanwhile.
    """
    reason = _reason(reason)
    registry.settle(seat)
    version, champion = registry.get(seat, number), registry.champion(seat)
    if champion is not None and champion.number == number:
        raise RegistryError(f"{_name(seat, number)} holds the seat already; nothing was changed")
    registry.load(seat, number)
    registry.promote(
        seat, number, by=by, reason=reason, exam_digest=version.tags.get("exam_digest", ""),
        expected=champion.number if champion else None, action="override",
    )  # fmt: skip
    _note(registry, seat, number, "Seated against the gate's verdict", by, reason)
    said = version.tags.get("verdict_reason", "")
    verdict = version.tags.get("verdict")
    gate = f'The gate had said "{verdict}": {said}' if verdict else "The gate had not examined it."
    withdrawn = f" It had been withdrawn ({version.withdrawn})." if version.withdrawn else ""
    return f"{_seated(seat, number, champion)} {gate}{withdrawn}"


def reject(registry: Registry, seat: Seat, number: int, *, by: str, reason: str) -> str:
    """Turn a version down: it is not seated by the gate, and no rollback returns to it.

    Raises:
        RegistryError: it holds the seat (roll it back instead), is the reference, or was rejected before.
    """
    reason = _reason(reason)
    registry.reject(seat, number, by=by, reason=reason)
    _note(registry, seat, number, "Rejected", by, reason)
    champion = registry.champion(seat)
    serves = f"version {champion.number} goes on serving" if champion else "nobody sits in the seat"
    instead = _command("override", _name(seat, number))
    return f"{_name(seat, number)} is rejected; {serves}. To seat it all the same: {instead}"


def rollback(
    registry: Registry, seat: Seat, to: int | None, *, by: str, reason: str, expected: int | None = None
) -> str:
    """Give the seat back to `to`, or to whoever held it before.

    expected: the champion that was found bad; None: whoever sits there.

    Raises:
        NoChampionError: there is no earlier champion.
        RegistryError: `to` holds the seat, or was rejected, or the champion is not the expected one any more.
        PackageError: `to` has never held the seat, and cannot be loaded.
    """
    reason = _reason(reason)
    registry.settle(seat)
    lost, before = registry.champion(seat), registry.reference(seat)
    if to is not None and "in_production_since" not in registry.get(seat, to).tags:
        registry.load(seat, to)
    back = registry.rollback(
        seat, to=to, by=by, reason=reason, expected=expected or (lost.number if lost else None)
    )
    _note(registry, seat, back.number, "Given the seat back", by, reason)
    line = f"{_name(seat, back.number)} serves again within seconds"
    if lost is not None:
        _note(registry, seat, lost.number, "Rolled back", by, reason)
        line += f", and the gate will not seat version {lost.number} again. "
        line += _undo("override", _name(seat, lost.number))
    reference = registry.reference(seat)
    if before and reference and reference.number != before.number:
        line += f" Version {before.number} was also the reference; that is version {reference.number} now."
    return line


def freeze(registry: Registry, seat: Seat, number: int, *, by: str, reason: str) -> str:
    """Make a version the reference that no champion may fall behind.

    Raises:
        PackageError: it cannot be loaded, so nothing could be held against it.
        RegistryError: it is the reference already, or was rejected or rolled back.
    """
    reason = _reason(reason)
    before = registry.reference(seat)
    registry.load(seat, number)
    registry.freeze(seat, number, by=by, reason=reason)
    line = f"{_name(seat, number)} is the reference now; who serves has not changed."
    if before is not None and before.number != number:
        line += f" {_undo('freeze', _name(seat, before.number))}"
    return line


def _may_be_approved(
    registry: Registry, seat: Seat, version: Version, champion: Version | None
) -> int | None:
    """The champion that the version was examined against. Raises RegistryError, with what to do, if it may not."""
    name, tags = _name(seat, version.number), version.tags
    instead = f'to seat it all the same: nightshift override {name} --reason "…"'
    if champion is not None and champion.number == version.number:
        raise RegistryError(f"{name} holds the seat already; nothing was changed")
    if "review" in tags:
        raise RegistryError(
            f"{name} was {tags['review']} by {tags.get('reviewed_by', 'somebody')}; {instead}"
        )
    if version.withdrawn:
        raise RegistryError(f"{name} was withdrawn ({version.withdrawn}); {instead}")
    verdict = tags.get("verdict")
    if verdict is None:
        raise RegistryError(f"{name} was not examined yet: run `nightshift gate {seat.name}`; {instead}")
    if verdict != "hold":
        why = tags.get("verdict_reason", "no reason is recorded")
        raise RegistryError(f'{name} is not on hold: the gate said "{verdict}" ({why}); {instead}')
    against, now = tags.get("examined_against"), _number(champion)
    if against != now:
        met = f"against {_who(against)}" if against else "against nobody knows whom"
        raise RegistryError(
            f"{name} was examined {met}, and {_who(now)} holds the seat now: "
            f"run `nightshift gate {seat.name}` again; {instead}"
        )
    frozen = tags.get("examined_reference")  # verdicts from before it was written down have none
    if frozen is not None and frozen != (reference := _number(registry.reference(seat))):
        raise RegistryError(
            f"{name} was held against {_who(frozen)} as the reference, and the reference is {_who(reference)} now: "
            f"run `nightshift gate {seat.name}` again; {instead}"
        )
    examined = [v for v in registry.versions(seat) if "verdict" in v.tags]
    if newer := [other for other in examined if _supersedes(other, version)]:
        newest = max(newer, key=lambda v: (v.tags.get("night", ""), v.number))
        night, later = newest.tags.get("night", ""), newest.tags.get("night") != tags.get("night")
        of = f"the later night {night}" if later else f"the same night {night} and family"
        raise RegistryError(
            f"version {newest.number} of {of} was examined since "
            f'(the gate said "{newest.tags["verdict"]}"), so {name} is out of date; {instead}'
        )
    return champion.number if champion else None


def _supersedes(other: Version, version: Version) -> bool:
    """Whether `other` is a newer candidate than `version`: the gate examines the newest of each night and family."""
    theirs, ours = other.tags.get("night", ""), version.tags.get("night", "")
    again = theirs == ours and other.tags.get("family") == version.tags.get("family")
    return theirs > ours or (again and other.number > version.number)


def _note(registry: Registry, seat: Seat, number: int, did: str, by: str, reason: str) -> None:
    """A line above the gate's words on the version's page, which were written before a person decided."""
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    line = f"**{did} by {by}, {when}:** {' '.join(reason.split())}"
    version = registry.get(seat, number)
    registry.annotate(seat, number, tags={}, description=f"{line}\n\n{version.description}".strip())


def _reason(text: str) -> str:
    reason = text.strip()
    if not reason:
        raise SettingsError('a decision needs a reason that others can read: --reason "…"')
    if len(reason) > REASON_LIMIT:
        raise SettingsError(
            f"the reason has {len(reason):,} characters; {REASON_LIMIT:,} are kept: shorten it"
        )
    return reason


def _seated(seat: Seat, number: int, before: Version | None) -> str:
    line = f"{_name(seat, number)} serves within seconds"
    if before is None:
        return f"{line}; the seat was empty."
    return f"{line}, in place of version {before.number}. {_undo('rollback', seat.name)}"


def _name(seat: Seat, number: int) -> str:
    return f"{seat.name}/{number}"


def _number(version: Version | None) -> str:
    return str(version.number) if version is not None else "nobody"


def _who(number: str) -> str:
    return "nobody" if number == "nobody" else f"version {number}"


def _undo(command: str, what: str) -> str:
    return f"Undo: {_command(command, what)}"


def _command(command: str, what: str) -> str:
    return f'nightshift {command} {what} --reason "…"'
