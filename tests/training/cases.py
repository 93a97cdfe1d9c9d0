"""Evidence as tests of the gate need it: small, plain, and changed in one place at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np

from training.evidence import Evidence, Lineage, Measured, Sitting
from training.gate import Verdict
from training.policy import Policy

START, END = date(2026, 9, 28), date(2026, 9, 28)
DAY_BEFORE = date(2026, 9, 27)


def policy(**changes: Any) -> Policy:
    """A policy that looks at two per-unit metrics and a total; the other checks are switched off."""
    told: dict[str, Any] = {
        "exam": {"min_units": 30, "draws": 400},
        "better": {"metric": "gain", "min_gain": 0.01},
        "baselines": {"beat": ["popularity"]},
        "floors": {"hits": 0.05},
        "guardrails": {"hits": 0.1, "spread": 0.3},
    }
    return Policy.model_validate({**told, **changes})


def sitting(
    name: str, gain: np.ndarray, *, hits: np.ndarray | None = None, spread: float = 0.5, **changes: Any
) -> Sitting:
    hits = np.full(len(gain), 0.5) if hits is None else hits
    return replace(
        Sitting(
            name, "exam", {"gain": gain, "hits": hits}, {"spread": spread}, trained_until=DAY_BEFORE
        ),
        **changes,
    )  # fmt: skip


def evidence(candidate: Sitting | None, champion: Sitting | None, **changes: Any) -> Evidence:
    users = len(candidate.per_unit["gain"]) if candidate and candidate.per_unit else 60
    baseline = sitting("popularity baseline", np.zeros(users))
    return replace(Evidence("exam", START, END, candidate, champion, {"popularity": baseline}), **changes)


def noisy(seed: int, mean: float, users: int = 200) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).normal(mean, 0.1, users), 0, 1)


def status(verdict: Verdict, name: str) -> str:
    return next(check.status for check in verdict.checks if check.name == name)


BASE = noisy(0, 0.3)
CLEARLY_BETTER = evidence(sitting("candidate", BASE + 0.1), sitting("champion", BASE))
SOUND = Lineage(commit="0123456789abcdef", dirty=False)
FINE = Measured({"not_finite": 0.0})
