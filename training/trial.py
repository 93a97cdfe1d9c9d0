"""Tries a candidate out as it would serve: its seat's real service, alone, with the production settings.

The service is started by the very command and environment of `nightshift.stack`, on a free port of this machine,
pinned to the candidate. What it could share with the service in production it has for itself: the event log that it
writes to, the coach's profiles, and BentoML's folder, whose metrics a second service would wipe out as it starts.
Lake, features and registry are production's, and a service only reads them.

Whatever ends the trial, the service ends with it: a return, an error, SIGTERM. After a SIGKILL the next trial does.
Not covered: many clients at once (one asks here, one thing after another), and a machine busy with other things.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import httpx
import numpy as np
import psutil
from pydantic import SecretStr

from nightshift.errors import PackageError
from nightshift.packages import package_size
from nightshift.parts import Part, environment, seat_service
from nightshift.registry import Registry
from nightshift.seats import FORECASTER, LANGUAGE, Seat
from nightshift.settings import PROJECT, Settings
from nightshift.stack import START_SECONDS, birth
from training.evidence import Measured
from training.questions import TRENDS, Question, questions, unasked

HOST = "127.0.0.1"
WARM_UP = 0.1  # of the questions, asked before the measured ones
ANSWER_SECONDS = {LANGUAGE.name: 120.0}  # at most for an answer; other seats: USUAL_SECONDS
USUAL_SECONDS = 30.0
STOP_SECONDS = 10.0  # the service drains for less; it has no clients left
# The service takes a store that answers late for away, for five seconds: a busy night is no fault of the model.
AGAIN_SECONDS, AGAIN_TIMES = 6.0, 3
MARK, PREFIX, LEADER = "NIGHTSHIFT_TRIAL", "nightshift-trial-", "leader"
MIB = 2**20


class TrialError(Exception):
    """The service did not come to answer; the text says why."""


def try_out(config: Settings, seat: Seat, number: int, exam: Any) -> Measured:
    """A version's figures in its real service: load_seconds, p50_ms, p99_ms, rss_mb, package_mb, wrong_answers.

    exam: whose users (topics) are asked about; what is asked and what is right is in `training.questions`.
    A version that cannot be had, or whose service does not come to answer, has a problem instead.

    Raises:
        RegistryError: MLflow cannot be reached, or there is no such version: that says nothing about the model.
    """
    sweep()
    registry = Registry(config)
    asked = questions(seat.name, exam, number)
    if not asked:
        return Measured(problem="the exam has nobody to ask about")
    with TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-{_born(os.getpid())}-") as folder:
        try:
            package = registry.package(seat, number, _made(Path(folder) / "package"))
        except PackageError as error:
            return Measured(problem=str(error))
        figures = {"package_mb": package_size(package) / MIB}
        try:
            with _service(production(config, seat, number, Path(folder)), seat, Path(folder)) as service:
                service.seated(number)
                return Measured({**figures, **_asked(service, seat, number, asked)})
        except TrialError as error:
            registry.get(seat, number)  # MLflow away? Then it was not the version's fault.
            return Measured(figures, problem=str(error))


def production(config: Settings, seat: Seat, number: int, folder: Path) -> Settings:
    """The production settings, pinned to a version, on a port of its own, with an event log of its own."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    changed = {
        "host": HOST,
        seat.port: port,
        "pinned_version": number,
        "mlflow_url": config.mlflow_uri,  # by default it goes by the host
        "eventlog_url": SecretStr(f"sqlite:///{folder / 'eventlog.db'}"),
        "profiles_url": SecretStr(f"sqlite:///{folder / 'profiles.db'}"),
        "language_lease": "never",  # the gate holds the card, and its trial is part of it
    }
    return config.model_copy(update=changed)


def sweep() -> None:
    """End the services of trials whose gate was killed outright, and remove what they left on disk."""
    for room in Path(gettempdir()).glob(f"{PREFIX}*"):
        if not _owned(room):
            _end(room)
            shutil.rmtree(room, ignore_errors=True)


def _owned(room: Path) -> bool:
    """Whether the process that a trial's folder is named after is alive."""
    pid, _, born = room.name.removeprefix(PREFIX).rpartition("-")[0].partition("-")
    return pid.isdecimal() and _born(int(pid)) == born


def _born(pid: int) -> str:
    """When a process was born; a pid is used again one day. Empty if there is none."""
    try:
        return f"{birth(pid):.0f}"
    except psutil.NoSuchProcess:
        return ""


# --- the service -----------------------------------------------------------------------------------------


@dataclass
class Service:
    """A service in a process of its own. `began`: monotonic seconds. `again`: how often it may still be asked twice."""

    process: subprocess.Popen[bytes]
    client: httpx.Client
    log: Path
    config: Settings
    began: float
    again: int = field(default=AGAIN_TIMES)

    def seated(self, number: int) -> None:
        """Wait until it says that the version is seated. Raises TrialError if it cannot be, or takes too long."""
        for body in self._until("serve"):
            if body.get("version") == str(number):
                return
            if body.get("refused"):
                raise TrialError(f"its service cannot seat it: {self.last_words()}")

    def ranked(self) -> httpx.Response:
        """The first ranking of topics, which is made after the version is seated."""
        for _ in self._until("rank its topics"):
            response = self.client.get(TRENDS.path)
            if response.status_code != 503:
                return response
        raise AssertionError("it waits or raises")

    def ask(self, question: Question) -> tuple[httpx.Response | None, float]:
        """The answer, None if there was none, and the seconds it took."""
        while True:
            began = time.monotonic()
            try:
                if question.body is None:
                    response = self.client.get(question.path)
                else:
                    response = self.client.post(question.path, json=question.body)
            except httpx.HTTPError:
                return None, time.monotonic() - began
            if response.status_code != 503 or unasked(question, response) or self.again == 0:
                return response, time.monotonic() - began
            self.again -= 1
            time.sleep(AGAIN_SECONDS)

    def memory(self) -> float:
        """Resident bytes of it and its children; pages that they share count for each."""
        leader = psutil.Process(self.process.pid)
        total = 0
        for process in [leader, *leader.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return float(total)

    def last_words(self) -> str:
        """The last error in its log, else its last line; without secrets."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
        words = (errors or lines or ["it said nothing"])[-1].strip()
        for name in type(self.config).model_fields:
            value = getattr(self.config, name)
            if isinstance(value, SecretStr) and value.get_secret_value():
                words = words.replace(value.get_secret_value(), "***")
        words = re.sub(r"(?<=://)[^\s/]*@", "***@", words)
        return words if len(words) <= 400 else words[:399] + "…"

    def _until(self, what: str) -> Iterator[dict[str, Any]]:
        """What it says of itself, again and again. Raises TrialError once it died, or START_SECONDS are over."""
        while time.monotonic() - self.began < START_SECONDS:
            if self.process.poll() is not None:
                raise TrialError(f"its service died before it could {what}: {self.last_words()}")
            with contextlib.suppress(httpx.HTTPError, ValueError):
                yield dict(self.client.get("/model").json())
            time.sleep(0.1)
        raise TrialError(f"its service did not {what} within {START_SECONDS} s: {self.last_words()}")


@contextlib.contextmanager
def _service(config: Settings, seat: Seat, folder: Path) -> Iterator[Service]:
    """The seat's service while it is needed; nothing of it is left behind."""
    part = seat_service(config, seat)  # and no other part: their secrets would be made in a home without any
    variables = {
        **environment(config),
        MARK: str(folder),
        "BENTOML_HOME": str(_made(folder / "bentoml")),
        "TMPDIR": str(_made(folder / "tmp")),
    }
    process, log, began = None, folder / "service.log", time.monotonic()
    try:
        process = _start(part, variables, log)
        (folder / LEADER).write_text(f"{process.pid} {_born(process.pid)}")
        patience = ANSWER_SECONDS.get(seat.name, USUAL_SECONDS)
        with httpx.Client(base_url=f"http://{HOST}:{part.port}", timeout=patience, trust_env=False) as client:
            yield Service(process, client, log, config, began)
    finally:
        _stop(process, folder)


def _start(part: Part, variables: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as handle:
        return subprocess.Popen(
            part.command, env=variables, cwd=PROJECT, stdout=handle, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def _stop(process: subprocess.Popen[bytes] | None, room: Path) -> None:
    if process is not None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    _end(room)
    if process is not None:
        process.kill()
        process.wait()


def _end(room: Path) -> None:
    """SIGKILL for whatever there still is of a trial's service.

    Its first process is known by its pid: it gives itself another title and loses its environment, the mark with it.
    Its workers are known as its children, for they may lose theirs too, and once it is gone by their mark: each has a
    session of its own. Killed last, it would start them anew.
    """
    leader = leader_of(room)
    ours: list[psutil.Process] = []
    if leader is not None:
        with contextlib.suppress(psutil.Error):
            ours += psutil.Process(leader).children(recursive=True)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == leader or process.environ().get(MARK) == str(room):
                ours.append(process)
    for process in sorted(ours, key=lambda one: one.pid != leader):
        with contextlib.suppress(psutil.Error):
            process.kill()


def leader_of(room: Path) -> int | None:
    """The pid of the first process of a trial's service; None if there is none, or it is another's by now."""
    try:
        pid, born = (room / LEADER).read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if _born(int(pid)) == born else None


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


# --- the questions ---------------------------------------------------------------------------------------


def _asked(service: Service, seat: Seat, number: int, asked: list[Question]) -> dict[str, float]:
    """Figures of the answers: the first ones warm it up, and the first right one says how long it took to load."""
    figures: dict[str, float] = {}
    for question in asked[: round(WARM_UP * len(asked))]:
        right, _ = _answer(service, question, number)
        if right:
            figures.setdefault("load_seconds", time.monotonic() - service.began)
    rights, seconds = [], []
    if seat.name == FORECASTER.name:
        rights.append(TRENDS.right(service.ranked(), number))
    for question in asked:
        right, took = _answer(service, question, number)
        if right is not None:
            rights.append(right)
            seconds.append(took)
    if not seconds:
        return figures
    p50, p99 = (float(each) * 1000 for each in np.percentile(seconds, [50, 99]))
    wrong = rights.count(False) / len(rights)
    return {**figures, "p50_ms": p50, "p99_ms": p99, "rss_mb": service.memory() / MIB, "wrong_answers": wrong}


def _answer(service: Service, question: Question, number: int) -> tuple[bool | None, float]:
    """Whether the answer was right, None if the service had nothing to ask any model with, and its seconds."""
    response, seconds = service.ask(question)
    if response is None:
        return False, seconds
    if unasked(question, response):
        return _answer(service, question.instead, number) if question.instead else (None, seconds)
    return question.right(response, number), seconds
