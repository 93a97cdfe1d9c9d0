"""The embedded stack: MLflow, Airflow (three processes) and a service per seat, on this machine.

Every process gets its own process group, a log under `home/logs/` and a line in `home/stack.json`. They are
started in the order they need one another and stopped in the order that loses nothing: serving first (it
drains), then the scheduler (it waits for running tasks to report), the DAG processor, the API server, and
MLflow last, so that a task that is still ending can log. Not `airflow standalone`: its SIGTERM orphans
its children.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from nightshift import upgrade
from nightshift.errors import StackError
from nightshift.lake import write_json
from nightshift.seats import SEATS, Seat
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


def environment(config: Settings, *, airflow: bool = False) -> dict[str, str]:
    """What a process of ours runs under: every setting, and those of the tools; Airflow's only where it is meant.

    NIGHTSHIFT_* of the surroundings do not get through: `config` is the whole truth.
    """
    surroundings = {k: v for k, v in os.environ.items() if not k.startswith("NIGHTSHIFT_")}
    local = [surroundings.get("NO_PROXY") or surroundings.get("no_proxy"), "127.0.0.1,localhost", config.host]
    no_proxy = ",".join(part for part in local if part)
    return {
        **surroundings,
        **config.exportable(),
        **(airflow_environment(config) if airflow else {}),
        "NIGHTSHIFT_STACK": str(config.home),  # by this mark a process is found when its leader has died
        "NIGHTSHIFT_PYTHON": sys.executable,
        "NO_PROXY": no_proxy,  # all that we call is on this machine, proxy or not
        "no_proxy": no_proxy,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight idle processes that survive SIGTERM
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": config.mlflow_uri,
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "False",
        "OMP_NUM_THREADS": surroundings.get("OMP_NUM_THREADS", "1"),
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "",
        "TZ": "UTC",  # Feast's SQLite store keeps times in the local zone: writer and reader must share one
        "PATH": f"{Path(sys.executable).parent}:{surroundings.get('PATH', '')}",
    }


def airflow_environment(config: Settings) -> dict[str, str]:
    """The settings under which Airflow runs here; measured where a comment says so."""
    home = config.home
    values = {
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
        # With 0.1 s it takes 12 % of a core all day, for nothing; with this a night's chain of tasks waits 2 s longer.
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.5,
        # The first call to a cold execution API takes 6–7 s, over the default of 5.
        "WORKERS__EXECUTION_API_TIMEOUT": 60,
        "WORKERS__MIN_HEARTBEAT_INTERVAL": 1,
        "WORKERS__MAX_FAILED_HEARTBEATS": 20,
    }
    return {
        **{f"AIRFLOW__{name}": str(value) for name, value in values.items()},
        "AIRFLOW_HOME": str(home / "airflow"),
        # Only slots after this moment run by themselves; unpausing would else start the last one at once.
        "NIGHTSHIFT_SCHEDULE_FROM": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
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
        *(
            Part(
                seat.name,
                [str(binary / "bentoml"), "serve", seat.service, "--host", config.host,
                 "--port", str(getattr(config, seat.port))],
                getattr(config, seat.port), (f"{service_uri(config, seat)}/livez",), seat.port,
            )
            for seat in SEATS.values()
        ),
    ]  # fmt: skip


def service_uri(config: Settings, seat: Seat) -> str:
    """Where the seat's service answers."""
    return f"http://{config.host}:{getattr(config, seat.port)}"


SERVICES = tuple(SEATS)  # a part's name is its seat's
STOP_ORDER = (*SERVICES, "scheduler", "dag-processor", "api-server", "mlflow")


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
                # A pid is used again one day: only the same birth makes it the same process.
                if birth(known["pid"]) == known["born"] and process.status() != psutil.STATUS_ZOMBIE:
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

    def up(self, say: Callable[[str], None]) -> list[str]:
        """Start what is not running and wait until all are healthy. Returns the parts it started.

        Raises:
            StackError: a port is taken, or a process died or did not answer (with its last words).
            UpgradeError, BackupError: the state is of a newer version, or could not be backed up and brought up to it.
        """
        alive = self.running()
        wanted = [part for part in self.parts if part.name not in alive]
        if not wanted:
            return []
        self._sweep([part.name for part in wanted])  # what a dead leader left behind would hold its port
        for part in wanted:
            self._check_port(part)
        for line in upgrade.prepare(self.config, say, backup=True):
            say(line)
        self._prepare()
        if any(part.name == "api-server" for part in wanted):
            say("preparing Airflow's database")
            self._migrate()
        early = [part for part in wanted if part.name not in ("scheduler", "dag-processor")]
        for part in early:
            self._start(part)
        for part in early:
            if part.name not in SERVICES:
                say(f"waiting for {part.name}")
                self._wait(part)
        # The scheduler's first task meets a warm execution API only if that is up before it.
        for part in (p for p in wanted if p not in early):
            self._start(part)
        for part in (p for p in early if p.name in SERVICES):
            say(f"waiting for the {part.name} service")
            self._wait(part)
        return [part.name for part in wanted]

    def _check_port(self, part: Part) -> None:
        if part.port is None:
            return
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.config.host, part.port))
            except OSError as error:
                taken = error.errno == errno.EADDRINUSE
                why = "is taken by another program" if taken else f"cannot be had ({error.strerror})"
                raise StackError(
                    f"port {part.port} of {self.config.host} ({part.name}) {why}; free it or choose one: "
                    f"NIGHTSHIFT_{part.setting.upper()}=… make run"
                ) from None

    def _prepare(self) -> None:
        self.config.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in ("airflow", "mlflow/artifacts", "bentoml", "logs/airflow"):
            (self.config.home / folder).mkdir(parents=True, exist_ok=True)
        passwords = self.config.home / "airflow" / "passwords.json"
        content = json.dumps({self.config.airflow_user: self.config.secret("airflow_password")})
        with os.fdopen(os.open(passwords, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
            handle.write(content)

    def _migrate(self) -> None:
        log = self.config.logs_dir / "airflow-db.log"
        command = [str(Path(sys.executable).parent / "airflow"), "db", "migrate"]
        with log.open("ab") as handle:
            done = subprocess.run(
                command,
                env=environment(self.config, airflow=True),
                stdout=handle,
                stderr=handle,
                cwd=PROJECT,
                check=False,
            )
        if done.returncode != 0:
            raise StackError(f"airflow db migrate failed ({done.returncode}); see {log}: {_tail(log)}")

    def _start(self, part: Part) -> None:
        ours = part.command[0].endswith("airflow")
        variables = {
            **environment(self.config, airflow=ours),
            "NIGHTSHIFT_PART": part.name,
            # A service that starts empties the folder of metrics in it: two must not share one.
            "BENTOML_HOME": str(self.config.home / "bentoml" / part.name),
        }
        log = self.config.logs_dir / f"{part.name}.log"
        with log.open("ab") as handle:
            process = subprocess.Popen(
                part.command, env=variables, cwd=PROJECT, stdout=handle, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        state = json.loads(self.state_path.read_text()) if self.state_path.exists() else {}
        state[part.name] = {"pid": process.pid, "born": birth(process.pid)}
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
        """Stop everything that runs, in the order that loses nothing, and what dead leaders left behind."""
        known = json.loads(self.state_path.read_text()) if self.state_path.exists() else {}
        former = [name for name in known if name not in STOP_ORDER]  # an older version's names
        for name in (*former, *STOP_ORDER):
            leader = self.running().get(name)
            if leader is not None:
                say(f"stopping {name}")
                state = json.loads(self.state_path.read_text())
                state[name]["stopping"] = True
                write_json(self.state_path, state)
                self._stop(leader, STOP_SECONDS.get(name, DEFAULT_STOP_SECONDS))
            self._sweep([name])
        self.state_path.unlink(missing_ok=True)

    def _stop(self, leader: psutil.Process, patience: float) -> None:
        family = set(leader.children(recursive=True))
        leader.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + patience
        while leader.is_running() and leader.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            # Looked at again and again: a task may begin while the scheduler drains.
            family |= set(leader.children(recursive=True))
            psutil.wait_procs([leader], timeout=0.5)
        _end([leader, *family])

    def _sweep(self, names: list[str]) -> None:
        """End what belongs to these parts and has lost its leader: by its session, or by the mark it carries."""
        state = json.loads(self.state_path.read_text()) if self.state_path.exists() else {}
        alive = self.running()
        sessions = {state[name]["pid"] for name in names if name in state and name not in alive}
        sessions -= {
            pid for pid in sessions if psutil.pid_exists(pid)
        }  # a pid that is somebody else's by now
        strays = []
        for process in psutil.process_iter():
            try:
                marks = process.environ()
                marked = marks.get("NIGHTSHIFT_STACK") == str(self.config.home)
                mine = marked and marks.get("NIGHTSHIFT_PART") in names
                if (mine or os.getsid(process.pid) in sessions) and marks.get("NIGHTSHIFT_PART") not in alive:
                    strays.append(process)
            except (psutil.Error, OSError):
                continue
        _end(strays)


def _end(processes: Sequence[psutil.Process]) -> None:
    """SIGTERM, and SIGKILL for what is still there after some seconds."""
    _, alive = psutil.wait_procs(processes, timeout=2)
    for send, patience in (("terminate", 5), ("kill", 5)):
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                getattr(process, send)()
        _, alive = psutil.wait_procs(alive, timeout=patience)


def birth(pid: int) -> float:
    """When a process was born, by a clock that nobody sets: ticks since boot where the system tells them."""
    try:
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except FileNotFoundError:
        return psutil.Process(pid).create_time()


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with success."""
    try:
        return httpx.get(url, timeout=10, trust_env=False).is_success  # no proxy to this very machine
    except httpx.HTTPError:
        return False


def _tail(log: Path, lines: int = 4) -> str:
    return (
        " | ".join(log.read_text(errors="replace").strip().splitlines()[-lines:])
        if log.exists()
        else "(empty)"
    )
