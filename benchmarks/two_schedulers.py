"""Two Airflow schedulers on one PostgreSQL, and one of them killed in the middle of a night.

python -m benchmarks.two_schedulers --server postgresql://user@host:5432/postgres

Airflow, MLflow and a small market, all on this machine; Airflow's database is made on that server and dropped
afterwards. Two nights are run. In the first both schedulers live to the end: every task is to run once. In the second
the scheduler that the stack started is killed (SIGKILL, with the tasks it runs) as soon as a training has begun: the
other one is to end the night. What is counted: tries of each task, days published, versions of the seat, runs of MLflow
that were left open.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
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


def night_of(config: Settings, airflow: Airflow, night: date, kill: Stack | None = None) -> dict[str, Any]:
    run = airflow.trigger("nightly", {"night": night.isoformat(), "smoke": True, "families": [FAMILY]})
    deadline, killed = time.monotonic() + PATIENCE, False
    while (state := airflow.state("nightly", run)) not in ("success", "failed"):
        if kill is not None and not killed and _training(airflow, run):
            leader = kill.running()["scheduler"]
            for process in [*leader.children(recursive=True), leader]:
                with suppress(psutil.NoSuchProcess):  # ended this moment
                    process.kill()
            killed = True
        if time.monotonic() > deadline:
            raise StackError(f"night {night} did not end in {PATIENCE:.0f} s; see {config.logs_dir}")
        time.sleep(1)
    tasks = airflow.tasks("nightly", run)
    print(f"night {night}: {state}", file=sys.stderr)
    return {
        "night": night,
        "state": state,
        "scheduler_killed": killed,
        "states": dict(Counter(str(task["state"]) for task in tasks)),
        "tries": {task["task_id"]: task["try_number"] for task in tasks if task["state"] == "success"},
    }


def _training(airflow: Airflow, run: str) -> bool:
    return any(
        task["task_id"] == f"train_{RECOMMENDER.name}" and task["state"] == "running"
        for task in airflow.tasks("nightly", run)
    )


def measure(config: Settings) -> dict[str, Any]:
    stack = Stack(config, only=PARTS)
    other: subprocess.Popen[bytes] | None = None
    try:
        stack.up(lambda line: print(line, file=sys.stderr))
        other = second_scheduler(config)
        airflow = Airflow(config)
        airflow.prepare(DAGS)
        first = config.market_start + timedelta(days=config.history_days - 1)
        nights = [
            night_of(config, airflow, first),
            night_of(config, airflow, first + timedelta(days=1), stack),
        ]
        registry = Registry(config)
        experiments = [each.experiment_id for each in registry.client.search_experiments()]
        running = registry.client.search_runs(experiments, filter_string="attributes.status = 'RUNNING'")
        return {
            "nights": nights,
            "days": len(open_lake(config).days()),
            "versions": len(registry.versions(RECOMMENDER)),
            "runs_left_open": len(running),
        }
    finally:
        if other is not None:
            family = [psutil.Process(other.pid), *psutil.Process(other.pid).children(recursive=True)]
            other.terminate()
            _, alive = psutil.wait_procs(family, timeout=30)
            for process in alive:
                process.kill()
            other.wait()
        stack.down(lambda _: None)


def show(result: dict[str, Any]) -> None:
    table = Table("night", "a scheduler killed", "ended", "tasks", "tasks that took more than one try")
    for each in result["nights"]:
        again = ", ".join(f"{task} {tries}" for task, tries in each["tries"].items() if tries > 1) or "none"
        states = ", ".join(f"{count} {state}" for state, count in each["states"].items())
        table.add_row(str(each["night"]), str(each["scheduler_killed"]), each["state"], states, again)
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
        with tempfile.TemporaryDirectory(prefix="nightshift-schedulers-") as folder:
            url = SecretStr(server.set(database=name).render_as_string(hide_password=False))
            config = small_market(
                Path(folder).resolve() / "var",
                airflow_database_url=url,
                airflow_port=free_port(),
                schedule="0 0 1 1 *",
                watch_schedule="0 0 1 1 *",
            )
            result = measure(config)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()
    show(result)
    print(json.dumps(plain(result), ensure_ascii=False))


if __name__ == "__main__":
    run_command(main)
