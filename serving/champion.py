"""The champion in its seat: follows the alias `production` and swaps models without dropping a request.

A thread asks the registry who is champion, loads and tries a new version off the request path, and then
assigns one reference: a request sees the old model or the new one, whole. Whatever goes wrong (MLflow down,
a version that cannot be loaded or answers nonsense) the model that serves keeps serving.
What a seat's model must be able to do is the service's to say: it brings `prepare`, which tries a package out.
A pinned service (`NIGHTSHIFT_PINNED_VERSION`) serves that one version and never asks who is champion.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nightshift.seats import Seat
from nightshift.settings import Settings

if TYPE_CHECKING:
    from nightshift.registry import Registry, Version

RETRY_AT_MOST = 5.0  # seconds between looks while MLflow is down; each costs the client's own retries too
REFUSED_RETRY, REFUSED_RETRY_AT_MOST = 5.0, 300.0  # seconds; a load can fail for a passing reason
# What clients are told; what was wrong may name addresses and paths, and stands in the log alone.
AWAY = "the registry cannot be asked who is champion; the log of the service says why"
UNFIT = "this version cannot be seated; the log of the service says why"

Ready = TypeVar("Ready")

log = logging.getLogger("nightshift.serving")


@dataclass(frozen=True)
class Bundle(Generic[Ready]):
    """One version, ready to answer: `ready` is what `prepare` made of its package."""

    ready: Ready
    version: Version
    metrics: dict[str, float]
    seated_at: datetime


@dataclass(frozen=True)
class Refused:
    """A version that holds the alias but could not be seated. retry_at, wait: monotonic seconds."""

    number: int
    wait: float
    retry_at: float


class Champion(Generic[Ready]):
    """Who serves. `bundle` is the one reference that requests read; None until somebody is seated.

    prepare: makes a loaded package ready to answer and tries it out; raises if it breaks the seat's protocol.
    about: what GET /model says of it beyond what is true of every seat.
    may_seat: whether a version can be tried out now; while it cannot, nobody is loaded and nobody refused.
    """

    def __init__(
        self,
        settings: Settings,
        seat: Seat,
        prepare: Callable[[Any], Ready],
        about: Callable[[Ready], dict[str, Any]] = lambda ready: {},
        on_swap: Callable[[], None] = lambda: None,
        before_swap: Callable[[], None] = lambda: None,
        may_seat: Callable[[], bool] = lambda: True,
    ) -> None:
        self.bundle: Bundle[Ready] | None = None
        self.seat = seat
        self._settings = settings
        self._prepare, self._about = prepare, about
        self._on_swap, self._before_swap, self._may_seat = on_swap, before_swap, may_seat
        self._registry: Registry | None = None
        self._reachable = True
        self._refused: Refused | None = None
        self._vacant = False
        self._looked = False
        self._wait = settings.champion_poll_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)

    def start(self, *, wait: bool = True) -> None:
        """Seat whoever is champion now, if MLflow answers, and follow the alias from then on.

        wait: until the first look is done; a base of gigabytes is better loaded while the service says so.
        """
        if wait:
            self.look()
        self._looked = wait
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def describe(self) -> dict[str, Any]:
        """The body of GET /model."""
        bundle, refused = self.bundle, self._refused
        reachable = self._reachable
        pinned = self._settings.pinned_version
        state = {
            "seat": self.seat.name,
            "pinned": str(pinned) if pinned is not None else None,
            "registry": {"reachable": reachable, "error": None if reachable else AWAY},
            "refused": {"version": str(refused.number), "error": UNFIT} if refused else None,
        }
        if bundle is None:
            nobody = "no champion is seated yet" if pinned is None else f"pinned to {pinned}, not seated yet"
            return {**state, "version": None, "note": nobody}
        tags = bundle.version.tags
        note = "the registry names no champion any more; the last one keeps serving" if self._vacant else None
        if pinned is not None:
            note = f"pinned to version {pinned} by its settings: it serves this one, whoever is champion"
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
            **{tag: tags.get(tag) for tag in ("review", "reviewed_by", "review_reason")},
            "exam": exam_figures(tags),
            # Its run also holds what users did with its answers, as it was when this service seated it.
            "training": {k: v for k, v in bundle.metrics.items() if not k.startswith("live_")},
            **self._about(bundle.ready),
            "note": note,
        }

    def look(self) -> None:
        """Ask once who is champion and seat a new one. Never raises: this is the thread's whole life."""
        pinned = self._settings.pinned_version
        try:
            registry = self._opened()
            version = registry.champion(self.seat) if pinned is None else registry.get(self.seat, pinned)
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
        if not self._looked:
            self.look()
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
        if (known and time.monotonic() < known.retry_at) or not self._may_seat():
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

    def _load(self, version: Version) -> Bundle[Ready]:
        registry = self._opened()
        package = registry.load(self.seat, version.number)
        metrics = registry.metrics(version.run_id) if version.run_id else {}
        return Bundle(self._prepare(package), version, metrics, datetime.now(UTC))


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
