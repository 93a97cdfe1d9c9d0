"""The forecaster's seat: how often an equal model, and a better one, is promoted when topics share their weeks' shocks.

The gate's interval is over topics; an event that moves all of them at once counts once, and the interval does not know
it. Here a stated share of every week's surprise and of each model's own deviation is common to all topics. Two equal
models have exchangeable errors; of a better one the champion deviates so much more from what could be known that the
candidate's expected MSE is lower by just the gain. Sizes are those of the market's exam.

Each candidate is one of as many as the seat has families. Seven nights sit much the same weekly exam; a night that
trains an equal model again is no further try (`training.examine.tries`), one with other data, code or seed is, and
then less is found, and less by luck, than here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from benchmarks.calibration.rules import rivals_of
from training.evidence import Evidence, Lineage, Measured, Sitting
from training.exams.forecaster import EXAM_WEEKS
from training.exams.slices import by_unit, thirds
from training.gate import decide
from training.policy import Policy, policy_of

SEAT = "forecaster"
TOPICS = (30, 120)  # the policy's minimum, and the market's
COMMON = (
    0.0,
    0.08,
    0.3,
)  # share of the variance that all topics of a week have in common; the market's is some 0.08
GAINS = (0.05, 0.10, 0.20)  # of the champion's MSE, on the market's topics
SURPRISE = 6.2  # points, standard deviation of what nobody foresees: an MSE of some 39, as the market's
DEVIATION = 1.2  # points, standard deviation of a model's own part: two differ by 1.7
USUAL = 0.95  # confidence
LONG = 4  # weeks: changes over four weeks, told weekly, overlap
HALF_WIDTH = 1.2816 * SURPRISE  # of the 80 % interval
DIGESTS = 16


@dataclass(frozen=True)
class Contest:
    """common: share of the noise that all topics have in common; gain: what the candidate's true MSE is lower by;
    confidence: of the gate's intervals, before it is shared out over the rivals."""

    topics: int
    common: float
    gain: float
    confidence: float


def contests(policy: Policy) -> list[Contest]:
    """By the policy; and on the market's topics by the other seat's confidence beside it."""
    confidence = policy.exam.confidence
    few = [Contest(TOPICS[0], common, 0.0, confidence) for common in COMMON]
    many = [(common, 0.0) for common in COMMON] + [(COMMON[1], gain) for gain in GAINS]
    levels = dict.fromkeys((confidence, USUAL))
    return few + [Contest(TOPICS[-1], *one, level) for level in levels for one in many]


def promotions(nights: int, seed: int = 0) -> dict[Contest, list[bool]]:
    """Contest → whether the candidate was promoted, night by night."""
    policy = policy_of(SEAT)
    return {contest: _played(policy, contest, nights, seed) for contest in contests(policy)}


def _played(policy: Policy, contest: Contest, nights: int, seed: int) -> list[bool]:
    asked = policy.exam.model_copy(update={"confidence": contest.confidence})
    policy = policy.model_copy(update={"exam": asked})
    key = [contest.topics, round(100 * contest.common), round(100 * contest.gain)]
    random = np.random.default_rng([seed, *key])
    return [
        decide(_evidence(policy, contest, f"exam {number % DIGESTS}", random), policy).decision == "promote"
        for number in range(nights)
    ]


def champions_deviation(gain: float) -> float:
    """Points: with it the candidate's expected MSE is `gain` lower than the champion's."""
    return float(np.sqrt((SURPRISE**2 + DEVIATION**2) / (1 - gain) - SURPRISE**2))


def _evidence(policy: Policy, contest: Contest, digest: str, random: np.random.Generator) -> Evidence:
    topics, common = contest.topics, contest.common
    surprise = SURPRISE * _noise(topics, common, random)
    scale = random.lognormal(0, 0.35, (topics, 1))  # some topics are calm, some restless
    scale /= np.sqrt(np.mean(scale**2))
    kinds = thirds(scale[:, 0], ("calm", "middling", "restless"))
    usual = champions_deviation(contest.gain)

    def sit(name: str, deviation: float) -> Sitting:
        error = scale * (surprise + deviation * _noise(topics, common, random))
        return _sitting(name, digest, error, HALF_WIDTH * scale, kinds)

    return Evidence(
        exam_digest=digest, exam_start=date(2026, 2, 2), exam_end=date(2026, 3, 29),
        candidate=sit("candidate", DEVIATION), champion=sit("champion", usual),
        reference=sit("reference", usual),
        baselines={
            "last value": sit("last value", SURPRISE), "seasonal naive": sit("seasonal naive", 2 * SURPRISE),
            "ridge": sit("ridge", 2 * DEVIATION),
        },
        rivals=rivals_of(SEAT),
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
        slice_metric="mse",
        trained_until=date(2026, 1, 31),
    )  # fmt: skip
