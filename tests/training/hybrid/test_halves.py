"""Half a visit is told, and the rest is to be found."""

from __future__ import annotations

from tests.training.hybrid.conftest import DAYS
from training.hybrid.data import Window
from training.hybrid.halves import half_visits, silent


def test_the_told_half_is_seen_and_the_other_is_wanted(window: Window) -> None:
    cut = DAYS - 2
    exam = half_visits(window, cut, days=2)
    assert exam is not None and len(exam) > 3
    before = {user: {f"i{item - 1:02d}" for who, item, day in window.met if window.users[who - 1] == user and day < cut}
              for user in exam.users}  # fmt: skip
    for user, wanted, seen, told in zip(
        exam.users, exam.relevant, exam.seen, exam.features["recent_items"], strict=True
    ):
        assert wanted and told and not set(wanted) & (set(seen) | set(told))
        assert set(seen) == before[user] | set(told)
    assert set(exam.features["hour"]) <= {8, 20} and set(exam.features["device"]) <= {"mobile", "desktop"}
    assert set(exam.features["channel"]) == {None}


def test_silence_keeps_users_and_items_and_says_nothing(window: Window) -> None:
    exam = half_visits(window, DAYS - 2, days=2)
    assert exam is not None
    quiet = silent(exam)
    assert quiet.features.columns.tolist() == ["user_id"] and quiet.digest != exam.digest
    assert (quiet.users, quiet.relevant, quiet.seen) == (exam.users, exam.relevant, exam.seen)


def test_no_more_users_than_asked_for_and_none_where_nothing_is_new(window: Window) -> None:
    some = half_visits(window, DAYS - 2, days=2, limit=3)
    assert some is not None and len(some) == 3
    assert half_visits(window, DAYS, days=1) is None
