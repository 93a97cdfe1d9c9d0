from __future__ import annotations

import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from nightshift import bootstrap
from nightshift.settings import PROJECT

LISTING = r""":env:.cert='/etc/env.pem'
global.cert='/etc/global.pem'
global.extra-index-url='\nfile:///one\nhttps://two/simple'
global.index-url='https://global/simple'
install.index-url='https://install/simple'
global.timeout='60'
"""
# A machine with no settings of its own: no index, no make above this one.
BARE = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_NO_INDEX": "1",
}


@pytest.fixture
def registry(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that answers everything with the status given as parameter."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/torch/"
        server.shutdown()
        thread.join()


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("no_proxy", "*")


def test_the_environment_beats_the_install_section_and_that_the_global_one() -> None:
    found = bootstrap.pip_settings(LISTING)
    assert found["cert"] == "/etc/env.pem"
    assert found["index-url"] == "https://install/simple"
    assert found["extra-index-url"].split() == ["file:///one", "https://two/simple"]


def test_uv_is_told_what_pip_is_told(tmp_path: Path) -> None:
    settings = {**bootstrap.pip_settings(LISTING), "find-links": "/wheels https://more"}
    told = bootstrap.uv_environment(settings, {"HOME": str(tmp_path)})
    assert told == {
        "HOME": str(tmp_path),
        "UV_DEFAULT_INDEX": "https://install/simple",
        "UV_INDEX": "file:///one https://two/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,https://more",
        "SSL_CERT_FILE": "/etc/env.pem",
    }


def test_what_uv_is_told_already_stays(tmp_path: Path) -> None:
    mine = {"HOME": str(tmp_path), "UV_DEFAULT_INDEX": "https://mine", "UV_INDEX_STRATEGY": "first-index"}
    told = bootstrap.uv_environment(bootstrap.pip_settings(LISTING), mine)
    assert mine.items() <= told.items()


def test_without_settings_of_pip_uv_keeps_its_own(tmp_path: Path) -> None:
    assert bootstrap.uv_environment({}, {"HOME": str(tmp_path)}) == {"HOME": str(tmp_path)}


@pytest.mark.parametrize("environment", [{"HOME": "/dev/null"}, {}, {"XDG_CACHE_HOME": "/dev/null/cache"}])
def test_without_a_writable_home_the_cache_is_beside_the_packages(environment: dict[str, str]) -> None:
    told = bootstrap.uv_environment({}, environment)
    assert told["UV_CACHE_DIR"] == str(bootstrap.VENV / "uv-cache")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("registry", "build"), [(200, ["--torch-backend", "cpu"]), (503, [])], indirect=["registry"]
)
def test_the_default_torch_comes_in_only_if_the_index_of_the_cpu_build_is_away(
    registry: str, build: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "CPU_INDEX", registry)
    assert bootstrap.torch_build({}) == build
    assert ("cannot be reached (HTTP Error 503" in capsys.readouterr().err) == (not build)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_build_of_torch_at_hand_is_taken_as_it_is(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "CPU_INDEX", "http://127.0.0.1:9/")
    (tmp_path / "torch-2.13.0+cpu-cp311.whl").touch()
    assert bootstrap.torch_build({"UV_FIND_LINKS": f"https://elsewhere,{prefix}{tmp_path}"}) == []
    assert capsys.readouterr().err == ""


def test_a_half_made_environment_is_made_again_and_a_failure_is_one_line(tmp_path: Path) -> None:
    half = tmp_path / "half made"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", half], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "nightshift.bootstrap"],
        cwd=PROJECT,
        env={**BARE, "NIGHTSHIFT_VENV": str(half)},
        capture_output=True,
        text=True,
        check=False,
    )
    subprocess.run([half / "bin" / "python", "-m", "pip", "--version"], check=True, capture_output=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Failed (exit 1): ") and "pip install --quiet" in last and "run it again" in last


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (KeyboardInterrupt(), 130, ""),
        (OSError(28, "No space left on device"), None, "No space left on device"),
        (subprocess.CalledProcessError(1, ["x"], b"a\nNo module named ensurepip\n"), None, "python3.11-venv"),
    ],
)
def test_whatever_ends_it_is_told_without_a_traceback(
    raised: BaseException, code: int | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end() -> None:
        raise raised

    monkeypatch.setattr(bootstrap, "bootstrap", end)
    with pytest.raises(SystemExit) as left:
        bootstrap.main()
    assert left.value.code == code or (code is None and says in str(left.value.code))
    assert "\n" not in str(left.value.code)


def make(project: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f"exec make {command} <&-"],
        cwd=project,
        env=BARE,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """This Makefile in a folder with a space in its name, where there is nothing to install."""
    folder = tmp_path / "my project"
    (folder / "nightshift").mkdir(parents=True)
    (folder / "nightshift" / "bootstrap.py").touch()
    (folder / "Makefile").write_text((PROJECT / "Makefile").read_text())
    return folder


def test_make_works_in_a_folder_with_a_space_in_its_name(project: Path) -> None:
    binaries = project / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").write_text('#!/bin/sh\necho "$PATH" "$@"\n')
    (binaries / "python").chmod(0o755)
    done = make(project, f"test PYTHON='{sys.executable}'")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{binaries}:") and done.stdout.rstrip().endswith(
        " -m pytest -n 2 -m not long"
    )


def test_make_stop_installs_nothing(project: Path) -> None:
    done = make(project, "stop PYTHON=no-such-python")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("Nothing runs")


def test_make_says_how_to_name_a_python(project: Path) -> None:
    done = make(project, "run PYTHON=no-such-python")
    assert done.returncode != 0
    first, *rest = done.stderr.splitlines()
    assert "no-such-python" in first and "PYTHON=/path/to/python3.11" in first
    assert all(line.startswith("make") for line in rest)


def test_make_help_tells_every_target(project: Path) -> None:
    (targets,) = [
        line for line in (project / "Makefile").read_text().splitlines() if line.startswith(".PHONY: ")
    ]
    told = [line.split()[0] for line in make(project, "help").stdout.splitlines()]
    assert sorted(told) == sorted(targets.split()[1:])


def test_an_extra_is_installed_once_and_an_unknown_one_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[object, ...]] = []
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    monkeypatch.setattr(bootstrap, "environment_of", lambda python: {})
    monkeypatch.setattr(bootstrap, "run", lambda *command, env: ran.append(command))
    bootstrap.install_extra("spark")
    bootstrap.install_extra("spark")
    (command,) = ran
    assert command[-1] == PROJECT / "requirements-spark.lock" and "--no-deps" in command
    with pytest.raises(SystemExit, match=r"requirements-sprak.lock"):
        bootstrap.install_extra("sprak")


def test_the_locks_share_no_package_and_the_second_one_keeps_to_the_project_file() -> None:
    first, second = (
        dict(line.split("==") for line in (PROJECT / name).read_text().splitlines())
        for name in ("requirements.lock", "requirements-spark.lock")
    )
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (wanted,) = map(Requirement, extras["spark"])
    assert not set(first) & set(second) and second[wanted.name] in wanted.specifier
