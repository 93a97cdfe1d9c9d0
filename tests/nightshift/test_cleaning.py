"""What is stored of a conversation holds no personal data; what is not to be learnt from is left out and counted."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nightshift.cleaning import TAGS, clean, mask, masked
from nightshift.contracts.conversations import MAX_CHARACTERS, MAX_MESSAGES
from nightshift.settings import Settings
from nightshift.sources.market.talk import Talk

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
CARD = "4111 1111 1111 1111"  # the test number that every payment service documents


def said(number: int, *texts: str, **other: Any) -> dict[str, Any]:
    """A conversation of user and coach in turn, later by its number."""
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    row = {"conversation_id": f"c{number}", "user_id": "u1", "at": NOON + timedelta(minutes=number)}
    return {**row, "messages": messages, "consent": True, **other}


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["conversation_id"] for row in rows]


# --- masking -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "clean_text"),
    [
        ("제 번호는 010-1234-5678입니다", "제 번호는 [전화번호]입니다"),
        ("01012345678로 연락 주세요", "[전화번호]로 연락 주세요"),
        ("010.1234.5678 / 010 1234 5678", "[전화번호] / [전화번호]"),
        ("번호.010-1234-5678", "번호.[전화번호]"),
        ("+82 10-1234-5678", "[전화번호]"),
        ("+82-2-345-6789, (02) 345-6789", "[전화번호], [전화번호]"),
        ("031-123-4567, 070-1234-5678, 0505-123-4567", "[전화번호], [전화번호], [전화번호]"),
        ("０１０-１２３４-５６７８", "[전화번호]"),
        ("010–1234–5678", "[전화번호]"),
        ("010\u200b1234\u200b5678", "[전화번호]"),
        ("900101-1234567", "[주민등록번호]"),
        ("9001011234567", "[주민등록번호]"),
        ("900101-1******", "[주민등록번호]"),
        ("메일은 a.b+c@mail.example.co.kr입니다", "메일은 [이메일]입니다"),
        ("홍길동@example.com", "[이메일]"),
        (f"카드 {CARD} 로", "카드 [카드번호] 로"),
        ("4111-1111-1111-1111 123", "[카드번호] 123"),
        ("3782 822463 10005", "[카드번호]"),
        ("900101-1234567-010-1234-5678", "[주민등록번호]-[전화번호]"),
        ("2024 4111 1111 1111 1111", "2024 [카드번호]"),
        ("4111/1111/1111/1111", "[카드번호]"),
        ("010/1234/5678, 010_1234_5678, 010~1234~5678", "[전화번호], [전화번호], [전화번호]"),
        ("010ㅡ1234ㅡ5678", "[전화번호]"),
        ("010-1234-\n5678", "[전화번호]"),
        ("82-10-1234-5678, +82 (0)10 1234 5678", "[전화번호], [전화번호]"),
        ("1.010-1234-5678", "1.[전화번호]"),
        ("010-1234-5678.01098765432", "[전화번호].[전화번호]"),  # the second shows when the first is gone
        ("900101.1234567", "[주민등록번호]"),
        ("900101/1234567", "[주민등록번호]"),
    ],
)
def test_personal_data_in_the_forms_that_people_write_are_masked(text: str, clean_text: str) -> None:
    assert mask(text) == clean_text


@pytest.mark.parametrize(
    "text",
    [
        "109에 전화하세요",
        "2026-09-01 10:00에 만나요",
        "월급은 3000000원",
        "1588-1234는 대표 번호예요",
        "4111 1111 1111 1112",  # fails the Luhn test
        "주문 번호 20260901001",
        "@동료 고마워요",
        "3.1415926535",
        "",
    ],
)
def test_what_is_no_personal_datum_stays_as_it_is(text: str) -> None:
    assert mask(text) == text


def test_what_is_masked_is_counted_by_kind() -> None:
    text, found = masked(f"010-1234-5678, 010-9876-5432, a@example.com, {CARD}, 900101-1234567")
    assert found == {"phone": 2, "email": 1, "card": 1, "resident": 1}
    assert Counter(text.split(", ")) == {
        TAGS["phone"]: 2,
        TAGS["email"]: 1,
        TAGS["card"]: 1,
        TAGS["resident"]: 1,
    }


NUMBERS = (
    "010-1234-5678",
    "01098765432",
    "+82 10 1234 5678",
    "02)345-6789",
    "900101-1234567",
    "a@example.com",
    CARD,
)
BITS = ("4111111111111111", "0", "1", "-", " ", ".", "@", "+", "(", ")", "82", "가", "x", "０", "[", "]")
PIECES = st.sampled_from([*NUMBERS, *BITS, *TAGS.values()])


@given(
    st.lists(PIECES, max_size=14).map("".join) | st.text("0123456789-@. +()a가０", max_size=60) | st.text()
)
def test_masking_twice_changes_nothing_so_nothing_that_is_seen_survives(text: str) -> None:
    once, _ = masked(text)
    assert masked(once) == (once, Counter())


@given(st.lists(st.sampled_from(["안녕", "번호", "hello", " ", ".", "입니다"]), max_size=6).map("".join))
def test_a_phone_number_is_masked_whatever_words_stand_around_it(words: str) -> None:
    assert mask(f"{words} 010-1234-5678{words}") == f"{words} {TAGS['phone']}{words}"


def test_a_text_of_a_hundred_thousand_characters_is_masked_at_once() -> None:
    started = datetime.now(UTC)
    for piece in ("a", "1", "1-", "0 ", "+", "a.", "010-", "@", "900101"):
        mask(piece * (100_000 // len(piece)))
    assert datetime.now(UTC) - started < timedelta(seconds=5)


# --- what is left out ----------------------------------------------------------------------------------


def test_each_reason_to_leave_a_conversation_out_is_counted() -> None:
    rows = [
        said(0, "요즘 일이 재미없어요.", "언제부터 그랬나요?"),
        said(1, "안녕하세요.", "반가워요.", consent=False),
        said(2, "안녕하세요.", "반가워요.", consent=None),
        said(3, "혼자 말해요."),
        said(4, "말이 길어요." * MAX_CHARACTERS, "그래요?"),
        said(5, *(["네?", "네."] * (MAX_MESSAGES // 2 + 1))),
        said(6, "안녕하세요.", " \n"),
        said(7, "씨발 다 싫어요.", "무슨 일이 있었나요?"),
        said(8, "요즘 일이 재미없어요.", "언제부터 그랬나요?"),
    ]
    backwards = said(9, "하나", "둘")
    backwards["messages"].reverse()
    kept, counts = clean([*rows, backwards])
    assert ids(kept) == ["c0"]
    expected = {
        "no_consent": 2,
        "roles_out_of_order": 2,
        "too_long": 2,
        "empty_turn": 1,
        "toxic": 1,
        "duplicate": 1,
    }
    assert counts == expected
    assert len(kept) + sum(counts.values()) == len(rows) + 1


def test_a_system_message_may_come_first_and_only_there() -> None:
    system = {"role": "system", "content": "코치입니다."}
    first, later, alone = (said(n, "일이 많아요.", "그렇군요.") for n in range(3))
    first["messages"].insert(0, system)
    later["messages"].insert(1, system)
    alone["messages"] = [system]
    kept, counts = clean([first, later, alone])
    assert ids(kept) == ["c0"] and counts == {"roles_out_of_order": 2}


def test_a_masked_phone_number_is_counted_and_nothing_else_of_the_row_changes() -> None:
    row = said(0, "제 번호는 010-1234-5678, 집은 02-345-6789", "번호는 남기지 마세요.")
    (kept,), counts = clean([row])
    assert counts == {"masked_phone": 2}
    assert kept == {**row, "messages": kept["messages"]}
    assert kept["messages"][0] == {"role": "user", "content": "제 번호는 [전화번호], 집은 [전화번호]"}
    assert row["messages"][0]["content"].startswith("제 번호는 010"), "what was given is left as it was"


@pytest.mark.parametrize(
    "text",
    [
        "김민수 씨 발표 잘 들었어요",
        "시발점은 서울역이에요",
        "다시발행해 주세요",
        "민수씨발표요",
        "새끼손가락이 아파요",
        "고양이 새끼를 키워요",
        "그 새끼 고양이 귀여워요",
        "이 새끼손가락이 아파요",
        "Scunthorpe is a town",
        "The shift starts at nine",
    ],
)
def test_ordinary_words_that_hold_a_curse_are_not_toxic(text: str) -> None:
    assert clean([said(0, text, "네, 그렇군요.")])[1] == {}


@pytest.mark.parametrize(
    "text", ["병신 같아요", "개새끼들", "What the FUCK", "ㅅㅂ 짜증나", "저 새끼 때문에"]
)
def test_curses_are_toxic_whoever_says_them(text: str) -> None:
    rows = [said(0, text, "네, 그렇군요."), said(1, "안녕하세요.", text)]
    assert clean(rows) == ([], {"toxic": 2})


# --- what comes again ----------------------------------------------------------------------------------

LONG = "배터리 재활용 쪽에서 삼 년 일했는데 요즘 마음이 자꾸 떠서 어디로 가야 할지 모르겠어요."
ANSWER = "말씀만 들어도 고민이 느껴져요. 그 일에서 가장 신났던 순간은 언제였나요?"


def test_of_what_comes_again_the_earliest_is_kept() -> None:
    rows = [said(3, LONG, ANSWER), said(1, LONG, ANSWER), said(2, LONG, f"{ANSWER} 🙂")]
    kept, counts = clean(rows)
    assert ids(kept) == ["c1"]
    assert counts == {"duplicate": 1, "near_duplicate": 1}


def test_of_two_at_the_same_time_with_the_same_id_the_order_decides_nothing() -> None:
    rows = [said(0, f"{LONG}~", ANSWER), said(0, LONG, ANSWER)]
    assert clean(rows) == clean(rows[::-1])


def test_talks_that_differ_in_their_personal_data_alone_are_the_same() -> None:
    rows = [said(n, f"제 번호는 010-1234-567{n}입니다.", "남기지 않으셔도 돼요.") for n in range(3)]
    kept, counts = clean(rows)
    assert len(kept) == 1 and counts == {"duplicate": 2, "masked_phone": 1}


def test_the_same_words_about_another_topic_are_no_near_duplicate() -> None:
    topics = ("배터리 재활용", "위성 공급망", "수소 안전", "드론 보험")
    rows = [said(n, LONG.replace("배터리 재활용", topic), ANSWER) for n, topic in enumerate(topics)]
    assert clean(rows) == (rows, {})


def test_what_was_said_on_an_earlier_day_is_not_said_again() -> None:
    before = [said(0, LONG, ANSWER)]
    kept, counts = clean(
        [said(1, LONG, ANSWER), said(2, f"{LONG}!", ANSWER), said(3, "새 말이에요.", "네.")], before
    )
    assert ids(kept) == ["c3"] and counts == {"duplicate": 1, "near_duplicate": 1}


ROWS = st.lists(
    st.tuples(
        st.sampled_from(
            [LONG, f"{LONG}~", "010-1234-5678로 연락 주세요.", "짧은 말", "", "씨발", "a@example.com이에요"]
        ),
        st.sampled_from([ANSWER, f"{ANSWER} ^^", "네.", " "]),
        st.booleans() | st.none(),
    ),
    max_size=8,
)


@hypothesis_settings(deadline=None, max_examples=60)
@given(ROWS, st.randoms())
def test_the_order_of_the_rows_changes_nothing_and_a_second_cleaning_neither(
    drawn: list[tuple[str, str, bool | None]], random: Any
) -> None:
    rows = [said(n, user, coach, consent=consent) for n, (user, coach, consent) in enumerate(drawn)]
    kept, counts = clean(rows)
    left_out = sum(count for reason, count in counts.items() if not reason.startswith("masked_"))
    assert len(kept) + left_out == len(rows)
    assert all(mask(m["content"]) == m["content"] for row in kept for m in row["messages"])
    shuffled = random.sample(rows, len(rows))
    again, same_counts = clean(shuffled)
    assert same_counts == counts
    assert sorted(ids(again)) == ids(kept)
    assert {r["conversation_id"]: r["messages"] for r in again} == {
        r["conversation_id"]: r["messages"] for r in kept
    }
    assert clean(kept) == (kept, {})


def test_near_finds_every_planted_near_repeat_and_takes_little_new_talk_for_old() -> None:
    """The figures that the module gives for its threshold, on two weeks of the market."""
    talk = Talk(Settings(_env_file=None))  # type: ignore[call-arg]
    repeats_kept = 0
    new_talk, taken_for_old = 0, 0
    before: list[dict[str, Any]] = []
    for number in range(14):
        rows = talk.told(date(2026, 9, 1) + timedelta(days=number)).to_pylist()
        words = [_words_of(row) for row in clean(rows)[0]]
        assert len({each.replace(" 🙂", "") for each in words}) == len(words), (
            "nothing is told twice in a day"
        )
        repeats_kept += sum("🙂" in each for each in words)
        new = [row for row in rows if "🙂" not in _words_of(row)]
        kept, counts = clean(new, before[-7 * talk.count :])
        before += kept
        new_talk += len(new)
        taken_for_old += counts.get("near_duplicate", 0)
    assert repeats_kept, "one that comes before what it repeats is the one that is kept"
    assert 0 < taken_for_old < 0.01 * new_talk


def _words_of(row: dict[str, Any]) -> str:
    return "\n".join(message["content"] for message in row["messages"])
