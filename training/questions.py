"""What a trial asks a seat's service, and which answers are right. The requests and answers are those of the seat.

What cannot be asked of any model (a topic that the feature store knows nothing fresh of) is asked in another way, or
is left out: it would say nothing about this one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pandas as pd
from pydantic import BaseModel, TypeAdapter, ValidationError

from nightshift.coaching import ChatResponse, ProfileResponse
from nightshift.contracts.features import TOPIC_WINDOW, window_column
from nightshift.contracts.indicators import INDICATOR_NAMES
from nightshift.seats import (
    FORECASTER,
    LANGUAGE,
    RECOMMENDER,
    ForecastResponse,
    Id,
    RecommendResponse,
    TrendsResponse,
)

_ID = TypeAdapter(Id)
TRIED = "the trial of a candidate"  # who talks with the coach; what is kept of it goes with the trial
ASKED, STRANGERS = 200, 20  # requests that are measured, and how many of them are of users whom nobody knows
CHATS, PROFILES = 16, 4  # of the coach, whose answers take seconds
CHAT_TOKENS, CHAT_CHARACTERS = 32, 2_000  # of an answer; of a conversation that is asked about


@dataclass(frozen=True)
class Question:
    """body: JSON, None for a GET. answer: its type. instead: asked where the store has nothing of what it is about."""

    path: str
    body: dict[str, Any] | None
    answer: type[BaseModel]
    instead: Question | None = None

    def right(self, response: httpx.Response, number: int) -> bool:
        """Whether it is answered by this version, with something, nothing twice, and all numbers finite."""
        if response.status_code != 200:
            return False
        try:
            answer = self.answer.model_validate_json(response.content)
        except ValidationError:
            return False
        told = answer.model_dump()
        listed = [one.get("item_id", one.get("topic")) for one in told.get("items", told.get("trends", ()))]
        something = bool(listed) or isinstance(answer, ForecastResponse | ProfileResponse)
        if isinstance(answer, ChatResponse):
            something = bool(answer.message.get("content", "").strip())
        return (
            told["model_version"] == str(number)
            and something
            and len(listed) == len(set(listed))
            and all(math.isfinite(value) for value in _numbers(told))
        )


# Made off the request path after the version is seated, so it is waited for, not timed from there.
TRENDS = Question("/trends?k=10", None, TrendsResponse)


def questions(seat: str, exam: Any, number: int) -> list[Question]:
    """As many as are measured from the seat's exam, again and again where it has fewer; equal for the same version."""
    asker, count = _ASKERS[seat]
    asked = asker(exam)
    shuffled = [asked[place] for place in np.random.default_rng(number).permutation(len(asked))]
    return list(itertools.islice(itertools.cycle(shuffled), count))


def unasked(question: Question, response: httpx.Response) -> bool:
    """Whether the service says that it has nothing to ask a model with: no fresh features, too little of a window."""
    if response.status_code not in (400, 404, 503) or question.body is None:
        return False
    try:
        detail = response.json()["detail"]
        return bool(detail) and detail[0]["loc"][0] in ("topic", "window")
    except (ValueError, KeyError, IndexError, TypeError):
        return False


def _recommendations(exam: Any) -> list[Question]:
    strangers = [f"a stranger to everybody, number {n}" for n in range(STRANGERS)]
    users = [*_some(exam.users, ASKED - STRANGERS), *strangers]
    return [Question("/recommend", {"user_id": user}, RecommendResponse) for user in users]


def _forecasts(exam: Any) -> list[Question]:
    """Every topic by its name, or by its window where its features are not fresh; and one bare window."""
    rows = exam.rows.drop_duplicates("topic", keep="last").set_index("topic")
    asked = []
    for topic in _some(exam.topics, ASKED - 1):
        window = Question("/forecast", {"window": _window(rows.loc[topic])}, ForecastResponse)
        asked.append(Question("/forecast", {"topic": topic}, ForecastResponse, instead=window))
    return [*asked, *(one.instead for one in asked[:1] if one.instead)]


def _talks(exam: Any) -> list[Question]:
    """The exam's conversations up to what the user said last, to be answered, and some to be profiled."""
    said = []
    for talk in exam.conversations:
        turns = [message for message in talk if message["role"] != "system"]
        while turns and turns[-1]["role"] != "user":
            turns.pop()
        if turns and not turns[-1]["content"].startswith("<talk>") and _characters(turns) <= CHAT_CHARACTERS:
            said.append(turns)
    few = [said[place * len(said) // CHATS] for place in range(CHATS)] if len(said) > CHATS else said
    chats = [
        Question(
            "/chat",
            {"user_id": TRIED, "messages": turns, "stream": False, "max_tokens": CHAT_TOKENS},
            ChatResponse,
        )
        for turns in few
    ]
    profiles = [
        Question("/profile", {"user_id": TRIED, "messages": turns}, ProfileResponse)
        for turns in few[:PROFILES]
    ]
    return [*chats, *profiles]


_ASKERS: dict[str, tuple[Callable[[Any], list[Question]], int]] = {
    RECOMMENDER.name: (_recommendations, ASKED),
    FORECASTER.name: (_forecasts, ASKED),
    LANGUAGE.name: (_talks, CHATS + PROFILES),
}


def _characters(turns: Sequence[dict[str, str]]) -> int:
    return sum(len(turn["content"]) for turn in turns)


def _window(row: pd.Series) -> list[list[float | None]]:
    """The four weeks of an exam's row, oldest first, as a request brings them."""
    return [
        [
            float(value) if pd.notna(value := row.get(window_column(name, ago))) else None
            for name in INDICATOR_NAMES
        ]
        for ago in reversed(range(TOPIC_WINDOW))
    ]


def _some(ids: Sequence[str], count: int) -> list[str]:
    """At most `count`, evenly spaced, of those that a client may send: the lake's can be longer."""
    sent = [one for one in ids if _sendable(one)]
    return [sent[place * len(sent) // count] for place in range(count)] if len(sent) > count else sent


def _sendable(one: str) -> bool:
    try:
        _ID.validate_python(one)
    except ValidationError:
        return False
    return True


def _numbers(told: Any) -> Iterator[float]:
    if isinstance(told, dict):
        told = list(told.values())
    if isinstance(told, list):
        for one in told:
            yield from _numbers(one)
    elif isinstance(told, float):
        yield told
