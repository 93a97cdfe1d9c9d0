"""A rehearsal of the recommender's exam inside the training window: its last days, as the exam itself would ask.

What a recipe validates on. It knows nothing of the real exam: that begins after the window.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from nightshift.errors import LakeError
from nightshift.lake import Lake
from nightshift.settings import Settings
from training.exams import EmptyExamError
from training.exams.ranking import Exam
from training.exams.recommender import EXAMINER, build_exam
from training.recipe import Night

if TYPE_CHECKING:
    from feast import FeatureStore

VALIDATION_USERS = 1_000  # scoring more each epoch costs time and moves the best epoch little


def validation_start(lake: Lake, night: Night, days: list[date], settings: Settings) -> int:
    """Which of the window's days is the first to validate on, by the exam's own rule; 0 if too few are left."""
    try:
        rehearsal = EXAMINER.night(lake, night.train_end, settings)
    except LakeError:
        return 0
    return sum(day < rehearsal.exam_start for day in days)


def validation_exam(
    lake: Lake, store: FeatureStore, days: list[date], cut: int, settings: Settings
) -> Exam | None:
    """An exam on the window's days from `cut` on, or None where there are none, or nobody met anything new."""
    if cut < 1:
        return None
    rehearsal = Night(days[-1], days[0], days[cut - 1], days[cut])
    try:
        return build_exam(lake, store, rehearsal, settings).head(VALIDATION_USERS)
    except EmptyExamError:
        return None
