"""Whether what the watch saw asks for a retrain: a pure decision over plain values.

One column that moves is news, not drift: a share of the watched columns must move on the same day. A column that
could not be compared counts as one that did not move, so missing evidence never triggers; the reason names it.
After a request there is a pause: for a few days a retrain sees little more of the new world than the last one
did, the nightly run retrains anyway, and an asset event that comes twice must not start two nights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any


@dataclass(frozen=True)
class ColumnScore:
    """How far a column moved. score: a distance ≥ 0, or None if it could not be compared; `note` says why."""

    name: str
    score: float | None
    threshold: float
    note: str = ""

    @property
    def drifted(self) -> bool:
        return self.score is not None and self.score >= self.threshold

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "drifted": self.drifted}


@dataclass(frozen=True)
class Policy:
    """When to ask for a retrain.

    min_share: share of the watched columns that must have moved.
    cooldown_days: a request covers its own day and the days after it, this many in all.
    """

    min_share: float = 0.3  # 2 of 6; what that costs and finds is measured in monitoring/drift.py
    cooldown_days: int = 3


@dataclass(frozen=True)
class Request:
    """A retrain that was asked for: after which day's features, with which champion in which seat."""

    day: date
    champion: int
    seat: str = ""


@dataclass(frozen=True)
class Decision:
    """drift: the world moved. already_requested: it did, and an earlier request covers it: ask no more."""

    drift: bool
    share: float
    already_requested: bool
    reason: str

    @property
    def request(self) -> bool:
        return self.drift and not self.already_requested


def decide(
    scores: Sequence[ColumnScore],
    policy: Policy,
    day: date,
    history: Iterable[Request] = (),
) -> Decision:
    """Whether the columns' scores on `day` amount to drift, and whether that was asked for before.

    Monotone: a higher score never turns drift into none, and losing a score never turns none into drift.
    """
    moved = [column for column in scores if column.drifted]
    share = len(moved) / len(scores) if scores else 0.0
    drift = bool(moved) and share >= policy.min_share
    covered = covering(day, policy, history)
    reason = _reason(scores, moved, drift)
    if drift and covered:
        reason += f"; {covered}"
    return Decision(drift, share, drift and bool(covered), reason)


def covering(day: date, policy: Policy, history: Iterable[Request]) -> str:
    """Which earlier request covers `day`, whatever its champion, and for how long; empty if none does."""
    covers = [asked for asked in history if 0 <= (day - asked.day).days < policy.cooldown_days]
    if not covers:
        return ""
    last = max(covers, key=lambda asked: asked.day)
    return (
        f"a retrain was requested for {last.day} (champion v{last.champion}), "
        f"the next one can be from {policy.cooldown_days} days after it"
    )


def _reason(scores: Sequence[ColumnScore], moved: Sequence[ColumnScore], drift: bool) -> str:
    absent = [f"{c.name} ({c.note or 'no score'})" for c in scores if c.score is None]
    unseen = f"; not compared: {', '.join(absent)}" if absent else ""
    if len(absent) == len(scores):
        return f"no evidence of drift or of its absence: nothing could be compared{unseen}"
    furthest = sorted(moved, key=lambda c: -(c.score or 0.0))
    named = ", ".join(f"{c.name} {c.score:.2f} ≥ {c.threshold:.2f}" for c in furthest)
    told = f": {named}" if named else ""
    word = "drift" if drift else "no drift"
    return f"{word}: {len(moved)} of {len(scores)} columns moved{told}{unseen}"
