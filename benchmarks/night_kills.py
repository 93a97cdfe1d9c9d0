"""A night whose every step is killed ends as one that nobody disturbed.

python -m benchmarks.night_kills [--quick] [--seed N] [--kills N]

The same night of a small market is run twice, each with a home and an MLflow of its own. Of the second one every step
is killed (SIGKILL) `--kills` times, each time right before one of its writes, drawn at random from all that the step
makes: a file opened for writing or renamed, a statement's connection to a database, a request to MLflow. Then the step
is run again, as Airflow does. Compared at the end: the lake by its bytes, the features by their values, the feedback
that the night took, who sits in the seat by the bytes of its package (without bytecode and MLmodel, which names its
run), and what the gate decided.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.serving_load import free_port
from nightshift.commands import plain, run_command
from nightshift.errors import StackError
from nightshift.eventlog import EventLog
from nightshift.lake import open_lake
from nightshift.packages import package_digest
from nightshift.parts import environment
from nightshift.registry import Registry
from nightshift.seats import RECOMMENDER
from nightshift.settings import PROJECT, Settings
from nightshift.stack import Stack

KILLS, QUICK_KILLS = 3, 1
DATA = ("ingest", "audit", "publish", "features")  # the steps that need no MLflow
FAMILY = "item_knn"
# Counts a step's writes; kills it before the one whose number it was given, and else says how many there were.
RUNNER = """
import os, runpy, signal, sys
home, number, module = sys.argv[1], int(sys.argv[2]), sys.argv[3]
count = 0
def hook(event, words):
    global count
    if event == "open":
        path, mode = words[0], words[1]
        if not (isinstance(path, str) and path.startswith(home) and isinstance(mode, str) and set(mode) & set("wax+")):
            return
    elif event not in ("os.rename", "sqlite3.connect", "http.client.send"):
        return
    count += 1
    if count == number:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
sys.argv = sys.argv[3:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    print("writes", count, file=sys.stderr)
"""


@dataclass(frozen=True)
class Killed:
    """A step that was killed before its write number `at` of `of`."""

    step: str
    at: int
    of: int


def steps(night: date) -> dict[str, list[str]]:
    when = ["--night", night.isoformat()]
    return {
        "ingest": ["nightshift.intake", "ingest", *when],
        "audit": ["monitoring.quality", *when],
        "publish": ["nightshift.intake", "publish", *when],
        "features": ["feature_repo.build", *when],
        # Not a smoke training, which the gate finds worse than its baseline, and no family that nobody trained: seated.
        "train": ["training.run", FAMILY, *when],
        "gate": ["training.examine", RECOMMENDER.name, *when, "--families", FAMILY],
    }


def run(config: Settings, command: list[str], kill_before: int = 0) -> tuple[int, int]:
    """(exit status, writes) of a step; killed before that write if it is not 0."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(config.home), str(kill_before), *command],
        env=environment(config), cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = [line for line in done.stderr.splitlines() if line.startswith("writes ")]
    if not kill_before and done.returncode != 0:
        raise StackError(f"`{' '.join(command)}` failed: {' '.join(done.stderr.split())[-400:]}")
    return done.returncode, int(told[-1].split()[1]) if told else 0


def undisturbed(config: Settings, night: date, names: tuple[str, ...]) -> dict[str, int]:
    """Run a night; step → how many writes it made."""
    return {name: run(config, steps(night)[name])[1] for name in names}


def disturbed(config: Settings, night: date, writes: dict[str, int], kills: int, seed: int) -> list[Killed]:
    """Run a night each of whose steps is killed `kills` times first."""
    random_, told = random.Random(seed), []  # noqa: S311 - a test's, no secret's
    for name, of in writes.items():
        points = sorted(random_.sample(range(1, of + 1), min(kills, of)))
        for at in points:
            run(config, steps(night)[name], at)
            told.append(Killed(name, at, of))
        run(config, steps(night)[name])  # raises if it does not go on
    return told


def feedback(config: Settings, night: date) -> None:
    """What users did on the night's day, so that there is something to lose."""
    at = datetime(night.year, night.month, night.day, 9, tzinfo=UTC)
    log = EventLog(config.eventlog_uri)
    log.append(
        [{"event_id": f"told-{n}", "user_id": f"u{n:06d}", "item_id": "i000001", "kind": "click", "at": at,
          "value": None, "session_id": None, "device": "mobile", "channel": "home"} for n in range(1, 21)]
    )  # fmt: skip
    log.close()


def state(config: Settings, night: date, *, with_models: bool) -> dict[str, Any]:
    """What a night leaves that later ones build on, by digest."""
    lake = open_lake(config)
    log = EventLog(config.eventlog_uri)
    found: dict[str, Any] = {
        "lake": lake.digest(date.min, night),
        "features": {
            path.relative_to(config.features_dir).as_posix(): digest_of_values(path)
            for path in sorted(config.features_dir.glob("*/day=*.parquet"))
        },
        "feedback": [row["event_id"] for row in log.of_night(night)],
        "left over": sorted(
            path.name for path in config.lake_dir.rglob("*") if path.name.endswith((".building", ".tmp"))
        ),
    }
    log.close()
    if with_models:
        registry = Registry(config)
        champion = registry.champion(RECOMMENDER)
        told = json.loads(
            (config.nights_dir / night.isoformat() / f"gate-{RECOMMENDER.name}.json").read_text()
        )
        found["champion"] = champion and digest_of_model(registry, champion.number)
        found["decision"] = told["decision"]
        found["reasons"] = told["reasons"]
        experiments = [each.experiment_id for each in registry.client.search_experiments()]
        running = registry.client.search_runs(experiments, filter_string="attributes.status = 'RUNNING'")
        found["runs left open"] = len(running)
    return found


def digest_of_model(registry: Registry, number: int) -> str:
    """sha256 over a version's files but MLmodel, which names its run, and bytecode, which holds a time."""
    with tempfile.TemporaryDirectory(prefix="nightshift-kills-model-") as folder:
        package = registry.package(RECOMMENDER, number, Path(folder))
        (package / "MLmodel").unlink()
        shutil.rmtree(package / "__pycache__", ignore_errors=True)
        return package_digest(package)


def digest_of_values(path: Path) -> str:
    """sha256 over a partition's rows, figures to nine digits: DuckDB's threads sum up in any order."""
    table = pq.ParquetFile(path).read()
    columns = {
        name: [
            f"{value:.9g}" if isinstance(value, float) else str(value) for value in table[name].to_pylist()
        ]
        for name in table.column_names
    }
    return hashlib.sha256(json.dumps(columns).encode()).hexdigest()


def small_market(home: Path, **more: Any) -> Settings:
    sizes = {"market_users": 300, "market_items": 120, "market_topics": 40, "history_days": 8}
    return Settings(
        _env_file=None, home=home, market_conversations=0, mlflow_port=free_port(), **{**sizes, **more}
    )  # type: ignore[call-arg]


def measure(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    names = (*DATA, "train", "gate")
    found, told, writes = {}, [], {}
    for which in ("undisturbed", "killed"):
        config = small_market(folder / which, market_users=600, market_items=200, history_days=14)
        night = config.market_start + timedelta(days=config.history_days - 1)
        stack = Stack(config, only=("mlflow",))
        try:
            stack.up(lambda _: None)
            feedback(config, night)
            if which == "undisturbed":
                writes = undisturbed(config, night, names)
            else:
                told = disturbed(config, night, writes, kills, seed)
            found[which] = state(config, night, with_models=True)
        finally:
            stack.down(lambda _: None)
    differs = [
        name
        for name, value in found["undisturbed"].items()
        if name != "reasons" and found["killed"][name] != value  # they tell of milliseconds, too
    ]
    return {
        "seed": seed,
        "kills": [{"step": each.step, "before_write": each.at, "of": each.of} for each in told],
        "differs": differs,
        "feedback": len(found["killed"]["feedback"]),
        "champion": found["killed"]["champion"],
        "decision": found["killed"]["decision"],
        "reasons": found["killed"]["reasons"],
    }


def show(result: dict[str, Any]) -> None:
    table = Table("step", "writes", "killed before write")
    for step in dict.fromkeys(each["step"] for each in result["kills"]):
        mine = [each for each in result["kills"] if each["step"] == step]
        table.add_row(step, str(mine[0]["of"]), ", ".join(str(each["before_write"]) for each in mine))
    Console().print(table)
    print(f"differs from the undisturbed night in: {', '.join(result['differs']) or 'nothing'}")
    print(f"the gate decided: {result['decision']}. {' '.join(result['reasons'])}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.night_kills", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="one kill a step")
    parser.add_argument("--kills", type=int, help=f"a step; default {KILLS}")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args(arguments)
    kills = given.kills or (QUICK_KILLS if given.quick else KILLS)
    with tempfile.TemporaryDirectory(prefix="nightshift-kills-") as folder:
        result = measure(Path(folder).resolve(), kills, given.seed)
    show(result)
    print(json.dumps(plain(result), ensure_ascii=False))


if __name__ == "__main__":
    run_command(main)
