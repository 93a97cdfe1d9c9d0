"""The forecaster's seat: how often an equal model is promoted when topics share their weeks' shocks.

The gate's interval is over topics; an event that moves all of them at once counts once, and the interval does not know
it. Here two models are equal by construction, their errors exchangeable, and a stated share of every week's surprise
and of each model's own deviation is common to all topics. Sizes are those of the market's exam.
"""

from __future__ import annotations

from datetime import date

import numpy as np

from training.evidence import Evidence, Lineage, Measured, Sitting
from training.exams.forecaster import EXAM_WEEKS
from training.exams.slices import by_unit, thirds
from training.gate import decide
from training.policy import Policy, policy_of

TOPICS = (30, 120)  # the policy's minimum, and the market's
COMMON = (0.0, 0.1, 0.3)  # share of the variance that all topics of a week have in common
SURPRISE = 6.2  # points, standard deviation of what nobody foresees: an MSE of some 39, as the market's
DEVIATION = 1.2  # points, standard deviation of a model's own part: two differ by 1.7
LONG = 4  # weeks: changes over four weeks, told weekly, overlap
HALF_WIDTH = 1.2816 * SURPRISE  # of the 80 % interval
DIGESTS = 16


def false_promotions(nights: int, seed: int = 0) -> dict[tuple[int, float], list[bool]]:
    """(topics, common share) → whether an equal model was promoted, night by night."""
    policy = policy_of("forecaster")
    return {
        (topics, common): _played(policy, topics, common, nights, seed)
        for topics in TOPICS
        for common in COMMON
    }


def _played(policy: Policy, topics: int, common: float, nights: int, seed: int) -> list[bool]:
    random = np.random.default_rng([seed, topics, int(100 * common)])
    return [
        decide(_evidence(policy, topics, common, f"exam {number % DIGESTS}", random), policy).decision
        == "promote"
        for number in range(nights)
    ]


def _evidence(
    policy: Policy, topics: int, common: float, digest: str, random: np.random.Generator
) -> Evidence:
    surprise = SURPRISE * _noise(topics, common, random)
    scale = random.lognormal(0, 0.35, (topics, 1))  # some topics are calm, some restless
    scale /= np.sqrt(np.mean(scale**2))
    kinds = thirds(scale[:, 0], ("calm", "middling", "restless"))

    def sit(name: str, deviation: float) -> Sitting:
        error = scale * (surprise + deviation * _noise(topics, common, random))
        return _sitting(name, digest, error, HALF_WIDTH * scale, kinds)

    return Evidence(
        exam_digest=digest, exam_start=date(2026, 2, 2), exam_end=date(2026, 3, 29),
        candidate=sit("candidate", DEVIATION), champion=sit("champion", DEVIATION),
        reference=sit("reference", DEVIATION),
        baselines={
            "last value": sit("last value", SURPRISE), "seasonal naive": sit("seasonal naive", 2 * SURPRISE),
            "ridge": sit("ridge", 2 * DEVIATION),
        },
        unit="topics", behaviour=Measured(dict(policy.behaviour)), infra=Measured(dict(policy.infra)),
        lineage=Lineage(commit="0" * 40, dirty=False),
    )  # fmt: skip


def _noise(topics: int, common: float, random: np.random.Generator) -> np.ndarray:
    """Standard normal [topics, weeks]: moving averages over LONG weeks, of which all topics share `common`."""
    weeks = EXAM_WEEKS + LONG - 1
    own, shared = random.standard_normal((topics, weeks)), random.standard_normal((1, weeks))
    weekly = np.sqrt(1 - common) * own + np.sqrt(common) * shared
    summed = np.cumsum(np.pad(weekly, ((0, 0), (1, 0))), axis=1)
    moving: np.ndarray = (summed[:, LONG:] - summed[:, :-LONG]) / np.sqrt(LONG)
    return moving


def _sitting(name: str, digest: str, error: np.ndarray, half: np.ndarray, kinds: list[str]) -> Sitting:
    """error: [topics, weeks], points; half [topics, 1]: half the width of the 80 % interval."""
    mse = (error**2).mean(axis=1)
    outside = np.maximum(np.abs(error) - half, 0)
    covered = {80: np.abs(error) <= half, 95: np.abs(error) <= half * 1.96 / 1.2816}
    return Sitting(
        name, digest,
        per_unit={
            "mse": mse, "mae": np.abs(error).mean(axis=1),
            "interval_score_80": (2 * half + 10 * outside).mean(axis=1),
        },
        totals={f"miss_{level}": abs(float(inside.mean()) - level / 100) for level, inside in covered.items()},
        slices=by_unit(mse, "volatility", kinds),
        trained_until=date(2026, 1, 31),
    )  # fmt: skip
