"""Hybrid as it is served: NumPy and SciPy alone. This file travels inside the packaged model (models-from-code).

It imports neither torch nor Nightshift and loads no pickle.

    score(user, item) = Σ over parts of weight(part, what is known of the user) · part(user, item)

A part is one plain reason to show an item (`PARTS`): people with the same history met it, it reads like what was looked
at a minute ago, it is popular, … The weights were learnt (`training.hybrid.fit`), and each is linear in `mixers`: how
much is known of the user's past and of the session. So a stranger is ranked by popularity, and by the session as soon
as there is one. Where the weights did not rank strangers better than plain popularity on the validation days, somebody
of whom no item is known gets that (`standing`) and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import mlflow.models
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel
from safetensors.numpy import load_file
from scipy.sparse import csr_matrix

DEFAULT_K = 10
MAX_RECENT = 30  # of the newest; what was before these says little of what is wanted now
RECENT_DECAY = 0.85  # of an item's weight with every one that was met after it
HOUR_BLOCK = 4  # hours that are taken together
ALPHA = 0.5  # how many things were met counts for the factors: 1 = their mean, 0 = their sum
SHRINK_TASTE, SHRINK_PRICE = 3.0, 3.0  # items met until a user's own mean counts as much as everybody's

GROUPS = {  # of parts, as `reason` and the pictures name them
    "taste": ("taste", "category", "price"),
    "content": ("content",),
    "session": ("session", "session_content", "session_category"),
    "popularity": ("popularity", "trend", "standing"),
    "newness": ("newness", "unmet"),
    "people": ("people",),
    "moment": ("moment",),
    "factors": ("factors",),
}
PARTS = tuple(part for parts in GROUPS.values() for part in parts)
MIXERS = ("always", "items met", "stranger", "recent items")
PLAIN = np.array([part == "standing" for part in PARTS], np.float32)  # plain popularity, as weights


class Asked(NamedTuple):
    """Some rows that scores are asked for.

    history, recent: csr float32 [n, items], how much each met item counts. met, fresh: int64 [n], how many those are.
    groups: int64 [n, attributes] and moments: int64 [n, 3], rows of the lifts; -1, the last row, says nothing.
    """

    history: csr_matrix
    recent: csr_matrix
    met: np.ndarray
    fresh: np.ndarray
    groups: np.ndarray
    moments: np.ndarray


class Hybrid(PythonModel):
    """The recommender seat's protocol over the parts, and MLflow's `predict` on top of it."""

    items: list[str]
    titles: list[str]
    categories: list[str]
    user_features: list[str] = []  # noqa: RUF012 - the protocol's attribute; this model wants none
    context: list[str] = ["recent_items", "hour", "device", "channel"]  # noqa: RUF012 - as above
    calibration: np.ndarray | None = None

    def load_context(self, context: Any) -> None:
        paths = context.artifacts
        with open(paths["config"], encoding="utf-8") as handle:
            config = json.load(handle)
        users = pd.read_parquet(paths["users"])["user_id"].tolist()
        self.set_up(config, load_file(paths["arrays"]), users, pd.read_parquet(paths["items"]))

    def set_up(
        self, config: dict[str, Any], arrays: dict[str, np.ndarray], users: Sequence[str], items: pd.DataFrame
    ) -> None:
        """users: ids in the order of the rows of `history_start`; items: item_id, title, category, in column order.

        config: devices, channels: names in the order of their rows of `moment_lift`, after the blocks of hours.
        arrays: as `training.hybrid.parts.fit` and `factors.fit` make them, with `weight` float32 [parts, mixers],
            `plain` uint8 [1] (1: who is unknown and tells nothing is ranked by plain popularity), and `calibration`
            float64 [2, n] where there was a validation exam.
        """
        self.items = items["item_id"].tolist()
        self.titles = items["title"].tolist()
        self.categories = items["category"].tolist()
        self._column = {item: at for at, item in enumerate(self.items)}
        self._row = {user: row for row, user in enumerate(users)}
        self._a = arrays
        self.calibration = arrays.get("calibration")
        count, kinds = len(self.items), len(arrays["usual_category"])
        near = arrays["near_weight"], arrays["near_item"], arrays["near_start"]
        self._speaks_for = csr_matrix(near, shape=(count, count))  # row: what was met; column: what is scored
        category = arrays["category"]
        self._of_category = csr_matrix(
            (np.ones(count, np.float32), (np.arange(count), category)), shape=(count, kinds)
        )
        blocks = 24 // HOUR_BLOCK
        self._devices = {name: blocks + at for at, name in enumerate(config["devices"])}
        self._channels = {
            name: blocks + len(self._devices) + at for at, name in enumerate(config["channels"])
        }

    # --- the seat's protocol ---------------------------------------------------------------------------

    def known(self, user_id: str) -> bool:
        return len(self._liked(self._row.get(user_id, -1))[0]) > 0

    def seen(self, user_id: str) -> np.ndarray:
        row = self._row.get(user_id)
        bounds = slice(0, 0) if row is None else slice(*self._a["seen_start"][row : row + 2])
        seen: np.ndarray = self._a["seen_item"][bounds].astype(np.int64)
        return seen

    def score(self, users: pd.DataFrame) -> np.ndarray:
        asked = self.asked(users)
        weight = self.mixed(asked)
        scores = np.zeros((len(users), len(self.items)), np.float32)
        for number, part in self.parts(asked):
            scores += weight[:, number, None] * part
        return scores

    def reason(self, user_id: str, column: int, recent_items: Sequence[str] = ()) -> str:
        """Why this item is shown to this user; `recent_items` as in the context."""
        asked = self._asked([self._row.get(user_id, -1)], [recent_items])
        weight, effect = self.mixed(asked)[0], dict.fromkeys(GROUPS, 0.0)
        for number, part in self.parts(asked):
            group = next(name for name, parts in GROUPS.items() if PARTS[number] in parts)
            effect[group] += float(weight[number] * (part[0, column] - part[0].mean()))
        for group in sorted(effect, key=lambda name: -effect[name]):
            if (said := self._said(group, asked, column)) and effect[group] > 0:
                return said
        return f"from {self.categories[column]}"

    # --- MLflow's pyfunc -------------------------------------------------------------------------------

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Rows of `user_id`[, `k`] → `item_ids` and `scores` (lists, best first).

        Items the user met before the training cut-off are left out.
        """
        wanted = model_input["k"] if "k" in model_input else pd.Series(DEFAULT_K, model_input.index)
        ids: list[list[str]] = []
        values: list[list[float]] = []
        for user, k in zip(model_input["user_id"].astype(str), wanted.fillna(DEFAULT_K), strict=True):
            scores = self.score(pd.DataFrame({"user_id": [user]}))[0]
            new = np.setdiff1d(np.arange(len(scores)), self.seen(user), assume_unique=True)
            best = new[np.argsort(-scores[new], kind="stable")][: max(int(k), 0)]
            ids.append([self.items[column] for column in best])
            values.append(scores[best].astype(float).tolist())
        return pd.DataFrame({"item_ids": ids, "scores": values})

    # --- what is asked ---------------------------------------------------------------------------------

    def asked(self, users: pd.DataFrame) -> Asked:
        """A request's frame as arrays: `user_id`, and of the context what is there."""
        rows = [self._row.get(str(user), -1) for user in users["user_id"]]
        given = {name: users[name] if name in users else [None] * len(users) for name in self.context}
        return self._asked(
            rows,
            [_listed(value) for value in given["recent_items"]],
            [
                (self._hour(hour), self._devices.get(device, -1), self._channels.get(channel, -1))
                for hour, device, channel in zip(
                    given["hour"], given["device"], given["channel"], strict=True
                )
            ],
        )

    def _asked(
        self,
        rows: Sequence[int],
        recent: Sequence[Sequence[str]],
        moments: Sequence[tuple[int, int, int]] | None = None,
    ) -> Asked:
        columns = [[self._column[item] for item in items if item in self._column] for items in recent]
        return self.asked_of(
            np.array(rows, np.int64),
            [np.array(some, np.int64) for some in columns],
            np.array(moments if moments else [(-1, -1, -1)] * len(rows), np.int64).reshape(len(rows), 3),
        )

    def asked_of(self, rows: np.ndarray, recent: Sequence[np.ndarray], moments: np.ndarray) -> Asked:
        """The same of numbers: rows of users (-1: nobody known), columns of recent items (oldest first), and rows of
        the moments' lifts (-1: unknown)."""
        liked = [self._liked(int(row)) for row in rows]
        newest = [_newest(columns) for columns in recent]
        groups = self._a["user_group"][rows] if len(self._row) else np.full((len(rows), 1), -1)
        return Asked(
            history=self._matrix(liked),
            recent=self._matrix(newest),
            met=np.array([len(columns) for columns, _ in liked], np.int64),
            fresh=np.array([len(columns) for columns, _ in newest], np.int64),
            groups=np.where(rows[:, None] >= 0, groups, -1).astype(np.int64),
            moments=moments,
        )

    def _matrix(self, rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> csr_matrix:
        starts = np.concatenate([[0], np.cumsum([len(columns) for columns, _ in rows])]).astype(np.int64)
        columns = np.concatenate([np.empty(0, np.int64), *(columns for columns, _ in rows)])
        values = np.concatenate([np.empty(0, np.float32), *(values for _, values in rows)])
        return csr_matrix((values, columns, starts), shape=(len(rows), len(self.items)))

    def _liked(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """What a user met, as columns, and how much each counts."""
        bounds = slice(0, 0) if row < 0 else slice(*self._a["history_start"][row : row + 2])
        return self._a["history_item"][bounds].astype(np.int64), self._a["history_weight"][bounds]

    @staticmethod
    def _hour(hour: Any) -> int:
        try:
            return int(hour) // HOUR_BLOCK if 0 <= int(hour) < 24 else -1
        except (TypeError, ValueError):
            return -1  # None, NaN

    # --- the parts -------------------------------------------------------------------------------------

    def mixed(self, asked: Asked) -> np.ndarray:
        """What each part weighs for each row, float32 [n, parts]."""
        weight: np.ndarray = mixers(asked.met, asked.fresh) @ self._a["weight"].T
        if self._a["plain"][0]:
            weight[(asked.met == 0) & (asked.fresh == 0)] = PLAIN
        return weight

    def parts(self, asked: Asked) -> Iterator[tuple[int, np.ndarray]]:
        """The number of each part in PARTS and its values, float32 [n, items] or [1, items]."""
        a = self._a
        for name in ("popularity", "trend", "standing", "newness", "unmet"):
            yield PARTS.index(name), a[name][None, :]
        yield PARTS.index("people"), a["group_lift"][asked.groups].sum(axis=1)
        moment = a["moment_category"][asked.moments].sum(axis=1)[:, a["category"]]
        moment += a["moment_price"][asked.moments].sum(axis=1)[:, a["price_bucket"]]
        yield PARTS.index("moment"), moment
        both = asked.history + asked.recent
        yield PARTS.index("price"), self._price(both)
        yield PARTS.index("factors"), self._factors(both)
        for name, matrix in (("", asked.history), ("session_", asked.recent)):
            yield PARTS.index(name.rstrip("_") or "taste"), self._neighbours(matrix)
            yield PARTS.index(f"{name}content"), self._content(matrix)
            yield PARTS.index(f"{name}category"), self._category(matrix)

    def _neighbours(self, met: csr_matrix) -> np.ndarray:
        """log of the similarities' sum, on top of what nothing is worth: as a chance of a chance."""
        close: np.ndarray = (met @ self._speaks_for).toarray()
        total = _total(met)
        return np.log1p(close * (20 / (1 + total)))

    def _content(self, met: csr_matrix) -> np.ndarray:
        """Cosine of the item's text and the mean text of what was met; nearer 0 the less was met."""
        mean = met @ self._a["content"]
        length = np.linalg.norm(mean, axis=1, keepdims=True)
        close: np.ndarray = (mean / np.maximum(length, 1e-9)) @ self._a["content"].T
        return close

    def _category(self, met: csr_matrix) -> np.ndarray:
        """log of the share of the item's category in what was met over its usual share."""
        usual, total = self._a["usual_category"], _total(met)
        share = ((met @ self._of_category).toarray() + SHRINK_TASTE * usual) / (total + SHRINK_TASTE)
        lift: np.ndarray = np.log(share / usual).astype(np.float32)
        return lift[:, self._a["category"]]

    def _factors(self, met: csr_matrix) -> np.ndarray:
        """Taste · decoder; the taste is pooled from all that was met, each thing once: 0 where nothing was."""
        count = np.diff(met.indptr)
        once = csr_matrix((np.ones(met.nnz, np.float32), met.indices, met.indptr), shape=met.shape)
        taste = (once @ self._a["encoder"]) / np.maximum(count, 1)[:, None].astype(np.float32) ** ALPHA
        close: np.ndarray = taste.astype(np.float32) @ self._a["decoder"].T
        return close

    def _price(self, met: csr_matrix) -> np.ndarray:
        """How far the item's log price is from the mean of what was met, squared, below 0."""
        price, total = self._a["price"], _total(met)
        mean = (met @ price)[:, None] / (total + 1e-9)
        apart: np.ndarray = -((price - mean) ** 2) * (total / (total + SHRINK_PRICE))
        return apart.astype(np.float32)

    # --- why -------------------------------------------------------------------------------------------

    def _said(self, group: str, asked: Asked, column: int) -> str | None:
        """What a group of parts has to say for an item; None if nothing that could be told."""
        people = int(self._a["people"][column])
        if group in ("taste", "session"):
            best = self._closest(asked.history if group == "taste" else asked.recent, column)
            if best is None:
                return None
            if group == "session":
                return f"goes with “{self.titles[best]}”, which you looked at lately"
            return f"people who looked at “{self.titles[best]}”, as you did, looked at this too"
        if group == "factors":
            return self._led_here(asked, column)
        if group == "content" and asked.history.nnz:
            met = asked.history.indices
            best = met[np.argmax(self._a["content"][met] @ self._a["content"][column])]
            return f"like “{self.titles[best]}”, which you looked at"
        if group == "popularity" and people:
            return f"popular: {people} people met it lately"
        if group == "newness":
            return f"new in {self.categories[column]}" if people == 0 else None
        if group == "people" and people:
            return "popular with people like you"
        return None

    def _led_here(self, asked: Asked, column: int) -> str | None:
        """Of all that was met, what the factors lead from to the item."""
        met = np.setdiff1d(np.union1d(asked.history.indices, asked.recent.indices), [column])
        leads = self._a["encoder"][met] @ self._a["decoder"][column]
        if not len(met) or leads.max() <= 0:
            return None
        best = int(met[np.argmax(leads)])
        when = " lately" if best in asked.recent.indices else ""
        return f"goes with “{self.titles[best]}”, which you looked at{when}"

    def _closest(self, met: csr_matrix, column: int) -> int | None:
        """Of what was met, what speaks most for the item."""
        speaks = np.asarray(self._speaks_for[met.indices, :][:, [column]].todense()).ravel() * met.data
        return int(met.indices[np.argmax(speaks)]) if len(speaks) and speaks.max() > 0 else None


def mixers(met: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """What the weights depend on, float32 [n, MIXERS], of how many items were met and how many lately."""
    known = np.log1p(met) / 4  # log1p(50) / 4 is about 1
    values = [np.ones(len(met)), known, met == 0, np.log1p(fresh) / 2]
    return np.stack(values, axis=1).astype(np.float32)


def _total(met: csr_matrix) -> np.ndarray:
    return np.asarray(met.sum(axis=1), np.float32).reshape(-1, 1)


def _newest(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct columns, and what each weighs: 1 for the one met last."""
    backwards = columns[::-1]
    first = np.sort(np.unique(backwards, return_index=True)[1])
    distinct = backwards[first][:MAX_RECENT]
    order = np.argsort(distinct, kind="stable")
    weight = (RECENT_DECAY ** np.arange(len(distinct))).astype(np.float32)
    return distinct[order], weight[order]


def _listed(value: Any) -> list[str]:
    """A cell of `recent_items`; a missing one is empty."""
    return [str(item) for item in value] if isinstance(value, (list, tuple, np.ndarray)) else []


mlflow.models.set_model(Hybrid())
