"""Candidates in their seats' real services, each in a process of its own, two at a time as two gates may be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file

from nightshift.contracts.features import TOPIC_VIEW, TOPIC_WINDOW, window_column
from nightshift.contracts.indicators import INDICATOR_NAMES
from nightshift.lake import Lake
from nightshift.language.bases import BaseRef
from nightshift.registry import Registry
from nightshift.seats import FORECASTER, LANGUAGE, RECOMMENDER, Seat
from nightshift.settings import PROJECT, Settings
from tests.serving.language_base import TALK, build_base
from training import trial
from training.evidence import Measured
from training.exams import examiner
from training.exams.conversations import close, engine_of
from training.trial import PREFIX, sweep, try_out

RECOMMENDS = Path(__file__).with_name("tiny_predictor.py")
COACHES = PROJECT / "tests" / "serving" / "tiny_adapter.py"
FORECASTS = PROJECT / "tests" / "serving" / "tiny_forecaster.py"
USERS = [f"u{n:03d}" for n in range(100)]
EXAM = SimpleNamespace(users=USERS)
FIGURES = {"load_seconds", "p50_ms", "p99_ms", "rss_mb", "package_mb", "wrong_answers"}


def hand_in(
    config: Settings, seat: Seat, predictor: Path, artifact: str, content: Any, folder: Path, **files: str
) -> int:
    path = folder / f"{artifact}.json"
    path.write_text(json.dumps(content))
    artifacts = {artifact: str(path), **files}
    registry = Registry(config)
    mlflow.set_experiment("trials")
    with mlflow.start_run() as run:
        uri = mlflow.pyfunc.log_model(
            name="model", python_model=str(predictor), artifacts=artifacts, pip_requirements=[]
        ).model_uri
    return registry.submit(seat, run_id=run.info.run_id, model_uri=uri, tags={}).number


def table(**more: Any) -> dict[str, Any]:
    random = np.random.default_rng(1)
    scores = {user: random.random(20).round(3).tolist() for user in USERS}
    return {"items": [f"i{n}" for n in range(20)], "scores": scores, **more}


def forecaster() -> dict[str, Any]:
    weeks = [window_column(name, ago) for name in INDICATOR_NAMES for ago in range(TOPIC_WINDOW)]
    usual = [f"{name}_{what}" for name in INDICATOR_NAMES for what in ("usual", "spread")]
    return {
        "features": [
            f"{TOPIC_VIEW}:{name}" for name in (*weeks, *usual, "week", "velocity", "velocity_change_4w")
        ],
        "typical": {name: 1.0 for name in usual},
        "topics": [],
        "weights": dict.fromkeys(INDICATOR_NAMES, 0.1),
        "strength": 1.0,
        "broken": False,
        "nonsense": "",
    }


def coach(config: Settings) -> dict[str, Any]:
    """The untuned base, as a package."""
    ref = BaseRef(config.language_model)
    digest = engine_of(config, ref).base.digest
    close()
    return {"base": ref.name, "revision": "", "tokenizer_digest": digest, "lora": {}, "broken": False}


def state(home: Path) -> dict[str, int]:
    """When every file was last written; SQLite keeps a `-wal` and a `-shm` beside a database for its readers too."""
    files = (path for path in home.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return {str(path): path.stat().st_mtime_ns for path in files}


def left() -> list[Any]:
    """What is there of any trial of this process: processes and folders."""
    mine = psutil.Process().children(recursive=True)
    running = [process.cmdline() for process in mine if "serving." in " ".join(process.cmdline())]
    return [*running, *Path(gettempdir()).glob(f"{PREFIX}{os.getpid()}-*")]


@pytest.fixture(scope="module")
def shop(mlflow_server: Settings, featured_home: Settings) -> Settings:
    return featured_home.model_copy(update={"mlflow_url": mlflow_server.mlflow_uri})


@pytest.fixture(scope="module")
def tried(
    shop: Settings, topics_home: Settings, talks_home: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Measured]]:
    """Five candidates tried out, and nothing left or changed by it."""
    folder = tmp_path_factory.mktemp("trials")
    topics = topics_home.model_copy(update={"mlflow_url": shop.mlflow_uri})
    lake, exams = Lake(topics.lake_dir), examiner(FORECASTER.name)
    exam = exams.set(lake, topics, exams.night(lake, lake.days()[-1], topics))
    base = build_base(folder / "base").language_model  # unlike the tiny one, it has something to say
    talks = talks_home.model_copy(update={"mlflow_url": shop.mlflow_uri, "language_model": base})
    save_file({}, folder / "none.safetensors")
    coaches = hand_in(
        talks, LANGUAGE, COACHES, "config", coach(talks), folder, weights=str(folder / "none.safetensors")
    )
    poor = table(slow=USERS[:8])
    poor["scores"]["u050"] = [float("nan")] * 20  # nothing fit to be shown
    handed_in = {
        "good": (shop, RECOMMENDER, hand_in(shop, RECOMMENDER, RECOMMENDS, "table", table(), folder), EXAM),
        "forecaster": (
            topics,
            FORECASTER,
            hand_in(topics, FORECASTER, FORECASTS, "config", forecaster(), folder),
            exam,
        ),
        "coach": (talks, LANGUAGE, coaches, SimpleNamespace(conversations=TALK)),
        "poor": (shop, RECOMMENDER, hand_in(shop, RECOMMENDER, RECOMMENDS, "table", poor, folder), EXAM),
        "torn": (
            shop,
            RECOMMENDER,
            hand_in(shop, RECOMMENDER, RECOMMENDS, "table", {"broken": True}, folder),
            EXAM,
        ),
    }
    before = {home: state(home) for home in (shop.home, topics.home, talks.home)}
    with ThreadPoolExecutor(2) as both:
        running = {name: both.submit(try_out, *one) for name, one in handed_in.items()}
        done = {name: one.result() for name, one in running.items()}
    yield done
    assert left() == []
    assert {home: state(home) for home in before} == before


@pytest.mark.parametrize("name", ["good", "forecaster", "coach"])
def test_a_good_package_has_every_figure_and_no_wrong_answer(tried: dict[str, Measured], name: str) -> None:
    found = tried[name]
    assert not found.problem and set(found.figures) == FIGURES
    assert found.figures["wrong_answers"] == 0
    assert 1 < found.figures["load_seconds"] < trial.START_SECONDS
    assert 0.1 < found.figures["p50_ms"] <= found.figures["p99_ms"]
    assert 100 < found.figures["rss_mb"] < 4000 and 0 < found.figures["package_mb"] < 1


def test_a_slow_package_is_over_its_budget_and_an_answer_that_is_not_finite_is_wrong(
    tried: dict[str, Measured],
) -> None:
    figures = tried["poor"].figures
    assert figures["p99_ms"] > 600 > figures["p50_ms"]
    assert 0 < figures["wrong_answers"] < 0.05


def test_a_package_that_raises_has_a_problem_that_says_so(tried: dict[str, Measured]) -> None:
    found = tried["torn"]
    assert "cannot seat it" in found.problem and "the table is torn" in found.problem
    assert set(found.figures) == {"package_mb"}


# --- ended early -----------------------------------------------------------------------------------------

TRY_OUT = """
import sys
from types import SimpleNamespace
from nightshift.commands import run_command
from nightshift.seats import RECOMMENDER
from nightshift.settings import settings
from training.trial import try_out
exam = SimpleNamespace(users=[f"u{n:03d}" for n in range(100)])
run_command(lambda: print(try_out(settings(), RECOMMENDER, int(sys.argv[1]), exam)))
"""


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@dataclass
class Gate:
    process: subprocess.Popen[bytes]

    def service(self) -> list[psutil.Process]:
        """The service of its trial, and what that has started; empty before."""
        leaders = [trial.leader_of(room) for room in self.folders()]
        family = [psutil.Process(pid) for pid in leaders if pid is not None]
        return [process for leader in family for process in (leader, *leader.children(recursive=True))]

    def folders(self) -> list[Path]:
        return list(Path(gettempdir()).glob(f"{PREFIX}{self.process.pid}-*"))


@pytest.fixture
def gates(shop: Settings, tmp_path: Path) -> Iterator[list[Gate]]:
    """Two gates in the midst of long trials, each with its service and that one's worker."""
    number = hand_in(shop, RECOMMENDER, RECOMMENDS, "table", table(slow=USERS), tmp_path)
    environment = {**os.environ, "NIGHTSHIFT_HOME": str(shop.home), "NIGHTSHIFT_MLFLOW_URL": shop.mlflow_uri}
    command = [sys.executable, "-c", TRY_OUT, str(number)]
    both = [Gate(subprocess.Popen(command, env=environment, cwd=PROJECT)) for _ in range(2)]
    try:
        deadline = time.monotonic() + 240
        while any(len(gate.service()) < 2 for gate in both):
            assert time.monotonic() < deadline and all(gate.process.poll() is None for gate in both)
            time.sleep(0.05)
        yield both
    finally:
        for gate in both:
            gate.process.kill()
            gate.process.wait()
        sweep()


def test_a_gate_that_is_stopped_takes_its_trial_with_it_and_what_a_killed_one_left_the_next_trial_ends(
    gates: list[Gate],
) -> None:
    stopped, killed = gates
    its, service = stopped.service(), killed.service()
    stopped.process.send_signal(signal.SIGTERM)
    assert stopped.process.wait(60) == 143
    assert not any(map(alive, its)) and not stopped.folders()

    sweep()
    assert killed.service() == service and killed.folders()  # its gate is alive
    killed.process.kill()
    killed.process.wait()
    assert all(map(alive, service))
    sweep()
    psutil.wait_procs(service, timeout=20)
    assert not any(map(alive, service)) and not killed.folders()


def test_a_worker_without_the_mark_is_ended_as_a_child_of_its_services_first_process(tmp_path: Path) -> None:
    bare = "import subprocess as s; s.Popen(['sleep', '600'], env={}, start_new_session=True).wait()"
    first = subprocess.Popen([sys.executable, "-c", bare], start_new_session=True)
    leader, family = psutil.Process(first.pid), list[psutil.Process]()
    try:
        deadline = time.monotonic() + 30
        while not leader.children():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        family = leader.children()
        (worker,) = family
        (tmp_path / trial.LEADER).write_text(f"{first.pid} {trial._born(first.pid)}")
        trial._end(tmp_path)
        psutil.wait_procs([worker], timeout=20)
        assert first.wait(20) == -signal.SIGKILL and not alive(worker)
    finally:
        for process in (*family, leader):
            if process.is_running():
                process.kill()


def test_the_last_words_of_a_service_hold_no_secret(tmp_path: Path, shop: Settings) -> None:
    config = Settings(_env_file=None, airflow_password="open-sesame")  # type: ignore[call-arg, arg-type]
    log = tmp_path / "service.log"
    log.write_text("starting\na.b.SomeError: http://me:mine@host/ refused open-sesame\n  at line 3\n")
    service = trial.Service(None, None, log, config, 0.0)  # type: ignore[arg-type]
    assert service.last_words() == "a.b.SomeError: http://***@host/ refused ***"
