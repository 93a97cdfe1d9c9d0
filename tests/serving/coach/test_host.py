"""The one engine: adapters come and go without the base being opened again, and what happens to answers meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from nightshift.errors import BaseModelError
from nightshift.language.adapters import Adapter
from nightshift.language.bases import BaseRef
from nightshift.seats import LanguageModel
from nightshift.settings import Settings
from serving.champion import Bundle
from serving.coach import host as hosting
from serving.coach.host import Answer, Host, Later, Seated
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
    house.promote(1, adapter_of(base, 1))
    other = base.model_copy(update={"language_model": f"{base.home}/./tiny"})  # another name is another base
    house.promote(2, adapter_of(other, 1))
    assert [ref.name for ref in house.rooms()] == [other.language_model]


@pytest.mark.parametrize("wrong", ["tokenizer", "shape", "finite", "base"])
def test_what_cannot_be_seated_leaves_the_champion_as_it_was(
    house: House, base: Settings, wrong: str
) -> None:
    seated = house.promote(1, good := adapter_of(base, 1))
    bad = {
        "tokenizer": replace(good, tokenizer_digest="0"),
        "shape": replace(good, lora={**good.lora, "r": 3}),
        "finite": replace(good, weights={key: value * float("nan") for key, value in good.weights.items()}),
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


def test_nobody_seated_is_said(house: House) -> None:
    with pytest.raises(Later, match="no champion"):
        asyncio.run(house.host.ask(lambda stage: stage.version))
