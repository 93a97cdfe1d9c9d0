"""A conversation with the coach: what of it is accepted, read, told as it is made, and remembered.

The system prompt is ours, and nothing a client sends can become one: roles are user and assistant, and what would be a
special token stays text (nightshift.language.chat).
Personal data in an answer are masked before they leave (nightshift.cleaning says what counts): of a stream the end is
held back while it could still become a phone number or an address.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from nightshift.cleaning import mask
from nightshift.coaching import ChatMessage
from nightshift.contracts.conversations import MAX_CHARACTERS, MAX_MESSAGES
from nightshift.language.chat import Message, prompt
from serving.edge import Problem

MAX_TOTAL = 32_000  # characters of a conversation; a long coaching session is some 5,000
MAX_ASKED = MAX_MESSAGES - 1  # the answer joins them
CONTEXT_TOKENS = (
    4_096  # read and written, whatever the base could: of an 8B model half a GiB of keys and values
)
RECENT, RECENT_SECONDS = 1_000, 3_600.0  # conversations that /profile may name

# What a masked pattern could still grow from: a run of digits with what stands between them, then the current word.
_HYPHENS = "\u00ad‐‑‒–—―−－ー﹣➖ㅡ"
_BETWEEN = re.compile(rf"[\d\s.()+*xX●○/_~·／～∼．＋（）\u200b\u200c\u200d\u2060\ufeff{_HYPHENS}-]")
_IN_WORD = re.compile(rf"[\w.+%@＠．＋{_HYPHENS}-]")
_OPENER = re.compile(r"[\d(+（＋]")


def check(messages: Sequence[ChatMessage], *, answered: bool = True) -> list[Message]:
    """The conversation as plain messages.

    answered: it ends with the user, who is to be answered; else either may have had the last word.

    Raises:
        Problem: 413 if it is too long, 400 if somebody says nothing or speaks out of turn; with the place.
    """
    if len(messages) > MAX_ASKED:
        raise _refused(
            413, ("messages",), f"{len(messages)} messages; at most {MAX_ASKED} are read: send the last ones"
        )
    total = 0
    for n, message in enumerate(messages):
        total += len(message.content)
        place = ("messages", n, "content")
        if len(message.content) > MAX_CHARACTERS:
            raise _refused(
                413, place, f"{len(message.content)} characters; a message has at most {MAX_CHARACTERS}"
            )
        if not message.content.strip():
            raise _refused(400, place, "says nothing")
        expected = ("user", "assistant")[n % 2]
        if message.role != expected:
            raise _refused(
                400, ("messages", n, "role"),
                f"is {message.role}, but user and assistant take turns and the user begins: {expected} was due",
            )  # fmt: skip
    if total > MAX_TOTAL:
        raise _refused(413, ("messages",), f"{total} characters; a conversation has at most {MAX_TOTAL}")
    if answered and len(messages) % 2 == 0:
        raise _refused(
            400, ("messages", len(messages) - 1, "role"), "is assistant: the last word must be the user's"
        )
    return [{"role": message.role, "content": message.content} for message in messages]


def fitting(
    tokenizer: Any,
    limit: int,
    messages: Sequence[Message],
    asked: Callable[[Sequence[Message]], list[Message]],
) -> tuple[list[Message], int]:
    """What is asked about as much of the end of a conversation as fits, and how many messages were left out.

    limit: tokens of a prompt. asked: the whole prompt of a conversation, such as prompts.as_coach.

    Raises:
        Problem: 413 if not even the last turn fits.
    """
    left = 0
    while True:
        whole = asked(messages[left:])
        tokens = len(prompt(tokenizer, whole))
        if tokens <= limit:
            return whole, left
        if left + 2 >= len(messages):
            raise _refused(
                413, ("messages", len(messages) - 1, "content"),
                f"{tokens} tokens with the coach's instructions; this model reads at most {limit}",
            )  # fmt: skip
        left += 2  # an exchange, so that the user still begins


class Masker:
    """Masks a text that comes in pieces: all that it gives, joined, is `mask` of all that it was given."""

    def __init__(self) -> None:
        self._raw = ""
        self._given = 0
        self._settled = 0  # up to here nothing can change any more
        self._number: int | None = (
            None  # where the run that a number may stand in begins, if the text ends in one
        )

    def add(self, piece: str) -> str:
        """What can be told by now; the end is held back while it could still become personal data."""
        before = self._settled
        for place, character in enumerate(piece, start=len(self._raw)):
            if not _BETWEEN.match(character):
                self._number = None
            elif self._number is None and _OPENER.match(character):
                self._number = place
            if not _IN_WORD.match(character):
                self._settled = place + 1 if self._number is None else self._number
        self._raw += piece
        return self._new(mask(self._raw[: self._settled])) if self._settled > before else ""

    def end(self) -> str:
        """The rest."""
        return self._new(mask(self._raw))

    def _new(self, masked: str) -> str:
        new = masked[self._given :]
        self._given = max(self._given, len(masked))
        return new


class Recent:
    """Conversations of late by user and id, in memory alone: what was really said in them, and not what a client says
    was; and /profile may name one instead of sending it again."""

    def __init__(self, most: int = RECENT, seconds: float = RECENT_SECONDS) -> None:
        self._most, self._seconds = most, seconds
        self._known: OrderedDict[tuple[str, str], tuple[float, list[Message], int]] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, user_id: str, conversation_id: str, messages: list[Message]) -> int:
        """Remember a conversation whose last two messages were just said. Returns the place from which on it was said
        here: where that began which is remembered, if this goes on with it word by word; else the last two alone.
        """
        with self._lock:
            before, own = messages[:-2], len(messages) - 2
            at, known, since = self._known.get((user_id, conversation_id), (0.0, [], 0))
            fresh = time.monotonic() - at <= self._seconds
            if fresh and since < own and known[:own] == before:
                own = since
            self._known[user_id, conversation_id] = (time.monotonic(), messages, own)
            self._known.move_to_end((user_id, conversation_id))
            while len(self._known) > self._most:
                self._known.popitem(last=False)
            return own

    def find(self, user_id: str, conversation_id: str) -> list[Message] | None:
        """The conversation, if this user had it of late."""
        with self._lock:
            at, messages, _ = self._known.get((user_id, conversation_id), (0.0, None, 0))
        return messages if time.monotonic() - at <= self._seconds else None


def _refused(status: int, loc: tuple[str | int, ...], msg: str) -> Problem:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    return Problem(status, f"{place}: {msg}", loc, msg)
