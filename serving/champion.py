"""The champion in its seat: follows the alias `production` and swaps models without dropping a request.

A thread asks the registry who is champion, loads and tries a new version off the request path, and then
assigns one reference: a request sees the old model or the new one, whole. Whatever goes wrong (MLflow down,
a version that cannot be loaded or scores nonsense) the model that serves keeps serving.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nightshift.contracts.features import USER_FEATURES, numeric
from nightshift.seats import RECOMMENDER, RecommenderModel, Seat
from nightshift.settings import Settings

if TYPE_CHECKING:
    from nightshift.registry import Registry, Version

RETRY_AT_MOST = 5.0  # seconds between looks while MLflow is down; each costs the client's own retries too
REFUSED_RETRY, REFUSED_RETRY_AT_MOST = 5.0, 300.0  # seconds; a load can fail for a passing reason
# What clients are told; what was wrong may name addresses and paths, and stands in the log alone.
AWAY = "the registry cannot be asked who is champion; the log of the service says why"
UNFIT = "this version cannot be seated; the log of the service says why"
NOBODY = "nobody-who-was-ever-seen"  # the user that a new version is tried on

log = logging.getLogger("nightshift.serving")


@dataclass(frozen=True)
class Bundle:
    """One version, ready to answer. column: item id → score column."""

    model: RecommenderModel
    version: Version
    metrics: dict[str, float]
    column: dict[str, int]
    seated_at: datetime


@dataclass(frozen=True)
class Refused:
    """A version that holds the alias but could not be seated. retry_at, wait: monotonic seconds."""

    number: int
    wait: float
    retry_at: float


class Champion:
    """Who serves. `bundle` is the one reference that requests read; None until somebody is seated."""

    def __init__(
        self,
        settings: Settings,
        on_swap: Callable[[], None],
        before_swap: Callable[[], None] = lambda: None,
        seat: Seat = RECOMMENDER,
    ) -> None:
        self.bundle: Bundle | None = None
        self.seat = seat
        self._settings = settings
        self._on_swap, self._before_swap = on_swap, before_swap
        self._registry: Registry | None = None
        self._reachable = True
        self._refused: Refused | None = None
        self._vacant = False
        self._wait = settings.champion_poll_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)

    def start(self) -> None:
        """Seat whoever is champion now, if MLflow answers, and follow the alias from then on."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def describe(self) -> dict[str, Any]:
        """The body of GET /model."""
        bundle, refused = self.bundle, self._refused
        reachable = self._reachable
        state = {
            "seat": self.seat.name,
            "registry": {"reachable": reachable, "error": None if reachable else AWAY},
            "refused": {"version": str(refused.number), "error": UNFIT} if refused else None,
        }
        if bundle is None:
            return {**state, "version": None, "note": "no champion is seated yet"}
        tags = bundle.version.tags
        note = "the registry names no champion any more; the last one keeps serving" if self._vacant else None
        return {
            **state,
            "version": str(bundle.version.number),
            "run_id": bundle.version.run_id,
            "since": tags.get("in_production_since", bundle.seated_at.isoformat(timespec="seconds")),
            "serving_since": bundle.seated_at.isoformat(timespec="seconds"),
            "family": tags.get("family"),
            "night": tags.get("night"),
            "verdict": tags.get("verdict"),
            "verdict_reason": tags.get("verdict_reason"),
            "exam": exam_figures(tags),
            "training": bundle.metrics,
            "items": len(bundle.column),
            "user_features": list(bundle.model.user_features),
            "note": note,
        }

    def look(self) -> None:
        """Ask once who is champion and seat a new one. Never raises: this is the thread's whole life."""
        try:
            version = self._opened().champion(self.seat)
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must live and serving go on
            self._unreachable(error)
            return
        if not self._reachable:
            log.warning("MLflow answers again")
        self._reachable, self._wait = True, self._settings.champion_poll_seconds
        if version is None:
            if self.bundle is not None and not self._vacant:
                log.warning("the registry names no champion; version %s stays", self.bundle.version.number)
            self._vacant = self.bundle is not None
            return
        self._vacant = False
        if self.bundle is not None and version.number == self.bundle.version.number:
            self._refused = None
            if version != self.bundle.version:  # tags are written after the alias: keep up with them
                self.bundle = replace(self.bundle, version=version)
            return
        self._seat(version)

    # --- inside ----------------------------------------------------------------------------------------

    def _follow(self) -> None:
        while not self._stopping.wait(self._wait):
            self.look()

    def _opened(self) -> Registry:
        if self._registry is None:
            from nightshift.registry import Registry

            self._registry = Registry(self._settings)
        return self._registry

    def _unreachable(self, error: Exception) -> None:
        if self._reachable:
            log.warning("cannot ask who is champion; what serves keeps serving: %s", error)
        self._reachable = False
        self._wait = min(self._wait * 2, RETRY_AT_MOST)

    def _seat(self, version: Version) -> None:
        known = self._refused if self._refused and self._refused.number == version.number else None
        if known and time.monotonic() < known.retry_at:
            return
        try:
            bundle = self._load(version)
            self._before_swap()
        except Exception:
            wait = min(known.wait * 2, REFUSED_RETRY_AT_MOST) if known else REFUSED_RETRY
            self._refused = Refused(version.number, wait, time.monotonic() + wait)
            if known is None:
                log.exception("version %s cannot be seated; what serves keeps serving", version.number)
            return
        self.bundle, self._refused = bundle, None
        self._on_swap()
        log.warning("version %s is seated", version.number)
        settle_memory()

    def _load(self, version: Version) -> Bundle:
        registry = self._opened()
        model: RecommenderModel = registry.load(self.seat, version.number)
        metrics = registry.metrics(version.run_id) if version.run_id else {}
        try_out(model)
        column = {item: place for place, item in enumerate(model.items)}
        return Bundle(model, version, metrics, column, datetime.now(UTC))


def try_out(model: RecommenderModel) -> None:
    """Warm a model up by answering for somebody unknown. Raises ValueError if it breaks the seat's protocol."""
    items = len(model.items)
    if not items or items != len(set(model.items)):
        raise ValueError(f"the model has {items} items, {len(set(model.items))} of them distinct")
    if len(model.titles) != items:
        raise ValueError(f"the model has {items} items but {len(model.titles)} titles")
    scores = np.asarray(model.score(frame(NOBODY, model.user_features, {})))
    if scores.shape != (1, items) or not np.isfinite(scores).all():
        raise ValueError(f"scores have shape {scores.shape}, expected (1, {items}), all finite")
    model.known(NOBODY)
    model.seen(NOBODY)
    model.reason(NOBODY, 0)


_NUMERIC = frozenset(numeric(USER_FEATURES))


def frame(user_id: str, features: list[str], values: dict[str, Any]) -> pd.DataFrame:
    """One user as `RecommenderModel.score` takes it: bare feature names, a missing value is NaN or None."""
    row: dict[str, Any] = {"user_id": [user_id]}
    for reference in features:
        name = reference.partition(":")[2] or reference
        value = values.get(name)
        row[name] = [np.nan if value is None else float(value)] if name in _NUMERIC else [value]
    return pd.DataFrame(row)


def exam_figures(tags: dict[str, str]) -> dict[str, float | str]:
    """The version's `exam_*` tags without their prefix; figures as numbers."""
    figures: dict[str, float | str] = {}
    for key, value in sorted(tags.items()):
        if key.startswith("exam_"):
            try:
                figures[key.removeprefix("exam_")] = float(value)
            except ValueError:
                figures[key.removeprefix("exam_")] = value
    return figures


def settle_memory() -> None:
    """Take what is alive now out of the garbage collector's sight.

    Else each full collection walks everything that mlflow and feast imported: tails of 300–500 ms.
    Unfrozen first, so that the model that just left is collected too; this pause comes once per swap.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
