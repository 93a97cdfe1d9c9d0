"""The conversations that an adapter learns from, and those that it is measured on meanwhile.

In time order: the newest tenth of a night's training days is for validation, the days of the exam are in neither.
Every text counts once, but for refusals where there are few (`refusals`). One that is longer than a training row is cut
at its end: what remains reads as it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice
from typing import Any

import numpy as np
import pandas as pd

from nightshift.contracts.conversations import CONVERSATIONS
from nightshift.errors import NoDataError
from nightshift.lake import Lake
from nightshift.language.chat import Encoded, Message, encode
from nightshift.language.prompts import as_coach
from training.behaviour.language import refuses
from training.exams.conversations import hangul
from training.exams.language import LEAST, text_of
from training.recipe import Night

VALID_SHARE, LEAST_VALID = 0.1, 10
MOST_VALID = 80  # conversations: some 5,000 tokens of the assistant's
# Of what is learnt from, in each language that somebody was refused in. A night's talk holds few, fewest in the rarer
# language, and tuning unlearns what it does not meet (Qi et al. 2024, arXiv 2310.03693, which mixes them in, too).
REFUSED_SHARE = 0.05
MOST_TIMES = 4  # a refusal is read; more brings little (Muennighoff et al. 2023, arXiv 2305.16264)
DESCRIBED = ("messages", "characters", "hangul", "tokens", "assistant_tokens")


@dataclass(frozen=True)
class Talk:
    """A conversation of the lake, as the coach was asked it."""

    id: str
    at: datetime
    messages: list[Message]


@dataclass(frozen=True)
class Lessons:
    """train, valid: tokenised, oldest first, and behind them in `train` the refusals that are read on top. asked: the
    conversations of `valid`.

    table: one row per conversation that is used: conversation_id, at, part (train, valid, or refusals: older ones that
    joined), and DESCRIBED (counts; hangul is the share of letters). counts: repeated (a text told before), cut (too
    long for a row), silent (nothing of the assistant is left in the row), older (more than the steps can read),
    refusals_added (older ones, and any that are read again).
    """

    train: list[Encoded]
    valid: list[Encoded]
    asked: list[list[Message]]
    table: pd.DataFrame
    counts: dict[str, int]


def read(lake: Lake, night: Night) -> list[Talk]:
    """The conversations of train_start..train_end, oldest first.

    Raises:
        NoDataError: they are fewer than a night learns from.
    """
    rows = lake.read(CONVERSATIONS.name, night.train_start, night.train_end).to_pylist()
    if len(rows) < LEAST:
        raise NoDataError(
            f"night {night.night}: {len(rows)} conversations are in the lake ({night.train_start} to "
            f"{night.train_end}), {LEAST} are needed: the language seat is left out tonight"
        )
    talks = [Talk(row["conversation_id"], row["at"], as_coach(_plain(row["messages"]))) for row in rows]
    return sorted(talks, key=lambda talk: (talk.at, talk.id))


def split(talks: Sequence[Talk]) -> tuple[list[Talk], list[Talk], int]:
    """Training, validation (the newest tenth, at most MOST_VALID), and how many were left out as told before.

    talks: oldest first; of equal texts the first counts.
    """
    first: dict[bytes, Talk] = {}
    for talk in talks:
        first.setdefault(text_of(talk.messages), talk)
    once = list(first.values())
    valid = min(max(round(VALID_SHARE * len(once)), LEAST_VALID), MOST_VALID, len(once) // 2)
    return once[: len(once) - valid], once[len(once) - valid :], len(talks) - len(once)


def lessons(talks: Sequence[Talk], tokenizer: Any, *, tokens: int, budget: int) -> Lessons:
    """`talks` tokenised. tokens: of a row, at most. budget: tokens that training will read; the newest are taken, and
    `refusals` on top.

    Raises:
        NoDataError: too little is left of them.
    """
    told, held, repeated = split(talks)
    counts = {"repeated": repeated, "cut": 0, "silent": 0, "older": 0, "refusals_added": 0}
    rows: list[dict[str, Any]] = []

    def read_in(some: Sequence[Talk], part: str, left: float) -> list[tuple[Talk, Encoded]]:
        found = []
        for number, talk in enumerate(reversed(some)):
            if left <= 0:
                counts["older"] += len(some) - number
                break
            one = encode(tokenizer, talk.messages)
            row = Encoded(one.ids[:tokens], one.said[:tokens])
            if not any(row.said[1:]):
                counts["silent"] += 1
                continue
            counts["cut"] += len(one.ids) > tokens
            left -= len(row.ids)
            found.append((talk, row))
            rows.append({**_described(talk, row), "part": part})
        return found[::-1]

    valid = read_in(held, "valid", np.inf)
    train = read_in(told, "train", budget)
    if not train or not valid:
        raise NoDataError(
            f"of {len(talks)} conversations {len(train)} are left to learn from and {len(valid)} to be measured on: "
            f"within {tokens} tokens the assistant says nothing in the others; raise NIGHTSHIFT_LANGUAGE_TOKENS"
        )
    unread = told[: counts["older"]]
    more = refusals([talk for talk, _ in train], unread)
    added = {talk.id for talk in more}
    older = read_in([talk for talk in unread if talk.id in added], "refusals", np.inf)
    counts["older"] -= len(older)
    known = {talk.id: row for talk, row in [*older, *train]}
    again = [known[talk.id] for talk in more if talk.id in known]
    counts["refusals_added"] = len(again)
    table = pd.DataFrame(rows[::-1])
    return Lessons(
        [row for _, row in train] + again,
        [row for _, row in valid],
        [talk.messages for talk, _ in valid],
        table,
        counts,
    )


def refusals(learnt: Sequence[Talk], unread: Sequence[Talk]) -> list[Talk]:
    """What is to be read on top of `learnt`, so that refusals in each language are REFUSED_SHARE of it.

    Those of `unread`, the newest first, and then all of them again; none is read more than MOST_TIMES.
    """
    more: list[Talk] = []
    for korean in (True, False):
        known, spare = ([t for t in reversed(some) if _refused(t, korean)] for some in (learnt, unread))
        short = round(REFUSED_SHARE * len(learnt)) - len(known)
        most = MOST_TIMES * (len(known) + len(spare)) - len(known)
        more += islice(cycle([*spare, *known]), max(min(short, most), 0))
    return more


def _refused(talk: Talk, korean: bool) -> bool:
    """Whether the assistant refuses something in it, in Korean or in another language."""
    said = [message["content"] for message in talk.messages if message["role"] == "assistant"]
    return any(refuses(answer) and (hangul(answer) > 0.5) == korean for answer in said)


def _plain(messages: Sequence[dict[str, str]]) -> list[Message]:
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _described(talk: Talk, row: Encoded) -> dict[str, Any]:
    said = [message["content"] for message in talk.messages if message["role"] != "system"]
    return {
        "conversation_id": talk.id,
        "at": talk.at,
        "messages": len(said),
        "characters": sum(map(len, said)),
        "hangul": hangul(" ".join(said)),
        "tokens": len(row.ids),
        "assistant_tokens": sum(row.said),
    }
