"""The gate of a night: tonight's candidates and the champion sit the same exam; a winner gets the seat.

python -m training.examine recommender --night 2026-09-28

Everything is read and written here; the decision itself is `training.gate.decide`. Killed half-way and run
again, it ends the same: a verdict is written before the seat is given away, and written twice it is the same
verdict. A candidate that has held the seat is not examined again: its verdict is history, and whoever holds
the seat since may have been trained on that night's exam.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from nightshift.commands import emit, plain, run_command
from nightshift.errors import LakeError, PackageError, RegistryError, SettingsError
from nightshift.featurestore import open_store
from nightshift.lake import Lake
from nightshift.registry import Registry, Version
from nightshift.seats import SEATS, RecommenderModel, Seat
from nightshift.settings import Settings, settings
from training import verdict as render
from training.baselines.popularity import Popularity
from training.exam import build_exam
from training.families import FAMILIES
from training.gate import POLICIES, Evidence, Sitting, Verdict, decide
from training.recipe import Night, resolve_night
from training.scoring import Exam, score_model

GATE = "the gate"


@dataclass(frozen=True)
class Hall:
    """Where the exam takes place: the questions, the cheap baseline, or why there can be no exam tonight."""

    night: Night
    exam: Exam | None
    problem: str
    baseline: RecommenderModel

    def about(self) -> dict[str, Any]:
        return {
            "users": len(self.exam.users) if self.exam else 0,
            "digest": self.exam.digest if self.exam else "",
            "start": self.night.exam_start.isoformat(),
            "end": self.night.night.isoformat(),
        }

    def sit(self, name: str, load: Callable[[], RecommenderModel], trained_until: date | None) -> Sitting:
        """One model's result; a model that cannot be loaded or scored has a problem instead."""
        if self.exam is None:
            return Sitting(name, "", trained_until=trained_until, problem=self.problem)
        digest = self.exam.digest
        try:
            scores = score_model(load(), self.exam)
        except PackageError as error:
            return Sitting(name, digest, trained_until=trained_until, problem=str(error))
        except RegistryError:
            raise  # MLflow is down: that says nothing about the model, and the night should try again
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            problem = f"{type(error).__name__}: {error}"
            return Sitting(name, digest, trained_until=trained_until, problem=problem)
        totals = {"coverage_at_10": scores.coverage_at_10}
        return Sitting(name, digest, scores.per_user, totals, trained_until)


def examine(config: Settings, seat: Seat, night: date, families: Sequence[str]) -> dict[str, Any]:
    """Examine the seat's candidates of `night` and seat a winner. Returns what the step prints.

    Raises:
        LakeError: the night is not published.
        FeatureError: features were not built up to the exam.
        RegistryError: MLflow cannot be reached.
    """
    registry = Registry(config)
    registry.settle(seat)
    done = already_decided(registry, seat, night, families)
    return done if done is not None else judge(registry, seat, open_hall(config, night), families)


def candidates(registry: Registry, seat: Seat, night: date, families: Sequence[str]) -> dict[str, Version]:
    """Family → the newest version it handed in on `night`; a retried training hands in again."""
    newest = {v.tags.get("family", ""): v for v in registry.versions(seat, night=night.isoformat())}
    return {family: newest[family] for family in families if family in newest}


def already_decided(
    registry: Registry, seat: Seat, night: date, families: Sequence[str]
) -> dict[str, Any] | None:
    """What this night's gate decided before, if one of its candidates has ever held the seat; else None."""
    champion = registry.champion(seat)
    holder = champion.number if champion else None
    examined = [v for v in candidates(registry, seat, night, families).values() if "verdict" in v.tags]
    once = [v for v in examined if v.number == holder or "in_production_since" in v.tags]
    if not once:
        return None
    version = max(once, key=lambda v: (v.number == holder, v.tags.get("in_production_since", "")))
    with tempfile.TemporaryDirectory() as folder:
        kept = registry.artifact(version.run_id, "verdict/verdict.json", Path(folder))
        result: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    del result["own"]
    if version.number == holder:
        said = f"Version {holder} holds the seat already"
    else:
        since = version.tags["in_production_since"]
        said = f"Version {version.number} was given the seat at {since}, and version {holder} holds it now"
    return {**result, "note": f"{said}: this is the verdict of then, and nothing was changed."}


def open_hall(config: Settings, night: date) -> Hall:
    """Set the exam of `night` and prepare the popularity baseline from what was known before it."""
    lake = Lake(config.lake_dir)
    window = resolve_night(lake, night, config)
    exam, problem = None, ""
    try:
        exam = build_exam(lake, open_store(config), window, config)
    except LakeError as error:
        problem = str(error)
    return Hall(window, exam, problem, popularity(lake, window))


def popularity(lake: Lake, window: Night) -> Popularity:
    """The cheap baseline, from the training window alone."""
    interactions = lake.read("interactions", window.train_start, window.train_end)
    items = lake.latest("items", window.train_end)
    return Popularity(interactions.select(["user_id", "item_id"]).to_pandas(), items.to_pandas())


def judge(registry: Registry, seat: Seat, hall: Hall, families: Sequence[str]) -> dict[str, Any]:
    """Score everyone, decide, write every verdict down, and only then seat the winner."""
    night = hall.night.night
    handed_in = candidates(registry, seat, night, families)
    champion = registry.champion(seat)
    evidence = Evidence(
        exam_digest=hall.about()["digest"],
        exam_start=hall.night.exam_start,
        exam_end=night,
        candidate=None,
        champion=_sit_version(registry, seat, hall, "champion", champion) if champion else None,
        baseline=hall.sit("popularity baseline", lambda: hall.baseline, None),
        absent=tuple(family for family in families if family not in handed_in),
        rivals=max(len(families), len(registry.versions(seat, night=night.isoformat()))),
    )
    pages = {}
    for family, version in handed_in.items():
        mine = _sit_version(registry, seat, hall, "candidate", version)
        withdrawn = version.tags.get("rolled_back", "")
        theirs = replace(evidence, candidate=mine, withdrawn=withdrawn)
        pages[family] = _page(seat, hall, family, version, champion, theirs)
    if not pages:
        pages[""] = _page(seat, hall, "", None, champion, evidence)
    shown, pages = choose(pages, seat.primary_metric)
    result = _result(pages, shown)
    for family, version in handed_in.items():
        _write(registry, seat, version, pages[family], result)
    if champion and evidence.champion and _trained_before(evidence.champion, hall):
        registry.log_metrics(champion.run_id, _exam_metrics(evidence.champion.figures()), night)
    winner = pages[shown]
    if winner.verdict.decision == "promote" and winner.version is not None:
        registry.promote(
            seat,
            winner.version,
            by=GATE,
            reason=winner.verdict.reason,
            exam_digest=winner.exam["digest"],
            expected=winner.champion,
        )
    return result


def choose(pages: dict[str, render.Page], metric: str) -> tuple[str, dict[str, render.Page]]:
    """The family whose verdict the night shows, and all verdicts: of several winners only the best is one."""

    def rank(family: str) -> tuple[bool, float]:
        page = pages[family]
        return page.verdict.decision == "promote", page.scores.get("candidate", {}).get(metric, float("-inf"))

    best = max(pages, key=rank)
    chosen = dict(pages)
    for family, page in pages.items():
        if family != best and page.verdict.decision == "promote":
            reason = f"Good enough, but version {pages[best].version} ({best}) was better still."
            beaten = Verdict("keep", (reason,), page.verdict.checks)
            chosen[family] = replace(page, verdict=beaten)
    return best, chosen


def _sit_version(registry: Registry, seat: Seat, hall: Hall, name: str, version: Version) -> Sitting:
    try:
        trained_until = date.fromisoformat(version.tags.get("train_end", ""))
    except ValueError:
        trained_until = None
    return hall.sit(name, lambda: registry.load(seat, version.number), trained_until)


def _trained_before(sitting: Sitting, hall: Hall) -> bool:
    """Whether its figures say anything; on an exam that it was trained on, or may have been, they do not."""
    return sitting.trained_until is not None and sitting.trained_until < hall.night.exam_start


def _page(
    seat: Seat, hall: Hall, family: str, version: Version | None, champion: Version | None, evidence: Evidence
) -> render.Page:
    """Decide on one candidate, and put down what was decided on which figures."""
    sitters = {
        "candidate": evidence.candidate,
        "champion": evidence.champion,
        "popularity": evidence.baseline,
    }
    return render.Page(
        seat=seat.name,
        version=version.number if version else None,
        family=family,
        night=hall.night.night,
        champion=champion.number if champion else None,
        exam=hall.about(),
        scores={who: model.figures() for who, model in sitters.items() if model is not None},
        verdict=decide(evidence, POLICIES[seat.name]),
    )


def _result(pages: dict[str, render.Page], shown: str) -> dict[str, Any]:
    """What the step prints: the shown candidate's verdict, and every family's in short."""
    page = pages[shown]
    promoted = page.verdict.decision == "promote"
    return {
        "seat": page.seat,
        "candidate": page.version,
        "family": page.family,
        "champion": page.champion,
        "decision": page.verdict.decision,
        "headline": render.headline(page),
        "reasons": list(page.verdict.reasons),
        "candidate_metrics": page.scores.get("candidate", {}),
        "champion_metrics": page.scores.get("champion"),
        "baseline_metrics": page.scores["popularity"],
        "exam": dict(page.exam),
        "production": page.version if promoted else page.champion,
        "verdicts": {
            family: {"version": p.version, "decision": p.verdict.decision, "reason": p.verdict.reason}
            for family, p in pages.items()
            if p.version is not None
        },
    }


def _write(
    registry: Registry, seat: Seat, version: Version, page: render.Page, result: dict[str, Any]
) -> None:
    """The verdict on the version's page and among its run's artifacts; the figures on its run."""
    checks = [
        {"name": c.name, "status": c.status, "sentence": c.sentence, "figures": dict(c.figures)}
        for c in page.verdict.checks
    ]
    own = {"version": page.version, "verdict": page.verdict.decision, "reason": page.verdict.reason}
    kept = json.dumps(plain({**result, "own": {**own, "checks": checks}}), ensure_ascii=False, indent=1)
    registry.log_text(version.run_id, "verdict/verdict.json", kept)
    registry.log_text(version.run_id, "verdict/verdict.md", render.markdown(page))
    registry.log_text(version.run_id, "verdict/verdict.html", render.html(page))
    if page.scores["candidate"]:
        registry.log_metrics(version.run_id, _exam_metrics(page.scores["candidate"]), page.night)
    registry.annotate(seat, version.number, tags=render.tags(page), description=render.description(page))


def _exam_metrics(figures: dict[str, float] | Any) -> dict[str, float]:
    return {f"exam_{metric}": figure for metric, figure in figures.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.examine", description=__doc__)
    parser.add_argument("seat")
    parser.add_argument("--night", type=date.fromisoformat, required=True)
    parser.add_argument("--families", nargs="+", metavar="FAMILY", help="expected tonight (default: all)")
    given = parser.parse_args(arguments)
    seat = find_seat(given.seat)
    expected = [family.name for family in FAMILIES.values() if family.seat == seat.name]
    config = settings()
    result = examine(config, seat, given.night, given.families or expected)
    emit(config, given.night, f"gate-{seat.name}", result)


def find_seat(name: str) -> Seat:
    """The seat of that name. Raises SettingsError, naming those there are."""
    if name not in SEATS:
        raise SettingsError(f"there is no seat {name!r}; the seats are {', '.join(SEATS)}")
    return SEATS[name]


if __name__ == "__main__":
    run_command(main)
