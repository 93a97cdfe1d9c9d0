"""What a trial asks the coach, and which of its answers are right."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from nightshift.coaching import VECTOR_SIZE, ChatRequest, ProfileRequest
from nightshift.language.prompts import VALUES, as_coach, as_profile
from nightshift.settings import Settings
from tests.conftest import TINY_START
from training.exams.conversations import Exam
from training.questions import CHAT_CHARACTERS, CHATS, PROFILES, Question, questions


def exam(count: int) -> Exam:
    """Conversations of two exchanges; every fifth is a profile pair, and the last one is far too long to ask."""
    talks = []
    for n in range(count):
        said = [
            {"role": "user", "content": f"{n}번째 일이 힘들어요."},
            {"role": "assistant", "content": "무엇이 힘드세요?"},
            {"role": "user", "content": "사람이요." if n < count - 1 else "가" * CHAT_CHARACTERS},
            {"role": "assistant", "content": "누가요?"},
        ]
        talks.append(as_profile(said, dict.fromkeys(VALUES, 0.5)) if n % 5 == 0 else as_coach(said))
    users = [f"u{n}" for n in range(count)]
    config = Settings(_env_file=None)  # type: ignore[call-arg]
    return Exam(users, np.arange(count), talks, TINY_START, TINY_START, "digest", config)


def asked(path: str) -> Question:
    return next(question for question in questions("language", exam(40), 3) if question.path == path)


def test_the_coach_is_asked_few_things_that_its_service_takes_and_the_same_for_one_version() -> None:
    found = questions("language", exam(40), 3)
    assert [question.path for question in found].count("/chat") == CHATS and len(found) == CHATS + PROFILES
    for question in found:
        kind = ChatRequest if question.path == "/chat" else ProfileRequest
        told = kind.model_validate_json(json.dumps(question.body))
        assert told.messages and told.messages[-1].role == "user"
        assert "<talk>" not in told.messages[-1].content
        assert sum(len(message.content) for message in told.messages) <= CHAT_CHARACTERS
    assert found == questions("language", exam(40), 3)
    assert len(questions("language", exam(3), 3)) == CHATS + PROFILES, "asked again where the exam has few"
    assert questions("language", exam(1), 3) == []


def reply(told: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=told)


CHAT = {
    "request_id": "r", "conversation_id": "c", "user_id": "u", "message": {"role": "assistant", "content": "네."},
    "model_version": "3", "tokens": 2, "stored": False,
}  # fmt: skip
PROFILE: dict[str, Any] = {
    "user_id": "u", "value_score": dict.fromkeys(VALUES, 0.5), "persona_vector": [0.0] * VECTOR_SIZE,
    "profile_vector": [0.0] * VECTOR_SIZE, "embedding_version": "e", "model_version": "3",
}  # fmt: skip


def test_words_of_this_version_are_right_and_a_whole_profile_is() -> None:
    assert asked("/chat").right(reply(CHAT), 3)
    assert asked("/profile").right(reply(PROFILE), 3)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/chat", reply({**CHAT, "message": {"role": "assistant", "content": " \n"}})),
        ("/chat", reply({**CHAT, "model_version": "2"})),
        ("/chat", reply(CHAT, 503)),
        ("/chat", reply({name: value for name, value in CHAT.items() if name != "message"})),
        ("/profile", reply({**PROFILE, "value_score": {**PROFILE["value_score"], "growth": 1.5}})),
        ("/profile", reply({**PROFILE, "persona_vector": [None] * VECTOR_SIZE})),
        ("/profile", reply({**PROFILE, "model_version": None})),
    ],
)
def test_no_words_another_version_or_half_an_answer_are_wrong(path: str, wrong: httpx.Response) -> None:
    assert not asked(path).right(wrong, 3)
