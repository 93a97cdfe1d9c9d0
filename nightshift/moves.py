"""The records of a seat's history, as values: what one holds, how they are chained, whom a rollback returns to.

Every record carries a digest over its own content and over the record before it with how that one ended. A record
that is edited, removed from the middle or slipped in later thus no longer fits, and `breaks` says which. Not
covered: whoever may write tags can also compute the whole chain anew, or cut off its end; the chain shows what was
changed by mistake or by hand, it is no signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

Action = Literal["promote", "approve", "override", "rollback", "hold", "reject", "freeze"]
State = Literal["started", "done", "abandoned", "unreadable"]

SEATING = ("promote", "approve", "override", "rollback")  # these move `production`; the others leave it
REVIEWS = {"approve": "approved", "override": "overridden", "reject": "rejected"}

TAG_LIMIT = 5_000  # MLflow takes 8,000; the page stays readable
REASON_LIMIT = 2_000  # quoted in JSON it can double, and a record has to stay below TAG_LIMIT
NAME_LIMIT = 100

_KEY = re.compile(r"move\.(\d{6,})")


@dataclass(frozen=True)
class Move:
    """One record of the history.

    number: its place, from 0; it is kept as the registered model's tag `move.<number>`.
    at: ISO time, UTC. version: the version that it is about.
    source, target: the champion before and after; the same one where the action does not move the seat.
    reference: the frozen reference after it. previous: the alias `previous` before it, to undo a move half made.
    before: the chain up to the record before. digest: "" in records from before there was a chain.
    """

    number: int
    at: str
    action: str
    version: int
    source: int | None
    target: int | None
    by: str
    reason: str
    exam_digest: str = ""
    previous: int | None = None
    reference: int | None = None
    state: State = "started"
    before: str = ""
    digest: str = ""
    raw: str = ""

    @property
    def seats(self) -> bool:
        """Whether it is about who sits in the seat."""
        return self.action in SEATING

    def took_place(self, champion: int | None) -> bool:
        """Whether it came about; a record still marked as started may have been killed before or after."""
        return self.state == "done" or (
            self.state == "started" and self.seats and self.target == champion is not None
        )

    def row(self) -> dict[str, Any]:
        """What a reader of the history is shown."""
        names = ("number", "at", "action", "version", "source", "target", "by", "reason", "exam_digest",
                 "reference", "digest")  # fmt: skip
        return {_WORDS.get(name, name): getattr(self, name) for name in names}


_WORDS = {"source": "from", "target": "to"}  # `from` cannot be a field's name
_STABLE = ("number", "at", "action", "version", "source", "target", "by", "reason", "exam_digest", "previous",
           "reference", "before")  # fmt: skip


def append(log: Sequence[Move], move: Move) -> Move:
    """`move` as the next record of `log`: numbered, its texts made fit to keep, and chained."""
    number = log[-1].number + 1 if log else 0
    before = _ended(log[-1]) if log else ""
    by, reason = tidy(move.by, NAME_LIMIT), tidy(move.reason, REASON_LIMIT)
    numbered = replace(move, number=number, before=before, by=by, reason=reason, state="started")
    return replace(numbered, digest=digest_of(numbered))


def digest_of(move: Move) -> str:
    """SHA-256 over what stays the same from the record's start to its end."""
    return _sha(json.dumps([getattr(move, name) for name in _STABLE], ensure_ascii=True))


def _ended(move: Move) -> str:
    """The digest of a record and of how it ended, which is known when the next one is written."""
    return _sha(f"{move.digest or digest_of(move)} {move.state} {move.raw}")


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def breaks(log: Sequence[Move]) -> list[str]:
    """What does not fit in the chain, in words, oldest first; empty if all is as it was written."""
    found = []
    for place, move in enumerate(log):
        last = log[place - 1] if place else None
        expected = last.number + 1 if last else 0
        name = f"record {move.number}"
        if move.number != expected:
            gone = f"record {expected}" if move.number == expected + 1 else f"{expected} to {move.number - 1}"
            found.append(f"{name} follows a gap: {gone} is missing")
        if move.state == "unreadable":
            found.append(f"{name} cannot be read: {move.raw[:80]!r}")
        elif not move.digest:
            if last and last.digest:
                found.append(f"{name} has lost its digest")
        elif move.digest != digest_of(move):
            found.append(f"{name} ({move.action} of version {move.version}) was changed after it was written")
        elif move.number == expected and move.before != (_ended(last) if last else ""):
            what = f"record {last.number} was changed" if last else "it is not the first"
            found.append(f"{name} does not follow from the one before it: {what}, or records were replaced")
    return found


def key_of(move: Move) -> str:
    """The tag that keeps it."""
    return f"move.{move.number:06d}"


def written(move: Move) -> str:
    """The tag's value: JSON of at most TAG_LIMIT characters."""
    kept = {name: getattr(move, name) for name in (*_STABLE[1:], "state", "digest")}
    return json.dumps({_WORDS.get(name, name): value for name, value in kept.items()}, ensure_ascii=False)


def read(tags: Mapping[str, str]) -> list[Move]:
    """All records among a registered model's tags, oldest first."""
    keys = {int(found[1]): key for key in tags if (found := _KEY.fullmatch(key))}
    return [_read_one(number, tags[keys[number]]) for number in sorted(keys)]


def _read_one(number: int, text: str) -> Move:
    try:
        kept = json.loads(text)
        version = kept.get("version", kept["to"])  # the first records had no `version`: each was about `to`
        move = Move(
            number=number, at=kept["at"], action=kept["action"], version=version, source=kept["from"],
            target=kept["to"], by=kept["by"], reason=kept["reason"], exam_digest=kept.get("exam_digest", ""),
            previous=kept.get("previous"), reference=kept.get("reference"), state=kept.get("state", "done"),
            before=kept.get("before", ""), digest=kept.get("digest", ""),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        move = None
    if move is None or not _sound(move):
        return Move(number, "", "", 0, None, None, "", "", state="unreadable", raw=text)
    return move


def _sound(move: Move) -> bool:
    """Whether a record that was read holds the kinds of values that one is written with."""
    numbers = (move.source, move.target, move.previous, move.reference)
    texts = (move.at, move.by, move.reason, move.exam_digest, move.before, move.digest)
    return (
        move.action in get_args(Action)
        and move.state in ("started", "done", "abandoned")
        and type(move.version) is int
        and all(number is None or type(number) is int for number in numbers)
        and all(isinstance(text, str) for text in texts)
        and (not move.seats or move.target == move.version)
    )


def succession(log: Sequence[Move], champion: int | None) -> list[int]:
    """Who sat in the seat, in the order in which rollbacks give it back: the last one is `champion`.

    A promotion adds to the line; a rollback cuts it back to the version it returned to. A champion that was seated
    by hand, in MLflow itself, is known from the next record's `source`, or because it sits there now.
    """
    line: list[int] = []
    for move in (each for each in log if each.took_place(champion)):
        if move.source is not None and line[-1:] != [move.source]:
            line.append(move.source)
        if not move.seats or move.target is None:
            continue
        if move.action == "rollback":
            line = line[: line.index(move.target)] if move.target in line else line[:-1]
        line.append(move.target)
    if champion is not None and line[-1:] != [champion]:
        line.append(champion)
    return line


def champions(log: Sequence[Move], champion: int | None) -> list[int]:
    """Everyone who ever sat in the seat, each once, by when they first did."""
    seen = [n for move in log if move.took_place(champion) for n in (move.source, move.target)]
    return list(dict.fromkeys(number for number in [*seen, champion] if number is not None))


def reference_after(action: str, version: int, champion: int | None, reference: int | None) -> int | None:
    """The frozen reference once `action` has been taken on `version`, with `champion` in the seat until then.

    The first champion is frozen by the move that seats it. One that is rolled back is found harmful, and cannot be
    what others are held against: whoever it is rolled back to is, from then on.
    """
    if action == "freeze" or (action == "rollback" and reference in (None, champion)):
        return version
    if action in SEATING and reference is None:
        return version if champion is None else champion
    return reference


def marks(move: Move) -> dict[str, str]:
    """The tags that the version it is about carries from then on."""
    stages = {"hold": "Staging", "reject": "Archived"}
    tags = {"stage": stages[move.action]} if move.action in stages else {}
    if move.seats:
        tags |= {"stage": "Production", "in_production_since": move.at}
    if move.action == "reject":
        tags["rejected"] = f"{move.by}: {move.reason}"
    if move.action in REVIEWS:
        tags |= {"review": REVIEWS[move.action], "review_reason": move.reason, "reviewed_by": move.by}
    return tags


def marks_of_the_loser(move: Move) -> dict[str, str]:
    """The tags that the version which loses the seat carries from then on."""
    lost = {"rolled_back": f"{move.by}: {move.reason}"} if move.action == "rollback" else {}
    return {"stage": "Archived", **lost}


def tidy(text: str, limit: int) -> str:
    """`text` on one line, without characters that cannot be shown, and cut with an ellipsis where it is longer."""
    shown = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return cut(shown, limit)


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
