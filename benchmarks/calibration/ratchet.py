"""Twenty nights of tiny losses in a row: what the seat has lost at the end, by rule.

Each night a candidate comes that is truly LOSS worse than whoever sits then. A rule that lets it pass has lost that
much for good, and the next night's is worse still. The frozen reference is the first champion throughout.
"""

from __future__ import annotations

import numpy as np

from benchmarks.calibration.pools import Pool, levelled
from benchmarks.calibration.rules import PROMOTES, Rule, tolerance_and_reference
from benchmarks.calibration.scenarios import DIGESTS, evidence_of
from training.policy import Policy

NIGHTS, LOSS = 20, 0.005
ALL: dict[str, Rule] = {**PROMOTES, "tolerance_reference": tolerance_and_reference}


def chain(pool: Pool, policy: Policy, rule: Rule, random: np.random.Generator) -> np.ndarray:
    """Share of the seat's quality that is lost after each night, float64 [NIGHTS]: the truth, not what an exam says."""
    order = list(random.permutation(pool.seeds))
    frozen = levelled(pool, 0.0, seed=order[0])
    champion, sits, level = frozen, order[0], 1.0
    lost = np.zeros(NIGHTS)
    for night in range(NIGHTS):
        seed = str(random.choice([one for one in pool.seeds if one != sits]))
        offered = level * (1 - LOSS)
        candidate = levelled(pool, offered - 1, seed=seed)
        rows = random.integers(0, pool.units, pool.exam_units)
        evidence = evidence_of(
            pool, policy, f"exam {night % DIGESTS}", rows, (champion, candidate, frozen), random
        )
        if rule(evidence, policy):
            champion, sits, level = candidate, seed, offered
        lost[night] = 1 - level
    return lost


def chains(pool: Pool, policy: Policy, count: int, seed: int) -> dict[str, np.ndarray]:
    """Rule → [count, NIGHTS]."""
    return {
        name: np.stack([chain(pool, policy, rule, np.random.default_rng([seed, 7, n])) for n in range(count)])
        for name, rule in ALL.items()
    }
