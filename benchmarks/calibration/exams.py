"""The recommender's exams over a source's days, set as the nightly examiner sets them, without a lake."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from benchmarks.calibration.answers import blank
from nightshift.sources import DayBatch
from training.baselines.item_knn_predictor import ItemKNN
from training.baselines.neighbours import in_memory
from training.baselines.popularity import Popularity
from training.exams.ranking import Exam
from training.exams.recommender import discoveries
from training.meetings import Meetings

EVENT = ["user_id", "item_id", "channel"]


@dataclass(frozen=True)
class Held:
    """An exam and what was known before it. before: user_id, item_id, channel, a row an event; items: item_id, title,
    category of everything listed before the exam."""

    exam: Exam
    before: pd.DataFrame
    items: pd.DataFrame

    def popularity(self) -> Popularity:
        return Popularity(self.before, self.items)

    def item_knn(self) -> ItemKNN:
        """The standing baseline, fitted on the days before the exam."""
        return in_memory(_meetings(self.before, self.items, self.exam.start - timedelta(days=1)))


def hold(batches: list[DayBatch], train_from: date, start: date, end: date) -> Held:
    """The exam on start..end of those who trained from `train_from`. Batches: all days up to `end`, from the first."""
    frames = {batch.day: batch.tables["interactions"].select(EVENT).to_pandas() for batch in batches}
    before = pd.concat(
        [frame for day, frame in frames.items() if train_from <= day < start], ignore_index=True
    )
    during = pd.concat([frame for day, frame in frames.items() if start <= day <= end], ignore_index=True)
    known, listed = (_latest(batches, "items", until) for until in (start - timedelta(days=1), end))
    people = _latest(batches, "users", start - timedelta(days=1))
    users, relevant, seen = discoveries(before, during)
    kinds = {**_column(listed, "category"), **_column(known, "category")}
    exam = Exam(
        users, relevant, seen, blank(users), sorted(set(listed.index).union(*relevant)), start, end,
        digest=f"{start}..{end}",
        category=kinds,
        popularity={str(item): int(count) for item, count in before["item_id"].value_counts().items()},
        country=_column(people, "country"),
    )  # fmt: skip
    return Held(exam, before, known.reset_index()[["item_id", "title", "category"]])


def _latest(batches: list[DayBatch], table: str, until: date) -> pd.DataFrame:
    """Each id's newest row by the end of a day, by id."""
    rows = pd.concat(
        [batch.tables[table].to_pandas() for batch in batches if batch.day <= until], ignore_index=True
    )
    return rows.groupby("item_id" if table == "items" else "user_id").last()


def _column(rows: pd.DataFrame, name: str) -> dict[str, str]:
    return {str(key): str(value) for key, value in rows[name].items() if value}


def _meetings(before: pd.DataFrame, items: pd.DataFrame, day: date) -> Meetings:
    """What users met, as if all on one day: neighbours ask only who met what."""
    met = before[["user_id", "item_id"]].drop_duplicates()
    missing = sorted(set(met["item_id"]) - set(items["item_id"]))
    strange = pd.DataFrame({"item_id": missing, "title": missing, "category": "unknown"})
    offered = pd.concat([items, strange], ignore_index=True)
    users = sorted(met["user_id"].unique())
    user = pd.Index(users).get_indexer(met["user_id"]) + 1
    item = pd.Index(offered["item_id"]).get_indexer(met["item_id"]) + 1
    pairs = np.stack([user, item, np.zeros(len(met), np.int64)], axis=1)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return Meetings(
        days=[day], users=users, items=offered, offered=np.array([len(offered)]),
        user=pairs[:, 0], item=pairs[:, 1], day=pairs[:, 2], weight=np.ones(len(pairs), np.float32), met=pairs,
    )  # fmt: skip
