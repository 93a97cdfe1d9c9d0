"""The whole policy on history: what never retraining, always promoting and our gate would each have come to.

Protocol: night D takes in day D, trains every family of the recommender's seat and lets the gate decide; the watch
looks at day D+1 as it comes in, and requests a retrain if it drifted. Besides, the main family is trained once more
on every day up to D, for whoever always promotes needs no exam, and so holds no days back for one. Then four lives
are judged by day D+1, which none of their models has seen, on one exam and user by user:

    never    the first version that the gate ever seated serves for ever (the first candidate, if it seated none)
    always   each night's model of the main family, trained on every day up to the night, serves
    newest   each night's candidate of the main family serves; it was trained on the days before the exam
    gate     whoever the gate seated serves

`always` less `newest` is the price of holding days back for the exam, `gate` less `newest` what the decisions gave.
Until the gate first seats somebody, never and gate have nobody: a service that answers 503, so nothing is found.
Not covered: what is shown does not change what customers do here, so nothing is learnt from being shown; and the
rollback by live outcomes, which needs them. The trial in the real service is timed on this machine as it is now:
on a busy one, whose budgets nobody keeps, name a folder of policies without [infra] in NIGHTSHIFT_POLICIES.

A backtest has its own state folder and its own MLflow; run again, it goes on where it stopped.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console

from nightshift import backtest_report
from nightshift.commands import read_step
from nightshift.errors import SettingsError
from nightshift.intake import finished
from nightshift.lake import write_json
from nightshift.night import StepSkippedError, families, run_step
from nightshift.replay import Say, each_night, run_recommenders, source_days, take_in
from nightshift.seats import RECOMMENDER
from nightshift.settings import Settings
from nightshift.sources import open_source

SEAT = RECOMMENDER.name
LIVES = ("never", "always", "newest", "gate")


@dataclass(frozen=True)
class Past:
    """What a night left: versions by number. candidate, fresh: the main family's, with and without days held back.

    production: who sat in the seat after the gate. trained: how many models the night trained for the gate.
    """

    night: date
    decision: str
    production: int | None
    candidate: int | None
    fresh: int | None
    trained: int


def run(
    config: Settings, start: date, end: date, console: Console, png: Path | None, family: str | None = None
) -> dict[str, Any]:
    """Live the source's nights from `start` to `end`; print the tables, write the plot, return all figures.

    family: the main one, which the lives without a gate serve; default: the first of the seat.

    Raises:
        SettingsError: there is no such family in the seat.
        SourceError: the source has no day in the range, or none after it to judge the last models by.
    """
    ours = [name for name, seat in families(config).items() if seat == SEAT]
    main = family or ours[0]
    if main not in ours:
        raise SettingsError(f"seat {SEAT} has no family {main!r}; its families are {', '.join(ours)}")
    days = source_days(open_source(config.source, config), start, end)
    nights = days[:-1]

    def live(night: date, following: date, say: Say) -> None:
        live_on(config, nights[: nights.index(night) + 1], following, main, say)

    each_night(config, days, console, live)
    history = past(config, nights, main)
    served = lives(history)
    target = png or config.home / "backtest.png"
    kept = config.home / "lives.json"
    write_json(kept, {"names": LIVES, "nights": served})
    compared = run_step(config, ["training.lives", SEAT, "--lives", str(kept)])
    result = {**about(config, main, history, served), **compared}
    result["conclusions"] = backtest_report.conclusions(result)
    write_json(target.with_suffix(".json"), result)
    backtest_report.plot(result, target)
    backtest_report.show(result, console)
    console.print(f"plot: {target}\nfigures: {target.with_suffix('.json')}")
    return result


def live_on(config: Settings, nights: Sequence[date], following: date, main: str, say: Say) -> None:
    """The last of `nights`: the night itself, the model that needs no exam, the day after, and the judging."""
    night = nights[-1]
    when = ["--night", night.isoformat()]
    run_recommenders(config, night, say)
    if read_step(config, night, f"no-exam-{main}") is None:
        say(f"training {main} on every day")
        _unless_skipped(config, ["training.run", main, *when, "--no-exam"])
    if read_step(config, following, "features") is None:
        take_in(config, following, say)
    _watch(config, following, say)
    wanted = to_judge(past(config, nights, main))
    judged = read_step(config, night, f"judged-{SEAT}") or {"versions": {}}
    if not {str(number) for number in wanted} <= judged["versions"].keys():
        say(f"judging by {following}")
        numbers = [word for number in wanted for word in ("--version", str(number))]
        run_step(config, ["training.next_day", SEAT, *when, *numbers])


def _watch(config: Settings, day: date, say: Say) -> None:
    """What the watch would have done on a day as it came in: look, and request a retrain if it drifted."""
    if finished(config, day):
        return  # its night was trained already
    when = ["--night", day.isoformat()]
    if read_step(config, day, "watch") is None:
        say(f"watching {day}")
        run_step(config, ["monitoring.watch", *when])
    seen = read_step(config, day, "watch") or {}
    if seen.get("drift") and read_step(config, day, "retrain-request") is None:
        _unless_skipped(config, ["monitoring.watch", "--request", *when])


def _unless_skipped(config: Settings, command: list[str]) -> None:
    try:
        run_step(config, command)
    except StepSkippedError:
        return


def past(config: Settings, nights: Sequence[date], main: str) -> list[Past]:
    """What the nights left, from their steps' own results; a night that trained nothing keeps what there was."""
    found: list[Past] = []
    for night in nights:
        before = found[-1] if found else Past(night, "", None, None, None, 0)
        gate = read_step(config, night, f"gate-{SEAT}")
        folder = config.nights_dir / night.isoformat()
        trained = [json.loads(path.read_text()) for path in folder.glob("train-*.json")]
        newest = read_step(config, night, f"train-{main}") or {"version": before.candidate}
        fresh = read_step(config, night, f"no-exam-{main}") or {"version": before.fresh}
        found.append(
            Past(
                night,
                decision=gate["decision"] if gate else "no exam",
                production=gate["production"] if gate else before.production,
                candidate=newest["version"],
                fresh=fresh["version"],
                trained=sum(step["seat"] == SEAT for step in trained),
            )
        )
    return found


def lives(history: Sequence[Past]) -> list[dict[str, Any]]:
    """Which version each life serves after every night: `night`, and a number or None for each of LIVES."""
    seated = next((one.production for one in history if one.production is not None), None)
    first = next((one.candidate for one in history if one.candidate is not None), None)
    rows: list[dict[str, Any]] = []
    for one in history:
        begun = one.candidate if seated is None else one.production
        rows.append(
            {
                "night": one.night.isoformat(),
                "never": None if begun is None else first if seated is None else seated,
                "always": one.fresh,
                "newest": one.candidate,
                "gate": one.production,
            }
        )
    return rows


def to_judge(history: Sequence[Past]) -> list[int]:
    """The versions that the last night's judging must hold, whoever is seated later on."""
    serving = {lives(history)[-1][name] for name in LIVES}
    return sorted(number for number in serving if number is not None)


def swaps(served: Sequence[dict[str, Any]], life: str) -> int:
    """How often another version took over from one that served."""
    versions = [row[life] for row in served if row[life] is not None]
    return sum(one != other for one, other in itertools.pairwise(versions))


def about(
    config: Settings, main: str, history: Sequence[Past], served: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What was lived: the nights' decisions, who served, and what each life cost in trainings and swaps."""
    nights = len(history)
    judged = [read_step(config, one.night, f"judged-{SEAT}") or {} for one in history]
    requested = [one.night for one in history if read_step(config, one.night, "retrain-request")]
    return {
        "source": config.source,
        "family": main,
        "seed": config.market_seed if config.source == "market" else None,
        "history": [{key: _text(value) for key, value in asdict(one).items()} for one in history],
        "served": list(served),
        "scored_days": [step.get("scored_day") for step in judged],
        "popularity_hits": sum(
            step.get("popularity_hr_at_10", 0.0) * step.get("users", 0) for step in judged
        ),
        "drift_day": str(config.market_drift_day) if config.source == "market" else None,
        "retrains_requested": [str(day) for day in requested],
        "models_trained": {
            "never": 1,
            "always": nights,
            "newest": nights,
            "gate": sum(one.trained for one in history),
        },
        "swaps": {name: swaps(served, name) for name in LIVES},
        "promotions": sum(one.decision == "promote" for one in history),
        "kept_older": sum(one.decision == "keep" for one in history),
    }


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, date) else value
