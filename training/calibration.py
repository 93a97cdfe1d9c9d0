"""How sure a recommender is of what it shows: learnt from the validation exam, kept in the package as `calibration`.

    looked = look(model, exam)          # while the model that sat the validation exam is at hand
    found = calibrate(looked)           # its knots into the package's arrays, its figure onto the run's page

Of each user's first ten the log-share (`nightshift.confidence`) is set beside whether the user met the item: an
isotonic regression, so that more score never says less chance. It is fitted on the model that had not seen the
validation days; the one that serves is the same recipe's on a few more days.

**What the chance is of**: that a user *who meets anything new* in the days that an exam takes meets this item, unled:
what a recommendation led to is no part of an exam. Not covered: users who do not come, and what a session adds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.isotonic import IsotonicRegression

from nightshift.confidence import confidences, log_shares
from nightshift.seats import RecommenderModel
from training.exams.lists import best
from training.exams.ranking import TOP, Exam, came_true, rankings
from training.exams.reliability import Reliability, reliability

KNOTS = 20  # at most; more only follow the noise
PER_KNOT = (
    250  # items shown, at least: of which a dozen are met where one in twenty is; fewer and a knot is luck
)
USERS = 20  # fewer say nothing that could be judged


@dataclass(frozen=True)
class Looked:
    """The items shown in the validation exam, [n] each: whose (int64), log-share (float64), whether they were met."""

    user: np.ndarray
    share: np.ndarray
    met: np.ndarray


@dataclass(frozen=True)
class Calibrated:
    """knots: float64 [2, n], as `RecommenderModel.calibration`. judged: half of the users, by knots of the others."""

    knots: np.ndarray
    judged: Reliability
    users: int

    def figure(self) -> Figure:
        """reliability.png: what was said against what came true."""
        return _figure(self)


def look(model: RecommenderModel, exam: Exam) -> Looked:
    """What a model would show each user of an exam first, and what became of it."""
    column = {item: place for place, item in enumerate(exam.catalogue)}
    user, share, met = [np.empty(0, np.int64)], [np.empty(0)], [np.empty(0, bool)]
    for rows, ranked in rankings(model, exam, column):
        lists = best(ranked, TOP)
        there = log_shares(ranked, lists)
        row, place = np.nonzero(~np.isnan(there))
        user.append(row + rows.start)
        share.append(there[row, place])
        met.append(came_true(lists, [exam.relevant[at] for at in rows], column)[row, place])
    return Looked(np.concatenate(user), np.concatenate(share), np.concatenate(met))


def calibrate(looked: Looked | None, seed: int = 0) -> Calibrated | None:
    """The knots from all users, and how knots from half of them do on the other half; None with too few users.

    looked: None where there was no validation exam: no calibration then.
    """
    people = np.unique(looked.user) if looked is not None else np.empty(0)
    if looked is None or len(people) < USERS:
        return None
    half = np.random.default_rng(seed).permutation(people)[: len(people) // 2]
    fitting = np.isin(looked.user, half)
    trial = knots(looked.share[fitting], looked.met[fitting])
    judged = reliability(confidences(trial, looked.share[~fitting]), looked.met[~fitting])
    return Calibrated(knots(looked.share, looked.met), judged, len(people))


def knots(share: np.ndarray, met: np.ndarray) -> np.ndarray:
    """float64 [2, n]: log-shares, strictly ascending, and chances, which never fall and are neither 0 nor 1.

    share, met: [n], at least one. Groups of equally many are smoothed by one item more that is as likely met as any
    (Laplace's rule with the overall share), then made to ascend by pooling adjacent violators (Ayer et al. 1955).
    """
    overall = (met.sum() + 1) / (len(met) + 2)
    order = np.argsort(share, kind="stable")
    groups = np.array_split(order, min(KNOTS, max(1, len(order) // PER_KNOT)))
    middle = np.array([share[group].mean() for group in groups])
    chance = np.array([(met[group].sum() + overall) / (len(group) + 1) for group in groups])
    fitted = IsotonicRegression().fit(middle, chance, sample_weight=[len(group) for group in groups])
    return np.stack([fitted.X_thresholds_, fitted.y_thresholds_]).astype(np.float64)


def _figure(found: Calibrated) -> Figure:
    figure = Figure(figsize=(7.5, 6.5))
    axis = figure.add_subplot()
    judged = found.judged
    top = 1.25 * max(judged.high.max(), judged.said.max())
    axis.plot([0, top], [0, top], color="0.6", linestyle="--", label="what is said comes true")
    spread = np.stack([judged.came - judged.low, judged.high - judged.came])
    axis.errorbar(judged.said, judged.came, yerr=spread, fmt="o", capsize=3, label="observed, 95 % interval")
    for said, high, count in zip(judged.said, judged.high, judged.count, strict=True):
        axis.annotate(
            f"{count:,}", (said, high), textcoords="offset points", xytext=(0, 4), ha="center", size=8
        )
    _named(axis, found, top)
    figure.tight_layout()
    return figure


def _named(axis: Axes, found: Calibrated, top: float) -> None:
    judged, half = found.judged, found.users // 2
    axis.set_title(
        f"Is the confidence shown true? Expected calibration error {judged.error:.4f}\n"
        f"(luck alone would make it about {judged.luck:.4f})",
        fontsize=11,
    )
    axis.set_xlabel(
        "confidence: the chance said that the user meets the item shown, by tenths of the items\n"
        f"fitted on {half:,} validation users, judged here on the other {found.users - half:,}; numbers: items shown\n"
        f"what serves was fitted again on all {found.users:,}"
    )
    axis.set_ylabel("share of them that the user met on the validation days")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0, top=top)
    axis.legend(loc="upper left", frameon=False)
