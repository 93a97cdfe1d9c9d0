"""The last nights of a seat, as its verdicts kept them: who was examined, how they did, what was decided.

Every `verdict/verdict.json` carries its night's point and those before it under the key `nights`, so one download
tells them all. Figures of different nights are of different exams: they are shown side by side, never compared.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightshift.errors import RegistryError

if TYPE_CHECKING:
    from nightshift.registry import Registry, Version
    from training.verdict.page import Page
from nightshift.seats import Seat
from training.metrics import upwards

KEPT = 14  # nights; as many as the page's picture has room for


@dataclass(frozen=True)
class NightPoint:
    """One night's exam in the primary metric.

    version, champion: numbers, None if there was none. candidate_figure, champion_figure, baseline_figure: in the
    metric; baseline: the best cheap model's name. difference, low, high: candidate minus champion, None without one.
    """

    night: str
    metric: str
    decision: str
    version: int | None
    family: str
    champion: int | None
    candidate_figure: float | None
    champion_figure: float | None
    baseline: str
    baseline_figure: float | None
    difference: float | None
    low: float | None
    high: float | None


def past(registry: Registry, seat: Seat, night: date, at_most: int = KEPT - 1) -> tuple[NightPoint, ...]:
    """The points of the nights before `night`, oldest first, as the newest earlier verdict tells them.

    Empty if there is no earlier verdict, or its file is not there, or of an older format.

    Raises:
        RegistryError: MLflow cannot be reached.
    """
    judged = [version for version in registry.versions(seat) if "verdict" in version.tags]
    before = [version for version in judged if version.tags.get("night", "~") < night.isoformat()]
    if not before:
        return ()
    newest = _shown(before, seat)
    with tempfile.TemporaryDirectory(prefix="nightshift-") as folder:
        try:
            text = registry.artifact(newest.run_id, "verdict/verdict.json", Path(folder)).read_bytes()
        except RegistryError:
            registry.champion(
                seat
            )  # raises if MLflow is gone; if it answers, it is the file that is not there
            return ()
    points = [point for point in _read(text) if point.night < night.isoformat()]
    return tuple(sorted(points, key=lambda point: point.night)[-at_most:]) if at_most > 0 else ()


def tonight(page: Page) -> NightPoint:
    """The page's own point."""
    metric, scores = page.policy.primary, page.scores
    cheap = {name: scores[name][metric] for name in page.baselines if metric in scores.get(name, {})}
    best = max(cheap, key=lambda name: upwards(metric, cheap[name]), default="")
    compared = next((check.figures for check in page.verdict.checks if check.group == "better"), {})
    return NightPoint(
        night=page.night.isoformat(),
        metric=metric,
        decision=page.verdict.decision,
        version=page.version,
        family=page.family,
        champion=page.champion,
        candidate_figure=scores.get("candidate", {}).get(metric),
        champion_figure=scores.get("champion", {}).get(metric),
        baseline=best,
        baseline_figure=cheap.get(best),
        difference=compared.get("difference"),
        low=compared.get("low"),
        high=compared.get("high"),
    )


def with_tonight(page: Page) -> list[dict[str, Any]]:
    """What the verdict's file keeps under `nights`: the earlier points and the page's own, as JSON has them."""
    return [asdict(point) for point in (*page.nights, tonight(page))]


def _shown(versions: list[Version], seat: Seat) -> Version:
    """Of the newest night's versions the one that its summary shows: who won, or came nearest."""
    newest = max(version.tags["night"] for version in versions)

    def rank(version: Version) -> tuple[bool, float, int]:
        try:
            figure = float(version.tags.get(f"exam_{seat.primary_metric}", ""))
        except ValueError:
            figure = math.nan
        worth = upwards(seat.primary_metric, figure) if math.isfinite(figure) else -math.inf
        return version.tags["verdict"] in ("promote", "hold"), worth, version.number

    return max((version for version in versions if version.tags["night"] == newest), key=rank)


def _read(text: bytes) -> list[NightPoint]:
    """The points in a verdict's file; none if it is not what we write."""
    try:
        told = json.loads(text)["nights"]
        return [_point(row) for row in told]
    except (ValueError, KeyError, TypeError):
        return []


def _point(row: Mapping[str, Any]) -> NightPoint:
    """Raises TypeError, ValueError or KeyError where the row is not a point."""
    found = NightPoint(**{field.name: row[field.name] for field in fields(NightPoint)})
    texts = (found.night, found.metric, found.decision, found.family, found.baseline)
    numbers = (found.candidate_figure, found.champion_figure, found.baseline_figure)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a text of the point is none")
    for number in (*numbers, found.difference, found.low, found.high, found.version, found.champion):
        if number is not None and not math.isfinite(number):
            raise ValueError("a figure of the point is not finite")
    date.fromisoformat(found.night)
    return found
