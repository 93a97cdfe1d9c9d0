"""The one engine of the service: who asks it, in what order, and when it gives way.

Everything that touches the engine runs on one thread, one job after another: an answer is never mixed with the
seating of an adapter, and an adapter is taken out only when no answer under way uses it. Few may wait; others are told
to come again. A job runs with whoever is champion when its turn comes.
The base is opened once. Another adapter for the same base joins it; a champion with another base has its own opened
beside the old one on a CPU, and in its place on a card, which holds only one; if it fails, the old one is opened again.
Where the card is leased (nightshift.tenancy), training goes first: the answer under way ends, the engine is closed, and
clients are told why and when to ask again. When the card is free again the engine comes back by itself.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.responses import JSONResponse

from nightshift.coaching import Values
from nightshift.errors import BaseModelError
from nightshift.language.bases import BaseRef, device_of, open_base
from nightshift.language.chat import Message
from nightshift.language.engine import Engine
from nightshift.language.prompts import PROFILE_SCHEMA, as_coach, as_profile
from nightshift.seats import LanguageModel
from nightshift.settings import Settings
from nightshift.tenancy import Tenant, leased
from serving.champion import Bundle
from serving.coach.persona import Space
from serving.coach.talk import CONTEXT_TOKENS, fitting
from serving.edge import Problem

MOST_WAITING = 8  # a client at the end of the line waits for some eight answers
PROFILE_TOKENS = 256  # of the JSON of five values; byte by byte it is under 100
BUSY_SECONDS, AWAY_SECONDS = 5, 30  # what Retry-After says
LEASE_POLL_SECONDS = 0.5
AGAIN_SECONDS = 10.0  # after the engine could not be opened again
NOT_BACK = "the model could not be opened again; it is tried again, and the service's log says why"
NO_CHAMPION = "no champion is seated yet: run a night (`nightshift night`)"
TRIAL: list[Message] = [{"role": "user", "content": "요즘 일이 재미없어요. 무엇을 하면 좋을까요?"}]

T = TypeVar("T")
log = logging.getLogger("nightshift.serving")


class Later(Problem):
    """503 with the seconds after which to ask again."""

    def __init__(self, error: str, seconds: int) -> None:
        super().__init__(503, error)
        self.seconds = seconds

    def response(self) -> JSONResponse:
        response = super().response()
        response.headers["retry-after"] = str(self.seconds)
        return response


@dataclass(frozen=True)
class Seated:
    """A champion's adapter in the engine. name: the engine's for it."""

    name: str
    adapter: LanguageModel

    @property
    def ref(self) -> BaseRef:
        return BaseRef(self.adapter.base, self.adapter.revision)


@dataclass(frozen=True)
class Room:
    """An opened base, and the space that it embeds in."""

    engine: Engine
    space: Space


@dataclass(frozen=True)
class Stage:
    """What a job works with. adapter: the champion's name in the engine. version: the champion's."""

    engine: Engine
    space: Space
    adapter: str
    version: str

    @property
    def context(self) -> int:
        """Tokens that are read and written at most."""
        return min(int(self.engine.base.model.config.max_position_embeddings), CONTEXT_TOKENS)

    def fit(
        self, messages: Sequence[Message], asked: Callable[[Sequence[Message]], list[Message]], answer: int
    ) -> tuple[list[Message], str | None]:
        """The prompt, and a note if the conversation's beginning did not fit. Raises Problem (413).

        answer: tokens to leave for it; half of the context at most.
        """
        limit = self.context - min(answer, self.context // 2)
        whole, left = fitting(self.engine.base.tokenizer, limit, messages, asked)
        return (
            whole,
            f"the first {left} messages were not read: the conversation is too long" if left else None,
        )

    def named(self, texts: Sequence[str]) -> Any:
        """[n, VECTOR_SIZE] float32 of unit length, of tags or topics' names."""
        return self.space.named(self.engine.hidden(texts))


@dataclass
class Answer:
    """An answer as it is made. `version`, `note` are known with its first piece; `tokens` counts its pieces."""

    version: str = ""
    note: str | None = None
    tokens: int = 0
    _pieces: asyncio.Queue[str | Exception | None] = field(default_factory=asyncio.Queue)
    _hung_up: threading.Event = field(default_factory=threading.Event)
    _job: Future[None] | None = None
    _first: str | None = None

    def hang_up(self) -> None:
        """Nobody listens any more: it is not made to its end, and who is still in line leaves it."""
        self._hung_up.set()
        if self._job is not None:
            self._job.cancel()

    async def begin(self) -> None:
        """Wait until the first piece is there, so that what goes wrong before it can still be a status."""
        self._first = await self._next()

    async def pieces(self) -> AsyncIterator[str]:
        try:
            piece = self._first
            while piece is not None:
                yield piece
                piece = await self._next()
        finally:
            self.hang_up()

    async def _next(self) -> str | None:
        piece = await self._pieces.get()
        if isinstance(piece, Exception):
            raise piece
        return piece


class Host:
    """The engine and the line before it. champion: who serves now; asked on each job's turn."""

    def __init__(self, settings: Settings, champion: Callable[[], Bundle[Seated] | None]) -> None:
        self.space: Space | None = None  # of the base opened last; kept while the engine is away
        self.away: str | None = None
        self._settings, self._champion = settings, champion
        self._leased = leased(settings)
        self._tenant = Tenant(settings)
        self._rooms: dict[BaseRef, Room] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._line = threading.BoundedSemaphore(MOST_WAITING + 1)
        self._numbers = itertools.count(1)
        self._moving = threading.RLock()  # one of: seat, give way, come back
        self._seating: Seated | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="card", daemon=True)

    def start(self) -> None:
        """Ask for the card, where it is leased, and keep up from then on."""
        if not self._leased:
            return
        self._look_at_card()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._worker.shutdown(wait=False, cancel_futures=True)

    # --- for the champion's thread ---------------------------------------------------------------------

    def may_seat(self) -> bool:
        """Whether a version can be tried out now: the card is ours, or needs no asking."""
        return not self._leased or self._tenant.holds

    def seat(self, package: LanguageModel) -> Seated:
        """A version's adapter in the engine, tried out: it answers, and its profile follows the schema.

        Raises:
            BaseModelError: the base cannot be opened, the adapter is of another one, or it answers nonsense.
        """
        seated = Seated(f"a{next(self._numbers)}", package)
        with self._moving:
            if not self.may_seat():
                raise BaseModelError("the card was given to training; this version is seated when it is back")
            self._seating = seated
            try:
                room = self._room(seated.ref)
                self._worker.submit(_try_out, room.engine, seated).result()
            except BaseException as error:
                _forget_frames(error)
                self._take_back(seated.ref)
                raise
            finally:
                self._seating = None
            self.space = room.space
        return seated

    def swapped(self) -> None:
        """Another version serves: what only the old one needed goes when the jobs before this one are done."""
        self._worker.submit(self._tidy)

    # --- for requests ----------------------------------------------------------------------------------

    async def ask(self, job: Callable[[Stage], T]) -> T:
        """What `job` returns, on the engine's thread. Raises Problem: the line is full, or there is no engine."""
        return await asyncio.wrap_future(self._enter(lambda: job(self._stage())))

    def answer(self, messages: Sequence[Message], max_tokens: int) -> Answer:
        """The coach's answer, begun when its turn comes. Raises Later if the line is full."""
        answer, loop = Answer(), asyncio.get_running_loop()

        def give(piece: str | Exception | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(answer._pieces.put_nowait, piece)

        def work() -> None:
            try:
                if not answer._hung_up.is_set():
                    self._say(answer, messages, max_tokens, give)
                give(None)
            except Exception as error:  # noqa: BLE001 - whatever it is, the handler tells the client and logs it
                give(error)

        answer._job = self._enter(work)
        answer._job.add_done_callback(lambda job: give(None) if job.cancelled() else None)
        return answer

    # --- inside ----------------------------------------------------------------------------------------

    def _enter(self, work: Callable[[], T]) -> Future[T]:
        if not self._line.acquire(blocking=False):
            raise Later(f"the coach is busy: {MOST_WAITING} are waiting already; ask again", BUSY_SECONDS)
        try:
            future = self._worker.submit(work)
        except BaseException:
            self._line.release()
            raise
        future.add_done_callback(lambda _: self._line.release())
        return future

    def _stage(self) -> Stage:
        bundle = self._champion()
        if self.away is not None:
            raise Later(self.away, AWAY_SECONDS)
        if bundle is None:
            raise Later(NO_CHAMPION, AWAY_SECONDS)
        room = self._rooms.get(bundle.ready.ref)
        if room is None:
            raise Later("the model is being loaded; ask again", AWAY_SECONDS)
        return Stage(room.engine, room.space, bundle.ready.name, str(bundle.version.number))

    def _say(
        self, answer: Answer, messages: Sequence[Message], max_tokens: int, give: Callable[[str], None]
    ) -> None:
        stage = self._stage()
        whole, note = stage.fit(messages, as_coach, max_tokens)
        most = min(max_tokens, stage.context // 2)
        less = (
            None
            if most == max_tokens
            else f"the answer has at most {most} tokens: half of what this model reads"
        )
        answer.version, answer.note = stage.version, "; ".join(each for each in (note, less) if each) or None
        with closing(stage.engine.stream(whole, stage.adapter, max_tokens=most)) as pieces:  # type: ignore[type-var]
            for piece in pieces:
                if answer._hung_up.is_set():
                    return
                answer.tokens += 1
                give(piece)

    def _room(self, ref: BaseRef) -> Room:
        """The base, opened if it is not. On a card what was there goes first."""
        known = self._rooms.get(ref)
        if known is not None:
            return known
        if self._rooms and device_of(self._settings).type == "cuda":
            self._worker.submit(self._leave).result()
        engine = Engine(open_base(self._settings, ref))
        try:
            room = Room(engine, Space.of(f"{ref}#{engine.base.digest}", engine.hidden))
        except BaseException as error:
            _forget_frames(error)
            engine.close()
            raise
        self._rooms[ref] = room
        return room

    def _leave(self) -> None:
        rooms, self._rooms = self._rooms, {}
        for room in rooms.values():
            room.engine.close()

    def _close(self, ref: BaseRef) -> None:
        room = self._rooms.pop(ref, None)
        if room is not None:
            room.engine.close()

    def _take_back(self, refused: BaseRef) -> None:
        """A base that only a refused version needed goes; the champion's comes back if it had to go for it."""
        bundle = self._champion()
        if bundle is None or bundle.ready.ref != refused:
            self._worker.submit(self._close, refused).result()
        if bundle is not None and bundle.ready.ref not in self._rooms:
            self._come_back()

    def _come_back(self) -> None:
        """Open what served before. If that fails, nothing stays on the card, and the card is not ours."""
        bundle = self._champion()
        if bundle is None:
            return
        try:
            room = self._room(bundle.ready.ref)
            self._worker.submit(room.engine.add, bundle.ready.name, bundle.ready.adapter).result()
        except BaseException as error:
            _forget_frames(error)
            self._worker.submit(self._leave).result()
            self._tenant.release()
            if self._leased:  # else nobody would take it back
                self.away = NOT_BACK
            raise
        self.space = room.space

    def _tidy(self) -> None:
        bundle = self._champion()
        if bundle is None:
            return
        needed = [seated for seated in (bundle.ready, self._seating) if seated is not None]
        for ref, room in list(self._rooms.items()):
            if ref not in {seated.ref for seated in needed}:
                self._close(ref)
                continue
            for name in room.engine.names - {seated.name for seated in needed}:
                room.engine.remove(name)

    # --- the card --------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopping.wait(LEASE_POLL_SECONDS):
            try:
                self._look_at_card()
            except Exception:
                log.exception("the engine could not be opened again; it is tried again")
                self._stopping.wait(AGAIN_SECONDS)

    def _look_at_card(self) -> None:
        with self._moving:
            wanted = self._tenant.wanted()
            if self._tenant.holds and wanted is not None:
                self.away = f"the card is needed for {wanted}: the coach is back when that is done"
                self._worker.submit(self._leave).result()
                self._tenant.release()
                log.warning("gave the card to %s", wanted)
            elif not self._tenant.holds and wanted is None and self._tenant.take():
                self._come_back()
                self.away = None
                log.warning("the card is ours")
            elif not self._tenant.holds:
                self.away = (
                    f"the card is needed for {wanted or 'another model'}: the coach is back when that is done"
                )


def _forget_frames(error: BaseException | None) -> None:
    """Let go of what the frames of an error hold: a model among it would stay in memory as long as the error."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _try_out(engine: Engine, seated: Seated) -> None:
    """Add the adapter and see that it works; else it is out again. Raises BaseModelError."""
    import math

    engine.add(seated.name, seated.adapter)
    try:
        told = engine.surprise([[*TRIAL, {"role": "assistant", "content": TRIAL[0]["content"]}]], seated.name)
        if not math.isfinite(told[0].nats):
            raise BaseModelError("it gives numbers that are not finite")
        engine.answer(as_coach(TRIAL), seated.name, max_tokens=8)
        profile_of(engine, seated.name, as_profile(TRIAL))
    except BaseException:
        engine.remove(seated.name)
        raise


def profile_of(engine: Engine, adapter: str, asked: Sequence[Message]) -> Values:
    """What profile mode answers. Raises BaseModelError if it is no profile, schema or not."""
    said = engine.answer(asked, adapter, schema=PROFILE_SCHEMA, max_tokens=PROFILE_TOKENS)
    try:
        return Values.model_validate_json(said)
    except ValueError as error:
        raise BaseModelError(f"profile mode answered what is no profile: {said[:200]!r}") from error
