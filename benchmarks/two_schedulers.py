"""Two Airflow schedulers on one PostgreSQL, and one of them killed in the middle of a night.

python -m benchmarks.two_schedulers --server postgresql://user@host:5432/postgres

Airflow, MLflow and a small market, all on this machine; Airflow's database is made on that server and dropped
afterwards. Two nights are run. In the first both schedulers live to the end: every task is to run once. In the second
the scheduler that runs the training is killed (SIGKILL, with all that it runs) as soon as MLflow has a run of it: the
other one is to end the night. What is counted: tries of each task, days published, versions of the seat, runs of MLflow
that were left open, seconds from the kill to the end. If a night does not end, the logs are kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from benchmarks.night_kills import FAMILY, small_market
from benchmarks.serving_load import free_port
from nightshift.airflow_api import Airflow
from nightshift.commands import plain, run_command
from nightshift.databases import with_driver
from nightshift.errors import StackError
from nightshift.lake import open_lake
from nightshift.parts import airflow_environment, environment
from nightshift.registry import Registry
from nightshift.seats import RECOMMENDER
from nightshift.settings import PROJECT, Settings
from nightshift.stack import Stack
from nightshift.tonight import DAGS

PARTS = ("mlflow", "api-server", "scheduler", "dag-processor")
PATIENCE = 900.0  # s


def second_scheduler(config: Settings) -> subprocess.Popen[bytes]:
    """Another scheduler with the same settings, as another machine would run it."""
    binary = Path(sys.executable).parent / "airflow"
    with (config.logs_dir / "second-scheduler.log").open("ab") as log:
        return subprocess.Popen(
            [str(binary), "scheduler", "--skip-serve-logs"],
            env={**environment(config), **airflow_environment(config)}, cwd=PROJECT, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def night_of(
    config: Settings,
    airflow: Airflow,
    night: date,
    schedulers: Callable[[], dict[str, psutil.Process]] | None = None,
) -> dict[str, Any]:
    """Run a night to its end; schedulers: of which the one that runs the training is killed."""
    run = airflow.trigger("nightly", {"night": night.isoformat(), "smoke": True, "families": [FAMILY]})
    began, deadline = time.monotonic(), time.monotonic() + PATIENCE
    killed: str | None = None
    killed_at = began
    told: dict[str, tuple[str, int]] = {}
    while (state := airflow.state("nightly", run)) not in ("success", "failed"):
        if schedulers is not None and killed is None and (found := _training(config, schedulers())):
            killed, killed_at = found, time.monotonic()
            leader = schedulers()[found]
            for process in [leader, *leader.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):  # ended this moment
                    process.kill()
            print(f"the {found} scheduler is killed", file=sys.stderr)
        for task in airflow.tasks("nightly", run):
            now = (task["state"], task["try_number"])
            if told.get(task["task_id"]) != now and task["state"] is not None:
                told[task["task_id"]] = now
                after = time.monotonic() - began
                print(f"{after:6.0f} s {task['task_id']}: {now[0]}, try {now[1]}", file=sys.stderr)
        if time.monotonic() > deadline:
            raise StackError(f"night {night} did not end in {PATIENCE:.0f} s; see {config.logs_dir}")
        time.sleep(1)
    ended, tasks = time.monotonic(), airflow.tasks("nightly", run)
    return {
        "night": night,
        "state": state,
        "scheduler_killed": killed,
        "seconds": ended - began,
        "seconds_after_kill": ended - killed_at if killed else None,
        "states": dict(Counter(str(task["state"]) for task in tasks)),
        "tries": {task["task_id"]: task["try_number"] for task in tasks if task["state"] == "success"},
    }


def _training(config: Settings, schedulers: dict[str, psutil.Process]) -> str | None:
    """The scheduler that runs a training of which MLflow knows."""
    for name, leader in schedulers.items():
        with suppress(psutil.Error):
            if any("training.run" in child.cmdline() for child in leader.children(recursive=True)):
                return name if open_runs(config) else None
    return None


def open_runs(config: Settings) -> int:
    client = Registry(config).client
    experiments = [each.experiment_id for each in client.search_experiments()]
    return len(client.search_runs(experiments, filter_string="attributes.status = 'RUNNING'"))


def measure(config: Settings) -> dict[str, Any]:
    stack = Stack(config, only=PARTS)
    other: subprocess.Popen[bytes] | None = None
    try:
        stack.up(lambda line: print(line, file=sys.stderr))
        other = second_scheduler(config)
        second = psutil.Process(other.pid)

        def both() -> dict[str, psutil.Process]:
            return {"first": stack.running()["scheduler"], "second": second}

        airflow = Airflow(config)
        airflow.prepare(DAGS)
        first = config.market_start + timedelta(days=config.history_days - 1)
        nights = [
            night_of(config, airflow, first),
            night_of(config, airflow, first + timedelta(days=1), both),
        ]
        return {
            "nights": nights,
            "days": len(open_lake(config).days()),
            "versions": len(Registry(config).versions(RECOMMENDER)),
            "runs_left_open": open_runs(config),
        }
    finally:
        if other is not None:
            end(other)
        stack.down(lambda _: None)


def end(scheduler: subprocess.Popen[bytes]) -> None:
    """Stop a scheduler and what it runs; it may be dead already."""
    if scheduler.poll() is None:
        family = psutil.Process(scheduler.pid).children(recursive=True)
        scheduler.terminate()
        _, alive = psutil.wait_procs([psutil.Process(scheduler.pid), *family], timeout=30)
        for process in alive:
            process.kill()
    scheduler.wait()


def show(result: dict[str, Any]) -> None:
    table = Table("night", "killed", "ended", "s", "s after it", "tasks", "tasks that took more than one try")
    for each in result["nights"]:
        again = ", ".join(f"{task} {tries}" for task, tries in each["tries"].items() if tries > 1) or "none"
        states = ", ".join(f"{count} {state}" for state, count in each["states"].items())
        after = "–" if each["seconds_after_kill"] is None else f"{each['seconds_after_kill']:.0f}"
        killed = each["scheduler_killed"] or "none"
        table.add_row(
            str(each["night"]), killed, each["state"], f"{each['seconds']:.0f}", after, states, again
        )
    Console().print(table)
    left = result["runs_left_open"]
    print(f"days published {result['days']}, versions {result['versions']}, MLflow runs left open {left}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.two_schedulers", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--server", required=True, help="a PostgreSQL where a database may be made")
    server = with_driver(make_url(parser.parse_args(arguments).server))
    name = f"nightshift_schedulers_{uuid.uuid4().hex[:8]}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        folder = Path(tempfile.mkdtemp(prefix="nightshift-schedulers-")).resolve()
        url = SecretStr(server.set(database=name).render_as_string(hide_password=False))
        config = small_market(
            folder / "var",
            airflow_database_url=url,
            airflow_port=free_port(),
            schedule="0 0 1 1 *",
            watch_schedule="0 0 1 1 *",
        )
        result = measure(config)
        shutil.rmtree(folder)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()
    show(result)
    print(json.dumps(plain(result), ensure_ascii=False))


if __name__ == "__main__":
    run_command(main)
