"""The language service: POST /chat, /profile, /match, /roadmap, GET /roadmap, /model; Bento adds the rest.

    bentoml serve serving.language:Coach --host 127.0.0.1 --port 3002

Handlers are async and hand what needs the model to its one thread (serving/coach/host.py); the store and the event log
have a thread of their own, so that a slow disk does not hold up an answer.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, TypeVar

import bentoml
import numpy as np
from fastapi import Query
from starlette.responses import JSONResponse, Response, StreamingResponse

from nightshift.cleaning import mask
from nightshift.coaching import (
    ChatBroken,
    ChatDelta,
    ChatDone,
    ChatRequest,
    ChatResponse,
    MatchRequest,
    MatchResponse,
    ProfileRequest,
    ProfileResponse,
    RoadmapQuery,
    RoadmapRequest,
    RoadmapResponse,
)
from nightshift.contracts.conversations import MAX_CHARACTERS
from nightshift.errors import BaseModelError, EventLogError
from nightshift.eventlog import EventLog
from nightshift.language.chat import Message
from nightshift.language.prompts import as_profile
from nightshift.seats import LANGUAGE
from nightshift.settings import settings
from serving import pages
from serving.champion import Champion
from serving.clock import Clock
from serving.coach import roadmap
from serving.coach.host import PROFILE_TOKENS, Answer, Host, Later, Seated, Stage, profile_of
from serving.coach.line import HungUpError, Line, unless_hung_up
from serving.coach.match import MATCHES, Known, Trends, matched
from serving.coach.persona import profile
from serving.coach.profiles import Profile, Profiles, ProfilesError
from serving.coach.talk import Masker, Recent, check
from serving.edge import Edge, NoBadInput, Problem

TIMEOUT_SECONDS = 120  # until the first word; an 8B model behind a line of eight
EVENTLOG_WAIT_SECONDS = 2.0
AT_ONCE = 16  # topics that are embedded before the next answer has its turn
ANSWER_SECONDS = TIMEOUT_SECONDS - 10  # sooner than Bento, whose 504 says nothing
EVENTLOG_SECONDS = 5.0  # a client never waits longer for it, whatever hangs
AGAIN_SECONDS = 5
NOT_STORED = "the conversation could not be kept: the event log cannot be written now"
NOT_KEPT = "this turn was not kept: the consent was taken back, or another version of it is kept already"
NOT_WITHDRAWN = (
    "the consent could not be taken back: the event log cannot be written now; send the same again"
)
TOO_SLOW = (
    f"the answer takes longer than {ANSWER_SECONDS} seconds: ask for fewer max_tokens, or with stream: true"
)
BROKEN = "the model failed; the service's log says how"
OPTIONS = {**pages.OPTIONS, "traffic": {"timeout": TIMEOUT_SECONDS}}

T = TypeVar("T")
log = logging.getLogger("nightshift.serving")
site = pages.new()


@site.get("/roadmap", response_model=RoadmapResponse, summary="A user's plan and how far they are.")
async def get_roadmap(query: Annotated[RoadmapQuery, Query()]) -> Response:
    service: Coach = bentoml.get_current_service()
    answer = await service.answered("roadmap", service.plan_of(query.user_id))
    return answer if isinstance(answer, Response) else JSONResponse(answer.model_dump(mode="json"))


@bentoml.asgi_app(site, path="/")
@bentoml.service(name="language", **OPTIONS)
class Coach:
    """A career coach: talks with the seat's champion, draws out what somebody values, and finds what suits them."""

    def __init__(self) -> None:
        logging.getLogger("bentoml._internal.server.http_app").addFilter(NoBadInput())
        config = settings()
        self.counters = Counters()
        self.clock = Clock(config)
        self.catalogue = roadmap.read(config)
        self.events = EventLog(config.eventlog_uri, EVENTLOG_WAIT_SECONDS, config.database_pool)
        self.profiles = Profiles(config)
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="store")
        self.recent = Recent()
        self.trends = Trends(config)
        self.vectors: dict[str, np.ndarray] = {}
        self.embedded_by = ""
        self.embedding = asyncio.Lock()
        self.host = Host(config, lambda: self.champion.bundle)
        self.champion: Champion[Seated] = Champion(
            config, LANGUAGE, self.host.seat, self._about, self._swapped, may_seat=self.host.may_seat
        )
        self.host.start()
        self.champion.start(wait=False)

    @bentoml.api(route="/chat", output_spec=ChatResponse)
    async def chat(self, request: ChatRequest, /) -> Any:
        """The coach's answer to a conversation: as server-sent events while it is made, or whole (`stream: false`)."""
        return await self.answered("chat", self._chat(request))

    @bentoml.api(route="/profile", output_spec=ProfileResponse)
    async def profile(self, request: ProfileRequest, /) -> Any:
        """What a user wants of work, by their words, tags and sliders; kept for /match."""
        return await self.answered("profile", self._profile(request))

    @bentoml.api(route="/match", output_spec=MatchResponse)
    async def match(self, request: MatchRequest, /) -> Any:
        """The three rising trends that are nearest to a user's profile, and why."""
        return await self.answered("match", self._match(request))

    @bentoml.api(route="/roadmap", output_spec=RoadmapResponse)
    async def roadmap(self, request: RoadmapRequest, /) -> Any:
        """Make a plan for a topic (`topic`), or say how far one is (`step_id`, `status`)."""
        return await self.answered("roadmap", self._roadmap(request))

    @bentoml.on_shutdown
    def close(self) -> None:
        self.champion.stop()
        self.host.stop()
        self.events.close()
        self.profiles.close()

    async def answered(self, call: str, answer: Any) -> Any:
        """What a call answers, or the response that says why it does not."""
        try:
            result = await unless_hung_up(answer)
        except HungUpError:
            self.counters.calls.labels(call, "hung_up").inc()
            return Response(status_code=499)
        except Problem as problem:
            self.counters.calls.labels(call, str(problem.status)).inc()
            return problem.response()
        except ProfilesError as error:
            log.warning("%s", error)
            self.counters.calls.labels(call, "503").inc()
            return Later("profiles cannot be read or written now: ask again", AGAIN_SECONDS).response()
        except BaseModelError as error:
            log.warning("%s", error)
            self.counters.calls.labels(call, "503").inc()
            return Later(BROKEN, AGAIN_SECONDS).response()
        self.counters.calls.labels(call, "200").inc()
        return result

    async def plan_of(self, user_id: str) -> RoadmapResponse:
        found = await self._stored(self.profiles.roadmap, user_id)
        if found is None:
            raise Problem(404, "this user has no roadmap; POST /roadmap with a topic makes one", ("user_id",))
        return roadmap.told(found)

    # --- chat ------------------------------------------------------------------------------------------

    async def _chat(self, request: ChatRequest) -> Any:
        messages = check(request.messages)
        if request.conversation_id is not None and not request.consent:
            await self._withdraw(request.user_id, request.conversation_id)
        answer = self.host.answer(messages, request.max_tokens)
        said = await begun(answer, whole=not request.stream)
        known = {
            "request_id": uuid.uuid4().hex,
            "conversation_id": request.conversation_id or uuid.uuid4().hex,
            "user_id": request.user_id,
        }
        if request.stream:
            return StreamingResponse(
                self._events(request, messages, answer, known),
                media_type="text/event-stream",
                headers={"cache-control": "no-store", "x-accel-buffering": "no"},
            )
        return await self._told(request, messages, answer, known, said)

    async def _events(
        self, request: ChatRequest, messages: list[Message], answer: Answer, known: dict[str, str]
    ) -> AsyncIterator[str]:
        said = ""
        try:
            async for piece in masked(answer):
                said += piece
                yield _event(ChatDelta(delta=piece))
            told = await self._told(request, messages, answer, known, said)
            yield _event(ChatDone(**told.model_dump(exclude={"message"})))
        except Exception:  # the status is sent: it can only be said here
            log.exception("an answer broke off")
            yield _event(ChatBroken(error=BROKEN, request_id=known["request_id"]))
        finally:
            answer.hang_up()

    async def _told(
        self, request: ChatRequest, messages: list[Message], answer: Answer, known: dict[str, str], said: str
    ) -> ChatResponse:
        whole: list[Message] = [*messages, {"role": "assistant", "content": said}]
        own = self.recent.note(request.user_id, known["conversation_id"], whole)
        self.counters.tokens.labels(answer.version).inc(answer.tokens)
        stored, note = False, None
        if request.consent and said.strip():
            stored, note = await self._keep(request.user_id, known["conversation_id"], whole, own)
        return ChatResponse(
            **known,
            message={"role": "assistant", "content": said},
            model_version=answer.version,
            tokens=answer.tokens,
            stored=stored,
            note="; ".join(each for each in (answer.note, note) if each) or None,
        )

    async def _keep(
        self, user_id: str, conversation_id: str, whole: list[Message], own: int
    ) -> tuple[bool, str | None]:
        """Keep what was said here, which is from the message `own` on. Whether it is kept, and why not."""
        said = [{**message, "content": mask(message["content"])} for message in whole[own:]]
        row = {
            "conversation_id": conversation_id,
            "user_id": user_id,
            "at": self.clock.now(),
            "messages": said,
            "after": own,
            "consent": True,
        }

        def keep() -> bool:
            return self.events.converse([row]) > 0 or self.events.keeps(
                user_id, conversation_id, said[-2]["content"]
            )

        try:
            kept = await asyncio.wait_for(self._stored(keep), EVENTLOG_SECONDS)
        except (EventLogError, TimeoutError) as error:
            log.warning("a conversation was not kept: %s", error or "the event log hangs")
            return False, NOT_STORED
        return kept, None if kept else NOT_KEPT

    async def _withdraw(self, user_id: str, conversation_id: str) -> None:
        """No word of the conversation is learnt from any more, before this one is answered. Raises Later."""
        try:
            await asyncio.wait_for(
                self._stored(self.events.withdraw, user_id, conversation_id), EVENTLOG_SECONDS
            )
        except (EventLogError, TimeoutError) as error:
            log.warning("a consent was not taken back: %s", error or "the event log hangs")
            raise Later(NOT_WITHDRAWN, AGAIN_SECONDS) from error

    # --- profile ---------------------------------------------------------------------------------------

    async def _profile(self, request: ProfileRequest) -> ProfileResponse:
        messages = self._conversation(request)
        sliders = request.sliders.model_dump() if request.sliders else None
        kept, note = await self.host.ask(partial(_made, request, messages, sliders))
        await self._stored(self.profiles.keep, kept)
        return ProfileResponse(
            user_id=kept.user_id,
            value_score=kept.value_score,
            persona_vector=kept.persona.tolist(),
            profile_vector=kept.profile.tolist(),
            embedding_version=kept.embedding_version,
            model_version=kept.model_version,
            note=note,
        )

    def _conversation(self, request: ProfileRequest) -> list[Message]:
        if (request.messages is None) == (request.conversation_id is None):
            raise Problem(400, "give messages or a conversation_id, and not both", ("messages",))
        if request.messages is not None:
            return check(request.messages, answered=False)
        found = self.recent.find(request.user_id, str(request.conversation_id))
        if found is None:
            raise Problem(
                404,
                "this user had no such conversation here of late: send its messages",
                ("conversation_id",),
            )
        return found

    # --- match -----------------------------------------------------------------------------------------

    async def _match(self, request: MatchRequest) -> MatchResponse:
        mine = await self._stored(self.profiles.find, request.user_id)
        if mine is None:
            raise Problem(404, "this user has no profile; POST /profile makes one", ("user_id",))
        space = self.host.space
        if space is None:
            raise Later(self.host.away or "the model is being loaded; ask again", AGAIN_SECONDS)
        if mine.embedding_version != space.version:
            raise Problem(
                409,
                "the profile was made with another base model and cannot be compared: POST /profile again",
            )
        known = await self.trends.known()
        await self._embed(known)
        compared = [topic for topic in known.compared if topic in self.vectors]
        found = await self._stored(self.profiles.nearest, mine.profile, space.version, compared, MATCHES)
        near = [(known.compared[topic], self.vectors[topic], cosine) for topic, cosine in found]
        return MatchResponse(
            user_id=request.user_id,
            trends=matched(mine, mine.tag_vectors, space.values, near),
            of=len(compared),
            trends_at=known.told.made_at,
            embedding_version=space.version,
            forecaster_version=known.told.model_version,
            note="; ".join(note for note in (known.note, known.told.note) if note) or None,
        )

    async def _embed(self, known: Known) -> None:
        """Vectors for the topics that have none yet; those of a space before are forgotten."""
        async with self.embedding:
            space = self.host.space
            assert space is not None
            if self.embedded_by != space.version:
                self.vectors = dict(await self._stored(self.profiles.topics, space.version))
                self.embedded_by = space.version
            missing = [topic for topic in known.compared if topic not in self.vectors]
            for start in range(0, len(missing), AT_ONCE):
                some = missing[start : start + AT_ONCE]
                version, found = await self.host.ask(partial(_embedded, some))
                if version != space.version:
                    raise Later("another base model was just seated; ask again", AGAIN_SECONDS)
                new = dict(zip(some, found, strict=True))
                await self._stored(self.profiles.keep_topics, version, new)
                self.vectors |= new

    # --- roadmap ---------------------------------------------------------------------------------------

    async def _roadmap(self, request: RoadmapRequest) -> RoadmapResponse:
        now = datetime.now(UTC)
        marks = (request.step_id is not None, request.status is not None)
        if request.topic is not None and not any(marks):
            await self._must_be_known(request.topic)
            plan = roadmap.plan(self.catalogue, request.user_id, request.topic, now)
            return roadmap.told(await self._stored(self.profiles.plan, plan))
        if request.topic is None and all(marks):
            if not await self._stored(
                self.profiles.mark, request.user_id, request.step_id, request.status, now
            ):
                raise Problem(404, "this user's roadmap has no such step", ("step_id",))
            return await self.plan_of(request.user_id)
        raise Problem(400, "give a topic, or a step_id with its status", ("topic",))

    async def _must_be_known(self, topic: str) -> None:
        known = await self.trends.known()
        if all(trend.topic != topic for trend in known.told.trends):
            raise Problem(404, f"the forecaster ranks no such topic: {topic[:80]!r}", ("topic",))

    # --- inside ----------------------------------------------------------------------------------------

    async def _stored(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.writer, partial(call, *arguments))

    def _swapped(self) -> None:
        self.counters.swaps.inc()
        self.host.swapped()

    def _about(self, seated: Seated) -> dict[str, Any]:
        space = self.host.space
        return {
            "base": str(seated.ref),
            "embedding_version": space.version if space else None,
            "away": self.host.away,
        }


Coach.add_asgi_middleware(Line)  # type: ignore[attr-defined]  # the decorator made it a bentoml.Service
Coach.add_asgi_middleware(Edge)  # type: ignore[attr-defined]


async def begun(answer: Answer, *, whole: bool, seconds: float = ANSWER_SECONDS) -> str:
    """Wait until the answer begins, or is whole: then what it says. Raises Later if that takes too long."""
    try:
        async with asyncio.timeout(seconds):
            await answer.begin()
            return "".join([piece async for piece in masked(answer)]) if whole else ""
    except TimeoutError as error:
        answer.hang_up()
        raise Later(TOO_SLOW, AGAIN_SECONDS) from error
    except BaseException:
        answer.hang_up()
        raise


async def masked(answer: Answer) -> AsyncIterator[str]:
    """The answer's pieces without personal data. It ends where a message must: at MAX_CHARACTERS."""
    masker, left = Masker(), MAX_CHARACTERS
    async for piece in answer.pieces():
        if told := masker.add(piece)[:left]:
            left -= len(told)
            yield told
        if not left:
            answer.hang_up()
            return
    if told := masker.end()[:left]:
        yield told


def _made(
    request: ProfileRequest, messages: list[Message], sliders: dict[str, int] | None, stage: Stage
) -> tuple[Profile, str | None]:
    """The profile, and a note. The scores are the champion's, the vectors the frozen base's."""
    asked, note = stage.fit(messages, as_profile, PROFILE_TOKENS)
    score = profile_of(stage.engine, stage.adapter, asked)
    said = [message["content"] for message in messages if message["role"] == "user"]
    words = stage.space.persona(stage.engine.hidden(said))
    tags = stage.named(request.tags)
    made = Profile(
        user_id=request.user_id,
        at=datetime.now(UTC),
        model_version=stage.version,
        embedding_version=stage.space.version,
        value_score=score.model_dump(),
        tags=[mask(tag) for tag in request.tags],
        sliders=sliders,
        tag_vectors=tags,
        persona=words,
        profile=profile(stage.space, words, tags, sliders),
    )
    return made, note


def _embedded(texts: list[str], stage: Stage) -> tuple[str, np.ndarray]:
    """The embedding's version, and vectors [len(texts), VECTOR_SIZE]."""
    return stage.space.version, stage.named(texts)


def _event(told: ChatDelta | ChatDone | ChatBroken) -> str:
    return f"data: {told.model_dump_json()}\n\n"


class Counters:
    """What Prometheus reads at /metrics. Made in the worker: Bento sets up its metrics folder before that."""

    def __init__(self) -> None:
        from prometheus_client import Counter

        self.calls = Counter("nightshift_coach_calls", "Calls of the coach by outcome.", ["call", "status"])
        self.tokens = Counter(
            "nightshift_coach_tokens", "Pieces of text told, by version.", ["model_version"]
        )
        self.swaps = Counter("nightshift_model_swaps", "Versions seated since the service started.")
