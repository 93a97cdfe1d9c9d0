"""What a reviewer decides, against a real MLflow server: who may be seated, what is refused, and in which words."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from nightshift import review
from nightshift.errors import PackageError, RegistryError, SettingsError
from nightshift.registry import Registry
from nightshift.seats import FORECASTER, Seat
from nightshift.versions import PREVIOUS, PRODUCTION
from tests.nightshift.conftest import aliases

pytestmark = pytest.mark.usefixtures("no_other_machine")


@pytest.fixture
def held(registry: Registry, seat: Seat, submit: Callable[..., int]) -> Callable[..., int]:
    """A version that the gate put on hold, examined against `against`."""

    def _held(against: int | str, night: str = "2026-09-28", which: str = "good", **more: str) -> int:
        number = submit(which, night=night, **more)
        tags = {"verdict": "hold", "verdict_reason": "asked", "exam_digest": f"d{number}"}
        registry.annotate(seat, number, tags={**tags, "examined_against": str(against)})
        registry.hold(seat, number, by="the gate", reason="asked", exam_digest=f"d{number}")
        return number

    return _held


def last(registry: Registry, seat: Seat) -> dict[str, Any]:
    return registry.history(seat)[-1]


def test_a_version_on_hold_is_seated_by_a_yes_with_its_exam_and_its_reviewer(
    registry: Registry, seat: Seat, held: Callable[..., int]
) -> None:
    first = held("nobody")
    told = review.approve(registry, seat, first, by="mina", reason="looks right")
    assert told == f"recommender/{first} serves within seconds; the seat was empty."
    second = held(first, "2026-09-29")
    told = review.approve(registry, seat, second, by="mina", reason="better")
    assert f"recommender/{second} serves within seconds, in place of version {first}." in told
    assert 'Undo: nightshift rollback recommender --reason "…"' in told
    assert aliases(registry, seat) == {PRODUCTION: second, PREVIOUS: first}
    record, tags = last(registry, seat), registry.get(seat, second).tags
    assert (record["action"], record["by"], record["exam_digest"]) == ("approve", "mina", f"d{second}")
    assert (tags["review"], tags["review_reason"], tags["reviewed_by"]) == ("approved", "better", "mina")


def test_a_yes_counts_only_for_what_the_gate_asked(
    registry: Registry, seat: Seat, submit: Callable[..., int], held: Callable[..., int]
) -> None:
    first, unexamined, kept, blind = submit(), submit(), submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    registry.annotate(seat, kept, tags={"verdict": "keep", "verdict_reason": "no better"})
    registry.annotate(seat, blind, tags={"verdict": "hold"})
    stale, older, newer = held(99), held(first, "2026-09-28"), held(first, "2026-09-29")
    rejected = held(first, "2026-09-30")
    registry.reject(seat, rejected, by="jun", reason="odd")
    for number, said in (
        (first, f"recommender/{first} holds the seat already"),
        (unexamined, "was not examined yet: run `nightshift gate recommender`"),
        (kept, r'is not on hold: the gate said "keep" \(no better\)'),
        (blind, f"was examined against nobody knows whom, and version {first} holds the seat now"),
        (stale, f"was examined against version 99, and version {first} holds the seat now"),
        (older, f"version {rejected} of the later night 2026-09-30 was examined since"),
        (rejected, "was rejected by jun"),
    ):
        with pytest.raises(RegistryError, match=said) as caught:
            review.approve(registry, seat, number, by="mina", reason="yes")
        assert number == first or f"nightshift override recommender/{number} --reason" in str(caught.value)
    with pytest.raises(RegistryError, match="the later night 2026-09-30"):
        review.approve(registry, seat, newer, by="mina", reason="yes")
    assert aliases(registry, seat) == {PRODUCTION: first}


def test_a_newer_candidate_of_the_night_or_another_reference_makes_a_hold_stale_and_a_rival_does_not(
    registry: Registry, seat: Seat, submit: Callable[..., int], held: Callable[..., int]
) -> None:
    first, spare = submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    older, newer = held(first, family="ncf"), held(first, family="ncf", examined_reference=str(first))
    rival = submit(night="2026-09-28", family="als")
    registry.annotate(seat, rival, tags={"verdict": "keep"})
    with pytest.raises(RegistryError, match=f"version {newer} of the same night 2026-09-28 and family was"):
        review.approve(registry, seat, older, by="mina", reason="yes")
    registry.freeze(seat, spare, by="mina", reason="a good one")
    with pytest.raises(RegistryError, match=f"against version {first} as the reference, .* version {spare}"):
        review.approve(registry, seat, newer, by="mina", reason="yes")
    registry.freeze(seat, first, by="mina", reason="back")
    assert "serves within seconds" in review.approve(registry, seat, newer, by="mina", reason="yes")


def test_a_yes_to_a_version_that_cannot_be_loaded_moves_nobody(
    registry: Registry, seat: Seat, submit: Callable[..., int], held: Callable[..., int]
) -> None:
    first = submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    torn = held(first, which="torn")
    with pytest.raises(PackageError, match=f"version {torn} cannot be loaded"):
        review.approve(registry, seat, torn, by="mina", reason="yes")
    assert aliases(registry, seat) == {PRODUCTION: first}


def test_an_override_tells_what_the_gate_had_said_and_needs_a_model_that_loads(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, kept, torn, new = submit(), submit(), submit("torn"), submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    registry.annotate(
        seat, kept, tags={"verdict": "keep", "verdict_reason": "No better.", "exam_digest": "d"},
        description="**Not promoted.** No better.",
    )  # fmt: skip
    told = review.override(registry, seat, kept, by="mina", reason="a hot fix")
    assert told.endswith('The gate had said "keep": No better.')
    first_line, gates = registry.get(seat, kept).description.split("\n\n")
    assert (
        first_line.startswith("**Seated against the gate's verdict by mina, 20") and "a hot fix" in first_line
    )
    assert gates == "**Not promoted.** No better.", (
        "the page says what came after the verdict, and keeps the verdict"
    )
    record = last(registry, seat)
    assert (record["action"], record["from"], record["to"], record["reason"]) == (
        "override", first, kept, "a hot fix",
    )  # fmt: skip
    with pytest.raises(PackageError, match=f"version {torn} cannot be loaded"):
        review.override(registry, seat, torn, by="mina", reason="a hot fix")
    with pytest.raises(RegistryError, match="holds the seat already"):
        review.override(registry, seat, kept, by="mina", reason="again")
    review.reject(registry, seat, new, by="jun", reason="odd")
    told = review.override(registry, seat, new, by="mina", reason="not odd")
    assert "The gate had not examined it. It had been withdrawn (jun: odd)." in told
    assert aliases(registry, seat) == {PRODUCTION: new, PREVIOUS: kept}
    assert registry.get(seat, new).tags["review"] == "overridden"


def test_a_rejection_says_who_goes_on_serving(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second = submit(), submit()
    told = review.reject(registry, seat, second, by="mina", reason="odd")
    assert told.startswith(f"recommender/{second} is rejected; nobody sits in the seat.")
    registry.promote(seat, first, by="the gate", reason="empty")
    with pytest.raises(RegistryError, match="roll it back instead"):
        review.reject(registry, seat, first, by="mina", reason="odd")


def test_a_rollback_says_what_serves_how_to_undo_it_and_that_the_reference_went_along(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second, torn = submit(), submit(), submit("torn")
    for version in (first, second):
        registry.promote(seat, version, by="the gate", reason="better")
    told = review.freeze(registry, seat, second, by="mina", reason="a good one")
    assert told.startswith(f"recommender/{second} is the reference now; who serves has not changed.")
    assert f"Undo: nightshift freeze recommender/{first}" in told
    with pytest.raises(PackageError, match=f"version {torn} cannot be loaded"):
        review.freeze(registry, seat, torn, by="mina", reason="a good one")
    with pytest.raises(PackageError, match=f"version {torn} cannot be loaded"):
        review.rollback(registry, seat, torn, by="mina", reason="bad")
    told = review.rollback(registry, seat, None, by="mina", reason="bad")
    assert told.startswith(f"recommender/{first} serves again within seconds, and the gate will not seat")
    assert f"Undo: nightshift override recommender/{second}" in told
    assert told.endswith(f"Version {second} was also the reference; that is version {first} now.")
    assert last(registry, seat)["reference"] == first


@pytest.mark.parametrize("decide", [review.approve, review.override, review.reject, review.freeze])
def test_a_decision_without_a_reason_or_with_an_essay_is_refused(
    registry: Registry, seat: Seat, decide: Callable[..., str]
) -> None:
    for reason, said in ((" \n", "needs a reason"), ("x" * 2_001, "has 2,001 characters; 2,000 are kept")):
        with pytest.raises(SettingsError, match=said):
            decide(registry, seat, 1, by="mina", reason=reason)


def test_a_version_is_named_with_its_seat_or_alone_where_that_is_clear(
    registry: Registry, seat: Seat, submit: Callable[..., int], packaged: dict[str, tuple[str, str]]
) -> None:
    other = replace(FORECASTER, registered_model=f"seat-{uuid.uuid4().hex[:8]}")
    seats = {"recommender": seat, "forecaster": other}
    run_id, uri = packaged["good"]
    registry.submit(other, run_id=run_id, model_uri=uri, tags={})
    first, second = submit(), submit()
    for text in ("recommender/2", "recommender/v2", " 2", "v2"):
        found, version = review.find(registry, text, seats)
        assert (found, version.number) == (seat, second)
    with pytest.raises(SettingsError, match=f"version {first}: say recommender/1 or forecaster/1"):
        review.find(registry, "1", seats)
    for text, said in (("barista/1", "the seats are recommender, forecaster"), ("latest", "names no version"),
                       ("7", "no seat has a version 7"), ("forecaster/7", "the newest are: 1")):  # fmt: skip
        with pytest.raises((SettingsError, RegistryError), match=said):
            review.find(registry, text, seats)
