"""The one engine: adapters come and go without the base being opened again, and what happens to answers meanwhile."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nightshift.errors import BaseModelError
from nightshift.language.adapters import Adapter
from nightshift.language.bases import BaseRef
from nightshift.language.engine import Engine
from nightshift.seats import LanguageModel
from nightshift.settings import PROJECT, Settings
from serving.champion import Bundle
from serving.coach import host as hosting
from serving.coach.host import Answer, Host, Later, Seated
from tests.serving.conftest import wait_until
from tests.serving.language_base import adapter_of, build_base

HARD = [{"role": "user", "content": "요즘 일이 힘들어요."}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return build_base(tmp_path_factory.mktemp("host") / "tiny", steps=40)


class House:
    """A host and who is champion in it, as `Champion` would say."""

    def __init__(self, config: Settings) -> None:
        self.bundle: Bundle[Seated] | None = None
        self.host = Host(config, lambda: self.bundle)
        self.host.start()

    def promote(self, number: int, adapter: LanguageModel) -> Seated:
        version: Any = SimpleNamespace(number=number)
        seated = self.host.seat(adapter)
        self.bundle = Bundle(seated, version, {}, datetime.now(UTC))
        self.host.swapped()
        return seated

    def rooms(self) -> dict[BaseRef, Any]:
        self.host._worker.submit(lambda: None).result()  # what was asked for before is done
        return dict(self.host._rooms)


@pytest.fixture
def house(base: Settings) -> Iterator[House]:
    house = House(base)
    yield house
    house.host.stop()


async def said(answer: Answer) -> str:
    await answer.begin()
    return "".join([piece async for piece in answer.pieces()])


async def said_to(house: House) -> str:
    return await said(house.host.answer(HARD, 20))


def test_another_adapter_joins_the_opened_base_and_the_old_one_leaves(house: House, base: Settings) -> None:
    first = house.promote(1, adapter_of(base, 1))
    (room,) = house.rooms().values()
    second = house.promote(2, adapter_of(base, 2))
    (again,) = house.rooms().values()
    assert again.engine is room.engine and again.engine.names == {second.name} != {first.name}


def test_an_answer_under_way_ends_as_it_began_and_the_next_is_the_new_champions(
    house: House, base: Settings
) -> None:
    house.promote(1, adapter_of(base, 1))

    async def swap() -> tuple[Answer, str, str, Answer]:
        alone = await said(house.host.answer(HARD, 60))
        under_way = house.host.answer(HARD, 60)
        await under_way.begin()
        await asyncio.to_thread(house.promote, 2, adapter_of(base, 2))
        rest = "".join([piece async for piece in under_way.pieces()])
        later = house.host.answer(HARD, 4)
        await said(later)
        return under_way, alone, rest, later

    under_way, alone, rest, later = asyncio.run(swap())
    assert (under_way.version, rest) == ("1", alone) and later.version == "2"


def test_a_champion_with_another_base_has_it_opened_and_the_old_one_closed(
    house: House, base: Settings
) -> None:
    house.promote(1, good := adapter_of(base, 1))
    other = elsewhere(good)
    house.promote(2, other)
    assert [ref.name for ref in house.rooms()] == [other.base]


def elsewhere(adapter: Adapter) -> Adapter:
    """An adapter of the same base by another name, which makes it another one."""
    path = Path(adapter.base)
    return replace(adapter, base=f"{path.parent}/./{path.name}")


def broken(adapter: Adapter) -> Adapter:
    return replace(adapter, weights={key: value * float("nan") for key, value in adapter.weights.items()})


@pytest.fixture(params=["cpu", "cuda"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the host thinks that models run: on a card one base has to go before another comes."""
    monkeypatch.setattr(hosting, "device_of", lambda _: SimpleNamespace(type=request.param))
    return str(request.param)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """The engines that were opened, in order."""
    engines: list[Engine] = []

    class Listed(Engine):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            engines.append(self)

    monkeypatch.setattr(hosting, "Engine", Listed)
    return engines


def test_a_version_of_another_base_that_fails_leaves_the_champion_answering_and_its_base_is_closed(
    house: House, base: Settings, kind: str, opened: list[Engine]
) -> None:
    seated = house.promote(1, good := adapter_of(base, 1))
    before = asyncio.run(said_to(house))
    with pytest.raises(BaseModelError, match="finite"):
        house.host.seat(broken(elsewhere(good)))
    ((ref, room),) = house.rooms().items()
    assert ref == seated.ref and room.engine.names == {seated.name}
    assert asyncio.run(said_to(house)) == before and house.host.space is room.space
    assert [engine for engine in opened if getattr(engine, "base", None) is not None] == [room.engine]
    assert len(opened) == (2 if kind == "cpu" else 3)


def test_a_base_whose_texts_cannot_be_read_does_not_stay_open(
    house: House, base: Settings, opened: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    house.promote(1, good := adapter_of(base, 1))
    of = hosting.Space.of

    def fails(name: str, hidden: Any) -> Any:
        if "/./" in name:
            raise BaseModelError("no states")
        return of(name, hidden)

    monkeypatch.setattr(hosting.Space, "of", fails)
    with pytest.raises(BaseModelError, match="no states"):
        house.host.seat(elsewhere(good))
    (room,) = house.rooms().values()
    assert [engine for engine in opened if engine.base is not None] == [room.engine]


def test_tidying_up_after_one_version_spares_the_base_of_the_next(house: House, base: Settings) -> None:
    house.promote(1, good := adapter_of(base, 1))
    other, go = elsewhere(good), threading.Event()
    house.host._worker.submit(go.wait)  # as an answer under way
    house.host.swapped()
    with ThreadPoolExecutor(1) as pool:
        seating = pool.submit(house.host.seat, other)
        wait_until(lambda: len(house.host._rooms) == 2, 60)
        go.set()
        assert seating.result().adapter is other


@pytest.mark.parametrize("wrong", ["tokenizer", "shape", "finite", "base"])
def test_what_cannot_be_seated_leaves_the_champion_as_it_was(
    house: House, base: Settings, wrong: str
) -> None:
    seated = house.promote(1, good := adapter_of(base, 1))
    bad = {
        "tokenizer": replace(good, tokenizer_digest="0"),
        "shape": replace(good, lora={**good.lora, "r": 3}),
        "finite": broken(good),
        "base": Adapter("/nowhere", "", good.tokenizer_digest),
    }[wrong]
    with pytest.raises(BaseModelError):
        house.host.seat(bad)
    (room,) = house.rooms().values()
    assert room.engine.names == {seated.name}
    assert asyncio.run(house.host.ask(lambda stage: stage.version)) == "1"


def test_the_line_is_bounded_and_free_again_when_clients_leave(
    house: House, base: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.promote(1, adapter_of(base, 1))

    async def crowd() -> None:
        answers = [house.host.answer(HARD, 500) for _ in range(hosting.MOST_WAITING + 1)]
        with pytest.raises(Later, match="busy"):
            house.host.answer(HARD, 1)
        for answer in answers:
            answer.hang_up()
        await asyncio.wait_for(asyncio.gather(*(said(answer) for answer in answers)), 20)
        await asyncio.sleep(0.1)
        assert await said(house.host.answer(HARD, 1)) is not None

    asyncio.run(crowd())


def test_a_client_that_hangs_up_in_line_gives_its_place_back_at_once(house: House, base: Settings) -> None:
    house.promote(1, adapter_of(base, 1))

    async def crowd() -> None:
        go = threading.Event()
        house.host._worker.submit(go.wait)  # as an answer under way
        waiting = [house.host.answer(HARD, 4) for _ in range(hosting.MOST_WAITING + 1)]
        with pytest.raises(Later, match="busy"):
            house.host.answer(HARD, 4)
        waiting[3].hang_up()
        patient = house.host.answer(HARD, 4)
        go.set()
        told = await asyncio.wait_for(asyncio.gather(*(said(answer) for answer in [*waiting, patient])), 30)
        assert told[3] == "" and told[-1] == told[0] != ""

    asyncio.run(crowd())


def test_an_answer_longer_than_the_model_reads_is_bounded_and_says_so(
    house: House, base: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.promote(1, adapter_of(base, 1))
    monkeypatch.setattr(hosting, "CONTEXT_TOKENS", 1_000)

    async def ask(tokens: int) -> str | None:
        answer = house.host.answer(HARD, tokens)
        await said(answer)
        return answer.note

    assert "at most 500 tokens" in str(asyncio.run(ask(1_024)))
    assert asyncio.run(ask(400)) is None


TRAINER = """
import sys
from nightshift.settings import settings
from nightshift.tenancy import card
with card(settings(), "training qlora@2026-09-28"):
    print("has it", flush=True)
    sys.stdin.read()
"""


@contextmanager
def training(config: Settings) -> Iterator[None]:
    """Another process that has the card."""
    variables = {"NIGHTSHIFT_HOME": str(config.home), "NIGHTSHIFT_LANGUAGE_LEASE": "always"}
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER], env={**os.environ, **variables}, cwd=PROJECT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert trainer.stdout is not None and trainer.stdout.readline() == b"has it\n"
        yield
    finally:
        trainer.kill()
        trainer.communicate()


@pytest.mark.parametrize("pinned", [None, 1])
def test_the_card_is_given_to_training_by_a_pinned_service_too(
    base: Settings, tmp_path: Path, pinned: int | None
) -> None:
    leased = {"home": tmp_path, "language_lease": "always", "pinned_version": pinned}
    config = base.model_copy(update=leased)
    house = House(config)
    try:
        house.promote(1, adapter_of(base, 1))
        before = asyncio.run(said_to(house))
        with training(config):
            assert house.rooms() == {} and "training qlora" in str(house.host.away)
        wait_until(lambda: house.host.away is None, 60)
        assert asyncio.run(said_to(house)) == before
    finally:
        house.host.stop()


def test_an_engine_that_cannot_come_back_leaves_the_card_empty_and_is_tried_again(
    base: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosting, "AGAIN_SECONDS", 0.1)
    house = House(config := base.model_copy(update={"home": tmp_path, "language_lease": "always"}))
    try:
        house.promote(1, good := adapter_of(base, 1))
        assert house.bundle is not None
        bundle = house.bundle
        with training(config):
            unfit = replace(good, lora={**good.lora, "r": 3})
            house.bundle = replace(bundle, ready=replace(bundle.ready, adapter=unfit))
        wait_until(lambda: house.host.away == hosting.NOT_BACK, 60)
        with house.host._moving:
            assert house.rooms() == {} and not house.host.may_seat()
        house.bundle = bundle
        wait_until(lambda: house.host.away is None, 60)
        assert asyncio.run(said_to(house))
    finally:
        house.host.stop()


def test_nobody_seated_is_said(house: House) -> None:
    with pytest.raises(Later, match="no champion"):
        asyncio.run(house.host.ask(lambda stage: stage.version))
