"""How a seat changes hands, against a real MLflow server, and what a kill leaves behind."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from nightshift.errors import NoChampionError, RegistryError
from nightshift.registry import Registry
from nightshift.seats import Seat
from nightshift.settings import Settings
from nightshift.versions import PREVIOUS, PRODUCTION, REFERENCE
from tests.nightshift.conftest import aliases

pytestmark = pytest.mark.usefixtures("no_other_machine")


def test_a_promotion_moves_both_aliases_mirrors_the_stage_and_is_recorded(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second = submit(), submit()
    registry.promote(seat, first, by="the gate", reason="the seat was empty", exam_digest="d1")
    assert aliases(registry, seat) == {PRODUCTION: first}
    registry.promote(seat, second, by="the gate", reason="better", exam_digest="d2")
    assert aliases(registry, seat) == {PRODUCTION: second, PREVIOUS: first}
    champion = registry.champion(seat)
    assert champion is not None and champion.number == second
    assert champion.tags["stage"] == "Production" and champion.tags["in_production_since"]
    assert registry.get(seat, first).tags["stage"] == "Archived"
    one, two = registry.history(seat)
    assert (one["action"], one["from"], one["to"], one["exam_digest"]) == ("promote", None, first, "d1")
    assert (two["from"], two["to"], two["by"], two["reason"]) == (first, second, "the gate", "better")


def test_promoting_the_champion_again_changes_nothing(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second = submit(), submit()
    registry.promote(seat, first, by="me", reason="first")
    registry.promote(seat, second, by="me", reason="better")
    registry.promote(seat, second, by="me", reason="again")
    assert aliases(registry, seat) == {PRODUCTION: second, PREVIOUS: first}
    assert len(registry.history(seat)) == 2


def test_an_unknown_version_and_a_move_without_a_reason_are_refused_in_words(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first = submit()
    with pytest.raises(RegistryError, match=r"seat recommender has no version 99; the newest are: 1$"):
        registry.promote(seat, 99, by="me", reason="why not")
    with pytest.raises(RegistryError, match="needs a reason"):
        registry.promote(seat, first, by="me", reason="  ")
    assert registry.champion(seat) is None and registry.history(seat) == []


def test_a_rollback_restores_the_version_before_and_marks_the_one_that_lost_the_seat(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second = submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    registry.promote(seat, second, by="the gate", reason="better")
    assert registry.rollback(seat, to=None, by="mina", reason="sold-out items").number == first
    assert aliases(registry, seat) == {PRODUCTION: first}
    assert registry.get(seat, second).tags["rolled_back"] == "mina: sold-out items"
    assert registry.history(seat)[-1]["action"] == "rollback"
    with pytest.raises(NoChampionError, match="no earlier champion"):
        registry.rollback(seat, to=None, by="mina", reason="once more")
    registry.promote(seat, second, by="mina", reason="it was the catalogue after all", action="override")
    assert "rolled_back" not in registry.get(seat, second).tags


def test_a_second_rollback_goes_further_back_and_never_forward_again(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    versions = [submit() for _ in range(3)]
    for version in versions:
        registry.promote(seat, version, by="the gate", reason="better")
    assert registry.rollback(seat, to=None, by="mina", reason="bad").number == versions[1]
    assert registry.rollback(seat, to=None, by="mina", reason="still bad").number == versions[0]


def test_a_rollback_can_name_its_version_and_says_when_there_is_nothing_to_do(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    versions = [submit() for _ in range(3)]
    for version in versions:
        registry.promote(seat, version, by="the gate", reason="better")
    assert registry.rollback(seat, to=versions[0], by="mina", reason="the old one").number == versions[0]
    with pytest.raises(RegistryError, match=f"version {versions[0]} holds the seat already"):
        registry.rollback(seat, to=versions[0], by="mina", reason="the old one")


def test_a_rollback_of_an_empty_seat_is_refused(registry: Registry, seat: Seat) -> None:
    with pytest.raises(NoChampionError, match="no earlier champion"):
        registry.rollback(seat, to=None, by="mina", reason="bad")


class PowerCut(Exception):
    pass


class FailingAfter:
    """A client whose writes stop after `budget` calls, as if the process had been killed there."""

    def __init__(self, client: Any, budget: int) -> None:
        self._client, self._budget = client, budget

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not name.startswith(("set_", "delete_", "update_")):
            return method

        def write(*args: Any, **kwargs: Any) -> Any:
            if self._budget == 0:
                raise PowerCut
            self._budget -= 1
            return method(*args, **kwargs)

        return write


def killed_everywhere(
    registry: Registry, settings: Settings, move: Callable[[Registry], object], then: Callable[[], None]
) -> int:
    """Makes the move again and again, cut off one write later each time; `then` looks, and lines up again.

    Returns how many writes the whole move has.
    """
    for writes in range(40):
        dying = Registry(settings)
        dying.client = FailingAfter(registry.client, writes)  # type: ignore[assignment]
        try:
            move(dying)
        except PowerCut:
            then()
        else:
            return writes
    raise AssertionError("the move does not end")


@pytest.mark.parametrize("action", ["override", "rollback"])
def test_a_kill_between_any_two_writes_leaves_a_champion_and_the_next_move_sets_it_right(
    registry: Registry, seat: Seat, submit: Callable[..., int], mlflow_server: Settings, action: str
) -> None:
    first, second, third = submit(), submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    registry.promote(seat, second, by="the gate", reason="better")
    registry.freeze(seat, second, by="mina", reason="a good one")
    target, yardstick = {"override": (third, second), "rollback": (first, first)}[action]

    def move(through: Registry) -> None:
        if action == "override":
            through.promote(seat, third, by="mina", reason="better still", action="override")
        else:
            through.rollback(seat, to=None, by="mina", reason="bad")

    def look() -> None:
        champion, reference = registry.champion(seat), registry.reference(seat)
        assert champion is not None and champion.number in (second, target)
        assert reference is not None
        assert reference.number == (yardstick if champion.number == target else second)
        assert registry.history(seat)[-1]["to"] == champion.number, "the history tells who sits there"
        registry.settle(seat)
        assert registry.audit(seat)[1] == []
        held = registry.client.get_registered_model(seat.registered_model).aliases
        assert int(held[REFERENCE]) == reference.number
        if champion.number == second:
            assert aliases(registry, seat) == {PRODUCTION: second, PREVIOUS: first}
            return
        tags = registry.get(seat, target).tags
        assert tags["stage"] == "Production" and registry.get(seat, second).tags["stage"] == "Archived"
        if action == "override":
            assert (tags["review"], tags["reviewed_by"]) == ("overridden", "mina")
            registry.rollback(seat, to=None, by="test", reason="try the next kill")
        else:
            assert registry.get(seat, second).tags["rolled_back"] == "mina: bad"
            registry.promote(seat, second, by="test", reason="line up again", action="override")
            registry.freeze(seat, second, by="test", reason="line up again")

    assert killed_everywhere(registry, mlflow_server, move, look) >= 9
    assert registry.history(seat)[-1]["to"] == target


def test_the_first_champion_is_frozen_by_the_move_that_seats_it_wherever_that_is_killed(
    seat: Seat, registry: Registry, mlflow_server: Settings, packaged: dict[str, tuple[str, str]]
) -> None:
    run_id, uri = packaged["good"]
    seats: list[Seat] = []

    def seat_the_first(through: Registry) -> None:
        seats.append(replace(seat, registered_model=f"{seat.registered_model}-{len(seats)}"))
        registry.submit(seats[-1], run_id=run_id, model_uri=uri, tags={})
        through.promote(seats[-1], 1, by="the gate", reason="empty", expected=None)

    def look() -> None:
        registry.settle(seats[-1])
        champion, reference = registry.champion(seats[-1]), registry.reference(seats[-1])
        assert champion == reference
        registry.promote(seats[-1], 1, by="the gate", reason="empty", expected=None)
        assert [move["to"] for move in registry.history(seats[-1])] == [1]
        frozen = registry.client.get_registered_model(seats[-1].registered_model).aliases[REFERENCE]
        assert int(frozen) == 1

    killed_everywhere(registry, mlflow_server, seat_the_first, look)
    assert registry.reference(seats[-1]) == registry.champion(seats[-1])


@pytest.mark.parametrize("action", ["hold", "reject", "freeze"])
def test_a_decision_that_leaves_the_seat_alone_is_finished_by_the_next_if_it_is_killed(
    registry: Registry, seat: Seat, submit: Callable[..., int], mlflow_server: Settings, action: str
) -> None:
    first, second = submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    registry.promote(seat, second, by="the gate", reason="better")
    subjects: list[int] = []

    def decide(through: Registry) -> None:
        subjects.append(submit(stage="None"))
        more = {"exam_digest": "d3"} if action == "hold" else {}
        getattr(through, action)(seat, subjects[-1], by="mina", reason="so", **more)

    def look() -> None:
        assert aliases(registry, seat) == {PRODUCTION: second, PREVIOUS: first}
        begun = registry._state(seat).unfinished
        registry.settle(seat)
        assert begun is None or registry.history(seat)[-1]["version"] == subjects[-1]
        assert registry.audit(seat)[1] == []
        last = registry.history(seat)[-1]
        if last["version"] == subjects[-1]:
            check(last)

    def check(last: dict[str, Any]) -> None:
        assert (last["action"], last["from"], last["to"], last["by"]) == (action, second, second, "mina")
        tags = registry.get(seat, subjects[-1]).tags
        if action == "freeze":
            reference = registry.reference(seat)
            assert reference is not None and reference.number == last["reference"] == subjects[-1]
        else:
            assert tags["stage"] == {"hold": "Staging", "reject": "Archived"}[action]
        if action == "reject":
            assert tags["rejected"] == "mina: so" and tags["review_reason"] == "so"

    assert killed_everywhere(registry, mlflow_server, decide, look) >= 4
    check(registry.history(seat)[-1])
    assert registry.rollback(seat, to=None, by="mina", reason="bad").number == first


@pytest.mark.parametrize(
    ("action", "writes", "gone"),
    [
        ("hold", 2, "subject"), ("freeze", 3, "subject"),
        ("override", 3, "previous"), ("override", 4, "reference"), ("rollback", 4, "source"),
    ],
)  # fmt: skip
def test_a_version_deleted_after_a_kill_does_not_jam_the_seat(
    registry: Registry,
    seat: Seat,
    submit: Callable[..., int],
    mlflow_server: Settings,
    action: str,
    writes: int,
    gone: str,
) -> None:
    yardstick, before, champion, candidate, spare = [submit() for _ in range(5)]
    for version in (yardstick, before, champion):
        registry.promote(seat, version, by="the gate", reason="better")
    dying = Registry(mlflow_server)
    dying.client = FailingAfter(registry.client, writes)  # type: ignore[assignment]
    decide: dict[str, Callable[[], object]] = {
        "override": lambda: dying.promote(seat, candidate, by="mina", reason="so", action="override"),
        "rollback": lambda: dying.rollback(seat, to=None, by="mina", reason="so"),
        "hold": lambda: dying.hold(seat, candidate, by="mina", reason="so", exam_digest="d"),
        "freeze": lambda: dying.freeze(seat, candidate, by="mina", reason="so"),
    }
    with pytest.raises(PowerCut):
        decide[action]()
    roles = {"subject": candidate, "source": champion, "previous": before, "reference": yardstick}
    registry.client.delete_model_version(seat.registered_model, str(roles[gone]))

    registry.settle(seat)
    assert registry._state(seat).unfinished is None and registry.audit(seat)[1] == []
    took_place = (action, writes) == ("override", 4)
    assert (registry.history(seat)[-1]["version"] == candidate) == took_place
    reference = registry.reference(seat)
    assert reference is not None and reference.number != roles[gone]
    registry.promote(seat, spare, by="the gate", reason="better still")
    back = registry.rollback(seat, to=None, by="mina", reason="bad").number
    assert back != roles[gone] and aliases(registry, seat)[PRODUCTION] == back


@pytest.mark.parametrize("kills", [1, 2, 3])  # after the claim, the record, and `previous`
def test_a_move_that_was_killed_before_the_alias_and_made_again_is_one_move(
    registry: Registry, seat: Seat, submit: Callable[..., int], mlflow_server: Settings, kills: int
) -> None:
    first, second, third = submit(), submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    registry.promote(seat, second, by="the gate", reason="better")
    dying = Registry(mlflow_server)
    dying.client = FailingAfter(registry.client, kills)  # type: ignore[assignment]
    with pytest.raises(PowerCut):
        dying.promote(seat, third, by="the gate", reason="better still")
    registry.promote(seat, third, by="the gate", reason="better still")
    assert aliases(registry, seat) == {PRODUCTION: third, PREVIOUS: second}
    assert [move["to"] for move in registry.history(seat)] == [first, second, third]


def test_a_champion_seated_by_hand_in_mlflow_is_where_a_rollback_returns(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second, third = submit(), submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    registry.client.set_registered_model_alias(seat.registered_model, PRODUCTION, str(second))
    registry.promote(seat, third, by="the gate", reason="better")
    assert registry.rollback(seat, to=None, by="mina", reason="bad").number == second


def test_long_reasons_are_cut_and_say_so(registry: Registry, seat: Seat, submit: Callable[..., int]) -> None:
    first = submit()
    registry.promote(seat, first, by="mina", reason="곱하기" * 3_000)
    assert registry.history(seat)[0]["reason"].endswith("…")
    registry.annotate(seat, first, tags={"verdict_reason": "x" * 20_000}, description="**so**")
    assert registry.get(seat, first).description == "**so**"


# --- the reference, holds and rejections -----------------------------------------------------------------


def test_a_state_without_a_reference_takes_its_first_champion_that_is_still_there_and_not_withdrawn(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    assert registry.reference(seat) is None
    versions = [submit() for _ in range(4)]
    for version in versions[:3]:
        registry.promote(seat, version, by="the gate", reason="better")
    registry.client.delete_registered_model_alias(seat.registered_model, REFERENCE)
    registry.client.delete_model_version(seat.registered_model, str(versions[0]))
    reference = registry.reference(seat)
    assert reference is not None and reference.number == versions[1]
    registry.promote(seat, versions[3], by="the gate", reason="better")
    held = registry.client.get_registered_model(seat.registered_model).aliases
    assert int(held[REFERENCE]) == versions[1]


def test_a_rejected_version_is_no_champion_no_reference_and_no_way_back(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second, third, spare = [submit() for _ in range(4)]
    for version in (first, second, third):
        registry.promote(seat, version, by="the gate", reason="better")
    with pytest.raises(RegistryError, match=f"version {third} holds the seat; roll it back instead"):
        registry.reject(seat, third, by="mina", reason="bad")
    with pytest.raises(RegistryError, match=f"version {first} is the reference; freeze another"):
        registry.reject(seat, first, by="mina", reason="bad")
    registry.reject(seat, second, by="mina", reason="bad")
    assert aliases(registry, seat) == {PRODUCTION: third, PREVIOUS: first}
    with pytest.raises(RegistryError, match=rf"version {second} was rejected already \(mina: bad\)"):
        registry.reject(seat, second, by="mina", reason="bad")
    with pytest.raises(RegistryError, match=rf"version {second} was withdrawn \(mina: bad\)"):
        registry.freeze(seat, second, by="mina", reason="good")
    instead = f"nothing was changed; to seat it all the same: nightshift override recommender/{second} "
    with pytest.raises(RegistryError, match=rf"was withdrawn \(mina: bad\): run the gate again; {instead}"):
        registry.promote(seat, second, by="the gate", reason="better")
    with pytest.raises(RegistryError, match=rf"version {second} was rejected \(mina: bad\): .*; {instead}"):
        registry.rollback(seat, to=second, by="mina", reason="worse")
    with pytest.raises(RegistryError, match=rf"was withdrawn \(mina: bad\): run the gate again; {instead}"):
        registry.hold(seat, second, by="the gate", reason="rejected during its exam", exam_digest="d")
    with pytest.raises(RegistryError, match=f"version {first} is the reference already"):
        registry.freeze(seat, first, by="mina", reason="good")
    registry.freeze(seat, spare, by="mina", reason="good")
    assert registry.rollback(seat, to=None, by="mina", reason="worse").number == first
    registry.promote(seat, second, by="mina", reason="it was the catalogue", action="override")
    assert "rejected" not in registry.get(seat, second).tags
    history = registry.history(seat)
    assert [move["action"] for move in history[3:]] == ["reject", "freeze", "rollback", "override"]
    assert all(before["to"] == after["from"] for before, after in itertools.pairwise(history))


@pytest.mark.parametrize("action", ["promote", "approve"])
def test_a_version_that_was_seated_and_rolled_back_during_its_exam_is_not_seated_again(
    registry: Registry, seat: Seat, submit: Callable[..., int], action: Literal["promote", "approve"]
) -> None:
    first, harmful = submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    registry.promote(seat, harmful, by="mina", reason="in a hurry", action="override")
    registry.rollback(seat, to=None, by="mina", reason="sold-out items")
    with pytest.raises(RegistryError, match=rf"version {harmful} was withdrawn \(mina: sold-out items\)"):
        registry.promote(seat, harmful, by="the gate", reason="better", expected=first, action=action)
    assert aliases(registry, seat) == {PRODUCTION: first}
    assert registry.get(seat, harmful).tags["rolled_back"] == "mina: sold-out items"


def test_a_hold_is_recorded_once_for_each_exam(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    version = submit()
    for digest in ("d1", "d1", "d2"):
        registry.hold(seat, version, by="the gate", reason="the policy wants a yes", exam_digest=digest)
    assert [(move["action"], move["exam_digest"]) for move in registry.history(seat)] == [
        ("hold", "d1"),
        ("hold", "d2"),
    ]
    assert registry.get(seat, version).tags["stage"] == "Staging"
    assert registry.champion(seat) is None and registry.reference(seat) is None


def test_a_rollback_that_was_decided_about_another_champion_is_refused(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    versions = [submit() for _ in range(3)]
    for version in versions:
        registry.promote(seat, version, by="the gate", reason="better")
    with pytest.raises(
        RegistryError, match=rf"\(was v{versions[1]}, is v{versions[2]}\); nothing was changed"
    ):
        registry.rollback(seat, to=None, by="live outcomes", reason="worse", expected=versions[1])
    assert aliases(registry, seat)[PRODUCTION] == versions[2]
    registry.rollback(seat, to=None, by="live outcomes", reason="worse", expected=versions[2])
    assert aliases(registry, seat)[PRODUCTION] == versions[1]


def test_a_record_that_was_edited_in_mlflow_is_named_and_the_history_goes_on(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second = submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    key = "move.000000"
    text = registry.client.get_registered_model(seat.registered_model).tags[key]
    assert registry.audit(seat)[1] == []
    registry.client.set_registered_model_tag(
        seat.registered_model, key, text.replace("the gate", "somebody else")
    )
    registry.promote(seat, second, by="the gate", reason="better")
    rows, wrong = registry.audit(seat)
    assert wrong == [f"record 0 (promote of version {first}) was changed after it was written"]
    assert [row["to"] for row in rows] == [first, second]


# --- two promoters ---------------------------------------------------------------------------------------


PROMOTE = """
import sys, time
from dataclasses import replace
from pathlib import Path
from nightshift.registry import Registry
from nightshift.seats import RECOMMENDER
from nightshift.settings import settings
name, folder, me, other, *versions = sys.argv[1:]
registry, seat = Registry(settings()), replace(RECOMMENDER, registered_model=name)
registry.champion(seat)
Path(folder, me).touch()
while not Path(folder, other).exists():
    time.sleep(0.001)
for version in versions:
    registry.promote(seat, int(version), by=me, reason="at once")
"""


def test_two_processes_that_promote_at_once_take_turns_and_the_history_has_every_move(
    registry: Registry,
    seat: Seat,
    submit: Callable[..., int],
    mlflow_server: Settings,
    tmp_path: Path,
    at_once: Callable[..., list[str]],
) -> None:
    first, *others = [submit() for _ in range(5)]
    registry.promote(seat, first, by="test", reason="first")
    mine, yours = [str(n) for n in others[::2]], [str(n) for n in others[1::2]]
    common = [seat.registered_model, str(tmp_path)]
    seen: list[int | None] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            champion = registry.champion(seat)
            seen.append(champion.number if champion else None)
            over.wait(0.02)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            at_once(mlflow_server, PROMOTE, [[*common, "a", "b", *mine], [*common, "b", "a", *yours]])
        finally:
            over.set()
        reading.result()
    assert len(seen) > 10 and None not in seen, "the seat is never empty while it changes hands"
    moves = registry.history(seat)
    assert sorted(move["to"] for move in moves) == [first, *others] and registry.audit(seat)[1] == []
    assert all(before["to"] == after["from"] for before, after in itertools.pairwise(moves))
    assert aliases(registry, seat) == {PRODUCTION: moves[-1]["to"], PREVIOUS: moves[-2]["to"]}
    stages = {v.number: v.tags["stage"] for v in registry.versions(seat)}
    assert [number for number, stage in stages.items() if stage == "Production"] == [moves[-1]["to"]]


def test_of_two_that_beat_the_same_champion_at_once_one_is_refused(
    registry: Registry, seat: Seat, submit: Callable[..., int], mlflow_server: Settings
) -> None:
    first, *winners = submit(), submit(), submit()
    registry.promote(seat, first, by="test", reason="first")
    together = threading.Barrier(2)

    def promote(version: int) -> str:
        mine = Registry(mlflow_server)
        together.wait(30)
        try:
            mine.promote(seat, version, by="the gate", reason="better", expected=first)
        except RegistryError as error:
            return str(error)
        return "seated"

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(promote, winners))
    won = winners[said.index("seated")]
    lost = said[1 - said.index("seated")]
    assert f"the champion changed during the exam (was v{first}, is v{won}); run the gate again" in lost
    assert [move["to"] for move in registry.history(seat)] == [first, won]
    assert aliases(registry, seat) == {PRODUCTION: won, PREVIOUS: first}


def test_a_promotion_over_another_champion_than_the_expected_is_refused(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second, third = submit(), submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty", expected=None)
    with pytest.raises(RegistryError, match=rf"\(was nobody, is v{first}\); run the gate again"):
        registry.promote(seat, second, by="the gate", reason="empty", expected=None)
    registry.promote(seat, second, by="the gate", reason="better", expected=first)
    registry.rollback(seat, to=None, by="mina", reason="sold-out items")
    with pytest.raises(RegistryError, match=rf"\(was v{second}, is v{first}\)"):
        registry.promote(seat, third, by="the gate", reason="better", expected=second)
    assert aliases(registry, seat) == {PRODUCTION: first} and len(registry.history(seat)) == 3
    registry.promote(seat, first, by="the gate", reason="a rerun", expected=second)  # it sits there already
    assert len(registry.history(seat)) == 3


def test_settling_waits_for_a_move_that_is_under_way_and_does_not_undo_it(
    registry: Registry, seat: Seat, submit: Callable[..., int], mlflow_server: Settings
) -> None:
    first, second = submit(), submit()
    registry.promote(seat, first, by="test", reason="first")
    slow, reached, go_on = Registry(mlflow_server), threading.Event(), threading.Event()
    set_alias = slow._set_alias

    def paused(*arguments: Any) -> None:
        reached.set()
        assert go_on.wait(30)
        set_alias(*arguments)

    slow._set_alias = paused  # type: ignore[method-assign, assignment]
    moving = threading.Thread(target=slow.promote, args=(seat, second), kwargs={"by": "b", "reason": "r"})
    settling = threading.Thread(target=registry.settle, args=(seat,))
    moving.start()
    assert reached.wait(30)
    settling.start()
    settling.join(1)
    assert settling.is_alive()
    go_on.set()
    moving.join(30)
    settling.join(30)
    assert aliases(registry, seat) == {PRODUCTION: second, PREVIOUS: first}
    assert [move["to"] for move in registry.history(seat)] == [first, second]
