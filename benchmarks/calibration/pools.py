"""A population of answers whose truth is known, and candidates made of them that are better by just so much.

A *unit* is one user in one exam. Every model of a pool has answered every unit, so a model's truth is its mean over
the pool, exactly; a night draws as many units as an exam has, with replacement. A candidate that is truly x % better
is a *mixture*: each unit gets the answer of one of two models, by chance. That keeps the noise of a real pair of
models: unit by unit the two disagree as two models do, and the mixture's truth follows from its parts without error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from nightshift.seats import RECOMMENDER
from training.evidence import Sitting

PRIMARY, COVERAGE = "ndcg_at_100", "coverage_at_10"
SLICE = "slice "  # begins the name of a slice's column
TRAINED_UNTIL = date(2026, 1, 31)  # everybody's: only that it lies before the exam matters


@dataclass(frozen=True)
class Answers:
    """One model's answers. per_unit, slices: float64 [units]; top: int32 [units, 10] items, -1 where there is none."""

    per_unit: Mapping[str, np.ndarray]
    slices: Mapping[str, np.ndarray]
    top: np.ndarray


@dataclass(frozen=True)
class Pool:
    """cube: float64 [models, units, columns], columns being metrics and slices; top: int32 [models, units, 10].

    exam_units: how many a night's exam has. items: size of the catalogue. groups: user slice → bool [units].
    seeds: equal recipes, as champions and candidates are; better, strong, worse: models above and below them;
    baselines: name in the policy → model. wrecks: name → (broken seed, broken strong model).
    """

    source: str
    exam_units: int
    items: int
    models: tuple[str, ...]
    columns: tuple[str, ...]
    cube: np.ndarray
    top: np.ndarray
    seeds: tuple[str, ...]
    groups: Mapping[str, np.ndarray]
    baselines: Mapping[str, str]
    wrecks: Mapping[str, tuple[str, str]]

    @property
    def units(self) -> int:
        return int(self.cube.shape[1])

    def values(self, model: str, metric: str = PRIMARY) -> np.ndarray:
        """float64 [units]."""
        found: np.ndarray = self.cube[self.models.index(model), :, self.columns.index(metric)]
        return found

    def level(self, metric: str = PRIMARY) -> float:
        """What the seeds have on average: the level that every step is measured from."""
        return float(np.mean([self.values(seed, metric).mean() for seed in self.seeds]))

    def metrics(self) -> list[str]:
        return [column for column in self.columns if not column.startswith(SLICE)]


def pooled(
    source: str,
    exam_units: int,
    items: int,
    answers: Mapping[str, Answers],
    *,
    groups: Mapping[str, np.ndarray],
    baselines: Mapping[str, str],
    wrecks: Mapping[str, tuple[str, str]],
) -> Pool:
    """A pool of models' answers; those whose name begins with `seed` are its seeds."""
    first = next(iter(answers.values()))
    columns = (*first.per_unit, *(SLICE + name for name in first.slices))
    cube = np.stack(
        [np.stack([*one.per_unit.values(), *one.slices.values()], axis=1) for one in answers.values()]
    )
    return Pool(
        source=source, exam_units=exam_units, items=items, models=tuple(answers), columns=columns, cube=cube,
        top=np.stack([one.top for one in answers.values()]),
        seeds=tuple(name for name in answers if name.startswith("seed")),
        groups=groups, baselines=baselines, wrecks=wrecks,
    )  # fmt: skip


@dataclass(frozen=True)
class Mixture:
    """A model that gives each unit the answer of one of `parts`; chances: float64 [parts, units], columns sum to 1."""

    pool: Pool
    parts: tuple[str, ...]
    chances: np.ndarray

    def truth(self, metric: str = PRIMARY, group: str = "") -> float:
        """The exact expectation over the pool's units, or over those of a user slice."""
        values = sum(
            chance * self.pool.values(part, metric)
            for part, chance in zip(self.parts, self.chances, strict=True)
        )
        return float(np.mean(values[self.pool.groups[group]] if group else values))

    def sit(self, name: str, digest: str, rows: np.ndarray, random: np.random.Generator) -> Sitting:
        """The result of a night whose exam asks the units `rows`."""
        pool = self.pool
        edges = np.cumsum(self.chances[:, rows], axis=0)[:-1]
        part = (random.random(len(rows)) >= edges).sum(axis=0)
        model = np.array([pool.models.index(name) for name in self.parts])[part]
        found = pool.cube[model, rows]
        columns = dict(zip(pool.columns, found.T, strict=True))
        shown = np.zeros(pool.items + 1, dtype=bool)
        shown[pool.top[model, rows]] = True  # -1, no item, marks the last
        return Sitting(
            name=name,
            exam_digest=digest,
            per_unit={column: v for column, v in columns.items() if not column.startswith(SLICE)},
            totals={COVERAGE: float(shown[:-1].mean())},
            slices={c.removeprefix(SLICE): v for c, v in columns.items() if c.startswith(SLICE)},
            slice_metric=RECOMMENDER.primary_metric,
            trained_until=TRAINED_UNTIL,
        )


def levelled(pool: Pool, level: float, parts: tuple[str, str] | None = None, *, seed: str = "") -> Mixture:
    """A mixture whose truth is (1 + level) times the seeds' level: of `seed` and what lies beyond, or of `parts`.

    Raises ValueError if its parts do not reach that far.
    """
    target = (1 + level) * pool.level()
    if parts is None:
        parts = (seed, "better" if target > pool.values(seed).mean() else "worse")
    first, other = (float(pool.values(part).mean()) for part in parts)
    return _two(pool, parts, _between(target, first, other, f"{level:+.1%} of {' and '.join(parts)}"))


def broken(pool: Pool, level: float, *, seed: str, group: str, loss: float) -> Mixture:
    """As `levelled`, but with `loss` of the seeds' level lost in a user slice, and the rest lifted to make up for it.

    loss = 1: there the lists are random ones, as by a broken feature; a smaller loss leaves some units whole.
    Raises ValueError if the rest cannot make up for it.
    """
    inside = pool.groups[group]
    usual = float(np.mean([pool.values(one)[inside].mean() for one in pool.seeds]))
    whole, random = (float(pool.values(model)[inside].mean()) for model in (seed, "random"))
    wrecked = min(1.0, max(0.0, (whole - (1 - loss) * usual) / (whole - random)))
    kept = wrecked * random + (1 - wrecked) * whole
    share = float(inside.mean())
    needed = ((1 + level) * pool.level() - share * kept) / (1 - share)
    rest, strong = (float(pool.values(model)[~inside].mean()) for model in (seed, "strong"))
    lifted = _between(needed, rest, strong, f"{level:+.1%} without {group}")
    chances = np.zeros((3, pool.units))
    chances[2, inside], chances[1, ~inside] = wrecked, lifted
    chances[0] = 1 - chances[1] - chances[2]
    return Mixture(pool, (seed, "strong", "random"), chances)


def _two(pool: Pool, parts: tuple[str, str], chance: float) -> Mixture:
    return Mixture(pool, parts, np.repeat([[1 - chance], [chance]], pool.units, axis=1))


def _between(target: float, first: float, other: float, what: str) -> float:
    """How far `target` lies from `first` to `other`, in [0, 1]."""
    if first == target:
        return 0.0
    chance = (target - first) / (other - first) if other != first else -1.0
    if not 0 <= chance <= 1:
        raise ValueError(
            f"a pool cannot give {what}: {target:.4f} is not between {first:.4f} and {other:.4f}"
        )
    return chance


def pairs(pool: Pool, metrics: Iterable[str]) -> dict[str, dict[str, float]]:
    """How far two seeds agree unit by unit: level, correlation, relative standard deviation of the paired difference;
    means over all pairs of seeds."""
    found = {}
    for metric in metrics:
        values = [pool.values(seed, metric) for seed in pool.seeds]
        both = [(a, b) for i, a in enumerate(values) for b in values[i + 1 :]]
        found[metric] = {
            "level": pool.level(metric),
            "correlation": float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in both])),
            "relative_sd": float(np.mean([(a - b).std() / pool.level(metric) for a, b in both])),
        }
    return found
