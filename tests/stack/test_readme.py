"""Every command in the README and the guides is run, against the real stack that the other tests use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from nightshift.airflow_api import Airflow
from nightshift.parts import service_uri
from nightshift.seats import LANGUAGE
from nightshift.settings import PROJECT, Settings
from tests.stack.conftest import until

pytestmark = pytest.mark.stack

PAGES = (
    "README.md", "docs/for-data-scientists.md", "docs/for-reviewers.md", "docs/for-clients.md", "docs/gate.md",
    "docs/backup.md",
)  # fmt: skip
# Run by other tests: `make run ONCE=1` is test_nights.py's first; `make test` is what runs this; the replay and the
# backtest of the real data take minutes, so a short one of the market in tests/nightshift/test_replay.py (long)
# stands for them, and test_backtest.py beside it; tests/benchmarks/ runs what the benchmark is made of.
ELSEWHERE = {
    "make run",
    "make test",
    "nightshift replay --source online_retail --data DATA --from 2011-11-01 --to 2011-11-10",
    "nightshift backtest --source online_retail --data DATA --from 2011-11-01 --to 2011-11-10",
    "python -m benchmarks.gate_calibration --quick",
    "NIGHTSHIFT_SOURCE=files NIGHTSHIFT_SOURCE_PATH=DATA NIGHTSHIFT_HOME=STATE make run ONCE=1",
    "NIGHTSHIFT_SOURCE=files NIGHTSHIFT_SOURCE_PATH=/data/shop make run",
}
# These move the seat or want a version on hold: what they do is checked in tests/nightshift/test_review.py and in
# test_nights.py; here they must only be understood.
ONLY_HELP = re.compile(r"^nightshift (approve|reject|override|freeze|rollback) ")


def commands() -> list[str]:
    """Every command of every bash block, continued lines joined, comments dropped."""
    found: list[str] = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", (PROJECT / page).read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"\s+# .*$", "", line).strip()
                found += [part.strip() for part in command.split("&&")] if command else []
    return list(dict.fromkeys(" ".join(command.split()) for command in found))


def test_the_pages_have_commands() -> None:
    assert len(commands()) > 15
    assert set(commands()) >= ELSEWHERE, "a command that is tested elsewhere has left the pages"


@pytest.fixture(scope="module")
def environment(small: Settings, stack: Airflow) -> dict[str, str]:
    coach = f"{service_uri(small, LANGUAGE)}/model"
    until(lambda: httpx.get(coach).json()["version"])  # its base takes a while
    return {**os.environ, **small.exportable(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("command", [c for c in commands() if c not in ELSEWHERE])
def test_a_command_of_the_pages_works(command: str, small: Settings, environment: dict[str, str]) -> None:
    if ONLY_HELP.match(command):
        command = " ".join(command.split()[:2]) + " --help"
    # Whole trainings are those of the night in test_nights.py and of each family in tests/training/.
    if command.startswith(("nightshift train ", "nightshift night")) and "--smoke" not in command:
        command += " --smoke"
    if command.startswith("nightshift night "):
        environment = {
            **environment,
            "NIGHTSHIFT_FAMILIES": "ridge",
        }  # here every command of a night counts, once
    ports = {"3000": small.serving_port, "3001": small.forecaster_port, "3002": small.language_port}
    for port, setting in ports.items():
        command = command.replace(f"127.0.0.1:{port}", f"127.0.0.1:{setting}")
    done = subprocess.run(
        ["bash", "-euc", command], env=environment, cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    if command.startswith("curl"):
        events = [
            line.removeprefix("data: ") for line in done.stdout.splitlines() if line.startswith("data: ")
        ]
        for answer in events or [done.stdout]:
            assert "error" not in json.loads(answer), done.stdout
