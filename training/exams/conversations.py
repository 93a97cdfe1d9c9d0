"""The one scorer of language models: how surprising what the coach said to each user is to a model.

The base that a model belongs to is opened once and kept for whoever sits next: candidate, champion, reference and
baseline mostly share it. Another base takes its place, as a card of 12 GB holds one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from nightshift.errors import BaseModelError
from nightshift.language.bases import BaseRef, open_base
from nightshift.language.chat import Message
from nightshift.language.engine import Engine, Told
from nightshift.language.prompts import PROFILE
from nightshift.seats import LanguageModel
from nightshift.settings import Settings
from training.exams import Scores

METRICS = ("bits_per_byte", "nll", "worst_bits_per_byte", "perplexity")
TOKENS = 4_096  # of a conversation; of a base with a shorter context, the engine reads that much
# Bytes before the first answer, the prompt's among them; in Korean some 400 characters of the user's. A tokenizer makes
# a token of each at most, and a third more of nothing but special tokens, which are taken apart: with the template that
# leaves some of the answer within the built-in base's context of 2,048.
BEFORE = 1_500
WORST = 0.9  # quantile over users
SITTING = "sitting"  # the adapter's name in the engine


@dataclass(frozen=True)
class Exam:
    """user [n] int64 indexes `users`, in the order of `conversations` [n], each as the coach was asked it.

    settings: where the bases are. ours, repeats, too_long: how many conversations were left out, and why.
    digest: sha256 of all of it: equal digests mean equal exams.
    """

    users: list[str]
    user: np.ndarray
    conversations: list[list[Message]]
    start: date
    end: date
    digest: str
    settings: Settings = field(repr=False, compare=False)
    ours: int = 0
    repeats: int = 0
    too_long: int = 0

    def __len__(self) -> int:
        return len(self.users)

    def by_user(self, above: np.ndarray, below: np.ndarray, asked: np.ndarray | None = None) -> np.ndarray:
        """Sum of above [n] by sum of below [n] of each user's conversations, float64 [users].

        asked [n]: of these conversations alone. NaN where a user has none, or nothing was said in them.
        """
        weight = np.ones(len(self.user)) if asked is None else asked.astype(np.float64)
        parts = [np.bincount(self.user, weights=weight * one, minlength=len(self)) for one in (above, below)]
        return np.divide(parts[0], parts[1], out=np.full(len(self), np.nan), where=parts[1] > 0)


def score_model(model: LanguageModel, exam: Exam) -> Scores:
    """Bits per byte and nll (nats per token) of what the coach said, per user (over all of a user's conversations).

    Bits per byte can be compared between models with different tokenizers (Gao et al. 2020, The Pile, section 3.1);
    nll, and perplexity (exp of the nll over all tokens), only between equal ones. worst_bits_per_byte: the 90th
    percentile over users. Slices are of bits per byte.

    Raises:
        BaseModelError: the model's base cannot be had, or the model does not fit it.
    """
    with opened(exam.settings, model) as (engine, name):
        told = engine.surprise(exam.conversations, name, limit=TOKENS)
    nats, tokens, size = columns(told)
    bits = nats / math.log(2)
    per_user = exam.by_user(bits, size)
    totals = {
        "perplexity": float(np.exp(min(nats.sum() / max(tokens.sum(), 1), 700.0))),
        "worst_bits_per_byte": float(np.quantile(per_user, WORST)),
    }
    slices = {name: exam.by_user(bits, size, asked) for name, asked in divided(exam.conversations).items()}
    return Scores(
        {"bits_per_byte": per_user, "nll": exam.by_user(nats, tokens)}, totals, slices, "bits_per_byte"
    )


def columns(told: Sequence[Told]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nats, tokens and bytes, float64 [n] each."""
    rows = np.array([[one.nats, one.tokens, one.bytes] for one in told], dtype=np.float64).reshape(-1, 3)
    return rows[:, 0], rows[:, 1], rows[:, 2]


def divided(conversations: Sequence[Sequence[Message]]) -> dict[str, np.ndarray]:
    """Name of a slice → whether a conversation is of it, bool [n]; slices without any are left out."""
    said = ["".join(m["content"] for m in talk if m["role"] == "assistant") for talk in conversations]
    asked = ["".join(m["content"] for m in talk if m["role"] == "user") for talk in conversations]
    profile = np.array([talk[0]["content"] == PROFILE for talk in conversations], dtype=bool)
    korean = np.array([hangul(text) >= 0.5 for text in asked], dtype=bool)
    several = np.array(
        [sum(m["role"] == "assistant" for m in talk) > 1 for talk in conversations], dtype=bool
    )
    length = np.array([len(text) for text in said])
    long = length > (np.median(length) if len(length) else 0)
    found = {
        "task: coaching": ~profile,
        "task: profile": profile,
        "language: Korean": korean,
        "language: other": ~korean,
        "exchanges: one": ~several,
        "exchanges: several": several,
        "answers: short": ~long,
        "answers: long": long,
    }
    return {name: chosen for name, chosen in found.items() if chosen.any()}


def hangul(text: str) -> float:
    """Share of the letters that are Hangul; 0 without letters."""
    letters = [letter for letter in text if letter.isalpha()]
    return sum("가" <= letter <= "힣" or "ㄱ" <= letter <= "ㆎ" for letter in letters) / max(len(letters), 1)


# --- the base that is open -------------------------------------------------------------------------------

_open: tuple[tuple[str, BaseRef], Engine] | None = None
_opening = threading.RLock()


@contextmanager
def opened(settings: Settings, model: LanguageModel) -> Iterator[tuple[Engine, str]]:
    """The engine of the model's base, and the name that the model has in it until the end."""
    with _opening:
        engine = engine_of(settings, BaseRef(model.base, model.revision))
        try:
            engine.add(SITTING, model)
        except BaseModelError:  # the engine has tidied up after it
            raise
        except Exception:
            close()  # half an adapter may be left in the base, and whoever sits next would stumble over it
            raise
        try:
            yield engine, SITTING
        finally:
            engine.remove(SITTING)


def engine_of(settings: Settings, ref: BaseRef) -> Engine:
    """The engine with that base, kept from the last time if it is the same. Raises as `open_base`."""
    global _open
    wanted = (str(settings.home), ref)
    with _opening:
        if _open is None or _open[0] != wanted:
            close()
            _open = wanted, Engine(open_base(settings, ref))
        return _open[1]


def close() -> None:
    """Give back the memory of the base that is open, if one is."""
    global _open
    with _opening:
        if _open is not None:
            engine = _open[1]
            _open = None
            engine.close()
