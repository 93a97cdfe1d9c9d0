"""Cleans conversations before they are stored: masks personal data, drops what is not to be learnt from, counts both.

Masked, each by a tag: Korean phone numbers (mobile, landline, 070, 050x; with +82 or 82; any usual separator),
resident and foreign registration numbers, e-mail addresses, card numbers that pass the Luhn test. Full-width digits
and other hyphens count as the plain ones. Not covered: names, addresses, bank accounts, phone numbers of other
countries, numbers that are spelt out in words, and nine digits or more after a decimal point.

Toxic is what holds a word of a short Korean and English list: it catches curses in their usual spelling, not
meanness in plain words, and it drops a talk that only quotes a curse.

Near duplicates have NEAR or more of their character 5-grams in common (Jaccard; found by MinHash, decided exactly), in
all that both sides said. Chosen on the market, where the same sentences come with other topics and names, and on
11,823 real Korean question and answer pairs: 0.9 finds every planted near repeat, and takes under 1 % of the market's
new talk for old (0.2 % of the real pairs); at 0.7 that would be 7 % (1.3 %).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np

from nightshift.contracts.conversations import MAX_CHARACTERS, MAX_MESSAGES

Row = dict[str, Any]  # of the contract `conversations`

TAGS = {"email": "[이메일]", "resident": "[주민등록번호]", "card": "[카드번호]", "phone": "[전화번호]"}
_PLAIN = str.maketrans(
    {
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
        **dict.fromkeys("\u00ad‐‑‒–—―−－ーㅡ﹣➖", "-"),
        **dict.fromkeys("\u00a0\u2002\u2003\u2009\u202f\u3000\u200b\u200c\u200d\u2060\ufeff", " "),
        **{"＠": "@", "．": ".", "＋": "+", "（": "(", "）": ")", "／": "/", "～": "~", "∼": "~"},
    }
)  # one character for one, so that what is found lies in the same place of the original
_GAP = r"[-.\s/~·_]{0,3}"  # between the parts of a number
_PATTERNS = {
    # Not in the middle of a word: each run of letters is looked at once, however long it is.
    "email": re.compile(r"(?<![\w.+%-])[\w.+%-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}"),
    "resident": re.compile(
        r"(?<!\d)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\s{0,2}[-./]?\s{0,2}[0-9](?:\d{6}|[*xX●○]{6})(?!\d)"
    ),
    "card": re.compile(
        rf"(?<!\d)(?:\d{{4}}{_GAP}\d{{4}}{_GAP}\d{{4}}{_GAP}\d{{4}}|3[47]\d\d{_GAP}\d{{6}}{_GAP}\d{{5}}"
        r"|\d{13,19})(?!\d)"
    ),
    "phone": re.compile(
        rf"(?<!\d)(?!(?<=\d[.,])\d{{9}})(?:(?:\+|00)?82{_GAP}\(?0?\)?{_GAP}|\(?0)"
        r"(?:1[016789]|2|3[1-3]|4[1-4]|5[1-5]|6[1-4]|70|80|50\d)"
        rf"\)?{_GAP}\d{{3,4}}{_GAP}\d{{4}}(?!\d)"
    ),
}

_TOXIC = re.compile(
    r"씨발(?!표|언|령|신|견|생|급|송|전|매|행)|(?<![가-힣])시발(?!점|역|택|지)|ㅅㅂ|ㅆㅂ|병신|ㅂㅅ|좆|지랄|"
    r"개새끼|(?<![가-힣])[이그저] ?새끼(?! ?(?:손|발|고양이|강아지|돼지|곰))|"
    r"새끼(?:야|들아)|미친(?:놈|년)|엠창|느금마|창녀|"
    r"\b(?:(?:mother)?fuck\w*|shit(?:ty|head)?|bullshit|bitch(?:es)?|assholes?|cunts?|niggers?|faggots?|sluts?)\b",
    re.IGNORECASE,
)

NEAR = 0.9
SHINGLE = 5  # characters
_PERMUTATIONS, _CANDIDATES = 64, 0.7  # of the MinHash; what it offers is then decided exactly
_REMEMBERED = 20_000  # signatures: a first night of 28 days compares each day with the same days before


def mask(text: str) -> str:
    """`text` with a tag in place of each piece of personal data. What is masked stays masked: doing it again
    changes nothing."""
    return masked(text)[0]


def masked(text: str) -> tuple[str, Counter[str]]:
    """As `mask`, and how many there were of each kind of TAGS."""
    found: Counter[str] = Counter()
    changed = True
    while changed:  # a tag may end the run of digits in which the next number was not to be seen
        changed = False
        for kind in _PATTERNS:
            spans = list(_places(kind, text.translate(_PLAIN)))
            for start, end in reversed(spans):
                text = text[:start] + TAGS[kind] + text[end:]
            found[kind] += len(spans)
            changed = changed or bool(spans)
    return text, +found


def _places(kind: str, plain: str) -> Iterator[tuple[int, int]]:
    """Where the personal data of a kind are, without overlap."""
    start = 0
    while match := _PATTERNS[kind].search(plain, start):
        if kind == "card" and not _luhn(match.group()):
            start = match.start() + 1  # a year before a card number hides it, not the whole of it
            continue
        yield match.span()
        start = match.end()


def clean(rows: Iterable[Row], before: Sequence[Row] = ()) -> tuple[list[Row], dict[str, int]]:
    """The conversations that may be learnt from, without personal data, in the order of `rows`; and the counts.

    before: cleaned conversations of earlier days, which are not to come again.
    Counts: what was left out, by its first reason in the order of `_REASONS`, `duplicate`, `near_duplicate`; and
    `masked_<kind>` of TAGS, how many pieces of personal data were masked in what was kept. Of equal ones the earliest
    is kept, whatever the order of `rows`.
    """
    counts: Counter[str] = Counter()
    sound: list[tuple[Row, Counter[str]]] = []
    for row in rows:
        reason = next((name for name, is_so in _REASONS.items() if is_so(row)), None)
        if reason is None:
            sound.append(_masked_row(row))
        else:
            counts[reason] += 1
    repeated = _repeated([row for row, _ in sound], before)
    counts.update(repeated.values())
    kept = []
    for number, (row, found) in enumerate(sound):
        if number not in repeated:
            kept.append(row)
            counts.update({f"masked_{kind}": count for kind, count in found.items()})
    return kept, dict(counts)


def in_order(messages: Sequence[Row]) -> bool:
    """Whether user and assistant take turns, the assistant last; a system message may come first."""
    roles = [message and message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    return bool(turns) and turns == ["user", "assistant"] * (len(turns) // 2)


def too_long(messages: Sequence[Row]) -> bool:
    return len(messages) > MAX_MESSAGES or any(len(_text(m)) > MAX_CHARACTERS for m in messages)


def has_empty_turn(messages: Sequence[Row]) -> bool:
    return any(not _text(message).strip() for message in messages)


def _text(message: Row | None) -> str:
    return (message and message["content"]) or ""


def is_toxic(text: str) -> bool:
    return _TOXIC.search(text) is not None


# Why a conversation is left out, the first reason first. Too long comes before anything that reads it all.
_REASONS: dict[str, Callable[[Row], bool]] = {
    "no_consent": lambda row: row["consent"] is not True,
    "roles_out_of_order": lambda row: not in_order(row["messages"]),
    "too_long": lambda row: too_long(row["messages"]),
    "empty_turn": lambda row: has_empty_turn(row["messages"]),
    "toxic": lambda row: any(is_toxic(message["content"]) for message in row["messages"]),
}


def _masked_row(row: Row) -> tuple[Row, Counter[str]]:
    found: Counter[str] = Counter()
    messages = []
    for message in row["messages"]:
        content, kinds = masked(message["content"])
        found += kinds
        messages.append({"role": message["role"], "content": content})
    return {**row, "messages": messages}, found


def _repeated(rows: Sequence[Row], before: Sequence[Row]) -> dict[int, str]:
    """The rows that came before or are told twice, by their place: `duplicate` or `near_duplicate`."""
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=_CANDIDATES, num_perm=_PERMUTATIONS)
    texts: set[str] = set()
    shingles: dict[int, np.ndarray] = {}

    def take(text: str) -> None:
        signature, shingles[len(shingles)] = _signature(text)
        index.insert(len(shingles) - 1, signature, check_duplication=False)
        texts.add(text)

    for row in before:
        take(_said(row))
    repeated: dict[int, str] = {}
    said = [_said(row) for row in rows]
    for number in sorted(
        range(len(rows)), key=lambda n: (rows[n]["at"], rows[n]["conversation_id"], said[n])
    ):
        text = said[number]
        if text in texts:
            repeated[number] = "duplicate"
            continue
        signature, mine = _signature(text)
        if any(_alike(mine, shingles[other]) >= NEAR for other in index.query(signature)):
            repeated[number] = "near_duplicate"
        else:
            take(text)
    return repeated


def _said(row: Row) -> str:
    """What both sides said; what the system said is the same in all."""
    return "\n".join(m["content"] for m in row["messages"] if m["role"] != "system")


@lru_cache(maxsize=_REMEMBERED)
def _signature(text: str) -> tuple[Any, np.ndarray]:
    """(MinHash, sorted hashes of the shingles) of a text without its case, spaces and signs."""
    from datasketch import MinHash

    plain = "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum()) or text
    pieces = {plain[start : start + SHINGLE] for start in range(max(1, len(plain) - SHINGLE + 1))}
    hashes = np.array(
        sorted({crc32(piece.encode("utf-8", "surrogatepass")) for piece in pieces}), dtype=np.uint64
    )
    first = _first()
    signature = MinHash(
        num_perm=_PERMUTATIONS, hashfunc=int, permutations=first.permutations, scheme=first.scheme
    )
    signature.update_batch(hashes)
    return signature, hashes


@lru_cache(maxsize=1)
def _first() -> Any:
    """The MinHash whose permutations all the others use: drawing them takes longer than using them."""
    from datasketch import MinHash

    return MinHash(num_perm=_PERMUTATIONS, seed=1)


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """The Jaccard index of two sets."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


def _luhn(number: str) -> bool:
    """ISO/IEC 7812-1: the sum of the digits, every second one from the right doubled, is a multiple of ten."""
    digits = [int(character) for character in number if character.isdecimal()]
    doubled = (digit * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value // 10 + value % 10 for value in doubled) % 10 == 0
