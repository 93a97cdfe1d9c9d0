"""The exam's hall: the night's questions, everyone who sits them, and what else is to be known of a candidate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from nightshift.errors import PackageError, RegistryError
from nightshift.lake import open_lake
from nightshift.registry import Registry, Version
from nightshift.seats import Seat
from nightshift.settings import Settings
from training import lineage
from training.evidence import Evidence, Sitting
from training.exams import EmptyExamError, Exam, Examiner, examiner
from training.identity import withdrawn
from training.policy import Policy, policy_of
from training.recipe import Night


@dataclass(frozen=True)
class Hall:
    """Where the exam takes place: the questions, the cheap baselines, or why there can be no exam tonight."""

    config: Settings
    examiner: Examiner
    policy: Policy
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
        return Sitting(
            name, digest, scores.per_unit, scores.totals, scores.slices, scores.slice_metric, trained_until
        )


def open_hall(config: Settings, seat: Seat, night: date) -> Hall:
    """Set the seat's exam of `night` and prepare its cheap baselines from what was known before it."""
    lake, exams = open_lake(config), examiner(seat.name)
    window = exams.night(lake, night, config)
    exam, problem = None, ""
    try:
        exam = exams.set(lake, config, window)
    except EmptyExamError as error:
        problem = str(error)
    policy = policy_of(seat.name, config)
    return Hall(config, exams, policy, window, exam, problem, exams.baselines(lake, config, window))


def seated(
    registry: Registry, seat: Seat, hall: Hall, champion: Version | None, frozen: Version | None
) -> Evidence:
    """What all of tonight's candidates are compared with: champion, frozen reference and cheap baselines."""
    sitting = _sit_version(registry, seat, hall, "champion", champion) if champion else None
    reference = None
    if frozen is not None:
        name = f"frozen reference v{frozen.number}"
        same = champion is not None and sitting is not None and champion.number == frozen.number
        reference = (
            replace(sitting, name=name)
            if same and sitting
            else _sit_version(registry, seat, hall, name, frozen)
        )
        if reference.problem:
            advice = f"freeze another one with `nightshift freeze {seat.name}/VERSION --reason …`"
            reference = replace(reference, problem=f"{reference.problem}; {advice}")
    return Evidence(
        exam_digest=hall.about()["digest"],
        exam_start=hall.night.exam_start,
        exam_end=date.fromisoformat(hall.about()["end"]),
        candidate=None,
        champion=sitting,
        reference=reference,
        baselines={name: _sit_baseline(hall, name, model) for name, model in hall.baselines.items()},
        unit=hall.examiner.unit,
    )


def candidacy(registry: Registry, seat: Seat, hall: Hall, version: Version) -> dict[str, Any]:
    """What is to be known of one candidate, as fields of Evidence."""
    loaded: list[Any] = []

    def load() -> Any:
        loaded.append(registry.load(seat, version.number))
        return loaded[0]

    sitting = _sit(hall, "candidate", load, version)
    behaviour = None
    if loaded and hall.exam is not None and not sitting.problem:
        behaviour = hall.examiner.behaviour(loaded[0], hall.exam)
    lake = open_lake(hall.config)
    return {
        "candidate": sitting,
        "withdrawn": withdrawn(version, registry.versions(seat)),
        "behaviour": behaviour if hall.policy.behaviour else None,
        "lineage": lineage.look_up(registry, lake, hall.config, seat, version, hall.night, hall.examiner)
        if hall.policy.lineage
        else None,
    }


def trained_before(sitting: Sitting, hall: Hall) -> bool:
    """Whether its figures say anything; on an exam that it was trained on, or may have been, they do not."""
    return sitting.trained_until is not None and sitting.trained_until < hall.night.exam_start


def _sit_baseline(hall: Hall, name: str, model: Any) -> Sitting:
    return hall.sit(f"{name} baseline", lambda: model, None)


def _sit_version(registry: Registry, seat: Seat, hall: Hall, name: str, version: Version) -> Sitting:
    return _sit(hall, name, lambda: registry.load(seat, version.number), version)


def _sit(hall: Hall, name: str, load: Callable[[], Any], version: Version) -> Sitting:
    try:
        trained_until = date.fromisoformat(version.tags.get("train_end", ""))
    except ValueError:
        trained_until = None
    return hall.sit(name, load, trained_until)
