"""What the coach is asked and answers: /chat, /profile, /match and /roadmap of the language seat's service.

Apart from seats.py because these are the service's alone: the seat's protocol says nothing of them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from nightshift.seats import Finite, Id, Strict

MAX_TOKENS = 1_024  # of an answer; a coach's are under 100
MAX_TAGS = 20
VECTOR_SIZE = 1_536  # numbers of a persona or profile; pgvector's HNSW indexes up to 2,000

# NUL cannot be stored by PostgreSQL, and no person types it.
Text = Annotated[str, StringConstraints(min_length=1, pattern="^[^\\x00]+$")]
Tag = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern="^[^\\x00]*[^\\x00\\s][^\\x00]*$")
]
Score = Annotated[int, Field(ge=1, le=5)]
Share = Annotated[float, Field(ge=0, le=1)]


class ChatMessage(Strict):
    """role: the system prompt is the service's own, so no client sends one."""

    role: Literal["user", "assistant"]
    content: Text


class ChatRequest(Strict):
    user_id: Id
    messages: list[ChatMessage] = Field(
        min_length=1, description="The whole conversation, oldest first: user, assistant, user, …, user."
    )
    conversation_id: Id | None = Field(
        None, description="Of a conversation that goes on; default: a new one."
    )
    consent: bool = Field(False, description="The user agrees that the conversation is kept and learnt from.")
    stream: bool = Field(
        True, description="Server-sent events as the answer is made, or one JSON when it is."
    )
    max_tokens: int = Field(256, ge=1, le=MAX_TOKENS)


class ChatResponse(BaseModel):
    """The whole answer; of a stream, the last event has all of this but `message`, and `done`."""

    request_id: str
    conversation_id: str
    user_id: str
    message: dict[str, str] = Field(description="role and content; personal data are masked.")
    model_version: str
    tokens: int = Field(description="Pieces of text that the answer was made of.")
    stored: bool = Field(description="Whether the conversation was kept, for the nights to learn from.")
    note: str | None = None


class ChatDelta(BaseModel):
    """An event of a stream: the next piece of the answer."""

    delta: str


class ChatDone(BaseModel):
    """The last event of a stream; the fields of ChatResponse."""

    done: Literal[True] = True
    request_id: str
    conversation_id: str
    user_id: str
    model_version: str
    tokens: int
    stored: bool
    note: str | None


class ChatBroken(BaseModel):
    """The last event of a stream that broke off."""

    error: str
    request_id: str


class Values(BaseModel):
    """How much somebody wants of work, 0 to 1 each: what profile mode's JSON is checked by."""

    model_config = ConfigDict(extra="forbid")

    growth: Share
    stability: Share
    autonomy: Share
    reward: Share
    impact: Share


class Sliders(Strict):
    """What somebody says they want of work: 1 not at all … 3 whatever … 5 above all."""

    growth: Score
    stability: Score
    autonomy: Score
    reward: Score
    impact: Score


class ProfileRequest(Strict):
    """A conversation, or the id of a recent one: exactly one of them."""

    user_id: Id
    messages: list[ChatMessage] | None = Field(None, min_length=1)
    conversation_id: Id | None = Field(None, description="Of a /chat of this user, of late.")
    tags: list[Tag] = Field(
        default_factory=list, max_length=MAX_TAGS, description="Interests, in short words."
    )
    sliders: Sliders | None = None


class ProfileResponse(BaseModel):
    user_id: str
    value_score: Values
    persona_vector: list[Finite] = Field(
        description=f"{VECTOR_SIZE} numbers of unit length: the user's words."
    )
    profile_vector: list[Finite] = Field(description="The same with tags and sliders, as it is stored.")
    embedding_version: str = Field(description="Vectors of different versions cannot be compared.")
    model_version: str
    note: str | None = None


class MatchRequest(Strict):
    user_id: Id


class MatchedTrend(BaseModel):
    """Velocity is a score of 0 to 100 points; 50 is the topic's usual pace."""

    rank: int
    topic: str
    similarity: float = Field(description="Cosine of the profile's vector and the topic's, −1..1.")
    week: str | None = Field(description="The ISO week that the forecast starts from.")
    velocity: float = Field(description="Now.")
    forecast: float = Field(description="In four weeks.")
    change: float
    reason: str


class MatchResponse(BaseModel):
    user_id: str
    trends: list[MatchedTrend]
    of: int = Field(description="How many trends were compared.")
    trends_at: datetime = Field(description="When the trends were ranked, by the wall clock.")
    embedding_version: str
    forecaster_version: str
    note: str | None = None


Status = Literal["todo", "doing", "done"]


class RoadmapRequest(Strict):
    """A topic makes a plan, or another one; a step and its status say how far one is."""

    user_id: Id
    topic: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern="^[^\\x00]+$")] | None = (
        None
    )
    step_id: Id | None = None
    status: Status | None = None


class RoadmapQuery(BaseModel):
    """The query of GET /roadmap."""

    model_config = ConfigDict(extra="forbid")

    user_id: Id


class Resource(BaseModel):
    """kind: what it is. by: who wrote or gives it. language: ISO 639-1, of its own words."""

    kind: Literal["book", "course"]
    title: str
    by: str
    language: str


class Step(BaseModel):
    step_id: str
    competency: str
    why: str = Field(description="What in the topic asks for it.")
    resources: list[Resource]
    status: Status
    changed_at: datetime | None = Field(description="When the status was last set; null: never.")


class RoadmapResponse(BaseModel):
    user_id: str
    topic: str
    made_at: datetime
    steps: list[Step]
    done: int
    progress: Share = Field(description="Share of the steps that are done.")
