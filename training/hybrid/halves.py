"""Half a visit: what a user met first on a day is told as `recent_items`, and the rest is to be found.

The night's exam asks before anybody has come. This asks in the middle of a visit, and with `silent` the very same users
for the very same items without a word of the visit: the difference is what a session is worth.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from training.exams.ranking import Exam
from training.hybrid.data import BLOCKS, Window, cases_from, named
from training.hybrid.predictor import HOUR_BLOCK

FEWEST = 2  # first meetings of a day: one to tell and one to find


def half_visits(window: Window, cut: int, days: int, limit: int | None = None, seed: int = 0) -> Exam | None:
    """What users met for the first time on the `days` days from `cut` on, each user's first day with FEWEST of them.

    Nothing is known of what the model could not have learnt by `cut` but the half that is told. Features are `user_id`,
    recent_items, hour, device and channel; None if there is no such user. limit: at most so many, drawn by `seed`.
    """
    cases = cases_from(window, cut)
    ids = window.items["item_id"].to_numpy()
    offered = int(window.offered[min(cut + days, len(window.days)) - 1])
    rows = pd.DataFrame({"user": cases.user, "day": cases.day, "case": np.arange(len(cases))})
    rows = rows[(rows["day"] < cut + days)]
    rows = rows[rows.groupby(["user", "day"])["case"].transform("size") >= FEWEST]
    rows = rows[rows["day"] == rows.groupby("user")["day"].transform("min")]
    if rows.empty:
        return None
    visits = [(int(str(user)), case.to_numpy(np.int64)) for user, case in rows.groupby("user")["case"]]
    if limit is not None and len(visits) > limit:
        kept = np.sort(np.random.default_rng(seed).choice(len(visits), limit, replace=False))
        visits = [visits[at] for at in kept]
    early = window.met[window.met[:, 2] < cut]
    starts = np.searchsorted(early[:, 0], np.arange(1, len(window.users) + 2))
    users, relevant, seen, told = [], [], [], []
    for user, case in visits:
        middle = int(case[len(case) // 2])
        wanted = cases.item[case[len(case) // 2 :]]
        recent = cases.recent[middle]
        met = np.union1d(early[starts[user - 1] : starts[user], 1], recent)
        users.append(window.users[user - 1])
        relevant.append(sorted(ids[wanted - 1]))
        seen.append(sorted(ids[np.setdiff1d(met, wanted) - 1]))
        told.append([list(ids[recent - 1]), *_moment(cases.moment[middle])])
    features = pd.DataFrame(told, columns=["recent_items", "hour", "device", "channel"])
    features.insert(0, "user_id", users)
    first, last = window.days[cut], window.days[min(cut + days, len(window.days)) - 1]
    digest = f"half visits {first} {last} {len(users)}"
    return Exam(users, relevant, seen, features, sorted(ids[:offered]), first, last, digest)


def silent(exam: Exam) -> Exam:
    """The same users and items, without a word of the visit."""
    told = ["recent_items", "hour", "device", "channel"]
    return replace(exam, features=exam.features.drop(columns=told), digest=f"silent {exam.digest}")


def _moment(rows: np.ndarray) -> tuple[int, str | None, str | None]:
    devices, channels = named()
    hour, device, channel = (int(row) for row in rows)
    return (
        hour * HOUR_BLOCK,
        devices[device - BLOCKS] if device >= 0 else None,
        channels[channel - BLOCKS - len(devices)] if channel >= 0 else None,
    )
