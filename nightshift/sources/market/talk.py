"""What the market's people say to the career coach, and what it answers.

Planted: every user is of one PERSONA, which says what they want of work (VALUES, 0 to 1), and talks accordingly. What
means much or little to them they say; what does not, they leave out. Of a day's conversations about

    61 %  are coaching: 1 to 4 exchanges in which the coach draws out what matters, about a topic of words.py
    16 %  are profile pairs: what somebody said, and their planted values as profile mode writes them
    10 %  ask for what must be refused (somebody's data, harm), and are
     5 %  have the user's own personal data in them (invented), which the coach never repeats
     8 %  are rubbish, as real life has it: repeats, near repeats, empty turns, curses, no consent, far too long

85 % of the users talk Korean, the others English. From `settings.market_drift_day` on most talk is about other
fields. A conversation depends on the seed, its day and its number alone.

`corpus` is talk of the same kinds about other fields and everyday life, in part in simpler words: what the built-in
base model has read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from string import Formatter
from typing import Any

import numpy as np
import pyarrow as pa

from nightshift.cleaning import mask
from nightshift.contracts.conversations import CONVERSATIONS, MAX_CHARACTERS
from nightshift.errors import SourceError
from nightshift.language.chat import Message
from nightshift.language.prompts import VALUES, as_profile
from nightshift.settings import Settings
from nightshift.sources.market import phrases
from nightshift.sources.market.phrases import GENERAL, NIGHTS, REFUSALS, Bank, Word
from nightshift.sources.market.world import World

TALK_STREAM, PERSON_STREAM = 9, 10  # what a random stream is for, beside those of world.py and indicators.py

LEVELS = {"+": 0.85, "=": 0.5, "-": 0.15}  # of a value: much, some, little
SPREAD = 0.05  # of a user around their persona, evenly to both sides
PERSONAS = {  # growth, stability, autonomy, reward, impact
    "climber": "+-=+=",
    "settler": "-+-==",
    "free spirit": "=-+-=",
    "helper": "===-+",
    "earner": "=+=+-",
    "learner": "+==-+",
    "founder": "=-+=+",
}
KOREAN = 0.85  # of the users
MOVED = 0.8  # of the talk since the drift, that is about other fields

# Shares of a day's conversations, and of the corpus.
KINDS = {"coaching": 0.61, "profile": 0.16, "refusal": 0.10, "personal": 0.05}
RUBBISH = {"repeat": 0.02, "near": 0.02, "empty": 0.01, "toxic": 0.01, "unwilling": 0.015, "long": 0.005}
SHARED = 0.5  # of the corpus' talk of work: in the nights' sentences, about other fields
CORPUS_KINDS = {"coaching": 0.48, "profile": 0.19, "refusal": 0.10, "personal": 0.04, "everyday": 0.19}


class Talk:
    """A day's conversations, and what the people in them want of work."""

    def __init__(self, settings: Settings) -> None:
        self.world = World(settings)
        self.count = settings.market_conversations

    def told(self, day: date) -> pa.Table:
        """Contract `conversations`, as they were said: not cleaned, and not all with consent."""
        kinds = KINDS | RUBBISH
        rows: list[dict[str, Any]] = []
        for number in range(self.count):
            random = self.world.random(TALK_STREAM, day.toordinal(), number)
            kind = _drawn(random, kinds)
            row = self._row(random, day, number, kind)
            rows.append(_again(random, row, kind, rows) if kind in ("repeat", "near") else row)
        return CONVERSATIONS.table(rows)

    def values_of(self, user_ids: Sequence[str]) -> np.ndarray:
        """What users want of work, float64 [len(user_ids), 5] in 0..1, in the order of `prompts.VALUES`.

        Raises:
            SourceError: an id that the market does not give.
        """
        return np.array([self._person(user_id)[1] for user_id in user_ids]).reshape(-1, len(VALUES))

    def persona_of(self, user_id: str) -> str:
        """The name of a user's persona. Raises SourceError as `values_of` does."""
        return self._person(user_id)[0]

    def _person(self, user_id: str) -> tuple[str, np.ndarray, str]:
        """(persona, values, language)."""
        if not re.fullmatch(r"u\d{6,}", user_id):
            raise SourceError(f"market: {user_id!r} is no user of the market; ids are like u000042")
        random = self.world.random(PERSON_STREAM, int(user_id[1:]))
        persona, values = _persona(random)
        return persona, values, "ko" if random.random() < KOREAN else "en"

    def _row(self, random: np.random.Generator, day: date, number: int, kind: str) -> dict[str, Any]:
        users = self.world.opening_users + self.world.day_number(day) * self.world.daily(
            self.world.opening_users
        )
        user_id = f"u{random.integers(users):06d}"
        _, values, language = self._person(user_id)
        later = self.world.drifted(day) and random.random() < MOVED
        speaker = Speaker(random, NIGHTS[language], values, later=later)
        said = _spoilt(kind, speaker) if kind in RUBBISH else getattr(speaker, kind)()
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return {
            "conversation_id": f"t{day:%Y%m%d}-{number:06d}",
            "user_id": user_id,
            "at": midnight + timedelta(seconds=int(random.integers(86_400))),
            "messages": said,
            "consent": kind != "unwilling",
            "said_by": "person",
        }


def corpus(count: int, seed: int) -> list[list[Message]]:
    """`count` general conversations, cleaned of personal data; the first ones are the same for any count."""
    talks: list[list[Message]] = []
    for number in range(count):
        random = np.random.default_rng([seed, TALK_STREAM, number])
        _, values = _persona(random)
        language = "ko" if random.random() < KOREAN else "en"
        bank, kind = GENERAL[language], _drawn(random, CORPUS_KINDS)
        if kind != "everyday" and random.random() < SHARED:
            bank = replace(NIGHTS[language], fields=bank.fields)
        said = getattr(Speaker(random, bank, values, later=False), kind)()
        talks.append([{**message, "content": mask(message["content"])} for message in said])
    return talks


class Speaker:
    """One user in one talk with the coach: draws sentences from a bank and fills their slots."""

    def __init__(self, random: np.random.Generator, bank: Bank, values: np.ndarray, *, later: bool) -> None:
        self.random, self.bank, self.values = random, bank, dict(zip(VALUES, values.tolist(), strict=True))
        self.slots: dict[str, str] = {
            "field": Word(self.one(bank.fields[later])),
            "role": Word(self.one(bank.roles)),
            "years": Word(self.one(bank.years)),
            "name": Word(self.one(bank.names)),
            "feeling": self.one(bank.feelings),
            "food": Word(self.one(phrases.FOODS)),
            "place": Word(self.one(phrases.PLACES)),
            "hobby": Word(self.one(phrases.HOBBIES)),
        }

    def one(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def say(self, choices: Sequence[str], **slots: str) -> str:
        return str(self.one(choices)).format(**self.slots, **slots)

    def coaching(self) -> list[Message]:
        """1 to 4 exchanges: an opening, up to two values, thanks."""
        exchanges = int(self.random.choice([1, 2, 3, 4], p=[0.3, 0.35, 0.25, 0.1]))
        told = self._marked()
        first = told[0]
        opener = self.one(self.bank.openers)
        # Only what was said is taken up.
        fitting = [said for said in self.bank.reflections if _slots(said) <= _slots(opener)]
        answer = f"{self.say(fitting)} {self._question(exchanges == 1)}"
        talk = _exchange(opener.format(**self.slots), answer)
        if exchanges >= 2:
            ending = self._probe(told[1]) if exchanges >= 3 else self._step(first)
            talk += _exchange(self.value(first), f"{self._heard(first)} {ending}")
        if exchanges >= 3:
            talk += _exchange(self.value(told[1]), f"{self._heard(told[1])} {self._step(first)}")
        if exchanges == 4:
            name = Word(self.bank.values[first])
            talk += _exchange(self.say(self.bank.thanks), self.say(self.bank.closings, value=name))
        return talk

    def profile(self) -> list[Message]:
        """What somebody said of every value that means much or little to them, and their values as JSON."""
        said = [{"role": "user", "content": self.say(self.bank.openers)}]
        said += [{"role": "user", "content": self.value(value)} for value in self._marked()]
        return as_profile(said, answer=self.values)

    def refusal(self) -> list[Message]:
        asked, answer = self.one(self.bank.refused)
        return _exchange(asked.format(**self.slots), answer.format(**self.slots))

    def everyday(self) -> list[Message]:
        asked, answer = self.one(self.bank.everyday)
        return _exchange(asked.format(**self.slots), answer.format(**self.slots))

    def personal(self) -> list[Message]:
        asked, answer = self.one(self.bank.personal)
        personal = _personal_data(self.random)
        question = self.say(self.bank.questions)
        return _exchange(asked.format(**self.slots, **personal), answer.format(question=question))

    def value(self, value: str) -> str:
        """What this user says of a value."""
        much = self.values[value] > LEVELS["="]
        said = self.say(self.bank.high[value] if much else self.bank.low[value])
        start = self.one(self.bank.starts)
        return f"{self._joined(start, said)}."

    @staticmethod
    def _joined(start: str, said: str) -> str:
        if start.startswith("I think") and not said.startswith("I "):
            return said
        return start + said

    def _marked(self) -> list[str]:
        """The values that mean much or little to this user, in the order in which they come up."""
        found = [value for value in VALUES if abs(self.values[value] - LEVELS["="]) > 2 * SPREAD]
        return [found[n] for n in self.random.permutation(len(found))]

    def _question(self, only: bool) -> str:
        """An open question, or of a talk that ends with it, sometimes about one value."""
        if only and self.random.random() < 0.5:
            return self._probe(self.one(VALUES))
        return self.say(self.bank.questions)

    def _probe(self, value: str) -> str:
        return self.say(self.bank.probes[value])

    def _heard(self, value: str) -> str:
        much = self.values[value] > LEVELS["="]
        name = Word(self.bank.values[value])
        said = self.say(self.bank.heard_high if much else self.bank.heard_low, value=name)
        return said[0].upper() + said[1:]

    def _step(self, value: str) -> str:
        """A proposal that suits what this user wants most; about `value` where that means much to them."""
        wanted = value if self.values[value] > LEVELS["="] else max(VALUES, key=lambda v: self.values[v])
        return self.say(self.bank.steps[wanted])


def _slots(template: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(template)} - {None}


def _exchange(user: str, coach: str) -> list[Message]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": coach}]


def _drawn(random: np.random.Generator, shares: dict[str, float]) -> str:
    return str(list(shares)[int(np.searchsorted(np.cumsum(list(shares.values())), random.random() * 0.9999))])


def _persona(random: np.random.Generator) -> tuple[str, np.ndarray]:
    name = list(PERSONAS)[int(random.integers(len(PERSONAS)))]
    values = np.array([LEVELS[level] for level in PERSONAS[name]])
    return name, values + random.uniform(-SPREAD, SPREAD, len(values))


def _again(
    random: np.random.Generator, row: dict[str, Any], kind: str, before: list[dict[str, Any]]
) -> dict[str, Any]:
    """`row`, with what the same user said before on this day, or nearly; the first of a day says something new."""
    talks = [row for row in before if row["messages"][0]["role"] == "user"]
    if not talks:
        return row
    earlier = talks[int(random.integers(len(talks)))]
    said = [dict(message) for message in earlier["messages"]]
    if kind == "near":
        said[-2]["content"] += " 🙂"
    return {**earlier, "conversation_id": row["conversation_id"], "at": row["at"], "messages": said}


def _spoilt(kind: str, speaker: Speaker) -> list[Message]:
    """A conversation that the cleaning drops, for the reason that `kind` says."""
    talk = speaker.coaching()
    if kind == "empty":
        talk[-1]["content"] = speaker.one(("", " ", "\n"))
    if kind == "toxic":
        talk[-2]["content"] = speaker.one(phrases.TOXIC)
    if kind == "long":
        said = talk[-2]["content"] + " "
        talk[-2]["content"] = said * (MAX_CHARACTERS // len(said) + 1)
    return talk


def _personal_data(random: np.random.Generator) -> dict[str, str]:
    """Invented personal data in the forms that people write them in."""

    def digits(count: int) -> str:
        return "".join(str(digit) for digit in random.integers(0, 10, count))

    middle, last = digits(4), digits(4)
    phones = (f"010-{middle}-{last}", f"010{middle}{last}", f"010 {middle} {last}", f"+82 10-{middle}-{last}")
    born = f"{random.integers(60, 100):02d}{random.integers(1, 13):02d}{random.integers(1, 29):02d}"
    number = "4" + digits(14)
    card = number + str(_check_digit(number))
    parts = [card[n : n + 4] for n in range(0, 16, 4)]
    return {
        "phone": phones[int(random.integers(len(phones)))],
        "resident": f"{born}-{random.integers(1, 3)}{digits(6)}",
        "email": f"user{digits(4)}@example.com",
        "card": ("-", " ", "")[int(random.integers(3))].join(parts),
    }


def _check_digit(number: str) -> int:
    """The digit that makes a card number of an even length pass the Luhn test (ISO/IEC 7812-1)."""
    doubled = (int(digit) * (2 - n % 2) for n, digit in enumerate(number))
    return -sum(d // 10 + d % 10 for d in doubled) % 10


__all__ = ["PERSONAS", "REFUSALS", "Talk", "corpus"]
