"""The embedded stack: MLflow, Airflow (three processes) and the recommender service, on this machine.

Every process gets its own process group, a log under `home/logs/` and a line in `home/stack.json`. They are
started in the order they need one another and stopped in the order that loses nothing: serving first (it
drains), then the scheduler (it waits for running tasks to report), the DAG processor, the API server, and
MLflow last, so that a task that is still ending can log. Not `airflow standalone`: its SIGTERM orphans
its children.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from nightshift.errors import StackError
from nightshift.lake import write_json
from nightshift.settings import PROJECT, Settings

START_SECONDS = 180  # measured 12–40 s on two busy cores; a cold disk takes longer
STOP_SECONDS = {"scheduler": 120}  # a running training task is given time to end
DEFAULT_STOP_SECONDS = 20


@dataclass(frozen=True)
class Part:
    """One process of the stack. `port` and `health` are None where it listens to nobody."""

    name: str
    command: list[str]
    port: int | None = None
    health: tuple[str, ...] = ()
    setting: str = ""


def environment(config: Settings) -> dict[str, str]:
    """What every process of the stack runs under: our settings, and those of the tools."""
    home = config.home
    airflow = {
        "CORE__DAGS_FOLDER": PROJECT / "dags",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": 4,
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{config.airflow_user}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": home / "airflow" / "passwords.json",
        "CORE__EXECUTION_API_SERVER_URL": f"{config.airflow_uri}/execution/",
        "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": 5,
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow' / 'airflow.db'}",
        "API__HOST": config.host,
        "API__PORT": config.airflow_port,
        "API__WORKERS": 1,
        "API__BASE_URL": config.airflow_uri,
        "API_AUTH__JWT_SECRET": config.secret("airflow_jwt_secret"),
        "API__SECRET_KEY": config.secret("airflow_jwt_secret"),
        "DAG_PROCESSOR__REFRESH_INTERVAL": 30,
        "LOGGING__BASE_LOG_FOLDER": config.logs_dir / "airflow",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.1,
        # The first call to a cold execution API takes 6–7 s, over the default of 5.
        "WORKERS__EXECUTION_API_TIMEOUT": 60,
        "WORKERS__MIN_HEARTBEAT_INTERVAL": 1,
        "WORKERS__MAX_FAILED_HEARTBEATS": 20,
    }
    ours = {f"NIGHTSHIFT_{name.upper()}": value for name, value in config.exportable().items()}
    return {
        **os.environ,
        **ours,
        "AIRFLOW_HOME": str(home / "airflow"),
        **{f"AIRFLOW__{name}": str(value) for name, value in airflow.items()},
        # Only slots after this moment run by themselves; unpausing would else start the last one at once.
        "NIGHTSHIFT_SCHEDULE_FROM": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "NIGHTSHIFT_PYTHON": sys.executable,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight idle processes that survive SIGTERM
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": config.mlflow_uri,
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(home / "bentoml"),
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "False",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "",
        "TZ": "UTC",  # Feast's SQLite store keeps times in the local zone: writer and reader must share one
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
    }


def parts(config: Settings) -> list[Part]:
    """The processes in the order they are started."""
    binary = Path(sys.executable).parent
    airflow, home = [str(binary / "airflow")], config.home
    return [
        Part(
            "mlflow",
            [str(binary / "mlflow"), "server", "--host", config.host, "--port", str(config.mlflow_port),
             "--workers", "1", "--backend-store-uri", f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
             "--artifacts-destination", str(home / "mlflow" / "artifacts")],
            config.mlflow_port, (f"{config.mlflow_uri}/health",), "mlflow_port",
        ),
        Part(
            "api-server", [*airflow, "api-server"], config.airflow_port,
            (f"{config.airflow_uri}/execution/health", f"{config.airflow_uri}/api/v2/monitor/health"),
            "airflow_port",
        ),
        Part("scheduler", [*airflow, "scheduler", "--skip-serve-logs"]),
        Part("dag-processor", [*airflow, "dag-processor"]),
        Part(
            "serving",
            [str(binary / "bentoml"), "serve", "serving.recommender:Recommender", "--host", config.host,
             "--port", str(config.serving_port)],
            config.serving_port, (f"{config.serving_uri}/livez",), "serving_port",
        ),
    ]  # fmt: skip


POOLS = {"gpu": "One GPU, one tenant at a time", "lake": "One writer to the lake and the features"}
STOP_ORDER = ("serving", "scheduler", "dag-processor", "api-server", "mlflow")


class Stack:
    """Starts, inspects and stops the processes. Safe to call from several shells one after another."""

    def __init__(self, config: Settings, *, only: tuple[str, ...] | None = None) -> None:
        self.config = config
        self.parts = [part for part in parts(config) if only is None or part.name in only]
        self.state_path = config.home / "stack.json"

    # --- state -----------------------------------------------------------------------------------------

    def running(self) -> dict[str, psutil.Process]:
        """Name → process of every part that this state folder started and that still lives."""
        state = json.loads(self.state_path.read_text()) if self.state_path.exists() else {}
        alive = {}
        for name, known in state.items():
            try:
                process = psutil.Process(known["pid"])
                # A pid is used again one day: only the same start time makes it the same process.
                if abs(process.create_time() - known["created"]) < 1 and process.status() != "zombie":
                    alive[name] = process
            except psutil.NoSuchProcess:
                continue
        return alive

    def died(self) -> list[str]:
        """Parts that were started, were not told to stop, and live no more."""
        state = json.loads(self.state_path.read_text()) if self.state_path.exists() else {}
        alive = self.running()
        return [name for name, known in state.items() if name not in alive and not known.get("stopping")]

    def memory_mb(self) -> dict[str, float]:
        """Memory (PSS, MiB) per part with its children: pages that they share count once."""
        usage: dict[str, float] = {}
        for name, leader in self.running().items():
            usage[name] = 0.0
            for process in [leader, *leader.children(recursive=True)]:
                try:
                    usage[name] += process.memory_full_info().pss / 2**20
                except psutil.Error:
                    continue
        return usage

    # --- start -----------------------------------------------------------------------------------------

    def up(self, say: Callable[[str], None]) -> None:
        """Start what is not running, wait until all are healthy, create the pool, unpause the DAGs.

        Raises:
            StackError: a port is taken, or a process died or did not answer (with its last words).
        """
        alive = self.running()
        wanted = [part for part in self.parts if part.name not in alive]
        if not wanted:
            return
        for part in wanted:
            self._check_port(part)
        self._prepare()
        variables = environment(self.config)
        if any(part.name == "api-server" for part in wanted):
            say("preparing Airflow's database")
            self._migrate(variables)
        early = [part for part in wanted if part.name not in ("scheduler", "dag-processor")]
        for part in early:
            self._start(part, variables)
        for part in early:
            if part.name != "serving":
                say(f"waiting for {part.name}")
                self._wait(part)
        # The scheduler's first task meets a warm execution API only if that is up before it.
        for part in (p for p in wanted if p not in early):
            self._start(part, variables)
        for part in (p for p in early if p.name == "serving"):
            say("waiting for the recommender service")
            self._wait(part)

    def _check_port(self, part: Part) -> None:
        if part.port is None:
            return
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.config.host, part.port))
            except OSError:
                raise StackError(
                    f"port {part.port} ({part.name}) is taken by another program; free it or choose one: "
                    f"NIGHTSHIFT_{part.setting.upper()}=… make run"
                ) from None

    def _prepare(self) -> None:
        for folder in ("airflow", "mlflow/artifacts", "bentoml", "logs/airflow"):
            (self.config.home / folder).mkdir(parents=True, exist_ok=True)
        passwords = self.config.home / "airflow" / "passwords.json"
        content = json.dumps({self.config.airflow_user: self.config.secret("airflow_password")})
        with os.fdopen(os.open(passwords, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
            handle.write(content)

    def _migrate(self, variables: dict[str, str]) -> None:
        log = self.config.logs_dir / "airflow-db.log"
        command = [str(Path(sys.executable).parent / "airflow"), "db", "migrate"]
        with log.open("ab") as handle:
            done = subprocess.run(
                command, env=variables, stdout=handle, stderr=handle, cwd=PROJECT, check=False
            )
        if done.returncode != 0:
            raise StackError(f"airflow db migrate failed ({done.returncode}); see {log}: {_tail(log)}")

    def _start(self, part: Part, variables: dict[str, str]) -> None:
        log = self.config.logs_dir / f"{part.name}.log"
        with log.open("ab") as handle:
            process = subprocess.Popen(
                part.command, env=variables, cwd=PROJECT, stdout=handle, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        state = json.loads(self.state_path.read_text()) if self.state_path.exists() else {}
        state[part.name] = {"pid": process.pid, "created": psutil.Process(process.pid).create_time()}
        write_json(self.state_path, state)

    def _wait(self, part: Part) -> None:
        deadline = time.monotonic() + START_SECONDS
        log = self.config.logs_dir / f"{part.name}.log"
        for url in part.health:
            while not answers(url):
                if part.name not in self.running():
                    raise StackError(f"{part.name} died while starting; see {log}: {_tail(log)}")
                if time.monotonic() > deadline:
                    raise StackError(f"{part.name} did not answer at {url} in {START_SECONDS} s; see {log}")
                time.sleep(0.3)

    # --- stop ------------------------------------------------------------------------------------------

    def down(self, say: Callable[[str], None]) -> None:
        """Stop everything that runs, in the order that loses nothing."""
        for name in STOP_ORDER:
            leader = self.running().get(name)
            if leader is not None:
                say(f"stopping {name}")
                state = json.loads(self.state_path.read_text())
                state[name]["stopping"] = True
                write_json(self.state_path, state)
                self._stop(leader, STOP_SECONDS.get(name, DEFAULT_STOP_SECONDS))
        self.state_path.unlink(missing_ok=True)

    def _stop(self, leader: psutil.Process, patience: float) -> None:
        # Children are listed first: once the leader is gone they cannot be found through it.
        family = [leader, *leader.children(recursive=True)]
        leader.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs([leader], timeout=patience)
        _, alive = psutil.wait_procs(family, timeout=2)
        for process in alive:
            process.terminate()
        _, alive = psutil.wait_procs(alive, timeout=5)
        for process in alive:
            process.kill()


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with success."""
    try:
        return httpx.get(url, timeout=10).is_success
    except httpx.HTTPError:
        return False


def _tail(log: Path, lines: int = 4) -> str:
    return (
        " | ".join(log.read_text(errors="replace").strip().splitlines()[-lines:])
        if log.exists()
        else "(empty)"
    )


class Airflow:
    """The few calls of Airflow's REST API (v2) that a night needs."""

    def __init__(self, config: Settings) -> None:
        self.http = httpx.Client(base_url=config.airflow_uri, timeout=30)
        self._login = {"username": config.airflow_user, "password": config.secret("airflow_password")}
        self._token_until = 0.0

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One API call; the decoded answer. Raises StackError with Airflow's own words."""
        if time.monotonic() > self._token_until:
            token = self.http.post("/auth/token", json=self._login)
            if token.status_code != 201:
                raise StackError(
                    f"Airflow refused the login of {self._login['username']}: {token.text[:200]}"
                )
            self.http.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
            self._token_until = time.monotonic() + 600
        answer = self.http.request(method, f"/api/v2{path}", **arguments)
        if not answer.is_success:
            raise StackError(f"Airflow: {method} {path}: {answer.status_code} {answer.text[:400]}")
        return answer.json() if answer.content else None

    def wait_for_dags(self, names: tuple[str, ...], seconds: float = 120) -> None:
        """Wait until the DAG processor has read the DAGs. Raises StackError with the import errors."""
        deadline = time.monotonic() + seconds
        while True:
            known = {dag["dag_id"] for dag in self.call("GET", "/dags", params={"limit": 200})["dags"]}
            if known >= set(names):
                return
            if time.monotonic() > deadline:
                errors = self.call("GET", "/importErrors")["import_errors"]
                said = errors[0]["stack_trace"].strip().splitlines()[-1] if errors else "no import errors"
                raise StackError(f"Airflow did not find the DAGs {set(names) - known}: {said}")
            time.sleep(0.5)

    def prepare(self, names: tuple[str, ...]) -> None:
        """The one-slot pools (without them tasks wait for ever), and the DAGs unpaused."""
        known = {pool["name"] for pool in self.call("GET", "/pools")["pools"]}
        for name, description in POOLS.items():
            if name not in known:
                pool = {"name": name, "slots": 1, "description": description, "include_deferred": False}
                self.call("POST", "/pools", json=pool)
        self.wait_for_dags(names)
        for name in names:
            self.call("PATCH", f"/dags/{name}", json={"is_paused": False})

    def trigger(self, dag: str, conf: dict[str, Any]) -> str:
        """Start a run and return its id."""
        run = self.call("POST", f"/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf})
        return str(run["dag_run_id"])

    def state(self, dag: str, run: str) -> str:
        return str(self.call("GET", f"/dags/{dag}/dagRuns/{run}")["state"])

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """Task instances of a run, in no particular order."""
        found = self.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances", params={"limit": 100})
        return list(found["task_instances"])

    def log(self, dag: str, run: str, task: str, attempt: int, map_index: int) -> str:
        """A task's log as text."""
        answer = self.call(
            "GET",
            f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{attempt}",
            params={"map_index": map_index, "full_content": True},
        )
        content = answer["content"]
        if isinstance(content, str):
            return content
        return "\n".join(
            str(line.get("event", line)) if isinstance(line, dict) else str(line) for line in content
        )
