"""The large path's rehearsal of the exam, on integers: what did some users first meet on the validation days?

The question that `training.rehearsal` asks, of users drawn at random, with all items ranked: what they met before is
left out, and what they met through a recommendation counts neither way. One user's scores at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.exams.hits import Hits
from training.ncf.coded import Window
from training.ncf.large import Network

USERS = 1_000  # more would move the best epoch little; each costs a pass over the items


@dataclass(frozen=True)
class Questions:
    """users [n]: their numbers; relevant, left_out: each user's items (int64), the former at least one."""

    users: np.ndarray
    relevant: list[np.ndarray]
    left_out: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.users)


def questions(window: Window, cut: int, seed: int, limit: int = USERS) -> Questions:
    """Of the days from number `cut` on."""
    found = window.database.execute(
        f"""
        WITH late AS (SELECT DISTINCT "user" FROM coded WHERE day >= {cut}),
        pairs AS (
            SELECT "user", item, min(day) >= {cut} AND NOT bool_or(steered AND day >= {cut}) AS new
            FROM coded WHERE "user" IN (SELECT "user" FROM late ORDER BY hash("user", {seed}) LIMIT {2 * limit})
            GROUP BY ALL
        )
        SELECT "user", item, new FROM pairs ORDER BY "user", item
        """
    ).fetchnumpy()
    user, item, new = (np.asarray(found[name]) for name in ("user", "item", "new"))
    users = np.unique(user[new])[:limit]
    starts, ends = np.searchsorted(user, users, "left"), np.searchsorted(user, users, "right")
    spans = [slice(start, end) for start, end in zip(starts, ends, strict=True)]
    items = item.astype(np.int64)
    return Questions(users, [items[s][new[s]] for s in spans], [items[s][~new[s]] for s in spans])


def validate(network: Network, asked: Questions, learnt: np.ndarray) -> dict[str, float]:
    """Means of the exam's own figures. learnt bool [users + 1]: who has a vector of their own.

    A tie ranks the irrelevant item first, as in the exam.
    """
    user, item, above, others = [], [], [], []
    for at, number in enumerate(asked.users):
        scores = network.scores(int(number) if learnt[number] else 0)
        relevant = asked.relevant[at]
        own = scores[relevant]
        scores[asked.left_out[at]] = scores[relevant] = -np.inf
        order = np.argsort(-own, kind="stable")
        user.append(np.full(len(order), at))
        item.append(relevant[order])
        above.append([int(np.count_nonzero(scores >= score)) for score in own[order]])
        others.append(len(scores) - len(relevant) - len(asked.left_out[at]))
    hits = Hits(
        np.concatenate(user), np.concatenate(item), np.concatenate(above).astype(np.int64), np.array(others)
    )
    return {
        "ndcg_at_100": float(hits.ndcg(100).mean()),
        "ndcg_at_10": float(hits.ndcg(10).mean()),
        "hr_at_10": float(hits.hit_rate(10).mean()),
        "recall_at_50": float(hits.recall(50).mean()),
    }
