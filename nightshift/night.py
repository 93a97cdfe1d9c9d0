"""A night as a list of commands, run one after another; and its report.

python -m nightshift.night run    [--night DATE] [--smoke]     without Airflow, the same commands
python -m nightshift.night report --night DATE                 closes a night: what happened, in one object
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from typing import Any

from nightshift.commands import emit, read_step, read_steps, run_command
from nightshift.errors import NightshiftError, NothingNewError
from nightshift.intake import next_night
from nightshift.lake import open_lake
from nightshift.parts import environment
from nightshift.settings import PROJECT, Settings, settings


class StepFailedError(NightshiftError):
    """A step of a night exited with an error; its own words are in the text."""


class StepSkippedError(StepFailedError):
    """A step had nothing to do, and says why; its exit status was that of NothingNewError."""

    exit_status = NothingNewError.exit_status


def families(config: Settings) -> dict[str, str]:
    """Family → seat, as `training.families` names them (asked by command: we import no room)."""
    return dict(run_step(config, ["training.families"]))


def run_step(config: Settings, command: list[str]) -> Any:
    """Run `python -m …`, and return its last line, decoded.

    Raises:
        StepSkippedError: it had nothing to do.
        StepFailedError: with the step's last line of complaint.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT, env=environment(config),
    )  # fmt: skip
    try:
        out, complaints = process.communicate()
    except BaseException:
        process.terminate()  # and wait: a training run closes its page in MLflow first
        process.wait()
        raise
    if process.returncode != 0:
        said = [line for line in complaints.strip().splitlines() if line.strip()]
        skipped = process.returncode == StepSkippedError.exit_status
        raise (StepSkippedError if skipped else StepFailedError)(
            f"`{' '.join(command)}`: {said[-1] if said else f'exit {process.returncode}'}"
        )
    return json.loads(out.strip().splitlines()[-1])


def data_commands(night: date) -> list[list[str]]:
    """What takes a day in, in order; harmless on a day that is published already."""
    when = ["--night", night.isoformat()]
    return [
        ["nightshift.intake", "ingest", *when],
        ["monitoring.quality", *when],
        ["nightshift.intake", "publish", *when],
        ["feature_repo.build", *when],
    ]


def commands(night: date, chosen: dict[str, str], *, smoke: bool) -> list[list[str]]:
    """Every command of a night, in order."""
    when = ["--night", night.isoformat()]
    return [
        *data_commands(night),
        *(["training.run", family, *when, *(["--smoke"] if smoke else [])] for family in chosen),
        *(["training.examine", seat, *when] for seat in sorted(set(chosen.values()))),
        ["nightshift.night", "report", *when],
    ]


def run_night(
    config: Settings,
    night: date,
    *,
    smoke: bool,
    chosen: dict[str, str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run a night here and now, without Airflow. Returns its report.

    chosen: family → seat; default: all. A seat that the lake has no data for is left out, as in Airflow.
    """
    result: dict[str, Any] = {}
    for command in commands(night, families(config) if chosen is None else chosen, smoke=smoke):
        say(" ".join(command))
        try:
            result = run_step(config, command)
        except StepSkippedError as skipped:
            if not command[0].startswith("training."):
                raise
            say(str(skipped))
    return result


def report(config: Settings, night: date) -> dict[str, Any]:
    """What happened on a night, from the lake's manifest and the steps' own results.

    A seat without data has no gate, and a night on which no seat had any is done all the same: the next day may
    bring enough.

    Raises:
        StepFailedError: the night was not published.
    """
    entry = open_lake(config).entry(night)
    if entry is None:
        raise StepFailedError(f"night {night} is not in the lake: nothing to report")
    steps = read_steps(config, night)
    gates = {name.removeprefix("gate-"): step for name, step in steps.items() if name.startswith("gate-")}
    return {
        "night": night,
        "rows": {name: table["rows"] for name, table in entry["tables"].items()},
        "counts": entry["counts"],
        "audit": {key: value for key, value in entry["audit"].items() if key != "content"},
        "lake_days": len(open_lake(config).days()),
        "taken_in": steps.get("ingest"),
        "features": steps.get("features"),
        "families": {n.removeprefix("train-"): s for n, s in steps.items() if n.startswith("train-")},
        "gates": gates,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m nightshift.night", description=__doc__)
    parser.add_argument("action", choices=("run", "report"))
    parser.add_argument("--night", type=date.fromisoformat)
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args(arguments)
    config = settings()
    night = given.night or next_night(config)
    if given.action == "report":
        emit(config, night, "report", report(config, night))
        return
    run_night(
        config, night, smoke=given.smoke, say=lambda line: print(f"▸ {line}", file=sys.stderr, flush=True)
    )
    print(json.dumps(read_step(config, night, "report"), ensure_ascii=False))


if __name__ == "__main__":
    run_command(main)
