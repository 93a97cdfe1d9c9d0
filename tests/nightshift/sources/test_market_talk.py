"""What the market's people say: deterministic, natural in its particles, and planted so that a model can learn it."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.cleaning import clean, in_order, mask
from nightshift.contracts import CONVERSATIONS
from nightshift.errors import SourceError
from nightshift.language.prompts import PROFILE, STEPS, VALUES
from nightshift.settings import Settings
from nightshift.sources.market.phrases import GENERAL, KOREAN_NIGHTS, NIGHTS, REFUSALS, TOXIC, Word
from nightshift.sources.market.talk import KINDS, PERSONAS, RUBBISH, SPREAD, Talk, corpus

START, DRIFT = date(2026, 9, 1), date(2026, 10, 1)
HANGUL = re.compile(r"[가-힣]")


def talk_of(**changes: object) -> Talk:
    return Talk(Settings(_env_file=None, **{"market_start": START, "market_drift_day": DRIFT, **changes}))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def talk() -> Talk:
    return talk_of()


@pytest.fixture(scope="module")
def rows(talk: Talk) -> list[dict[str, Any]]:
    """Ten days as they are told."""
    return [row for number in range(10) for row in talk.told(START + timedelta(days=number)).to_pylist()]


@pytest.fixture(scope="module")
def kept(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return clean(rows)[0]


def of_profile(row: dict[str, Any]) -> bool:
    return bool(row["messages"][0]["content"] == PROFILE)


def by(role: str, row: dict[str, Any]) -> str:
    return "\n".join(m["content"] for m in row["messages"] if m["role"] == role)


def test_a_day_depends_on_the_seed_and_its_date_alone(talk: Talk) -> None:
    day = START + timedelta(days=5)
    talk.told(START)
    assert talk.told(day).equals(talk_of().told(day))
    assert not talk.told(day).equals(talk_of(market_seed=8).told(day))
    assert not talk.told(day).equals(talk.told(day + timedelta(days=1)))


def test_a_market_that_talks_more_says_the_same_first(talk: Talk) -> None:
    assert talk_of(market_conversations=40).told(START).equals(talk.told(START).slice(0, 40))
    assert talk_of(market_conversations=0).told(START).num_rows == 0


def test_what_is_told_follows_the_contract_and_is_of_people_and_hours_of_the_day(talk: Talk) -> None:
    day = START + timedelta(days=3)
    told = talk.told(day)
    assert told.schema == CONVERSATIONS.schema and told.num_rows == 150
    assert len(set(told["conversation_id"].to_pylist())) == 150
    assert {at.date() for at in told["at"].to_pylist()} == {day}
    users = talk.world.users(day)
    assert all(int(user[1:]) < len(users) for user in told["user_id"].to_pylist())


def test_most_people_talk_korean_and_the_coach_answers_in_their_language(kept: list[dict[str, Any]]) -> None:
    spoken = [row for row in kept if not of_profile(row)]
    korean = [bool(HANGUL.search(re.sub(r"\[\w+\]", "", by("user", row)))) for row in spoken]
    assert 0.80 < np.mean(korean) < 0.90
    for row, is_korean in zip(spoken, korean, strict=True):
        assert bool(HANGUL.search(by("assistant", row))) == is_korean


def test_every_kind_of_talk_is_there_about_as_often_as_it_says(rows: list[dict[str, Any]]) -> None:
    assert sum(KINDS.values()) + sum(RUBBISH.values()) == pytest.approx(1.0)
    profiles = sum(of_profile(row) for row in rows)
    refusals = sum(any(no in by("assistant", row) for no in REFUSALS) for row in rows)
    assert profiles / len(rows) == pytest.approx(KINDS["profile"], abs=0.03)
    assert refusals / len(rows) == pytest.approx(KINDS["refusal"], abs=0.03)


def test_the_rubbish_is_there_and_the_cleaning_finds_it(rows: list[dict[str, Any]]) -> None:
    kept, counts = clean(rows)
    assert sum(not row["consent"] for row in rows) == counts["no_consent"] > 0
    for reason in ("too_long", "empty_turn", "toxic", "duplicate", "near_duplicate"):
        assert counts[reason] > 0, reason
    assert "roles_out_of_order" not in counts
    assert 0.85 < len(kept) / len(rows) < 0.97
    assert not any(curse in by("user", row) for row in kept for curse in TOXIC)


def test_people_let_slip_personal_data_and_the_coach_never_repeats_them(rows: list[dict[str, Any]]) -> None:
    with_data = [row for row in rows if mask(by("user", row)) != by("user", row)]
    assert len(with_data) / len(rows) == pytest.approx(KINDS["personal"], abs=0.03)
    assert {kind for kind in clean(rows)[1] if kind.startswith("masked_")} == {
        "masked_phone",
        "masked_email",
        "masked_card",
        "masked_resident",
    }
    for row in rows:
        answer = by("assistant", row)
        assert mask(answer) == answer
        assert not re.search(r"\d{4}|\[", answer) or answer.startswith("{")


# --- planted values ------------------------------------------------------------------------------------


def test_everybody_is_of_a_persona_and_near_to_what_it_wants(talk: Talk) -> None:
    users = [f"u{number:06d}" for number in range(700)]
    values = talk.values_of(users)
    assert values.shape == (700, len(VALUES)) and values.min() >= 0 and values.max() <= 1
    found = Counter(talk.persona_of(user) for user in users)
    assert set(found) == set(PERSONAS) and min(found.values()) > 60
    for persona, levels in PERSONAS.items():
        mine = values[[talk.persona_of(user) == persona for user in users]]
        assert np.ptp(mine, axis=0).max() <= 2 * SPREAD
        for column, level in enumerate(levels):
            assert {"+": 0.85, "=": 0.5, "-": 0.15}[level] == pytest.approx(mine[:, column].mean(), abs=0.02)
    assert np.array_equal(talk.values_of(users[5:9]), values[5:9]), "whoever is asked about with them"
    assert talk.values_of([]).shape == (0, len(VALUES))


@pytest.mark.parametrize("stranger", ["x000001", "u1", "u00000a", "", "u-00001"])
def test_the_values_of_a_stranger_are_not_known(talk: Talk, stranger: str) -> None:
    with pytest.raises(SourceError, match="no user of the market"):
        talk.values_of([stranger])


def test_a_profile_pair_tells_the_planted_values_and_what_was_said_for_each(
    talk: Talk, kept: list[dict[str, Any]]
) -> None:
    pairs = [row for row in kept if of_profile(row)]
    assert len(pairs) > 100
    for row in pairs:
        (truth,) = talk.values_of([row["user_id"]])
        told = json.loads(by("assistant", row))
        assert list(told) == list(VALUES) and set(told.values()) <= set(STEPS)
        assert np.abs(np.array(list(told.values())) - truth).max() <= 0.05 + 1e-9
        lines = by("user", row).splitlines()
        assert (lines[0], lines[-1]) == ("<talk>", "</talk>")
        marked = int((np.abs(truth - 0.5) > 0.2).sum())
        assert len(lines) == 2 + 1 + marked, (
            "an opening and a sentence for each value that means much or little"
        )


def test_who_wants_growth_says_so_and_who_does_not_never_does(talk: Talk, kept: list[dict[str, Any]]) -> None:
    """Sentences without a slot are found again word for word."""
    for language in NIGHTS:
        bank = NIGHTS[language]
        for column, value in enumerate(VALUES):
            for sentences, means_much in ((bank.high[value], True), (bank.low[value], False)):
                plain = [sentence for sentence in sentences if "{" not in sentence]
                sayers = [r for r in kept if any(s in line for s in plain for line in _lines(r))]
                wanted = talk.values_of([row["user_id"] for row in sayers])[:, column]
                assert len(sayers) > 0 and ((wanted > 0.5) == means_much).all(), (language, value)


def _lines(row: dict[str, Any]) -> list[str]:
    return by("user", row).splitlines()


def test_from_the_drift_on_most_talk_is_about_other_fields(talk: Talk) -> None:
    before, after = KOREAN_NIGHTS.fields
    assert not set(before) & set(after)

    def share_after(day: date) -> float:
        said = [" ".join(m["content"] for m in row["messages"]) for row in talk.told(day).to_pylist()]
        old, new = (
            sum(any(field in text for field in fields) for text in said) for fields in (before, after)
        )
        return new / (old + new)

    assert share_after(DRIFT - timedelta(days=1)) == 0
    assert 0.6 < share_after(DRIFT) < 0.95


# --- the corpus of the built-in base -------------------------------------------------------------------


def test_the_corpus_is_the_same_for_any_count_and_clean() -> None:
    talks = corpus(600, seed=3)
    assert corpus(50, seed=3) == talks[:50] and corpus(50, seed=4) != talks[:50]
    for messages in talks:
        assert in_order(messages)
        assert all(m["content"].strip() and mask(m["content"]) == m["content"] for m in messages)
    korean = [bool(HANGUL.search(m["content"])) for ms in talks for m in ms if m["role"] == "user"]
    assert 0.75 < np.mean(korean) < 0.95


def test_the_corpus_has_every_kind_and_none_of_the_fields_of_the_nights() -> None:
    talks = corpus(600, seed=3)
    answers = [messages[-1]["content"] for messages in talks]
    assert sum(any(no in answer for no in REFUSALS) for answer in answers) > 30
    assert sum(answer.startswith("{") for answer in answers) > 60
    assert any("[전화번호]" in m["content"] for messages in talks for m in messages)
    everything = "\n".join(m["content"] for messages in talks for m in messages)
    assert not any(
        field in everything for bank in NIGHTS.values() for fields in bank.fields for field in fields
    )


# --- sentences -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        ("배터리", "배터리를 배터리가 배터리는 배터리와 배터리로"),
        ("성장", "성장을 성장이 성장은 성장과 성장으로"),
        ("드론 보험", "드론 보험을 드론 보험이 드론 보험은 드론 보험과 드론 보험으로"),
        ("서울", "서울을 서울이 서울은 서울과 서울로"),
    ],
)
def test_a_word_takes_the_particle_that_fits_its_last_sound(word: str, forms: str) -> None:
    said = Word(word)
    assert f"{said:을} {said:이} {said:은} {said:과} {said:으로}" == forms
    assert f"{said}" == word


@given(st.integers(0, 2**31), st.sampled_from(["ko", "en"]), st.booleans())
def test_no_slot_is_left_open_in_what_is_said(number: int, language: str, later: bool) -> None:
    from nightshift.sources.market.talk import Speaker

    random = np.random.default_rng(number)
    values = np.where(random.random(len(VALUES)) < 0.5, 0.85, 0.15)
    speaker = Speaker(random, NIGHTS[language] if later else GENERAL[language], values, later=later)
    for kind in ("coaching", "refusal", "personal"):
        for message in getattr(speaker, kind)():
            assert not re.search(r"[{}]|\s{2}|\.\.|^\s|\s$", message["content"]), message
    assert in_order(speaker.profile()) and in_order(speaker.coaching())
    exchanges = len(speaker.coaching()) // 2
    assert 1 <= exchanges <= 4
