"""Judges a new champion by what users did with its answers; one that is truly worse is rolled back by itself.

    python -m monitoring.outcomes [--seat recommender] [--settle 30] [--look-only]

Serving takes down which version answered which request, clients name the request in their feedback; here the two meet
(nightshift/eventlog.py), monitoring/live.py decides, and the registry moves. The first requests of the champion's
sitting are compared with the last ones of the champion before it. A request counts once its user had `settle` minutes,
and only if any event reached us in that time. The figures go to the champion's run in MLflow (`live_*`) and to its
version's tags; the move with its reason to `nightshift history`. Run it at will: it acts once, or not at all.

It moves the seat only against a promotion, by the gate or by a reviewer's yes to the gate's proposal. An override was a
person's decision against the evidence: it is judged and reported, and stays. So is a champion in whose time
the watch saw drift: what users do changed with the world, and the former champion was made for the old one.
Whoever sits there by a rollback is not judged. Not covered: the forecaster, of whose forecasts nobody knows for weeks
what they were worth; the nightly exam tells.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.live import Judgement, Policy, Requests, judge
from nightshift.commands import emit, plain, run_command
from nightshift.errors import PackageError
from nightshift.eventlog import Answer, EventLog
from nightshift.lake import open_lake
from nightshift.moves import SEATING
from nightshift.retrains import requested
from nightshift.seats import RECOMMENDER, SEATS, Seat
from nightshift.settings import Settings
from nightshift.settings import settings as read_settings

if TYPE_CHECKING:
    from nightshift.registry import Registry, Version

# What a client may report of a mere impression (view), and what says nothing of the list (rating), is left out.
OUTCOMES = ("click", "add_to_cart", "purchase", "like", "share")
WRITTEN_WITHIN = timedelta(seconds=10)  # of its stamp, an answer or an event is in the log
KEEP = timedelta(days=30)  # exposures; nobody compares with what was answered longer ago
BY = "the watch"
PROMOTIONS = frozenset({"promote", "approve"})
NOBODY_KNOWS = {
    "forecaster": "what a forecast was worth is known weeks later; the nightly exam tells",
    "language": "what an answer of the coach was worth nobody says; the nightly exam tells",
}


def outcomes(
    settings: Settings,
    seats: Sequence[Seat],
    policy: Policy | None = None,
    now: datetime | None = None,
    act: bool = True,
) -> dict[str, Any]:
    """Judge the champions of `seats` and roll back who is worse; returns the step's result.

    now: wall clock. act: False to judge only: nothing is moved, and nothing is kept.

    Raises:
        EventLogError: the event log cannot be read. RegistryError: MLflow is down, or the champion changed meanwhile.
    """
    from nightshift.registry import Registry

    policy, now = policy or Policy(), now or datetime.now(UTC)
    registry, log = Registry(settings), EventLog(settings.eventlog_uri)
    try:
        seen = {
            seat.name: _of_seat(settings, registry, log, seat, policy, now, act)
            if seat is RECOMMENDER
            else _nothing("no evidence", NOBODY_KNOWS[seat.name], registry.champion(seat))
            for seat in seats
        }
        if act:
            log.forget_exposures(now - KEEP)
    finally:
        log.close()
    return {
        "day": open_lake(settings).last_day(),
        "rolled_back": [name for name, result in seen.items() if result["rolled_back"]],
        "seats": seen,
    }


def _of_seat(
    settings: Settings,
    registry: Registry,
    log: EventLog,
    seat: Seat,
    policy: Policy,
    now: datetime,
    act: bool,
) -> dict[str, Any]:
    champion = registry.champion(seat)
    if champion is None:
        return _nothing("no evidence", "nobody sits in the seat yet")
    moves = [move for move in registry.history(seat) if move["action"] in SEATING]
    move = moves[-1] if moves and moves[-1]["to"] == champion.number else None
    if move is None:
        return _nothing("not judged", "seated by hand in MLflow: nobody knows since when", champion)
    if move["action"] == "rollback":
        return _nothing("not judged", f"back in the seat by a rollback: {move['reason']}", champion)
    if move["from"] is None:
        return _nothing("not judged", "there is no champion before it to compare with", champion)
    since, former = datetime.fromisoformat(move["at"]), int(move["from"])
    new = _settled(
        log.answers(champion.number, policy.requests, OUTCOMES, policy.settle, since=since), policy, now
    )
    old = _settled(log.answers(former, policy.requests, OUTCOMES, policy.settle, before=since), policy, now)
    judgement = judge(_requests(new), _requests(old), policy)
    result = _result(champion, former, new, judgement)
    if judgement.verdict == "worse":
        gets = "gets" if act else "would get"
        stays = _why_it_stays(settings, registry, seat, move, new, old)
        result["rolled_back"] = act and not stays
        result["reason"] += f"; it stays: {stays}" if stays else f"; v{former} {gets} the seat back"
    if not act:
        return result
    _keep(settings, registry, seat, champion, result)  # first: without the seat it is not judged again
    if result["rolled_back"]:
        registry.rollback(
            seat, to=former, by=BY, reason=f"live outcomes: {judgement.reason}", expected=champion.number
        )
    return result


def _settled(answers: list[Answer], policy: Policy, now: datetime) -> list[Answer]:
    """Those whose outcome is known and will not change any more. The order stays, so a prefix stays a prefix."""
    known = now - policy.settle - WRITTEN_WITHIN
    return [answer for answer in answers if answer.answered_at <= known and answer.heard]


def _requests(answers: list[Answer]) -> Requests:
    users, engaged = [answer.user_id for answer in answers], [answer.engaged for answer in answers]
    return Requests(np.array(users, str), np.array(engaged, bool))


def _why_it_stays(
    settings: Settings,
    registry: Registry,
    seat: Seat,
    move: dict[str, Any],
    new: list[Answer],
    old: list[Answer],
) -> str:
    """Why a champion that does worse is only reported; empty if nothing speaks for that."""
    if move["action"] not in PROMOTIONS:
        return (
            f"{move['by']} seated it by {move['action']}, and a person's decision is a person's to take back"
        )
    former = next((v for v in registry.versions(seat) if v.number == move["from"]), None)
    if former is None:
        return f"v{move['from']} before it was deleted"
    if former.withdrawn:
        return f"v{former.number} before it was withdrawn ({former.withdrawn})"
    # By the days of the data: of a request answered on day D, the features are those of the day before.
    first, last = old[0].at.date() - timedelta(days=1), new[-1].at.date()
    drifts = [asked.day for asked in requested(settings, seat.name) if first <= asked.day <= last]
    if drifts:
        return f"the world drifted on {max(drifts)}, between the two"
    try:
        registry.load(seat, former.number)
    except PackageError as error:
        return f"v{former.number} cannot be loaded ({error})"
    return ""


def _nothing(verdict: str, reason: str, champion: Version | None = None) -> dict[str, Any]:
    return {
        "champion": champion.number if champion is not None else None,
        "previous": None,
        "requests": 0,
        "rate": None,
        "rate_before": None,
        "verdict": verdict,
        "reason": reason,
        "looks": [],
        "rolled_back": False,
    }


def _result(champion: Version, former: int, new: list[Answer], judgement: Judgement) -> dict[str, Any]:
    last = judgement.looks[-1] if judgement.looks else None
    return {
        **_nothing(judgement.verdict, judgement.reason, champion),
        "previous": former,
        "requests": len(new),
        "rate": last.rate if last else None,
        "rate_before": last.rate_before if last else None,
        "looks": [asdict(look) for look in judgement.looks],
    }


def _keep(
    settings: Settings, registry: Registry, seat: Seat, champion: Version, result: dict[str, Any]
) -> None:
    """Leave the figures of the newest look where a reviewer finds them: on the version and its run.

    What was seen of it once is not replaced by nothing: exposures are forgotten, and a later sitting starts anew.
    """
    if result["verdict"] != "no evidence" or "live_verdict" not in champion.tags:
        registry.annotate(
            seat, champion.number, tags={"live_verdict": result["verdict"], "live_reason": result["reason"]}
        )
    day = open_lake(settings).last_day()
    if result["looks"] and champion.run_id and day is not None:
        figures = ("requests", "users", "rate", "rate_before")
        look = result["looks"][-1]
        registry.log_metrics(champion.run_id, {f"live_{name}": look[name] for name in figures}, day)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Judge new champions by what users did with their answers.")
    parser.add_argument("--seat", choices=list(SEATS), help="default: every seat")
    parser.add_argument("--settle", type=float, metavar="MINUTES", help="how long a user has; default: 30")
    parser.add_argument("--look-only", action="store_true", help="judge, and move and write nothing")
    given = parser.parse_args(arguments)
    settings, policy = read_settings(), Policy()
    if given.settle is not None:
        policy = replace(policy, settle=timedelta(minutes=given.settle))
    seats = [SEATS[given.seat]] if given.seat else list(SEATS.values())
    result = outcomes(settings, seats, policy, act=not given.look_only)
    day: date | None = result["day"]
    if day is None or given.look_only:  # before anything is published there is no night to keep it with
        print(json.dumps(plain(result), ensure_ascii=False), flush=True)
        return
    emit(settings, day, "outcomes", result)


if __name__ == "__main__":
    run_command(main)
