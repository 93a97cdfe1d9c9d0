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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from nightshift.commands import emit, plain, run_command
from nightshift.errors import NoDataError, PackageError, RegistryError, SettingsError
from nightshift.lake import Lake
from nightshift.registry import Registry, Version
from nightshift.seats import SEATS, Seat
from nightshift.settings import Settings, settings
from training import verdict as render
from training.exams import EmptyExamError, Exam, Examiner, examiner
from training.families import FAMILIES
from training.gate import POLICIES, Evidence, Sitting, Verdict, beyond_noise, decide, named, written
from training.recipe import Night

GATE = "the gate"


@dataclass(frozen=True)
class Hall:
    """Where the exam takes place: the questions, the cheap baselines, or why there can be no exam tonight."""

    examiner: Examiner
    night: Night
    exam: Exam | None
    problem: str
    baselines: Mapping[str, Any]

    def about(self) -> dict[str, Any]:
        return {
            "units": len(self.exam) if self.exam else 0,
            "unit": self.examiner.unit,
            "digest": self.exam.digest if self.exam else "",
            "start": (self.exam.start if self.exam else self.night.exam_start).isoformat(),
            "end": (self.exam.end if self.exam else self.night.night).isoformat(),
            "about": self.examiner.about(self.exam) if self.exam else self.problem,
        }

    def sit(self, name: str, load: Callable[[], Any], trained_until: date | None) -> Sitting:
        """One model's result; a model that cannot be loaded or scored has a problem instead."""
        if self.exam is None:
            return Sitting(name, "", trained_until=trained_until, problem=self.problem)
        digest = self.exam.digest
        try:
            scores = self.examiner.score(load(), self.exam)
        except PackageError as error:
            return Sitting(name, digest, trained_until=trained_until, problem=str(error))
        except RegistryError:
            raise  # MLflow is down: that says nothing about the model, and the night should try again
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            problem = f"{type(error).__name__}: {error}"
            return Sitting(name, digest, trained_until=trained_until, problem=problem)
        return Sitting(name, digest, scores.per_unit, scores.totals, trained_until)


def examine(config: Settings, seat: Seat, night: date, families: Sequence[str]) -> dict[str, Any]:
    """Examine the seat's candidates of `night` and seat a winner. Returns what the step prints.

    Raises:
        LakeError: the night is not published.
        NoDataError: the lake holds nothing for this seat, or too little: there is nothing to judge.
        FeatureError: features were not built up to the exam.
        RegistryError: MLflow cannot be reached.
    """
    registry = Registry(config)
    registry.settle(seat)
    done = already_decided(registry, seat, night, families)
    return done if done is not None else judge(registry, seat, open_hall(config, seat, night), families)


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


def open_hall(config: Settings, seat: Seat, night: date) -> Hall:
    """Set the seat's exam of `night` and prepare its cheap baselines from what was known before it."""
    lake, exams = Lake(config.lake_dir), examiner(seat.name)
    window = exams.night(lake, night, config)
    exam, problem = None, ""
    try:
        exam = exams.set(lake, config, window)
    except EmptyExamError as error:
        problem = str(error)
    return Hall(exams, window, exam, problem, exams.baselines(lake, config, window))


def judge(registry: Registry, seat: Seat, hall: Hall, families: Sequence[str]) -> dict[str, Any]:
    """Score everyone, decide, write every verdict down, and only then seat the winner."""
    night = hall.night.night
    handed_in = candidates(registry, seat, night, families)
    champion = registry.champion(seat)
    evidence = Evidence(
        exam_digest=hall.about()["digest"],
        exam_start=hall.night.exam_start,
        exam_end=date.fromisoformat(hall.about()["end"]),
        candidate=None,
        champion=_sit_version(registry, seat, hall, "champion", champion) if champion else None,
        baselines=tuple(_sit_baseline(hall, name, model) for name, model in hall.baselines.items()),
        absent=tuple(family for family in families if family not in handed_in),
        rivals=max(
            len(families), tries(registry.versions(seat, exam_start=hall.night.exam_start.isoformat()))
        ),
        unit=hall.examiner.unit,
    )
    sat = {
        family: _sit_version(registry, seat, hall, "candidate", version)
        for family, version in handed_in.items()
    }
    pages = {}
    for family, version in handed_in.items():
        withdrawn = version.tags.get("rolled_back", "")
        theirs = replace(evidence, candidate=sat[family], withdrawn=withdrawn)
        rivals = {f"{name} v{handed_in[name].number}": sat[name] for name in sat if name != family}
        pages[family] = _page(seat, hall, family, version, champion, theirs, rivals)
    if not pages:
        pages[""] = _page(seat, hall, "", None, champion, evidence, {})
    shown, pages = choose(pages, sat, seat, evidence.rivals)
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


def tries(versions: Sequence[Version]) -> int:
    """How many different models have had a try at an exam.

    Equal data, code and seed give the equal model, on CPU to the last digit: a night of the same week that trains
    the same again is no further chance of luck. What code a dirty tree holds is not known, so each of its is one.
    """
    models = set()
    for version in versions:
        told = [version.tags.get(name) for name in ("family", "data_digest", "git_commit", "seed", "smoke")]
        known = None not in told and version.tags.get("dirty") == "false"
        models.add(tuple(told) if known else version.number)
    return len(models)


def choose(
    pages: dict[str, render.Page], sat: Mapping[str, Sitting], seat: Seat, rivals: int
) -> tuple[str, dict[str, render.Page]]:
    """The family whose verdict the night shows, and all verdicts: of several winners only the best is one.

    The best by its figure, even if noise alone could have made the difference: somebody must take the seat, and the
    verdicts of both say so.
    """
    metric, sign = seat.primary_metric, 1 if seat.higher_is_better else -1

    def rank(family: str) -> tuple[bool, float]:
        page = pages[family]
        figure = page.scores.get("candidate", {}).get(metric)
        return page.verdict.decision == "promote", float("-inf") if figure is None else sign * figure

    best, *others = sorted(pages, key=rank, reverse=True)
    passed = [family for family in others if pages[family].verdict.decision == "promote"]
    chosen = dict(pages)
    for family in passed:
        figures, noise = _compared(pages, sat, (best, family), seat, rivals)
        reason = (
            f"Good enough, but version {pages[best].version} ({best}) did better still on this exam: "
            f"{named(metric)} {figures}, {noise} noise."
        )
        beaten = Verdict("keep", (reason,), pages[family].verdict.checks)
        chosen[family] = replace(pages[family], verdict=beaten, beaten_by=pages[best].version)
    if passed:
        won = pages[best].verdict
        figures, noise = _compared(pages, sat, (best, passed[0]), seat, rivals)
        second = (
            f"Of {len(passed) + 1} candidates that passed it did best; next is version {pages[passed[0]].version} "
            f"({passed[0]}): {named(metric)} {figures}, {noise} noise."
        )
        chosen[best] = replace(pages[best], verdict=replace(won, reasons=(*won.reasons, second)))
    return best, chosen


def _compared(
    pages: Mapping[str, render.Page],
    sat: Mapping[str, Sitting],
    both: tuple[str, str],
    seat: Seat,
    rivals: int,
) -> tuple[str, str]:
    """Two families' figures in words, and whether their difference is "beyond" noise or "within" it."""
    figures = (written(seat.primary_metric, pages[f].scores["candidate"][seat.primary_metric]) for f in both)
    better, other = both
    beyond = beyond_noise(sat[better], sat[other], POLICIES[seat.name], rivals)
    return " against ".join(figures), "beyond" if beyond else "within"


def _sit_baseline(hall: Hall, name: str, model: Any) -> Sitting:
    return hall.sit(f"{name} baseline", lambda: model, None)


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
    seat: Seat,
    hall: Hall,
    family: str,
    version: Version | None,
    champion: Version | None,
    evidence: Evidence,
    rivals: Mapping[str, Sitting],
) -> render.Page:
    """Decide on one candidate, and put down what was decided on which figures; the rivals' stand beside them."""
    baselines = dict(zip(hall.baselines, evidence.baselines, strict=True))
    sitters = {"candidate": evidence.candidate, "champion": evidence.champion, **rivals, **baselines}
    return render.Page(
        seat=seat.name,
        version=version.number if version else None,
        family=family,
        night=hall.night.night,
        champion=champion.number if champion else None,
        exam=hall.about(),
        baselines=tuple(baselines),
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
        "baseline_metrics": {name: page.scores[name] for name in page.baselines},
        "scores": {who: dict(figures) for who, figures in page.scores.items()},
        "exam": dict(page.exam),
        "production": page.version if promoted else page.champion,
        "verdicts": {
            family: {
                "version": p.version,
                "decision": p.verdict.decision,
                "reason": p.verdict.reason,
                "metrics": p.scores.get("candidate", {}),
            }
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
    parser.add_argument("--families", nargs="*", metavar="FAMILY", help="expected tonight (default: all)")
    given = parser.parse_args(arguments)
    seat = find_seat(given.seat)
    expected = [family.name for family in FAMILIES.values() if family.seat == seat.name]
    families = expected if given.families is None else given.families
    if not families:
        raise NoDataError(f"seat {seat.name}: none of its families was chosen tonight: it is left out")
    config = settings()
    result = examine(config, seat, given.night, families)
    emit(config, given.night, f"gate-{seat.name}", result)


def find_seat(name: str) -> Seat:
    """The seat of that name. Raises SettingsError, naming those there are."""
    if name not in SEATS:
        raise SettingsError(f"there is no seat {name!r}; the seats are {', '.join(SEATS)}")
    return SEATS[name]


if __name__ == "__main__":
    run_command(main)
