"""Compares what the newest day brought with what each seat's champion was trained on; on drift, a retrain can be
requested. A seat without a view of features (`nightshift.seats`) is left out, and the result names it.

    python -m monitoring.watch [--night 2026-10-12]            looks, and changes nothing else: run it at will
    python -m monitoring.watch --request --night 2026-10-12    requests a retrain if that look saw drift

Looking is one run of the MLflow experiment `nightshift/watch` per seat, day and champion, with Evidently's report and
the scores. Requesting is the watch DAG's business, because only its task can wake the nightly DAG: exit status 0
means "wake it", 99 means that there is nothing to ask for, and why is said.

A request is a fact (`nightshift.retrains`) per seat that drifted, then the step `retrain-request` of that day. It
counts as made once both are there, and not for the DAG run that made it: a task
killed before Airflow heard of its success is retried in the same run, and succeeds again.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from monitoring.triggers import ColumnScore, Decision, Policy, Request, covering, decide
from nightshift import partitions, retrains
from nightshift.commands import emit, read_step, run_command
from nightshift.contracts.features import VIEWS, View
from nightshift.errors import FeatureError, RegistryError
from nightshift.seats import SEATS, Seat
from nightshift.settings import Settings
from nightshift.settings import settings as read_settings
from nightshift.store import write_json

if TYPE_CHECKING:
    from nightshift.registry import Registry, Version

EXPERIMENT = "nightshift/watch"
REFERENCE = "features/reference.parquet"
REQUEST = "retrain-request"
NOTHING_TO_ASK = 99  # the exit status that Airflow's BashOperator shows as "skipped"
DAG_RUN = "AIRFLOW_CTX_DAG_RUN_ID"  # set by the BashOperator: the same for every try of a task


def newest_day(settings: Settings, night: date | None) -> date:
    """The newest day (no later than `night`) that has features.

    Raises:
        FeatureError: there is none.
    """
    daily = [view.name for view in VIEWS.values() if view.daily]
    days = partitions.days_of(settings, daily[0], night)
    if not days:
        until = f" up to {night}" if night else ""
        place = f"{partitions.features_place(settings)}/{daily[0]}"
        raise FeatureError(
            f"{place}: no features{until}; run `python -m feature_repo.build --night DATE` first"
        )
    return max(days)


def rows_of_day(settings: Settings, view: View, day: date) -> pd.DataFrame:
    """What came to be known of each key with that day, watched columns only; who was away is not in it.

    A view that is not daily has few such days: on the others nothing new can have drifted.

    Raises:
        FeatureError: the day's file is not there, or damaged.
    """
    path = partitions.partition(settings, view.name, day)
    try:
        features = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise FeatureError(
            f"{path} cannot be read ({error}); delete it and build the features again"
        ) from error
    if not view.daily:  # an opening brings years of a topic: its newest row is what it is now
        features = features.sort_values("event_timestamp", kind="stable").drop_duplicates(
            view.key, keep="last"
        )
    watched = [name for name in view.watched if name in features]
    # Who was away has no features of the day at all, and would only blur the missing shares.
    return features.loc[features[watched].notna().any(axis=1), watched]


def reference_of(registry: Registry, seat: Seat, champion: Version, into: Path) -> pd.DataFrame:
    """What the champion was trained on. Raises RegistryError if its run has no such file."""
    path = registry.artifact(champion.run_id, REFERENCE, into)
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise RegistryError(
            f"{seat.name} v{champion.number}: {REFERENCE} of its run {champion.run_id} "
            f"cannot be read ({error}); train and promote a new version"
        ) from error


def watch(
    settings: Settings, night: date | None, policy: Policy | None = None
) -> tuple[date, dict[str, Any]]:
    """Look at the newest day for every seat, keep what was seen in MLflow; returns the day and the step's result.

    Raises:
        FeatureError: no features. RegistryError: MLflow is down, or a champion has no reference.
    """
    from nightshift.registry import Registry

    day = newest_day(settings, night)
    registry = Registry(settings)
    seen = {
        seat.name: look(settings, registry, seat, day, policy or policy_of(seat))
        for seat in SEATS.values()
        if seat.view is not None
    }
    return day, summed_up(day, seen)


def view_of(seat: Seat) -> View:
    """The features whose drift is looked for."""
    assert seat.view is not None, f"seat {seat.name} has no features to watch"
    return VIEWS[seat.view]


def policy_of(seat: Seat) -> Policy:
    return Policy(cooldown_days=view_of(seat).settles_days)


def look(settings: Settings, registry: Registry, seat: Seat, day: date, policy: Policy) -> dict[str, Any]:
    """Compare what the day brought for one seat with what its champion was trained on."""
    view = view_of(seat)
    champion = registry.champion(seat)
    if champion is None:
        nobody = Decision(False, 0.0, False, f"seat {seat.name} has no champion: nothing to compare with")
        return result_of(None, [], nobody, None)
    rows = rows_of_day(settings, view, day)
    if not view.daily and rows.empty:
        nothing = Decision(
            False, 0.0, False, f"nothing was told of any {view.key} on {day}: nothing to compare"
        )
        return result_of(champion.number, [], nothing, None)
    from monitoring.drift import compare

    with tempfile.TemporaryDirectory() as temporary:
        reference = reference_of(registry, seat, champion, Path(temporary) / "reference")
        html = Path(temporary) / "drift.html"
        scores = compare(rows, reference, list(view.watched), html)
        decision = decide(scores, policy, day, requests(settings, seat.name))
        run_id = record(registry, seat, day, champion, scores, decision, html)
    return result_of(champion.number, scores, decision, run_id)


def result_of(
    champion: int | None, scores: list[ColumnScore], decision: Decision, run_id: str | None
) -> dict[str, Any]:
    """What was seen for one seat."""
    return {
        "drift": decision.drift,
        "columns": [score.as_dict() for score in scores],
        "share": decision.share,
        "reason": decision.reason,
        "champion": champion,
        "run_id": run_id,
        "already_requested": decision.already_requested,
    }


def summed_up(day: date, seen: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The step's result: whether any seat's world drifted, and what was seen for each."""
    drifted = [seat for seat, result in seen.items() if result["drift"]]
    return {
        "day": day,
        "drift": bool(drifted),
        "already_requested": any(seen[seat]["already_requested"] for seat in drifted),
        "reason": "; ".join(f"{seat}: {seen[seat]['reason']}" for seat in drifted or seen),
        "seats": seen,
        "not_watched": [name for name, seat in SEATS.items() if seat.view is None],
    }


# --- requests ------------------------------------------------------------------------------------------


def request(settings: Settings, day: date, policy: Policy | None = None) -> tuple[bool, str]:
    """Whether a retrain is requested now for what the watch saw on `day`, and why (not). If so, the fact is kept.

    Raises:
        FeatureError: nobody has looked at that day.
    """
    seen = read_step(settings, day, "watch")
    if seen is None:
        raise FeatureError(
            f"day {day}: nothing was compared; run `python -m monitoring.watch --night {day}` first"
        )
    if not seen["drift"]:
        return False, seen["reason"]
    drifted = {seat: result for seat, result in seen["seats"].items() if result["drift"]}
    covered = {
        seat: covering(day, policy or policy_of(SEATS[seat]), requests(settings, seat)) for seat in drifted
    }
    if all(covered.values()):
        return False, "; ".join(covered.values())
    for seat, result in drifted.items():
        if not covered[seat]:
            told = {name: result[name] for name in ("share", "reason", "columns", "run_id")}
            retrains.keep(settings, day, seat, result["champion"], told)
    return True, seen["reason"]


def requests(settings: Settings, seat: str) -> list[Request]:
    """Retrains asked for a seat so far, read anew each time: events may come twice, files do not."""
    asked = retrains.requested(settings, seat)
    return [Request(one.day, one.champion, one.seat) for one in asked if _made(settings, one.day)]


def _made(settings: Settings, day: date) -> bool:
    """Whether the request of `day` got as far as its step, in another run of the DAG than this one."""
    step = read_step(settings, day, REQUEST)
    return step is not None and (step["dag_run"] is None or step["dag_run"] != os.environ.get(DAG_RUN))


# --- MLflow --------------------------------------------------------------------------------------------


def record(
    registry: Registry,
    seat: Seat,
    day: date,
    champion: Version,
    scores: list[ColumnScore],
    decision: Decision,
    html: Path,
) -> str:
    """The run of the experiment `nightshift/watch` for this seat, day and champion, logged unless it was before.

    Returns its id. Raises RegistryError if MLflow is down.
    """
    tags = {
        "nightshift.task": f"watch-{seat.name}@{day}",
        "seat": seat.name,
        "champion_version": str(champion.number),
        "day": day.isoformat(),
        "drift": str(decision.drift).lower(),
        "mlflow.note.content": decision.reason,
    }
    metrics = {f"drift_{score.name}": score.score for score in scores if score.score is not None}
    metrics |= {"drifted_share": decision.share, "drift": float(decision.drift)}
    scores_file = html.with_name("scores.json")
    write_json(scores_file, {"decision": decision.reason, "columns": [score.as_dict() for score in scores]})
    with _reaching(registry.uri):
        experiment = _experiment(registry)
        _close_abandoned(registry, experiment, tags["nightshift.task"])
        kept = _kept(registry, experiment, tags["nightshift.task"], champion)
        if kept is not None:
            return kept  # the watch runs hourly, on the same day until a newer one comes
        run = registry.client.create_run(
            experiment, run_name=f"{day} {seat.name} v{champion.number}", tags=tags
        )
        run_id: str = run.info.run_id
        try:
            _log_metrics(registry, run_id, metrics)
            for file in (scores_file, html):
                if file.exists():
                    registry.client.log_artifact(run_id, str(file))
        except BaseException:
            registry.client.set_terminated(run_id, "FAILED")
            raise
        registry.client.set_terminated(run_id)
    return run_id


def _log_metrics(registry: Registry, run_id: str, metrics: dict[str, float]) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    registry.client.log_batch(
        run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()]
    )


def _experiment(registry: Registry) -> str:
    found = registry.client.get_experiment_by_name(EXPERIMENT)
    return found.experiment_id if found is not None else registry.client.create_experiment(EXPERIMENT)


def _close_abandoned(registry: Registry, experiment: str, task: str) -> None:
    """A watch that was killed leaves its run RUNNING for ever; the next one of that day closes it."""
    wanted = f"tags.`nightshift.task` = '{task}' AND attributes.status = 'RUNNING'"
    for run in registry.client.search_runs([experiment], wanted):
        registry.client.set_terminated(run.info.run_id, "KILLED")


def _kept(registry: Registry, experiment: str, task: str, champion: Version) -> str | None:
    """The run that holds this comparison already: a published day and a version never change."""
    wanted = (
        f"tags.`nightshift.task` = '{task}' AND tags.champion_version = '{champion.number}' "
        "AND attributes.status = 'FINISHED'"
    )
    found = registry.client.search_runs([experiment], wanted, max_results=1)
    return found[0].info.run_id if found else None


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:  # artifacts travel by requests, whose errors are OSErrors
        raise RegistryError(
            f"MLflow at {uri}: the watch could not be kept ({str(error)[:300]}). "
            "`nightshift status` tells whether it is up; then watch again"
        ) from error


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compare the newest features with the champion's.")
    parser.add_argument("--night", type=date.fromisoformat, help="default: the newest day with features")
    parser.add_argument(
        "--request", action="store_true", help="request a retrain if that night's look saw drift"
    )
    given = parser.parse_args(arguments)
    settings = read_settings()
    if not given.request:
        day, result = watch(settings, given.night)
        emit(settings, day, "watch", result)
        return
    if given.night is None:
        parser.error("--request needs --night, the day that was looked at")
    asked, reason = request(settings, given.night)
    if not asked:
        print(f"no retrain is requested: {reason}", file=sys.stderr)
        raise SystemExit(NOTHING_TO_ASK)
    emit(
        settings,
        given.night,
        REQUEST,
        {"day": given.night, "reason": reason, "dag_run": os.environ.get(DAG_RUN)},
    )


if __name__ == "__main__":
    run_command(main)
