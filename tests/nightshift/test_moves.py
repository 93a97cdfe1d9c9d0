"""The records of a seat's history as values: the line of succession, the reference, the chain."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.moves import (
    REASON_LIMIT,
    SEATING,
    TAG_LIMIT,
    Move,
    append,
    breaks,
    champions,
    digest_of,
    key_of,
    read,
    reference_after,
    succession,
    written,
)

ACTIONS = ("promote", "approve", "override", "rollback", "hold", "reject", "freeze")
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(1, 5), st.booleans()), min_size=1, max_size=14
)


def record(
    log: list[Move], action: str, version: int, *, by: str = "mina", reason: str = "so", state: Any = "done"
) -> list[Move]:
    champion = next((m.target for m in reversed(log) if m.state == "done"), None)
    target = version if action in SEATING else champion
    move = Move(0, "2026-09-28T03:00:00+00:00", action, version, champion, target, by, reason, "d1g35t")
    return [*log, replace(append(log, move), state=state)]


def play(steps: list[tuple[str, int, bool]]) -> list[Move]:
    """The log of these steps, as the registry would write it; the third value: it was killed and undone."""
    log: list[Move] = []
    for action, version, killed in steps:
        champion = next((m.target for m in reversed(log) if m.state == "done"), None)
        if action in SEATING and (version == champion or (action == "rollback" and champion is None)):
            continue
        log = record(log, action, version, state="abandoned" if killed and action in SEATING else "done")
    return log


def last(log: list[Move]) -> int | None:
    return next((move.target for move in reversed(log) if move.state == "done"), None)


def tags(log: list[Move]) -> dict[str, str]:
    return {key_of(move): written(move) for move in log}


@given(STEPS)
def test_the_line_of_succession_ends_with_the_champion_and_never_repeats_it(
    steps: list[tuple[str, int, bool]],
) -> None:
    log = play(steps)
    line = succession(log, last(log))
    assert line[-1:] == ([last(log)] if last(log) is not None else [])
    assert all(here != there for here, there in itertools.pairwise(line))


@given(STEPS)
def test_what_does_not_move_the_seat_or_did_not_come_about_leaves_the_line_alone(
    steps: list[tuple[str, int, bool]],
) -> None:
    log = play(steps)
    moved = [move for move in log if move.seats and move.state == "done"]
    assert succession(log, last(log)) == succession(moved, last(log))
    assert champions(log, last(log)) == champions(moved, last(log))


def test_a_rollback_forgets_whoever_came_after_the_version_it_returns_to() -> None:
    climb = play([("promote", 1, False), ("approve", 2, False), ("override", 3, False)])
    assert succession(climb, 3) == [1, 2, 3]
    for to, line in ((2, [1, 2]), (1, [1]), (7, [1, 2, 7])):
        assert succession(record(climb, "rollback", to), to) == line


def test_a_champion_seated_by_hand_is_the_last_of_the_line() -> None:
    climb = play([("promote", 1, False), ("promote", 2, False)])
    assert succession(climb, 9) == [1, 2, 9]
    assert succession([], 9) == [9] and succession([], None) == []


def test_a_started_move_took_place_only_if_its_version_sits_in_the_seat() -> None:
    log = record(play([("promote", 1, False)]), "promote", 2, state="started")
    assert succession(log, 1) == [1] and succession(log, 2) == [1, 2]


@pytest.mark.parametrize(
    ("action", "version", "champion", "reference", "then"),
    [
        ("promote", 1, None, None, 1),  # the first champion is frozen by the move that seats it
        ("promote", 2, 1, None, 1),  # an older state in which nobody was frozen
        ("promote", 2, 1, 1, 1),
        ("override", 3, 2, 1, 1),
        ("rollback", 1, 2, 1, 1),
        ("rollback", 1, 2, 2, 1),  # what was found harmful cannot be what others are held against
        ("rollback", 1, 2, None, 1),
        ("freeze", 2, 2, 1, 2),
        ("hold", 3, 2, 1, 1),
        ("hold", 3, None, None, None),
        ("reject", 3, 2, 1, 1),
    ],
)
def test_the_reference_stays_but_for_a_freeze_the_first_champion_and_its_own_rollback(
    action: str, version: int, champion: int | None, reference: int | None, then: int | None
) -> None:
    assert reference_after(action, version, champion, reference) == then


# --- the chain -------------------------------------------------------------------------------------------


@given(STEPS)
def test_a_log_that_nobody_touched_reads_back_the_same_and_unbroken(
    steps: list[tuple[str, int, bool]],
) -> None:
    log = play(steps)
    assert read(tags(log)) == log
    assert breaks(log) == []


@given(STEPS.filter(lambda steps: len(play(steps)) > 1), st.data())
def test_any_record_that_is_edited_or_taken_out_but_the_last_is_found_and_named(
    steps: list[tuple[str, int, bool]], data: st.DataObject
) -> None:
    kept = tags(play(steps))
    key = data.draw(st.sampled_from(sorted(kept)[:-1]))
    how = data.draw(st.sampled_from(["gone", "reason", "to", "state", "forged", "digest", "torn"]))
    content = json.loads(kept[key])
    if how == "gone":
        del kept[key]
    elif how == "torn":
        kept[key] = kept[key][:-1]
    elif how == "state":
        content["state"] = "done" if content["state"] == "abandoned" else "abandoned"
    elif how == "digest":
        content = {**content, "digest": "", "reason": "nothing to see"}
    elif how == "to":
        content["to"], content["version"] = 77, 77
    else:
        content["reason"] = "nothing to see"
    if how not in ("gone", "torn"):
        kept[key] = json.dumps(content)
    if how == "forged":  # the editor knows how digests are made, but leaves the later ones
        content["digest"] = digest_of(next(m for m in read(kept) if key_of(m) == key))
        kept[key] = json.dumps(content)
    found = breaks(read(kept))
    number = int(key.partition(".")[2])
    assert found and any(f"record {n}" in found[0] for n in (number, number + 1)), found


def test_a_changed_last_record_is_found_too() -> None:
    log = play([("promote", 1, False), ("promote", 2, False)])
    assert breaks([log[0], replace(log[1], reason="better")]) == [
        "record 1 (promote of version 2) was changed after it was written"
    ]


def test_records_from_before_the_chain_are_read_and_guarded_by_the_first_that_is_chained() -> None:
    old = {"at": "2026-09-28", "action": "promote", "from": None, "to": 1, "by": "x", "reason": "y",
           "exam_digest": "", "previous": None, "state": "done"}  # fmt: skip
    before = read({"move.000000": json.dumps(old)})
    assert (before[0].version, before[0].digest) == (1, "")
    log = record(before, "promote", 2)
    assert breaks(log) == []
    edited = read({"move.000000": json.dumps({**old, "by": "z"})})
    assert "record 0 was changed" in breaks([*edited, log[1]])[0]


@pytest.mark.parametrize("torn", ["", "{", "[]", "7", '{"at": 1}', '{"action": "promote", "to": "x"}'])
def test_a_torn_record_is_said_to_be_and_counts_for_nothing(torn: str) -> None:
    log = play([("promote", 1, False), ("promote", 2, False)])
    found = read({**tags(log), "move.000002": torn, "other": "tag"})
    assert len(found) == 3 and found[2].state == "unreadable"
    assert succession(found, 2) == [1, 2]
    assert breaks(found)[0].startswith("record 2 cannot be read")
    assert breaks(record(found, "promote", 3)) == breaks(found), "it breaks nothing that is written later"


@given(st.text(max_size=3 * REASON_LIMIT), st.text(max_size=300))
def test_a_record_fits_into_its_tag_whatever_the_reason_and_comes_back_the_same(reason: str, by: str) -> None:
    (move,) = record([], "promote", 1, by=by, reason=reason)
    assert len(written(move)) <= TAG_LIMIT and written(move).encode()
    assert len(move.reason) <= REASON_LIMIT and move.reason.isprintable()
    assert read(tags([move])) == [move]


def test_a_reason_of_nothing_but_quotes_still_fits() -> None:
    (move,) = record([], "promote", 1, by='"' * 300, reason='"' * 3_000)
    assert len(written(move)) <= TAG_LIMIT
