"""The stack: MLflow, Airflow (three processes; with Celery also workers and a triggerer) and a service per seat.

Every process gets its own process group, a log under `home/logs/` and a line in `home/stack.json`. They are
started in the order they need one another and stopped in the order that loses nothing: serving first (it
drains), then the scheduler (it waits for running tasks to report, or hands out no more), Celery's workers (they
finish what they have), the triggerer, the DAG processor, the API server, and MLflow last, so that a task that is
still ending can log. Not `airflow standalone`: its SIGTERM orphans its children.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import httpx
import psutil

from nightshift import upgrade
from nightshift.errors import StackError
from nightshift.lake import write_json
from nightshift.parts import Part, check_stores, last_words, migrate, part_environment, parts, prepare
from nightshift.seats import SEATS
from nightshift.settings import PROJECT, Settings

START_SECONDS = 180  # measured 12–40 s on two busy cores; a cold disk takes longer
DRAIN_SECONDS = 120  # of whoever has tasks: a running training is given time to end
DEFAULT_STOP_SECONDS = 20


SERVICES = tuple(SEATS)  # a part's name is its seat's
TAKE_TASKS = ("scheduler", "dag-processor", "triggerer", "worker")  # started when the execution API is warm
_PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody


def stop_order(names: Iterable[str]) -> list[str]:
    """Names of parts in the order in which they are stopped; those that nobody knows (an older version's) first."""
    order = (*SERVICES, "scheduler", "worker", "triggerer", "dag-processor", "api-server", "mlflow")
    return sorted(names, key=lambda name: (order.index(kind(name)) if kind(name) in order else -1, name))


def kind(name: str) -> str:
    """`worker` of `worker-2`; else the name."""
    return "worker" if name.startswith("worker-") else name


class Stack:
    """Starts, inspects and stops the processes. Safe to call from several shells one after another."""

    def __init__(self, config: Settings, *, only: tuple[str, ...] | None = None) -> None:
        self.config = config
        self.parts = [part for part in parts(config) if only is None or part.name in only]
        self.state_path = config.home / "stack.json"

    # --- state -----------------------------------------------------------------------------------------

    def running(self) -> dict[str, psutil.Process]:
        """Name → process of every part that this state folder started and that still lives."""
        return running(self.config.home)

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
        check_stores(self.config)
        for line in upgrade.prepare(self.config, say, backup=True):
            say(line)
        prepare(self.config)
        if any(part.name == "api-server" for part in wanted):
            say("preparing Airflow's database")
            migrate(self.config)
        early = [part for part in wanted if kind(part.name) not in TAKE_TASKS]
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
        alive = self.running()
        for part in wanted:  # those that listen to nobody can only be seen to live
            if part.name not in alive:
                raise StackError(self._died_starting(part.name))
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

    def _start(self, part: Part) -> None:
        log = self.config.logs_dir / f"{part.name}.log"
        with log.open("ab") as handle:
            process = subprocess.Popen(
                part.command, env=part_environment(self.config, part), cwd=PROJECT, stdout=handle,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
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
                    raise StackError(self._died_starting(part.name))
                if time.monotonic() > deadline:
                    raise StackError(f"{part.name} did not answer at {url} in {START_SECONDS} s; see {log}")
                time.sleep(0.3)

    def _died_starting(self, name: str) -> str:
        log = self.config.logs_dir / f"{name}.log"
        return f"{name} died while starting; see {log}: {last_words(log)}"

    # --- stop ------------------------------------------------------------------------------------------

    def down(self, say: Callable[[str], None]) -> None:
        """Stop everything that runs, in the order that loses nothing, and what dead leaders left behind."""
        known = json.loads(self.state_path.read_text()) if self.state_path.exists() else {}
        for name in stop_order({*known, *(part.name for part in self.parts)}):
            leader = self.running().get(name)
            if leader is not None:
                say(f"stopping {name}")
                state = json.loads(self.state_path.read_text())
                state[name]["stopping"] = True
                write_json(self.state_path, state)
                drains = kind(name) in ("scheduler", "worker")
                self._stop(leader, DRAIN_SECONDS if drains else DEFAULT_STOP_SECONDS)
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


def running(home: Path) -> dict[str, psutil.Process]:
    """Name → process of every part that this state folder started and that still lives."""
    path = home / "stack.json"
    state = json.loads(path.read_text()) if path.exists() else {}
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


def birth(pid: int) -> float:
    """When a process was born, by a clock that nobody sets: ticks since boot where the system tells them."""
    try:
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except FileNotFoundError:
        return psutil.Process(pid).create_time()


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with success."""
    try:
        # No proxy to this very machine, and no TLS, for which each look would read all authorities anew.
        return httpx.get(url, timeout=10, trust_env=False, verify=_PLAIN).is_success
    except httpx.HTTPError:
        return False
