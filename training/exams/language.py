"""The language seat's exam: fresh conversations, and how surprising the coach's words are to who sits it.

The newest published days are kept: as many as it takes until enough conversations of enough users are in them, up to
a week. Every text counts once, and one that was told on an earlier day is left out, as is one that goes on from it or
is its beginning: whoever trained on that day would know it.
Conversations in which our own coach spoke are no exam: the words are the champion's, taken greedily, so nothing is
likelier to it than they are. No candidate could ever be less surprised, and the seat would never move again. Only what
people answered is asked about.
A unit is a user: what one person's conversations say of a model hangs together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np

from nightshift.contracts.conversations import CONVERSATIONS
from nightshift.errors import LakeError, NoDataError
from nightshift.lake import MAX_EXAM_DAYS, Lake
from nightshift.language.adapters import untuned
from nightshift.language.chat import Message
from nightshift.language.prompts import as_coach
from nightshift.settings import Settings
from training.behaviour.language import try_model
from training.evidence import Measured
from training.exams import Content, EmptyExamError, Scores
from training.exams.conversations import BEFORE, METRICS, Exam, close, engine_of, score_model
from training.qlora.small import base_ref
from training.recipe import Night

ENOUGH = 120  # conversations: with fewer a gain of a few per cent cannot be told from luck
USERS = 80  # the policy wants 60 of them, and some will be left out as told before
LEAST = 50  # conversations to learn from
SMOKE_DAYS = 3


class Coaching:
    """Examiner of the language seat: what did the coach say on days that nobody learnt from?"""

    unit = "users"
    metrics = METRICS

    def night(self, lake: Lake, day: date, settings: Settings, *, smoke: bool = False) -> Night:
        """The exam is the last published days; training at most `language_days` days before it."""
        days = [one for one in lake.days() if one <= day]
        if not days or days[-1] != day:
            raise LakeError(f"night {day} is not published; run `nightshift ingest --night {day}` first")
        counts = [told(lake, one) for one in days]
        asked, users = 0, set[str]()

        def take_in(one: date) -> None:
            nonlocal asked
            who = [row.user for row in _rows(lake, one, one) if not row.ours]
            asked += len(who)
            users.update(who)

        if not any(counts):
            raise NoDataError(
                f"night {day}: no conversations are in the lake: the language seat is left out tonight"
            )
        length, at_most = settings.exam_days, max(settings.exam_days, min(MAX_EXAM_DAYS, len(days) // 3))
        for one in days[-length:]:
            take_in(one)
        while length < at_most and (asked < ENOUGH or len(users) < USERS):
            length += 1
            take_in(days[-length])
        past = days[:-length]
        window = min(settings.language_days, SMOKE_DAYS) if smoke else settings.language_days
        learnt = past[-1] if past else day
        start = max(days[0], learnt - timedelta(days=window - 1))
        known = sum(count for one, count in zip(days, counts, strict=True) if start <= one <= learnt and past)
        if known < LEAST or not sum(counts[-length:]):
            raise NoDataError(
                f"night {day}: {known} conversations to learn from and {sum(counts[-length:])} to be examined on are "
                f"in the lake, {LEAST} and 1 are needed: the language seat is left out tonight"
            )
        return Night(night=day, train_start=start, train_end=learnt, exam_start=days[-length])

    def digest(self, lake: Lake, night: Night) -> str:
        return lake.digest(night.train_start, night.train_end, tables=(CONVERSATIONS.name,))

    def content(self, lake: Lake, settings: Settings, night: Night) -> Content:
        """Every published day's conversations, by the digest of their file; days without any are left out."""
        return Content(
            training=published(lake, night.train_start, night.train_end),
            exam=published(lake, night.exam_start, night.night),
        )

    def set(self, lake: Lake, settings: Settings, night: Night) -> Exam:
        return build_exam(lake, night, settings)

    def baselines(self, lake: Lake, settings: Settings, night: Night) -> dict[str, Any]:
        """The base that the settings name, untuned: what no night of training may fall behind.

        Raises:
            BaseModelError: that base cannot be had.
        """
        ref = base_ref(settings)
        return {"untuned base": untuned(ref, engine_of(settings, ref).base.digest)}

    def score(self, model: Any, exam: Exam) -> Scores:
        return score_model(model, exam)

    def behaviour(self, model: Any, exam: Exam) -> Measured:
        return try_model(model, exam)

    def rest(self) -> None:
        """A card of 12 GB holds one base, and the candidate's service opens its own."""
        close()

    def about(self, exam: Exam) -> str:
        left = f"; {exam.ours} that our own coach spoke in" if exam.ours else ""
        left += f"; {exam.repeats} told before or twice" if exam.repeats else ""
        left += f"; {exam.too_long} that begin too long" if exam.too_long else ""
        return (
            f"{len(exam.conversations):,} conversations of {len(exam):,} users; only what the coach said is "
            f"scored{'; left out' + left if left else ''}"
        )


EXAMINER = Coaching()


def told(lake: Lake, day: date) -> int:
    """How many conversations a published day has."""
    table = (lake.entry(day) or {"tables": {}})["tables"].get(CONVERSATIONS.name)
    return int(table["rows"]) if table else 0


def published(lake: Lake, start: date, end: date) -> dict[str, str]:
    """Day → sha256 of its conversations, of the published days start..end that have any."""
    return {
        day.isoformat(): str((lake.entry(day) or {})["tables"][CONVERSATIONS.name]["sha256"])
        for day in lake.days()
        if start <= day <= end and told(lake, day)
    }


def build_exam(lake: Lake, night: Night, settings: Settings) -> Exam:
    """The exam of `night`: what people answered on exam_start..night, in conversations that nobody told before.

    Raises:
        EmptyExamError: there are none.
    """
    whole, begun = set[bytes](), set[bytes]()  # what was told before: to its end, and up to some answer
    for row in _rows(lake, lake.days()[0], night.exam_start - timedelta(days=1)):
        texts = beginnings(row.talk)
        whole.add(texts[-1])
        begun.update(texts)
    who, talks, ours, repeats, too_long = [], [], 0, 0, 0
    for row in _rows(lake, night.exam_start, night.night):
        texts, talk = beginnings(row.talk), as_coach(row.talk)
        if row.ours:
            ours += 1
        elif texts[-1] in begun or not whole.isdisjoint(texts):
            repeats += 1
        elif _before(talk) > BEFORE:
            too_long += 1
        else:
            who.append(row.user)
            talks.append(talk)
            begun.add(texts[-1])
    if not talks:
        raise EmptyExamError(
            f"exam {night.exam_start}..{night.night}: nothing is left to ask about: of {ours + repeats + too_long} "
            f"conversations our own coach spoke in {ours}, {repeats} were told before, {too_long} begin with more than "
            f"{BEFORE} bytes; bring conversations in which people answer, or raise NIGHTSHIFT_EXAM_DAYS (now "
            f"{settings.exam_days})"
        )
    users = sorted(set(who))
    place = {user: number for number, user in enumerate(users)}
    return Exam(
        users=users,
        user=np.array([place[user] for user in who], dtype=np.int64),
        conversations=talks,
        start=night.exam_start,
        end=night.night,
        digest=hashlib.sha256(json.dumps([who, talks], ensure_ascii=False).encode()).hexdigest(),
        settings=settings,
        ours=ours,
        repeats=repeats,
        too_long=too_long,
    )


def text_of(talk: Sequence[Message]) -> bytes:
    """sha256 of what was said, whoever said it to whom and under which prompt; spaces and case do not count."""
    said = [[m["role"], "".join(m["content"].split()).casefold()] for m in talk if m["role"] != "system"]
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).digest()


def beginnings(talk: Sequence[Message]) -> list[bytes]:
    """`text_of` a conversation up to each of its answers; the last is that of all of it."""
    ends = [place for place, message in enumerate(talk, 1) if message["role"] == "assistant"]
    return [text_of(talk[:end]) for end in ends if end < len(talk)] + [text_of(talk)]


def _before(talk: Sequence[Message]) -> int:
    """Bytes of UTF-8 before the first answer."""
    total = 0
    for message in talk:
        if message["role"] == "assistant":
            break
        total += len(message["content"].encode())
    return total


@dataclass(frozen=True)
class _Row:
    """ours: whether the assistant's words are those of our own coach."""

    user: str
    talk: list[Message]
    ours: bool


def _rows(lake: Lake, start: date, end: date) -> Iterator[_Row]:
    """The published conversations, in the order of the days and of their ids."""
    rows = lake.read(CONVERSATIONS.name, start, end)
    for row in rows.sort_by([("day", "ascending"), ("conversation_id", "ascending")]).to_pylist():
        talk = [{"role": m["role"], "content": m["content"]} for m in row["messages"]]
        yield _Row(str(row["user_id"]), talk, row.get("said_by", "person") == "coach")
