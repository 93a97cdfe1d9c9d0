"""Which earlier version of a family tonight's training goes on from, or why it starts from nothing.

A family that keeps its state (`Trained.folders["state"]`, as ncf does) need not learn every night anew what it knew
the night before. It goes on from the champion if that is of the family, else from its newest version, unless

- that one, or one that it went on from itself, was taken out, or it was trained with other settings;
- it was trained on a day that tonight's exam asks about. Exams get shorter after a drift and longer again, so a
  version of last night may know days of tonight's exam. Every version obeys this, so nothing it was itself warmed
  from has seen more than its own `train_end`;
- the last training from nothing in its ancestry is NIGHTSHIFT_FULL_RETRAIN_DAYS away, or ended before a drift that
  tonight's days know of;
- its state is gone, or is not what was handed in.

Smoke nights start from nothing and are gone on from by nobody. A night that is trained again goes on from where it
went on from at first, whoever has become champion since: so it gives the same model again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from nightshift.packages import package_digest
from nightshift.retrains import Retrain
from nightshift.versions import Version
from training.recipe import Night

if TYPE_CHECKING:
    from nightshift.registry import Registry

STATE = "state"
ASKED = "it was asked for"
FIRST = "no earlier version of the family keeps a state"


@dataclass(frozen=True)
class Base:
    """The version that is gone on from, or None and the reason."""

    version: Version | None
    reason: str = ""

    def tags(self, night: Night, digest: str) -> dict[str, str]:
        """What a version says of its ancestry; `digest`: its own state's.

        full_night, full_until: the night of the last training from nothing in it, and that one's last day.
        """
        kept = {"state_digest": digest}
        if self.version is None:
            whole = {"full_night": str(night.night), "full_until": str(night.train_end)}
            return {**kept, **whole, "full_retrain_reason": self.reason}
        told = self.version.tags
        return {
            **kept,
            "full_night": told["full_night"],
            "full_until": told["full_until"],
            "warm_from": str(self.version.number),
            "warm_digest": told["state_digest"],
        }


def choose(
    versions: Iterable[Version],
    champion: Version | None,
    night: Night,
    drifts: Sequence[Retrain],
    *,
    full_days: int,
    made: dict[str, str],
) -> Base:
    """The base of tonight's training: a pure decision over what the registry tells.

    versions: the family's, of any night. drifts: the retrains that were asked for, for the seat.
    made: the tags seed and hyper of tonight's training.
    """
    versions = list(versions)
    taken_out = {one.number: one.withdrawn for one in versions if one.withdrawn}
    origin = {one.number: int(one.tags["warm_from"]) for one in versions if "warm_from" in one.tags}
    kept = [one for one in versions if one.tags.get("state_digest") and one.tags.get("smoke") != "true"]
    before = sorted(
        (one for one in kept if "" < one.tags.get("night", "") < str(night.night)),
        key=lambda one: (one.tags["night"], one.number),
        reverse=True,
    )
    again = [
        one
        for one in kept
        if one.tags.get("night") == str(night.night)
        and one.tags.get("full_retrain_reason") != ASKED
        and all(one.tags.get(name, "") == tag for name, tag in made.items())
    ]
    if again:
        first = min(again, key=lambda one: one.number)
        if "full_retrain_reason" in first.tags:
            return Base(None, first.tags["full_retrain_reason"])
        before.sort(key=lambda one: str(one.number) != first.tags["warm_from"])
    elif champion is not None:
        before.sort(key=lambda one: one.number != champion.number)
    reasons = []
    for one in before:
        reason = _taken_out(one.number, origin, taken_out) or _unfit(
            one, night, drifts, full_days, made.get("hyper", "")
        )
        if not reason:
            return Base(one)
        reasons.append(reason)
    return Base(None, reasons[0] if reasons else FIRST)


def _taken_out(number: int | None, origin: dict[int, int], taken_out: dict[int, str]) -> str:
    """Why this version, or one that it went on from, was taken out by somebody; empty if none was."""
    while number is not None:
        if number in taken_out:
            return f"version {number} was taken out: {taken_out[number]}"
        number = origin.get(number)
    return ""


def _unfit(base: Version, night: Night, drifts: Sequence[Retrain], full_days: int, hyper: str) -> str:
    """Why tonight's training must not go on from this version; empty if it may."""
    name, tags = f"version {base.number}", base.tags
    until, full_until = date.fromisoformat(tags["train_end"]), date.fromisoformat(tags["full_until"])
    full_night = date.fromisoformat(tags["full_night"])
    if tags.get("hyper", "") != hyper:
        return f"{name} was trained with other settings"
    if until > night.train_end:
        return f"{name} was trained up to {until}, and tonight's exam begins after {night.train_end}"
    if until < night.train_start:
        return f"{name} was trained up to {until}, before tonight's window"
    if (night.night - full_night).days >= full_days:
        return (
            f"the last training from nothing was {(night.night - full_night).days} days ago, of {full_night}"
        )
    for one in drifts:
        if one.published < night.night and full_until < one.day <= night.train_end:
            return f"{one.day} drifted, and the last training from nothing ended on {full_until}"
    return ""


def fetch(registry: Registry, base: Base, into: Path) -> tuple[Base, Path | None]:
    """The base's state as a folder under `into`, checked against the digest it was handed in with.

    One that is gone or was changed is gone on from by nobody: then the base is none, with the reason.

    Raises:
        RegistryError: MLflow cannot be reached.
    """
    version = base.version
    if version is None:
        return base, None
    status, files = registry.run(version.run_id)
    if not any(name.startswith(f"{STATE}/") for name in files):
        return Base(None, f"the state of version {version.number} is gone (its run is {status})"), None
    into.mkdir(parents=True, exist_ok=True)
    folder = registry.artifact(version.run_id, STATE, into)
    if package_digest(folder) != version.tags["state_digest"]:
        return Base(None, f"the state of version {version.number} is not the one that was handed in"), None
    return base, folder
