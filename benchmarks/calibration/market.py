"""A pool of the simulated market: models are the true affinities with errors of a known size.

A model's scores are truth + size × what the data hide (shared by all that learnt from the same days) + OWN × what is
this training's own luck. Both errors have rank RANK, like those of an embedding model. Their sizes are set so that two
*seeds* disagree, user by user, as two NCF models of the nightly recipe do: MEASURED, from a real night.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from tempfile import gettempdir

import numpy as np

from benchmarks.calibration.answers import Table, answers_of, groups_of
from benchmarks.calibration.exams import Held, hold
from benchmarks.calibration.pools import Answers, Pool, pooled
from nightshift.settings import Settings
from nightshift.sources.market.source import Market

# Two seeds of NCF's nightly recipe (14 and 12 epochs), the market's defaults, 24 days to train and the exam of 4 days,
# 1,584 users, that 1,600 asked for give: level, correlation by user, sd of the paired difference / level.
MEASURED = {
    "ndcg_at_100": (0.211, 0.81, 0.46),
    "ndcg_at_10": (0.098, 0.72, 1.14),
    "hr_at_10": (0.430, 0.63, 1.02),
    "recall_at_50": (0.318, 0.66, 0.69),
    "auc": (0.816, 0.91, 0.06),
}
RANK = 16
SHARED, OWN = 1.04, 0.66  # logits; found by trying, so that the seeds' `pairs` come near MEASURED
SIZES = {"better": 0.78, "strong": 0.40, "worse": 1.40}  # the same models with SHARED smaller or larger
SEEDS = 6
TRAIN_DAYS, EXAM_DAYS = 24, 4
WRECKED = ("fashion", "digital")  # categories of which a candidate's scores are noise


def market_pool(number: int, *, exams: int = 3, users: int = 2_000, items: int = 1_000) -> Pool:
    """A pool of `exams` exams, one after the other, in a world of its own for each `number`; seconds an exam."""
    market = Market(_settings(number, users, items))
    held = _held(market, exams)
    catalogue = sorted(set().union(*(one.exam.catalogue for one in held)))
    return _Maker(market, held, catalogue, np.random.default_rng([number, 1])).pool()


class _Maker:
    """Has models sit a pool's exams."""

    def __init__(
        self, market: Market, held: list[Held], catalogue: list[str], random: np.random.Generator
    ) -> None:
        self.exams = [one.exam for one in held]
        self.held, self.catalogue, self.random = held, catalogue, random
        self.users = sorted(set().union(*(exam.users for exam in self.exams)))
        last = self.exams[-1].end  # everybody and everything of any exam is there by then
        self.truth = market.truth(self.users, catalogue, last).astype(np.float32)
        self.hidden = self._error()

    def pool(self) -> Pool:
        luck = {f"seed {number}": self._error() for number in range(SEEDS)} | {
            name: self._error() for name in SIZES
        }
        found = {name: self._answers(SIZES.get(name, SHARED), own) for name, own in luck.items()}
        wrecks = {}
        for kind in WRECKED:
            weak, strong = wrecks[f"category: {kind}"] = (f"broken {kind}", f"strong, broken {kind}")
            found[weak] = self._answers(SHARED, luck["seed 0"], kind)
            found[strong] = self._answers(SIZES["strong"], luck["strong"], kind)
        found["random"] = self._sit(self.random.random(self.truth.shape, dtype=np.float32))
        found["popularity"] = answers_of([one.popularity() for one in self.held], self.exams, self.catalogue)
        found["item-kNN"] = answers_of([one.item_knn() for one in self.held], self.exams, self.catalogue)
        return pooled(
            "market", round(float(np.mean([len(exam) for exam in self.exams]))), len(self.catalogue), found,
            groups=groups_of(found["seed 0"], ("country", "users")),
            baselines={name: name for name in ("popularity", "item-kNN")}, wrecks=wrecks,
        )  # fmt: skip

    def _error(self) -> np.ndarray:
        """Standard normal errors of rank RANK, float32 [users, items]."""
        people = self.random.standard_normal((len(self.users), RANK), dtype=np.float32)
        things = self.random.standard_normal((RANK, len(self.catalogue)), dtype=np.float32)
        return people @ things / np.float32(np.sqrt(RANK))

    def _answers(self, shared: float, luck: np.ndarray, wrecked: str = "") -> Answers:
        scores = self.truth + np.float32(shared) * self.hidden + np.float32(OWN) * luck
        if wrecked:
            kinds = self.exams[-1].category
            those = [place for place, item in enumerate(self.catalogue) if kinds.get(item) == wrecked]
            spread = scores.std(axis=1, keepdims=True), scores.mean(axis=1, keepdims=True)
            noise = self.random.standard_normal((len(scores), len(those)), dtype=np.float32)
            scores[:, those] = spread[1] + spread[0] * noise
        return self._sit(scores)

    def _sit(self, scores: np.ndarray) -> Answers:
        return answers_of(
            [Table(self.users, self.catalogue, scores)] * len(self.exams), self.exams, self.catalogue
        )


def _held(market: Market, exams: int) -> list[Held]:
    first = market.first_day()
    days = [first + timedelta(days=number) for number in range(TRAIN_DAYS + EXAM_DAYS * exams)]
    batches = [market.read(day) for day in days]
    starts = [days[TRAIN_DAYS + EXAM_DAYS * number] for number in range(exams)]
    return [
        hold(batches, start - timedelta(days=TRAIN_DAYS), start, start + timedelta(days=EXAM_DAYS - 1))
        for start in starts
    ]


def _settings(number: int, users: int, items: int) -> Settings:
    """The market as it comes but for its seed, whatever is set here. It stores nothing."""
    given = {
        name: field.default for name, field in Settings.model_fields.items() if name.startswith("market_")
    }
    own = {"market_seed": given["market_seed"] + number, "market_users": users, "market_items": items}
    return Settings(home=Path(gettempdir()), **(given | own | {"market_topics": 10}))
