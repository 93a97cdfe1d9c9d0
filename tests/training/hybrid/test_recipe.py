"""Whom the weights may rank: strangers only where that was better than plain popularity on the validation days."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from tests.training.hybrid.conftest import DAYS, ITEMS
from training.exams.ranking import Exam
from training.hybrid.data import Window
from training.hybrid.package import in_memory
from training.hybrid.predictor import MIXERS, PARTS
from training.hybrid.recipe import FEWEST_STRANGERS, flag, ranks_strangers_better


def asked(users: list[str], relevant: str) -> Exam:
    ids = [f"i{item:02d}" for item in range(ITEMS)]
    day = date(2026, 9, DAYS)
    features = pd.DataFrame({"user_id": users})
    return Exam(users, [[relevant]] * len(users), [[]] * len(users), features, ids, day, day, "digest")


@pytest.mark.parametrize(
    ("strangers", "wanted", "better"),
    [
        (FEWEST_STRANGERS, "least met", True),
        (FEWEST_STRANGERS, "most met", False),
        (FEWEST_STRANGERS - 1, "least met", False),  # too few to say
    ],
)
def test_the_weights_rank_strangers_only_where_they_were_better_at_it(
    window: Window, arrays: dict[str, np.ndarray], strangers: int, wanted: str, better: bool
) -> None:
    weight = np.zeros((len(PARTS), len(MIXERS)), np.float32)
    weight[PARTS.index("standing"), 0] = -1  # the least met first
    upside_down = in_memory(window, {**arrays, "weight": weight})
    plain = in_memory(window, {**arrays, "weight": weight, "plain": flag(True)})
    at = np.argmax(arrays["standing"]) if wanted == "most met" else np.argmin(arrays["standing"])
    # those who are known are served by the weights either way, and have no say
    exam = asked([f"n{n}" for n in range(strangers)] + window.users, f"i{at:02d}")
    assert ranks_strangers_better(upside_down, plain, exam) == better
