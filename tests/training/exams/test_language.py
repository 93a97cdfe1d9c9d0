"""The language seat's exam: which conversations it asks about, who is compared on what, and that bases are shared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.contracts.conversations import CONVERSATIONS
from nightshift.errors import BaseModelError, LakeError, NoDataError
from nightshift.lake import Lake
from nightshift.language.adapters import Adapter
from nightshift.language.bases import BaseRef
from nightshift.language.chat import Message
from nightshift.language.engine import Told
from nightshift.language.prompts import COACH, PROFILE, as_coach, as_profile
from nightshift.settings import Settings
from nightshift.sources import DayBatch
from tests.conftest import TINY_START, publish_day, tiny_day
from training.exams import EmptyExamError
from training.exams import conversations as scoring
from training.exams.conversations import BEFORE, Exam, columns, divided, engine_of, hangul, score_model
from training.exams.language import ENOUGH, EXAMINER, LEAST, USERS, _before, text_of
from training.qlora.small import base_ref
from training.recipe import Night


def talk(number: int | str, *, asked: str = "", answers: int = 1) -> list[Message]:
    said = asked or f"요즘 {number}번째 일이 재미없어요."
    turns = [(said, f"{number}번째 일에서 무엇이 힘드세요?"), ("사람이 힘들어요.", "누가 가장 힘드세요?")][
        :answers
    ]
    return [
        m for q, a in turns for m in ({"role": "user", "content": q}, {"role": "assistant", "content": a})
    ]


def tell(lake: Lake, day: date, talks: list[tuple[str, list[Message]]], said_by: str = "person") -> None:
    rows = [
        {
            "said_by": said_by,
            "conversation_id": f"{day}-{n:04d}",
            "user_id": user,
            "at": datetime.combine(day, time(12), UTC),
            "messages": messages,
            "consent": True,
        }
        for n, (user, messages) in enumerate(talks)
    ]
    publish_day(lake, DayBatch(day, {"conversations": CONVERSATIONS.table(rows)}))


def after(days: int) -> date:
    return TINY_START + timedelta(days=days)


def world(home: Path, days: int, a_day: int, *, regulars: int = 999, **more: Any) -> tuple[Lake, Settings]:
    """Days of conversations, each text once. regulars: how many users there are, who all come again."""
    config = Settings(_env_file=None, home=home, language_device="cpu", **more)  # type: ignore[call-arg]
    lake = Lake(config.lake_dir)
    for day in range(days):
        told = [(f"u{(day * a_day + n) % regulars}", talk(f"{day}-{n}")) for n in range(a_day)]
        tell(lake, after(day), told)
    return lake, config


# --- the night -----------------------------------------------------------------------------------------


def test_the_exam_takes_in_days_until_enough_was_said_and_training_ends_before_it(tmp_path: Path) -> None:
    lake, config = world(tmp_path, 12, ENOUGH // 3 + 1)
    night = EXAMINER.night(lake, after(11), config)
    assert (night.exam_start, night.night) == (after(9), after(11)), "three days have enough"
    assert (night.train_start, night.train_end) == (after(0), after(8))
    short = EXAMINER.night(lake, after(11), config.model_copy(update={"language_days": 4}))
    assert (short.train_start, short.train_end) == (after(5), after(8))
    assert EXAMINER.night(lake, after(11), config, smoke=True).train_start == after(6)


def test_the_exam_takes_in_days_until_there_are_enough_users_too(tmp_path: Path) -> None:
    a_day = USERS // 4
    lake, config = world(tmp_path, 30, ENOUGH, regulars=USERS - 1)
    assert EXAMINER.night(lake, after(29), config).exam_start == after(23), "there are not so many users"
    lake, config = world(tmp_path / "few", 30, a_day)
    assert EXAMINER.night(lake, after(29), config).exam_start == after(30 - math.ceil(ENOUGH / a_day))
    lake, config = world(tmp_path / "again", 30, ENOUGH, regulars=USERS)
    assert EXAMINER.night(lake, after(29), config).exam_start == after(29)


def test_the_exam_is_never_longer_than_a_week_nor_than_a_third_of_what_is_there(tmp_path: Path) -> None:
    lake, config = world(tmp_path, 30, LEAST // 20 + 1)
    assert EXAMINER.night(lake, after(29), config).exam_start == after(23)
    assert EXAMINER.night(lake, after(26), config).exam_start == after(20)
    lake, config = world(tmp_path / "young", 6, LEAST)
    assert EXAMINER.night(lake, after(5), config).exam_start == after(4)


def test_a_lake_without_conversations_or_with_too_few_leaves_the_seat_out(tmp_path: Path) -> None:
    lake, config = world(tmp_path, 3, LEAST // 3)
    with pytest.raises(NoDataError, match=f"{LEAST // 3 * 2} conversations to learn from"):
        EXAMINER.night(lake, after(2), config)
    with pytest.raises(LakeError, match="is not published"):
        EXAMINER.night(lake, after(3), config)
    other = Lake(tmp_path / "shop")
    publish_day(other, tiny_day(TINY_START))
    with pytest.raises(NoDataError, match="no conversations are in the lake"):
        EXAMINER.night(other, TINY_START, config)


def test_when_nobody_talked_lately_the_seat_is_left_out(tmp_path: Path) -> None:
    lake, config = world(tmp_path, 3, LEAST)
    for day in range(3, 15):
        publish_day(lake, tiny_day(after(day)))
    with pytest.raises(NoDataError, match="0 to be examined on"):
        EXAMINER.night(lake, after(14), config)


# --- what is asked --------------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path: Path) -> tuple[Lake, Settings, Night]:
    """Two days to learn from; on the third: a repeat of the first, the same text twice, one that begins too long."""
    lake, config = world(tmp_path, 2, LEAST)
    told = [
        ("u1", talk("0-7")),
        ("u1", talk("new")),
        ("u2", [{**m, "content": f" {m['content'].upper()} "} for m in talk("new")]),
        ("u2", talk("own", answers=2)),
        ("u3", talk("long", asked="🦄" * 1_000)),
    ]
    tell(lake, after(2), told)
    return lake, config, EXAMINER.night(lake, after(2), config)


def test_what_was_told_before_or_twice_or_begins_too_long_is_left_out_and_counted(
    asked: tuple[Lake, Settings, Night],
) -> None:
    lake, config, night = asked
    exam = EXAMINER.set(lake, config, night)
    assert (exam.users, exam.user.tolist()) == (["u1", "u2"], [0, 1])
    assert [one[1]["content"] for one in exam.conversations] == [
        talk("new")[0]["content"],
        talk("own")[0]["content"],
    ]
    assert all(one[0] == {"role": "system", "content": COACH} for one in exam.conversations)
    assert (exam.repeats, exam.too_long) == (2, 1)
    said = EXAMINER.about(exam)
    assert (
        "2 conversations of 2 users" in said
        and "2 told before or twice" in said
        and "1 that begin too long" in said
    )


def test_training_and_exam_share_no_day_and_equal_nights_have_equal_exams(
    asked: tuple[Lake, Settings, Night],
) -> None:
    lake, config, night = asked
    content = EXAMINER.content(lake, config, night)
    assert set(content.training) == {"2026-09-01", "2026-09-02"} and set(content.exam) == {"2026-09-03"}
    assert not set(content.training.values()) & set(content.exam.values())
    assert EXAMINER.set(lake, config, night).digest == EXAMINER.set(lake, config, night).digest
    assert EXAMINER.digest(lake, night) == EXAMINER.digest(lake, night) != lake.digest(after(0), after(2))


def test_an_exam_of_nothing_but_repeats_is_no_exam(tmp_path: Path) -> None:
    lake, config = world(tmp_path, 2, LEAST)
    tell(lake, after(2), [("u9", talk("0-1"))])
    with pytest.raises(EmptyExamError, match="told before"):
        EXAMINER.set(lake, config, EXAMINER.night(lake, after(2), config))


def test_a_talk_that_goes_on_from_one_told_before_or_begins_it_is_left_out(tmp_path: Path) -> None:
    lake, config = world(tmp_path, 2, LEAST)
    longer = talk("longer", answers=2)
    tell(lake, after(2), [("u1", longer)])
    tell(lake, after(3), [("u1", longer[:2]), ("u2", talk("0-7", answers=2)), ("u3", talk("new", answers=2))])
    exam = EXAMINER.set(lake, config, Night(after(3), after(0), after(2), after(3)))
    assert (exam.users, exam.repeats) == (["u3"], 2)


def test_conversations_that_our_own_coach_spoke_in_are_no_exam(tmp_path: Path) -> None:
    lake, config = world(tmp_path, 9, LEAST)
    tell(lake, after(9), [(f"c{n}", talk(f"ours-{n}")) for n in range(ENOUGH)], said_by="coach")
    night = EXAMINER.night(lake, after(9), config)
    assert night.exam_start == after(7), (
        "they are not counted towards enough, a third of the days is the most"
    )
    exam = EXAMINER.set(lake, config, night)
    assert (len(exam.conversations), exam.ours) == (2 * LEAST, ENOUGH)
    assert f"{ENOUGH} that our own coach spoke in" in EXAMINER.about(exam)
    with pytest.raises(EmptyExamError, match=f"our own coach spoke in {ENOUGH}, 0 were told before"):
        EXAMINER.set(lake, config, Night(after(9), after(0), after(8), after(9)))


@given(st.lists(st.sampled_from("가나 Aa.\n"), min_size=1).map("".join))
def test_spaces_case_and_the_prompt_make_no_other_text(text: str) -> None:
    one = [{"role": "user", "content": text}, {"role": "assistant", "content": "네"}]
    other = [{"role": "system", "content": COACH}, {**one[0], "content": f" {text.upper()}\n"}, one[1]]
    assert text_of(one) == text_of(other)
    assert text_of(one) != text_of([one[0], {**one[1], "content": "네!"}])


# --- the scorer -----------------------------------------------------------------------------------------


def exam_of(users: list[int], talks: list[list[Message]], config: Settings) -> Exam:
    names = [f"u{n}" for n in sorted(set(users))]
    return Exam(names, np.array(users), talks, TINY_START, TINY_START, "digest", config)


def test_a_user_counts_once_whatever_was_said_and_nothing_said_is_no_figure(tmp_path: Path) -> None:
    exam = exam_of([0, 0, 1, 2], [], Settings(_env_file=None, home=tmp_path))  # type: ignore[call-arg]
    above, below = np.array([1.0, 5.0, 4.0, 0.0]), np.array([1.0, 2.0, 8.0, 0.0])
    np.testing.assert_allclose(exam.by_user(above, below), [2.0, 0.5, np.nan])
    np.testing.assert_allclose(
        exam.by_user(above, below, np.array([True, False, False, False])), [1.0, np.nan, np.nan]
    )


@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.integers(1, 500), st.integers(1, 900)), min_size=1, max_size=9)
)
def test_bits_per_byte_of_the_whole_is_that_of_its_bytes(told: list[tuple[float, int, int]]) -> None:
    nats, _, size = columns([Told(*one) for one in told])
    whole = Told(sum(one[0] for one in told), 1, sum(one[2] for one in told))
    assert math.isclose(
        nats.sum() / math.log(2) / size.sum(), whole.bits_per_byte, rel_tol=1e-9, abs_tol=1e-12
    )


def test_conversations_are_told_apart_by_what_was_known_before_an_answer() -> None:
    talks = [
        talk(1), talk(2, answers=2), talk(3, asked="I am bored at work."),
        as_profile(talk(4), dict.fromkeys(("growth", "stability", "autonomy", "reward", "impact"), 0.5)),
    ]  # fmt: skip
    assert talks[3][0]["content"] == PROFILE
    found = {name: chosen.tolist() for name, chosen in divided(talks).items()}
    assert (
        found["task: profile"] == [False, False, False, True] == [not one for one in found["task: coaching"]]
    )
    assert found["language: other"] == [False, False, True, False]
    assert found["exchanges: several"] == [False, True, False, False]
    assert found["answers: long"] == [False, True, False, True]
    assert hangul("123 ?!") == 0 and hangul("한글") == 1 and hangul("한a") == 0.5


@pytest.fixture
def closed() -> Iterator[None]:
    yield
    scoring.close()


def an_adapter(config: Settings, size: float) -> Adapter:
    """LoRA weights of that size on the tiny base."""
    from peft import LoraConfig, get_peft_model_state_dict

    ref = base_ref(config)
    base = engine_of(config, ref).base
    lora: dict[str, Any] = {
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
    }
    base.model.add_adapter(LoraConfig(**lora), "made")
    shapes = {k: v.shape for k, v in get_peft_model_state_dict(base.model, adapter_name="made").items()}
    base.model.delete_adapter("made")
    random = np.random.default_rng(0)
    weights = {k: (random.standard_normal(s) * size).astype(np.float32) for k, s in sorted(shapes.items())}
    return Adapter(ref.name, ref.revision, base.digest, lora, weights)


def test_all_sit_the_same_exam_on_one_base_and_nobody_leaves_a_trace(
    talks_home: Settings, closed: None
) -> None:
    lake = Lake(talks_home.lake_dir)
    night = EXAMINER.night(lake, lake.days()[-1], talks_home)
    exam = EXAMINER.set(lake, talks_home, night)
    few = exam_of([0, 0, 1, 2], [*exam.conversations[:3], exam.conversations[3]], talks_home)
    untuned = EXAMINER.baselines(lake, talks_home, night)["untuned base"]
    engine = engine_of(talks_home, base_ref(talks_home))

    before = score_model(untuned, few)
    still, changed = (
        score_model(an_adapter(talks_home, 0.0), few),
        score_model(an_adapter(talks_home, 1.0), few),
    )
    again = score_model(untuned, few)

    assert engine is engine_of(talks_home, base_ref(talks_home)) and not engine.names
    np.testing.assert_array_equal(before.per_unit["bits_per_byte"], again.per_unit["bits_per_byte"])
    np.testing.assert_allclose(still.per_unit["bits_per_byte"], before.per_unit["bits_per_byte"], rtol=1e-6)
    assert np.abs(changed.per_unit["nll"] - before.per_unit["nll"]).min() > 1e-4
    assert set(before.means()) == set(EXAMINER.metrics) and before.slice_metric == "bits_per_byte"
    assert all(math.isfinite(figure) for figure in before.means().values())
    told = engine.surprise(few.conversations, None)
    assert math.isclose(
        before.totals["perplexity"], math.exp(sum(o.nats for o in told) / sum(o.tokens for o in told))
    )
    assert before.per_unit["bits_per_byte"][1] == pytest.approx(told[2].bits_per_byte)


@pytest.mark.parametrize("sign", ["🦄", "<s>", "가"])
def test_of_what_begins_as_long_as_it_may_something_is_scored(
    talks_home: Settings, closed: None, sign: str
) -> None:
    room = BEFORE - _before(as_coach(talk(1, asked=" ")))
    began = as_coach(talk(1, asked=sign * (room // len(sign.encode()))))
    assert BEFORE - 3 <= _before(began) <= BEFORE
    engine = engine_of(talks_home, base_ref(talks_home))
    (told,) = engine.surprise([began], None, limit=engine.base.model.config.max_position_embeddings)
    assert told.tokens > 0


def test_a_malformed_adapter_is_refused_and_spoils_nobody_elses_exam(
    talks_home: Settings, closed: None
) -> None:
    exam = exam_of([0], [talk(1)], talks_home)
    good = an_adapter(talks_home, 1.0)
    before = score_model(good, exam)
    for lora in ({**good.lora, "target_modules": ["nothing_such"]}, {**good.lora, "r": "two"}, {"rank": 2}):
        torn = replace(good, lora=lora)
        with pytest.raises(Exception):  # noqa: B017 - whatever peft raises
            score_model(torn, exam)
        found = EXAMINER.behaviour(torn, exam)
        assert found.problem and not found.figures
    again = score_model(good, exam)
    np.testing.assert_array_equal(before.per_unit["bits_per_byte"], again.per_unit["bits_per_byte"])


def test_an_adapter_of_another_base_or_tokenizer_is_refused(talks_home: Settings, closed: None) -> None:
    exam = exam_of([0], [talk(1)], talks_home)
    stranger = Adapter(talks_home.language_model, "", "another tokenizer")
    with pytest.raises(BaseModelError, match="another tokenizer"):
        score_model(stranger, exam)
    with pytest.raises(BaseModelError, match="no model"):
        score_model(Adapter("/nowhere", "", "x"), exam)


def test_another_base_takes_the_place_of_the_one_that_is_open(talks_home: Settings, closed: None) -> None:
    ref = base_ref(talks_home)
    first = engine_of(talks_home, ref)
    second = engine_of(talks_home, BaseRef(f"{talks_home.language_model}/."))
    assert second is not first and first.base is None, "a card holds one base"
    EXAMINER.rest()
    assert second.base is None and engine_of(talks_home, ref) is not second
