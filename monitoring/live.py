"""Whether users do less with a new champion's answers than with the former one's: pure, over plain arrays.

A request has an outcome if its user did something with what was shown. Requests of one user are not independent, so
what is compared is one figure per user, the share of that user's requests with an outcome, by Welch's t-test (one-
sided: is the new one worse?). The new champion's first n requests meet the former one's last n: windows of one length,
for a short one holds relatively more busy users. Users in both count as if they were different people, which
makes the test more cautious, not less.

Looks are at fixed n, whoever runs this and however often: a look sees the first n requests and nothing else. Each of
the looks may err with probability alpha / looks (Bonferroni), so that an equal champion is rolled back with alpha at
most, whatever the number of looks taken. A drop must also be at least `min_drop` of the former rate. Measured with
the simulated users of tests/monitoring/test_live.py, who differ in taste and in how often they come (10,000 equal
champions, 1,000 of each other kind); share rolled back by the look at 250 / 500 / 1,000 / 2,000 / 4,000 requests:

    outcomes per request      30 %                       10 %                        3 %
    equal champion            .002 .003 .004 .005 .006   .001 .002 .003 .004 .004   .001 .003 .004 .005 .005
    half the outcomes         .77  .99  1.00 1.00 1.00   .14  .38  .73  .95  1.00   .01  .05  .14  .31  .58
    30 % fewer                .21  .48  .82  .98  1.00   .03  .06  .16  .36  .65    .00  .01  .03  .06  .11
    20 % fewer                .07  .16  .33  .62  .88    .01  .02  .05  .10  .19    .00  .01  .01  .02  .04

So it catches what is broken, not what is a little worse: that is the gate's work, on far more evidence.

Not covered. This compares before with after: what changed with the day (a weekend, a sale, a drift, customers who
have met the best items already) is taken for the champion's doing, and the error rate above holds for chance alone.
Better would be to leave a random share of users with the former champion: both then live through the same days. It
is not done here, for it needs two models in one service and every night would pay with users who get the
older one. So the drop that counts is large (in the market, where one ranking that never changes loses about 1 % of
its outcomes a day to what customers have met, it is a week of that), what the watch saw as drift forbids a verdict
(monitoring/outcomes.py), and a rollback goes to a version that held the seat a moment ago. Nor is it told how much a
user did with an answer: where nearly all are followed by something, a list with half as many clicks looks alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
from scipy import special

Verdict = Literal["worse", "not worse", "not worse so far", "no evidence"]


@dataclass(frozen=True)
class Policy:
    """looks: after how many requests. alpha: false rollbacks of an equal champion, all looks together.

    min_drop: smallest relative loss that counts. min_users: on each side of a look; under it a look tells nothing.
    settle: how long a user has to do something with an answer; measured by what reached the service.
    """

    looks: tuple[int, ...] = (
        250,
        500,
        1_000,
        2_000,
        4_000,
    )  # few where every third is clicked on, more where few are
    alpha: float = 0.01
    min_drop: float = 0.10
    min_users: int = 50
    settle: timedelta = timedelta(minutes=30)

    @property
    def requests(self) -> int:
        """How many requests are looked at in all."""
        return self.looks[-1]

    @property
    def alpha_per_look(self) -> float:
        return self.alpha / len(self.looks)


@dataclass(frozen=True)
class Requests:
    """Requests in the order in which they were answered: users [n] of ids, engaged bool [n]: did they do something?"""

    users: np.ndarray
    engaged: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def first(self, count: int) -> Requests:
        return Requests(self.users[:count], self.engaged[:count])

    def last(self, count: int) -> Requests:
        start = len(self) - count
        return Requests(self.users[start:], self.engaged[start:])

    def per_user(self) -> np.ndarray:
        """Each user's share of requests with an outcome, float64 [users]."""
        _, user = np.unique(self.users, return_inverse=True)
        return np.bincount(user, weights=self.engaged) / np.bincount(user)


@dataclass(frozen=True)
class Look:
    """One look, at the first `requests` of the new champion and the last of the former one.

    rate, rate_before: mean over users. p: Welch, one-sided; None where a side has too few users.
    """

    requests: int
    users: int
    users_before: int
    rate: float
    rate_before: float
    p: float | None
    worse: bool


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    reason: str
    looks: tuple[Look, ...] = ()


def judge(new: Requests, old: Requests, policy: Policy) -> Judgement:
    """What the looks that can be taken say. The first look that finds a loss decides; later ones are not taken.

    More requests never change what an earlier look saw: the verdict depends on the requests, not on when it is asked.
    """
    looks: list[Look] = []
    for count in policy.looks:
        if min(len(new), len(old)) < count:
            break
        looks.append(_look(new.first(count), old.last(count), policy))
        if looks[-1].worse:
            return Judgement("worse", _told(looks[-1], policy), tuple(looks))
    verdict, reason = _without_loss(looks, len(new), len(old), policy)
    return Judgement(verdict, reason, tuple(looks))


def _look(new: Requests, old: Requests, policy: Policy) -> Look:
    mine, theirs = new.per_user(), old.per_user()
    rate, before = float(mine.mean()), float(theirs.mean())
    p = None
    if min(len(mine), len(theirs)) >= policy.min_users:
        p = _welch(mine, theirs)
    worse = p is not None and p < policy.alpha_per_look and rate <= (1 - policy.min_drop) * before
    return Look(len(new), len(mine), len(theirs), rate, before, p, worse)


def _welch(mine: np.ndarray, theirs: np.ndarray) -> float:
    """P(a mean this much lower, if the new one were no worse): Welch 1947, as scipy.stats.ttest_ind has it.

    By hand, for it is called a hundred thousand times to measure what this module promises.
    """
    spread = np.array([mine.var(ddof=1) / len(mine), theirs.var(ddof=1) / len(theirs)])
    difference = float(mine.mean() - theirs.mean())
    if spread.sum() == 0:  # no spread to measure the difference by
        return 0.0 if difference < 0 else 1.0
    freedom = spread.sum() ** 2 / (spread**2 / np.array([len(mine) - 1, len(theirs) - 1])).sum()
    return float(special.stdtr(freedom, difference / spread.sum() ** 0.5))


def _without_loss(looks: list[Look], new: int, old: int, policy: Policy) -> tuple[Verdict, str]:
    first = policy.looks[0]
    if new < first:
        return "no evidence", f"{new} requests count so far, the first look is at {first}"
    if old < first:
        return "no evidence", f"the champion before answered {old} requests that count, {first} are needed"
    if all(look.p is None for look in looks):
        fewest = min(looks[-1].users, looks[-1].users_before)
        return "no evidence", f"{fewest} users on one side, {policy.min_users} are needed"
    told = _told(looks[-1], policy)
    if looks[-1].rate_before == 0:
        return "no evidence", f"nobody did anything with the former answers either: {told}"
    if looks[-1].requests < policy.requests:
        short = "" if old >= policy.requests else f"; the champion before has only {old} to compare with"
        return "not worse so far", told + short
    return "not worse", told


def _told(look: Look, policy: Policy) -> str:
    change = f" ({look.rate / look.rate_before - 1:+.0%})" if look.rate_before else ""
    tested = f"p {look.p:.2g}" if look.p is not None else "too few users to test"
    return (
        f"users did something with {look.rate:.1%} of the answers, {look.rate_before:.1%} before{change}, "
        f"after {look.requests} requests of {look.users} users ({look.users_before} before): {tested}, "
        f"worse is below {policy.alpha_per_look:.2g}"
    )
