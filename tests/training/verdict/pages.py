"""Nights as a gate meets them, made up and decided by the real `decide`: what the tests of the verdict's page read."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from functools import lru_cache

import numpy as np

from training.evidence import Evidence, Lineage, Measured, Sitting
from training.gate import decide
from training.policy import Policy, policy_of
from training.verdict.changes import Change, Changes, Code
from training.verdict.nights import NightPoint
from training.verdict.page import Page

NIGHT = date(2026, 10, 1)
USERS = 1_612
POLICY = policy_of("recommender").model_copy(update={"digest": "4be1c9d27a60"})
SLICES = (
    *(f"users: {name}" for name in ("new this week", "returning", "back after a month away", "heavy", "light")),
    *(f"items: {name}" for name in ("popular", "middle", "rare", "new this week")),
    *(f"category: {name}" for name in ("도서", "가전·디지털", "식품", "유아동", "패션 잡화", "스포츠/레저", "반려동물",
      "뷰티", "생활용품", "Home & Garden, tools and everything for the workshop")),
    *(f"country: {name}" for name in ("대한민국", "Japan", "United States", "Deutschland", "Việt Nam", "Other")),
    *(f"device: {name}" for name in ("mobile", "desktop", "tablet")),
    *(f"age: {name}" for name in ("under 25", "25 to 44", "45 and over")),
)  # fmt: skip
BEHAVIOUR = Measured({"not_finite": 0, "repeated_items": 0, "met_items": 0, "order_dependence": 3e-7,
                      "strangers_served": 1, "nudged_overlap": 0.93, "alike_overlap": 0.214})  # fmt: skip
INFRA = Measured({"load_seconds": 7.4, "p50_ms": 6.1, "p99_ms": 21.8, "rss_mb": 812, "package_mb": 3.4,
                  "wrong_answers": 0})  # fmt: skip
LINEAGE = Lineage(commit="48ea460c1d2e3f405162738495a6b7c8d9e0f1a2", dirty=False)


def sitting(name: str, seed: int, gain: float = 0.0, hurt: str = "", hurt_by: float = 0.0) -> Sitting:
    """A model whose NDCG@100 lies `gain` above the champion's 0.13, and on the slice `hurt` `hurt_by` below that."""
    world, own = np.random.default_rng(7), np.random.default_rng(100 + seed)
    taste = world.beta(0.9, 6.0, USERS)
    member = {one: world.random(USERS) < world.choice([0.03, 0.1, 0.25, 0.5]) for one in SLICES}
    member["category: 도서"] = world.random(USERS) < 0.13
    value = taste * (1 + gain) + own.normal(0, 0.045, USERS)
    if hurt:
        value = value - hurt_by * taste.mean() * member[hurt]
    per_unit = {"ndcg_at_100": value, "ndcg_at_10": 0.6 * value + own.normal(0, 0.03, USERS)}
    per_unit["hr_at_10"] = (own.random(USERS) < 0.2 * (1 + gain) + 0.8 * (taste > 0.35)).astype(float)
    per_unit["recall_at_50"] = np.clip(value * 1.6, 0, 1)
    per_unit["auc"] = np.clip(0.78 + 0.1 * gain + own.normal(0, 0.05, USERS), 0, 1)
    per_unit["novelty_at_10"] = own.normal(8.4, 0.8, USERS)
    per_unit["miscalibration_at_10"] = np.clip(own.normal(0.31, 0.08, USERS), 0, 1)
    slices = {one: np.where(mine, value, np.nan) for one, mine in member.items()}
    return Sitting(
        name,
        "e5a1d9",
        per_unit,
        {"coverage_at_10": 0.41 + 0.02 * gain},
        slices,
        "ndcg_at_100",
        date(2026, 9, 30),
    )


def evidence(gain: float = 0.06, hurt: str = "", hurt_by: float = 0.0, champion: bool = True) -> Evidence:
    baselines = {"popularity": sitting("popularity baseline", 3, -0.45)}
    baselines["item-kNN"] = sitting("item-kNN baseline", 4, -0.12)
    return Evidence(
        exam_digest="e5a1d9", exam_start=NIGHT, exam_end=NIGHT,
        candidate=sitting("candidate", 1, gain, hurt, hurt_by),
        champion=sitting("champion", 2) if champion else None,
        reference=sitting("frozen reference v3", 5, -0.03) if champion else None,
        baselines=baselines, behaviour=BEHAVIOUR, lineage=LINEAGE, infra=INFRA,
    )  # fmt: skip


def page(found: Evidence, policy: Policy = POLICY, **changes: object) -> Page:
    """The page of version 12 (ncf) against version 9, with ten earlier nights."""
    verdict = decide(found, policy)
    champion = 9 if found.champion is not None else None
    sitters = {
        "candidate": found.candidate,
        "champion": found.champion,
        "frozen reference v3": found.reference,
    }
    sitters |= found.baselines
    scores = {who: model.figures() for who, model in sitters.items() if model is not None}
    version, family = (12, "ncf") if found.candidate is not None else (None, "")
    made = Page(
        seat="recommender", version=version, family=family, night=NIGHT, champion=champion,
        exam={"units": USERS, "unit": "users", "digest": "e5a1d97c0b44f2", "start": "2026-10-01", "end": "2026-10-01",
              "about": "1,612 users who met something new, ranked over the whole catalogue of 1,000 items"},
        scores=scores, verdict=verdict, policy=policy, baselines=tuple(found.baselines),
        nights=earlier() if champion else (), changes=changed(champion),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


@lru_cache
def earlier() -> tuple[NightPoint, ...]:
    random, found, champion = np.random.default_rng(1), [], 3
    for n in range(10):
        base, decision = 0.13 + 0.006 * random.normal(), ("promote", "keep", "keep", "hold", "keep")[n % 5]
        gained = base * (0.06 if decision in ("promote", "hold") else 0.005 * random.normal())
        reach, version = base * 0.03, 3 + n if n < 6 else 2 + n
        found.append(
            NightPoint((NIGHT - timedelta(days=10 - n)).isoformat(), "ndcg_at_100", decision, version, "ncf", champion,
                       base + gained, base, "item-kNN", base * 0.88, gained, gained - reach, gained + reach)
        )  # fmt: skip
        champion = version if decision == "promote" else champion
    return tuple(found)


def changed(champion: int | None) -> Changes:
    def row(name: str, before: str, now: str) -> Change:
        return Change(name, before if champion else "", now)

    data = (
        row("night", "2026-09-28", "2026-10-01"),
        row("training window", "2026-08-31 to 2026-09-27", "2026-09-03 to 2026-09-30"),
        row("days in it", "28", "28"), row("rows learnt from", "118,204", "121,530"),
        row("data digest", "1f09ab3377c2", "7b2290de01aa"), row("users in it", "1,903", "1,921"),
        row("items in it", "998", "1,000"),
    )  # fmt: skip
    if champion is None:
        return Changes(None, 12, data, code=Code(now=LINEAGE.commit, dirty_now="false"))
    commits = (
        "48ea460 What the watch does with weekly rows is written down",
        "8dca64a NCF: negatives drawn by popularity^0.75",
        "20c9e08 The forecaster's pictures as they are drawn now",
        "cf1c727 <b>Stack tests</b>: wait for the champion's own ranking",
    )
    files = ("training/ncf/recipe.py", "training/ncf/model.py", "feature_repo/views.py")
    code = Code("cf1c72700aa1", LINEAGE.commit, "false", "false", 4, commits, 3, files)
    params = (
        Change("negatives", "4", "8"),
        Change("learning_rate", "0.001", "0.0008"),
        Change("epochs", "11", "14"),
    )
    packages = (Change("numpy", "2.2.6", "2.3.1"),)
    return Changes(champion, 12, data, False, code, params, packages, True)


@lru_cache
def pages() -> dict[str, Page]:
    """One page of each kind."""
    slice_ = "category: 도서"
    dirty = replace(LINEAGE, dirty=True)
    broken = Sitting("candidate", "e5a1d9", trained_until=date(2026, 9, 30), problem="PackageError: seat recommender: "
                     "version 12 cannot be loaded: weights.safetensors is cut short")  # fmt: skip
    return {
        "promote": page(evidence()),
        "keep-slice": page(replace(evidence(hurt=slice_, hurt_by=0.22), infra=None)),
        "keep-noise": page(replace(evidence(gain=0.004), infra=None)),
        "not-blessed": page(replace(evidence(), candidate=broken, behaviour=None, infra=None)),
        "hold": page(replace(evidence(), lineage=dirty), POLICY.model_copy(update={"hold": "flagged"})),
        "first": page(evidence(champion=False)),
    }  # fmt: skip
