from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.errors import NoDataError
from nightshift.lake import Lake
from nightshift.language.bases import Base
from nightshift.language.chat import encode
from nightshift.language.prompts import COACH, as_coach
from nightshift.settings import Settings
from nightshift.sources.market.phrases import REFUSALS
from training.exams.language import text_of
from training.qlora.data import (
    LEAST_VALID,
    MOST_TIMES,
    MOST_VALID,
    REFUSED_SHARE,
    Talk,
    lessons,
    read,
    refusals,
    split,
)
from training.recipe import Night

START = datetime(2026, 9, 1, tzinfo=UTC)


def said(user: str, assistant: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def talks(count: int, words: int = 3) -> list[Talk]:
    return [
        Talk(
            f"c{n}",
            START + timedelta(hours=n),
            as_coach(said(f"제 {n}번째 고민이에요.", f"답 {n}. " * words)),
        )
        for n in range(count)
    ]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=120))
def test_every_text_is_once_in_training_or_validation_and_validation_is_the_newest(
    numbers: list[int],
) -> None:
    some = [
        Talk(f"c{place}", START + timedelta(hours=place), said(f"{number}", "네."))
        for place, number in enumerate(numbers)
    ]
    train, valid, repeated = split(some)

    texts = [text_of(talk.messages) for talk in [*train, *valid]]
    assert len(texts) == len(set(texts)) == len(set(numbers))
    assert len(train) + len(valid) + repeated == len(some)
    assert not train or not valid or max(t.at for t in train) < min(t.at for t in valid)
    assert len(valid) <= MOST_VALID and len(valid) == min(
        max(round(len(texts) / 10), LEAST_VALID), len(texts) // 2
    )


def test_conversations_are_read_in_time_order_under_the_coachs_prompt(
    talks_home: Settings, talks_night: Night
) -> None:
    found = read(Lake(talks_home.lake_dir), talks_night)
    assert [talk.at for talk in found] == sorted(talk.at for talk in found)
    days = {talk.at.date() for talk in found}
    assert (
        min(days) >= talks_night.train_start and max(days) <= talks_night.train_end < talks_night.exam_start
    )
    assert sum(talk.messages[0] == {"role": "system", "content": COACH} for talk in found) > len(found) / 2
    assert all(talk.messages[0]["role"] == "system" for talk in found)


def test_too_few_conversations_leave_the_seat_out(talks_home: Settings, talks_night: Night) -> None:
    before = Night(
        talks_night.night, START.date() - timedelta(days=9), START.date() - timedelta(days=8), START.date()
    )
    with pytest.raises(NoDataError, match=r"0 conversations .* 50 are needed: the language seat is left out"):
        read(Lake(talks_home.lake_dir), before)


def test_the_loss_is_of_the_assistants_words_whatever_the_user_said(base: Base) -> None:
    one = encode(base.tokenizer, as_coach(said("가" * 20, "네, 좋아요.")))
    other = encode(base.tokenizer, as_coach(said("무엇이든 다른 말", "네, 좋아요.")))
    words = [i for i, mark in zip(one.ids, one.said, strict=True) if mark]

    assert words == [i for i, mark in zip(other.ids, other.said, strict=True) if mark]
    assert base.tokenizer.decode(words, skip_special_tokens=True) == "네, 좋아요."


def test_what_is_used_is_told_conversation_by_conversation(base: Base) -> None:
    found = lessons(talks(60), base.tokenizer, tokens=512, budget=10**6)

    assert (len(found.train), len(found.valid), len(found.asked)) == (50, 10, 10)
    assert found.counts == {"repeated": 0, "cut": 0, "silent": 0, "older": 0, "refusals_added": 0}
    assert list(found.table["conversation_id"]) == [f"c{n}" for n in range(60)]
    assert list(found.table["part"]) == ["train"] * 50 + ["valid"] * 10
    assert (found.table["hangul"] == 1).all() and (found.table["messages"] == 2).all()
    assert list(found.table["tokens"]) == [len(row.ids) for row in [*found.train, *found.valid]]


def test_a_long_one_is_cut_at_its_end_and_counted(base: Base) -> None:
    longest = talks(60, words=200)
    whole = lessons(talks(60), base.tokenizer, tokens=512, budget=10**6)
    beginning = min(row.said.index(1) for row in whole.train)
    found = lessons(longest, base.tokenizer, tokens=beginning + 20, budget=10**6)

    assert found.counts["cut"] == 60 and all(len(row.ids) == beginning + 20 for row in found.train)
    with pytest.raises(NoDataError, match="NIGHTSHIFT_LANGUAGE_TOKENS"):
        lessons(longest, base.tokenizer, tokens=beginning, budget=10**6)


def test_where_there_is_more_than_can_be_read_the_newest_is_taken(base: Base) -> None:
    everything = lessons(talks(60), base.tokenizer, tokens=512, budget=10**6)
    budget = sum(len(row.ids) for row in everything.train[-5:])
    found = lessons(talks(60), base.tokenizer, tokens=512, budget=budget)

    assert found.train == everything.train[-5:] and found.counts["older"] == 45
    assert found.valid == everything.valid


# --- refusals ------------------------------------------------------------------------------------------

NO = {"ko": REFUSALS[0], "en": REFUSALS[2]}


def refused(language: str, count: int, name: str = "no") -> list[Talk]:
    return [
        Talk(f"{name}-{language}{n}", START + timedelta(hours=n), as_coach(said(f"{n}?", f"{NO[language]}.")))
        for n in range(count)
    ]


def test_refusals_of_a_language_that_has_few_are_read_again_until_they_are_the_floors_share() -> None:
    learnt = [*talks(82), *refused("ko", 12), *refused("en", 4), *refused("en", 2, "late")]
    more = Counter(talk.id for talk in refusals(learnt, []))

    wanted = round(REFUSED_SHARE * len(learnt))
    assert wanted == 5 and more == {}, "of both there are enough"
    more = Counter(talk.id for talk in refusals([*learnt, *talks(140)], []))
    assert more == {
        f"{name}-en{n}": 1
        for name, n in (("late", 0), ("late", 1), ("no", 0), ("no", 1), ("no", 2), ("no", 3))
    }


def test_older_refusals_come_before_any_is_read_again_and_the_newest_of_them_first() -> None:
    more = refusals([*talks(97), *refused("ko", 5), *refused("en", 1)], refused("en", 3, "old"))
    assert [talk.id for talk in more] == ["old-en2", "old-en1", "old-en0", "no-en0"]


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 900))
def test_no_refusal_is_read_more_than_a_few_times_and_a_language_without_any_gets_none(
    korean: int, old: int, count: int
) -> None:
    learnt, unread = [*talks(count), *refused("ko", korean)], refused("ko", old, "old")
    more = refusals(learnt, unread)
    times = Counter(talk.id for talk in [*learnt, *more])
    assert all("-ko" in talk.id for talk in more) and max(times.values()) <= MOST_TIMES
    wanted = round(REFUSED_SHARE * len(learnt))
    assert korean + len(more) == max(korean, min(wanted, MOST_TIMES * (korean + old)))


def test_what_is_added_is_learnt_counted_and_not_what_a_night_is_like(base: Base) -> None:
    some = [*refused("en", 2), *(Talk(f"z{t.id}", t.at + timedelta(days=9), t.messages) for t in talks(110))]
    everything = lessons(some, base.tokenizer, tokens=512, budget=10**6)
    assert everything.counts["refusals_added"] == 3 == len(everything.train) - 101
    budget = sum(len(row.ids) for row in everything.train[2:101])
    found = lessons(some, base.tokenizer, tokens=512, budget=budget)

    assert found.counts["refusals_added"] == 5 and found.counts["older"] == 0
    assert list(found.table["part"]) == ["refusals"] * 2 + ["train"] * 99 + ["valid"] * 11
    assert found.train[:99] == everything.train[2:101]
    assert all("I can" in base.tokenizer.decode(row.ids) for row in found.train[99:])
