"""Parts of the stack that need no Airflow: ports, orphans, the environment, the clock."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nightshift.errors import StackError
from nightshift.lake import write_json
from nightshift.parts import Part, environment
from nightshift.settings import Settings
from nightshift.stack import Stack, answers, birth
from tests.conftest import free_port

SLEEPER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
time.sleep(99)
"""


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path / "var")  # type: ignore[call-arg]


@pytest.fixture
def stack(config: Settings) -> Stack:
    """A stack of one part, a process with a child, in the place of MLflow."""
    stack = Stack(config)
    stack.parts = [Part("mlflow", [sys.executable, "-c", SLEEPER], setting="mlflow_port")]
    return stack


def start(stack: Stack) -> tuple[psutil.Process, psutil.Process]:
    assert stack.up(lambda _: None) == ["mlflow"]
    leader = stack.running()["mlflow"]
    deadline = time.monotonic() + 10
    while not (children := leader.children()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return leader, children[0]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_starting_twice_starts_nothing_new_and_stopping_leaves_nothing(stack: Stack) -> None:
    leader, child = start(stack)
    assert stack.up(lambda _: None) == []
    stack.down(lambda _: None)
    assert gone(leader) and gone(child) and stack.running() == {}


def test_what_a_dead_leader_leaves_behind_is_stopped_too(stack: Stack) -> None:
    leader, child = start(stack)
    leader.send_signal(signal.SIGKILL)
    leader.wait(5)
    assert stack.died() == ["mlflow"] and not gone(child)
    stack.down(lambda _: None)
    assert gone(child)


def test_starting_again_clears_away_what_a_dead_leader_left(stack: Stack) -> None:
    leader, child = start(stack)
    leader.send_signal(signal.SIGKILL)
    leader.wait(5)
    assert stack.up(lambda _: None) == ["mlflow"]
    assert gone(child)
    stack.down(lambda _: None)


def test_a_part_that_an_older_version_started_under_another_name_is_stopped_too(
    stack: Stack, config: Settings
) -> None:
    leader, child = start(stack)
    known = json.loads((config.home / "stack.json").read_text())
    write_json(config.home / "stack.json", {"serving": known["mlflow"]})
    stack.down(lambda _: None)
    assert gone(leader) and gone(child)


def test_a_used_pid_of_another_process_is_not_ours(config: Settings) -> None:
    write_json(config.home / "stack.json", {"mlflow": {"pid": os.getpid(), "born": birth(os.getpid()) - 1}})
    assert Stack(config).running() == {}
    Stack(config).down(lambda _: None)  # and this very process lives on


def test_a_taken_port_is_named_with_the_setting_to_change(config: Settings) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        taken = config.model_copy(update={"mlflow_port": busy.getsockname()[1]})
        with pytest.raises(StackError, match=r"taken by another program.*NIGHTSHIFT_MLFLOW_PORT"):
            Stack(taken, only=("mlflow",)).up(lambda _: None)
    elsewhere = config.model_copy(update={"host": "203.0.113.1", "mlflow_port": free_port()})
    with pytest.raises(StackError, match="cannot be had"):
        Stack(elsewhere, only=("mlflow",)).up(lambda _: None)


def test_a_part_that_dies_while_starting_is_told_with_its_last_words(stack: Stack) -> None:
    words = "import sys; sys.exit('no such table: champions')"
    stack.parts = [Part("mlflow", [sys.executable, "-c", words], free_port(), ("http://127.0.0.1:9/health",))]
    with pytest.raises(StackError, match=r"mlflow died while starting.*no such table: champions"):
        stack.up(lambda _: None)


def test_children_see_our_settings_and_none_of_the_surroundings(
    config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_MLFLOW_URL", "http://the.real.one:5000")
    script = "from nightshift.settings import settings; print(settings().mlflow_uri)"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(config), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "http://127.0.0.1:5500"


def test_airflows_secret_reaches_airflow_alone(config: Settings) -> None:
    secret = config.secret("airflow_jwt_secret")
    assert secret not in environment(config).values()
    assert secret in environment(config, airflow=True).values()


def test_a_proxy_does_not_stand_between_us_and_this_machine(
    monkeypatch: pytest.MonkeyPatch, config: Settings
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        import threading

        def reply() -> None:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            connection.close()

        threading.Thread(target=reply, daemon=True).start()
        assert answers(url)
    assert "127.0.0.1" in environment(config)["NO_PROXY"]


def test_what_is_made_is_for_its_owner_alone(stack: Stack, config: Settings) -> None:
    start(stack)
    stack.down(lambda _: None)
    assert config.home.stat().st_mode & 0o077 == 0
