"""A pool of Online Retail: real customers of a UK wholesaler, real discoveries, models fitted to what came before.

All models are item-kNN. What makes them better than the standing baseline, which is item-kNN too, is that they know
what the *other* half of the exam's customers bought in its week. The seeds know a random SUBSAMPLE of it all, which
makes two of them disagree, user by user, nearly as two NCF models of the nightly recipe do on this shop (MEASURED).
What is truly better knows all of it; what is worse knows little, and nothing of the week.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, diags, vstack

from benchmarks.calibration.answers import Table, answers_of, groups_of
from benchmarks.calibration.exams import Held, hold
from benchmarks.calibration.pools import Answers, Pool, pooled
from nightshift.errors import SourceError
from nightshift.settings import Settings
from nightshift.sources.online_retail import OnlineRetail
from training.exams.ranking import Exam

# Two seeds of NCF's nightly recipe, the seven days of trade up to 2011-11-01, 463 customers: level, correlation, sd.
MEASURED = {
    "ndcg_at_100": (0.138, 0.83, 0.48),
    "ndcg_at_10": (0.080, 0.68, 1.27),
    "hr_at_10": (0.420, 0.65, 1.02),
    "recall_at_50": (0.140, 0.87, 0.54),
    "auc": (0.820, 0.96, 0.04),
}
# The last exam's last day: before Christmas, when many of a year's customers come once.
LAST = date(2011, 11, 1)
WEEK = 7  # days of trade: an exam that asks for 1,600 users takes in a week and no more
TRAIN_DAYS = 90
SEEDS, SUBSAMPLE, FEW = 6, 0.45, 0.15  # FEW: of the interactions, for what is truly worse
SHRINK, TIE_BREAK, NEIGHBOURS = 20.0, 0.01, 100  # as the baseline's (training.baselines.neighbours)


def retail_pool(data: Path, number: int, *, exams: int = 4) -> Pool:
    """A pool of `exams` weeks, every other one up to LAST, for even and odd numbers different ones.

    Raises:
        SourceError: the day files are not there, or too few.
    """
    source = OnlineRetail(Settings(source="online_retail", source_path=data))
    days = [day for day in _days(data) if day <= LAST]
    weeks = [
        days[len(days) - WEEK * (k + 1) : len(days) - WEEK * k] for k in range(number, number + 2 * exams, 2)
    ]
    earliest = min((week[0] for week in weeks if len(week) == WEEK), default=None)
    if earliest is None or len(weeks[-1]) < WEEK or days[0] > earliest - timedelta(days=TRAIN_DAYS):
        raise SourceError(f"{data}: too few day files before {LAST} for {exams} exams of a week")
    batches = [source.read(day) for day in days if day >= earliest - timedelta(days=TRAIN_DAYS)]
    held = [hold(batches, week[0] - timedelta(days=TRAIN_DAYS), week[0], week[-1]) for week in weeks]
    return _pool(held, np.random.default_rng([number, 2]))


def _pool(held: list[Held], random: np.random.Generator) -> Pool:
    exams = [one.exam for one in held]
    catalogue = sorted(set().union(*(exam.catalogue for exam in exams)))

    def sit(share: float, *, informed: bool) -> Answers:
        return answers_of([_neighbours(one, share, informed, random) for one in held], exams, catalogue)

    found = {f"seed {number}": sit(SUBSAMPLE, informed=True) for number in range(SEEDS)}
    found["better"] = found["strong"] = sit(1.0, informed=True)
    found["worse"] = sit(FEW, informed=False)
    lost = [random.random((len(exam), len(exam.catalogue)), dtype=np.float32) for exam in exams]
    tables = [Table(exam.users, exam.catalogue, scores) for exam, scores in zip(exams, lost, strict=True)]
    found["random"] = answers_of(tables, exams, catalogue)
    found["popularity"] = answers_of([one.popularity() for one in held], exams, catalogue)
    # On a real night the standing baseline learns from the days that the candidate learns from; so it does here.
    found["item-kNN"] = sit(SUBSAMPLE, informed=False)
    return pooled(
        "online_retail", round(float(np.mean([len(exam) for exam in exams]))), len(catalogue), found,
        groups=groups_of(found["seed 0"], ("country", "users")),
        baselines={name: name for name in ("popularity", "item-kNN")}, wrecks={},
    )  # fmt: skip


def _neighbours(held: Held, share: float, informed: bool, random: np.random.Generator) -> Table:
    """Item-kNN on a random share of the window and, if informed, of the exam's week of the other half of its users,
    for each half in turn; it scores from all that a user met before."""
    exam, history = held.exam, _pairs(held.exam, held.exam.seen)
    others = held.before[~held.before["user_id"].isin(set(exam.users))]
    window, mine = _thinned(_matrix(exam, others), share, random), _thinned(history, share, random)
    week = _thinned(_pairs(exam, exam.relevant), share, random)
    half = random.permutation(len(exam)) % 2
    scores = np.zeros((len(exam), len(exam.catalogue)), np.float32)
    for side in (0, 1):
        told = diags((half != side).astype(np.float32) * informed) @ week
        known = vstack([window, mine + told]).tocsr()
        people = np.asarray(known.sum(axis=0)).ravel()
        place = np.argsort(np.argsort(people, kind="stable")) / len(people)
        scores[half == side] = history[half == side] @ _alike(known, people) + TIE_BREAK * place
    return Table(exam.users, exam.catalogue, scores)


def _alike(known: csr_matrix, people: np.ndarray) -> np.ndarray:
    """Shrunk cosine of each item [row] with its NEIGHBOURS nearest, transposed: float32 [items, items]."""
    both = (known.T @ known).toarray().astype(np.float32)
    length = np.sqrt(people).astype(np.float32)
    both /= np.outer(length, length) + np.float32(SHRINK)
    np.fill_diagonal(both, 0)
    if len(both) > NEIGHBOURS:
        both[both < np.partition(both, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS, None]] = 0
    return np.ascontiguousarray(both.T)


def _thinned(matrix: csr_matrix, share: float, random: np.random.Generator) -> csr_matrix:
    kept = matrix.copy()
    kept.data = (random.random(len(kept.data)) < share).astype(np.float32)
    kept.eliminate_zeros()
    return kept


def _matrix(exam: Exam, before: pd.DataFrame) -> csr_matrix:
    """Ones [customers of the window, items of the exam's catalogue] where they met."""
    met = before[["user_id", "item_id"]].drop_duplicates()
    met = met[met["item_id"].isin(set(exam.catalogue))]
    user = met["user_id"].astype("category").cat.codes
    item = pd.Index(exam.catalogue).get_indexer(pd.Index(met["item_id"]))
    return csr_matrix(
        (np.ones(len(met), np.float32), (user, item)), shape=(int(user.max()) + 1, len(exam.catalogue))
    )


def _pairs(exam: Exam, lists: list[list[str]]) -> csr_matrix:
    """Ones float32 [units, items] for each unit's list of items."""
    column = {item: place for place, item in enumerate(exam.catalogue)}
    met = [(row, column[item]) for row, items in enumerate(lists) for item in items if item in column]
    rows, columns = np.array(met).T
    return csr_matrix((np.ones(len(met), np.float32), (rows, columns)), shape=(len(exam), len(column)))


def _days(data: Path) -> list[date]:
    found = []
    for path in sorted(data.glob("????-??-??.csv")):
        try:
            found.append(date.fromisoformat(path.stem))
        except ValueError:
            continue
    return found
