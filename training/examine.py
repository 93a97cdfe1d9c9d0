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
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from nightshift.commands import emit, plain, run_command
from nightshift.errors import NoDataError
from nightshift.registry import Registry, Version
from nightshift.seats import LANGUAGE, Seat, find_seat
from nightshift.settings import Settings, settings
from nightshift.tenancy import card
from training import verdict as render
from training.choosing import Judged, choose
from training.evidence import Evidence, Measured, Sitting
from training.exams import examiner
from training.families import of_a_night
from training.gate import decide
from training.hall import Hall, candidacy, open_hall, seated, trained_before
from training.identity import tries
from training.policy import policy_of
from training.trial import try_out
from training.verdict import changes, nights
from training.verdict.page import Page, headline

GATE = "the gate"


def examine(config: Settings, seat: Seat, night: date, families: Sequence[str]) -> dict[str, Any]:
    """Examine the seat's candidates of `night` and seat a winner. Returns what the step prints.

    Raises:
        LakeError: the night is not published.
        NoDataError: the lake holds nothing for this seat, or too little: there is nothing to judge.
        FeatureError: features were not built up to the exam.
        SettingsError: the seat's policy cannot be read.
        RegistryError: MLflow cannot be reached.
        BaseModelError: the base of the language seat cannot be had. SettingsError: nor the card.
    """
    policy_of(seat.name, config)  # first of all: a wrong one is to be heard of on the day it is written
    registry = Registry(config)
    registry.settle(seat)
    done = already_decided(registry, seat, night, families)
    if done is not None:
        return done
    with card(config, f"the gate of {night}", say=_say) if seat.name == LANGUAGE.name else nullcontext():
        try:
            return judge(registry, seat, open_hall(config, seat, night), families)
        finally:
            examiner(seat.name).rest()  # before the card is let go of: whoever has it next wants all of it


def candidates(registry: Registry, seat: Seat, night: date, families: Sequence[str]) -> dict[str, Version]:
    """Family → the newest version it handed in on `night`; a retried training hands in again."""
    newest = {v.tags.get("family", ""): v for v in registry.versions(seat, night=night.isoformat())}
    return {family: newest[family] for family in families if family in newest}


def already_decided(
    registry: Registry, seat: Seat, night: date, families: Sequence[str]
) -> dict[str, Any] | None:
    """What this night's gate decided before, if that is history by now; else None.

    It is once one of its candidates has held the seat, or once a later night's version holds it: such a champion may
    have been trained on this night's exam, and would make it no exam.
    """
    champion = registry.champion(seat)
    holder = champion.number if champion else None
    handed_in = candidates(registry, seat, night, families)
    examined = [version for version in handed_in.values() if "verdict" in version.tags]
    once = [v for v in examined if v.number == holder or "in_production_since" in v.tags]
    moved_on = champion is not None and champion.tags.get("night", "") > night.isoformat()
    if not once and not (moved_on and examined and len(examined) == len(handed_in)):
        return None
    version = max(once or examined, key=lambda v: (v.number == holder, v.tags.get("in_production_since", "")))
    with tempfile.TemporaryDirectory() as folder:
        kept = registry.artifact(version.run_id, "verdict/verdict.json", Path(folder))
        result: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    for name in ("own", "nights"):
        result.pop(name, None)
    if version.number == holder:
        said = f"Version {holder} holds the seat already"
    elif not once:
        said = f"Version {holder} of a later night holds the seat"
    else:
        since = version.tags["in_production_since"]
        said = f"Version {version.number} was given the seat at {since}, and version {holder} holds it now"
    return {**result, "note": f"{said}: this is the verdict of then, and nothing was changed."}


def judge(registry: Registry, seat: Seat, hall: Hall, families: Sequence[str]) -> dict[str, Any]:
    """Score everyone, decide, write every verdict down, and only then seat the winner."""
    night = hall.night.night
    handed_in = candidates(registry, seat, night, families)
    champion = registry.champion(seat)
    frozen = registry.reference(seat) if hall.policy.reference else None
    common = seated(registry, seat, hall, champion, frozen)
    common = replace(
        common,
        absent=tuple(family for family in families if family not in handed_in),
        rivals=max(
            len(families), tries(registry.versions(seat, exam_start=hall.night.exam_start.isoformat()))
        ),
    )
    judged = []
    for family, version in handed_in.items():
        evidence = replace(common, **candidacy(registry, seat, hall, version))
        judged.append(Judged(family, version, evidence, decide(evidence, hall.policy)))
    judged = choose(judged, hall.policy, lambda one: tried(hall, seat, one.version))
    past = nights.past(registry, seat, night)
    pages = [page(registry, seat, hall, one, judged, champion, frozen, past) for one in judged]
    shown = pages[0] if pages else nobody(seat, hall, champion, common, past)
    result = _result(pages or [shown], shown)
    for one, its_page in zip(judged, pages, strict=True):
        _write(registry, seat, one, its_page, result)
    if champion and common.champion and trained_before(common.champion, hall):
        registry.log_metrics(champion.run_id, _exam_metrics(common.champion.figures()), night)
    if judged:
        _move(registry, seat, judged[0], shown)
    return result


def tried(hall: Hall, seat: Seat, version: Version) -> Measured:
    """A version's figures in its real service."""
    hall.examiner.rest()
    return try_out(hall.config, seat, version.number, hall.exam)


def _move(registry: Registry, seat: Seat, winner: Judged, shown: Page) -> None:
    """Give the seat to a winner, or put it on hold for a reviewer."""
    reason, digest = winner.verdict.reason, shown.exam["digest"]
    if winner.verdict.decision == "promote":
        registry.promote(
            seat, winner.version.number, by=GATE, reason=reason, exam_digest=digest, expected=shown.champion
        )
    elif winner.verdict.decision == "hold":
        registry.hold(seat, winner.version.number, by=GATE, reason=reason, exam_digest=digest)


def page(
    registry: Registry,
    seat: Seat,
    hall: Hall,
    one: Judged,
    judged: Sequence[Judged],
    champion: Version | None,
    frozen: Version | None,
    past: tuple[nights.NightPoint, ...],
) -> Page:
    """What was decided on one candidate, on which figures; its rivals' stand beside them."""
    rivals = {f"{o.family} v{o.version.number}": o.evidence.candidate for o in judged if o is not one}
    return Page(
        seat=seat.name,
        version=one.version.number,
        family=one.family,
        night=hall.night.night,
        champion=champion.number if champion else None,
        reference=frozen.number if frozen else None,
        exam=hall.about(),
        baselines=tuple(one.evidence.baselines),
        scores=_scores(one.evidence, rivals),
        verdict=one.verdict,
        policy=hall.policy,
        beaten_by=one.beaten_by,
        rivals=one.evidence.rivals,
        nights=past,
        changes=changes.since(registry, champion, one.version),
    )


def nobody(
    seat: Seat, hall: Hall, champion: Version | None, evidence: Evidence, past: tuple[nights.NightPoint, ...]
) -> Page:
    """The page of a night on which nobody handed in."""
    return Page(
        seat=seat.name,
        version=None,
        family="",
        night=hall.night.night,
        champion=champion.number if champion else None,
        exam=hall.about(),
        baselines=tuple(evidence.baselines),
        scores=_scores(evidence, {}),
        verdict=decide(evidence, hall.policy),
        policy=hall.policy,
        nights=past,
    )


def _scores(evidence: Evidence, rivals: Mapping[str, Sitting | None]) -> dict[str, dict[str, float]]:
    """Everyone who sat the exam → their figures."""
    sitters = {"candidate": evidence.candidate, "champion": evidence.champion}
    if evidence.reference is not None:
        sitters[evidence.reference.name] = evidence.reference
    sitters |= {**rivals, **evidence.baselines}
    return {who: model.figures() for who, model in sitters.items() if model is not None}


def _result(pages: Sequence[Page], shown: Page) -> dict[str, Any]:
    """What the step prints: the shown candidate's verdict, and every family's in short."""
    promoted = shown.verdict.decision == "promote"
    return {
        "seat": shown.seat,
        "candidate": shown.version,
        "family": shown.family,
        "champion": shown.champion,
        "decision": shown.verdict.decision,
        "headline": headline(shown),
        "reasons": list(shown.verdict.reasons),
        "flags": [check.sentence for check in shown.verdict.flags()],
        "candidate_metrics": shown.scores.get("candidate", {}),
        "champion_metrics": shown.scores.get("champion"),
        "baseline_metrics": {name: shown.scores[name] for name in shown.baselines},
        "scores": {who: dict(figures) for who, figures in shown.scores.items()},
        "exam": dict(shown.exam),
        "policy": shown.policy.digest,
        "production": shown.version if promoted else shown.champion,
        "verdicts": {
            p.family: {
                "version": p.version,
                "decision": p.verdict.decision,
                "reason": p.verdict.reason,
                "metrics": p.scores.get("candidate", {}),
            }
            for p in pages
            if p.version is not None
        },
    }


def _write(registry: Registry, seat: Seat, one: Judged, its_page: Page, result: dict[str, Any]) -> None:
    """The verdict on the version's page and among its run's artifacts; the figures on its run."""
    version = one.version
    checks = [
        {"name": c.name, "group": c.group, "status": c.status, "flag": c.flag, "sentence": c.sentence,
         "figures": dict(c.figures)}
        for c in its_page.verdict.checks
    ]  # fmt: skip
    own = {"version": version.number, "verdict": its_page.verdict.decision, "reason": its_page.verdict.reason}
    told = {**result, "nights": nights.with_tonight(its_page), "own": {**own, "checks": checks}}
    kept = json.dumps(plain(told), ensure_ascii=False, indent=1)
    registry.log_text(version.run_id, "verdict/verdict.json", kept)
    registry.log_text(version.run_id, "verdict/verdict.md", render.markdown(its_page))
    registry.log_text(version.run_id, "verdict/verdict.html", render.html(its_page))
    if its_page.scores["candidate"]:
        registry.log_metrics(version.run_id, _exam_metrics(its_page.scores["candidate"]), its_page.night)
    registry.annotate(
        seat, version.number, tags=render.tags(its_page), description=render.description(its_page)
    )


def _exam_metrics(figures: dict[str, float] | Any) -> dict[str, float]:
    return {f"exam_{metric}": figure for metric, figure in figures.items()}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.examine", description=__doc__)
    parser.add_argument("seat")
    parser.add_argument("--night", type=date.fromisoformat, required=True)
    parser.add_argument("--families", nargs="*", metavar="FAMILY", help="expected tonight (default: all)")
    given = parser.parse_args(arguments)
    seat = find_seat(given.seat)
    config = settings()
    expected = [family.name for family in of_a_night(config.families).values() if family.seat == seat.name]
    families = expected if given.families is None else given.families
    if not families:
        raise NoDataError(f"seat {seat.name}: none of its families was chosen tonight: it is left out")
    result = examine(config, seat, given.night, families)
    emit(config, given.night, f"gate-{seat.name}", result)


if __name__ == "__main__":
    run_command(main)
