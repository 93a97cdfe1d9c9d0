"""docker/compose.yaml as containers: its images built, its services started by Docker Compose, a night through them.

    python -m tests.production.containers [--build] [--stand-ins] [--wheels FOLDER] [--keep]     one JSON object last

Needs a Docker engine (20.10 or newer) and the plugin Compose 2. All is in a project of its own, `nightshift-trial`,
with its own volumes, networks, secrets and ports, which are gone afterwards. --build builds our five images by their
Dockerfiles; --stand-ins makes those of others from standins/Dockerfile, under their names, for a machine that reaches
no registry of images: the base image has to be there as python:3.11.13-slim-bookworm all the same.

Not run: Grafana, the card, and with --stand-ins MinIO itself.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from nightshift.settings import PROJECT
from tests.production import native
from tests.production.compose import Service, env_file, services

NAME = "nightshift-trial"
PROFILES = ("core", "monitoring")
STAND_INS = {
    "postgres": ["pgvector/pgvector:0.8.0-pg17"],
    "redis": ["redis:7.4.2-alpine"],
    "minio": [
        "minio/minio:RELEASE.2025-09-07T16-13-09Z",
        "minio/mc:RELEASE.2025-08-13T08-35-41Z",
    ],
    "prometheus": ["prom/prometheus:v2.55.1"],
}
NOT_RUN = {"grafana"}
TORCH = '--torch-backend "$TORCH_BACKEND"'  # in a Dockerfile: where torch comes from
OVERRIDE = "compose.override.json"
PORTS = {
    "AIRFLOW_PORT": 18080,
    "MLFLOW_PORT": 15500,
    "SERVING_PORT": 13000,
    "FORECASTER_PORT": 13001,
    "LANGUAGE_PORT": 13002,
    "PROMETHEUS_PORT": 19090,
    "GRAFANA_PORT": 13300,
}
START_SECONDS = 1_200


@dataclass
class Trial:
    """All services, as containers of the project NAME. `folder` holds a copy of docker/ with secrets of its own."""

    folder: Path
    services: dict[str, Service]

    def compose(self, *words: str) -> str:
        profiles = [word for profile in PROFILES for word in ("--profile", profile)]
        files = [word for file in self._files() for word in ("-f", str(file))]
        return run("docker", "compose", "-p", NAME, *files, *profiles, *words)

    def _files(self) -> list[Path]:
        return [path for name in ("compose.yaml", OVERRIDE) if (path := self.folder / name).exists()]

    def names(self, service: str) -> list[str]:
        """Its containers."""
        replicas = int(self.services[service].told.get("deploy", {}).get("replicas", 1))
        return [f"{NAME}-{service}-{number}" for number in range(1, replicas + 1)]

    @property
    def lasting(self) -> list[str]:
        """The services that stay up."""
        return sorted(name for name, one in self.services.items() if not one.once and name not in NOT_RUN)

    def up(self) -> float:
        """Start everything until it is healthy, or has done what it does; seconds."""
        began = time.monotonic()
        wanted = [name for name in self.services if name not in NOT_RUN]
        self.compose("up", "-d", "--no-build", *wanted)  # waits for what depends_on says, in its order
        while late := [name for name in self.lasting if not all(map(healthy, self.names(name)))]:
            assert time.monotonic() < began + START_SECONDS, f"not healthy in time: {late}"
            time.sleep(2)
        return time.monotonic() - began

    def stop(self) -> None:
        self.compose("stop")

    def away(self) -> None:
        self.compose("down", "--volumes")


def run(*words: str, check: bool = True) -> str:
    """What a command prints; AssertionError with what it complains of, unless `check` is false."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout + done.stderr if not check else done.stdout


def there(*words: str) -> bool:
    """Whether there is such a program, and the command ends well."""
    found = shutil.which(words[0]) is not None
    return found and not subprocess.run(words, capture_output=True, check=False).returncode


def inspected(container: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("docker", "inspect", container))[0]
    return found


def healthy(container: str) -> bool:
    """By its health check, or, without one, running. AssertionError with what it said if it died.

    A check that Docker has not made yet is made here: its first one comes after an interval, of a worker five minutes.
    """
    told = inspected(container)
    state = told["State"]
    if state["Status"] in ("exited", "restarting"):
        raise AssertionError(f"{container} died: {run('docker', 'logs', container, check=False)[-4000:]}")
    if state.get("Health", {}).get("Status") != "starting":
        return str(state.get("Health", {}).get("Status", state["Status"])) in ("healthy", "running")
    _, *words = told["Config"]["Healthcheck"]["Test"]
    return not subprocess.run(
        ["docker", "exec", container, *words], capture_output=True, check=False
    ).returncode


def say(line: str) -> None:
    print(f"[{time.strftime('%X')}] {line}", file=sys.stderr, flush=True)


# --- images -------------------------------------------------------------------------------------------------


def build_stand_ins() -> None:
    """Images under the names of other people's, from standins/Dockerfile."""
    production = PROJECT / "tests" / "production"
    for target, tags in STAND_INS.items():
        say(f"building what stands in for {target}")
        named = [word for tag in tags for word in ("-t", tag)]
        file = str(production / "standins" / "Dockerfile")
        run("docker", "build", "-f", file, "--target", target, *named, str(production))


def build_ours(trial: Trial, wheels: Path | None) -> float:
    """Our images by their Dockerfiles; seconds.

    With `wheels`, torch is taken from that folder and not from PyTorch's index: the one word in which what is built
    then differs from the Dockerfile.
    """
    began = time.monotonic()
    with serving_folder(wheels) if wheels is not None else nullcontext() as url:
        builds = {
            name: build_of(one, url, trial.folder) for name, one in trial.services.items() if one.dockerfile
        }
        told = {"services": {name: {"build": build} for name, build in builds.items()}}
        (trial.folder / OVERRIDE).write_text(json.dumps(told))
        trial.compose("build")
    return round(time.monotonic() - began, 1)


def build_of(service: Service, wheels: str | None, folder: Path) -> dict[str, str]:
    """What compose is told of a build: the project's root, which the copy in `folder` is not in, and where torch is."""
    assert service.dockerfile is not None
    text = service.dockerfile.read_text()
    if wheels is None or TORCH not in text:
        return {"context": str(PROJECT)}
    file = folder / f"{service.dockerfile.parent.name}.Dockerfile"
    file.write_text(text.replace(TORCH, f"--find-links {wheels}"))
    return {"context": str(PROJECT), "dockerfile": str(file), "network": "host"}


@contextmanager
def serving_folder(folder: Path) -> Iterator[str]:
    """Files by HTTP on loopback; the URL."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def sizes(found: dict[str, Service]) -> dict[str, int]:
    """MiB of each of our images, the base counted in each."""
    images = sorted({one.told["image"] for one in found.values() if one.dockerfile})
    size = ["docker", "image", "inspect", "--format", "{{.Size}}"]
    return {image: int(run(*size, image)) // 2**20 for image in images}


# --- what is seen -------------------------------------------------------------------------------------------


def confined(trial: Trial) -> dict[str, dict[str, Any]]:
    """Of each running service, from within: user, capabilities, whether its root can be written; and its limit."""
    script = (
        "id -u; grep CapEff /proc/1/status; touch /written 2>/dev/null && echo writable || echo read-only"
    )
    told = {}
    for name in trial.lasting:
        container = trial.names(name)[0]
        user, capabilities, root = run("docker", "exec", container, "sh", "-c", script).splitlines()
        limit = inspected(container)["HostConfig"]["Memory"]
        told[name] = {
            "uid": int(user),
            "capabilities": capabilities.split()[-1],
            "root": root,
            "mib": limit // 2**20,
        }
    return told


def peaks(trial: Trial) -> dict[str, int]:
    """MiB at most that each container held so far, page cache included, as its cgroup counts (version 1 or 2)."""
    read = "cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes || cat /sys/fs/cgroup/memory.peak"
    told = {}
    for name in trial.lasting:
        for container in trial.names(name):
            said = run("docker", "exec", container, "sh", "-c", f"({read}) 2>/dev/null", check=False).split()
            told[container.removeprefix(f"{NAME}-")] = int(said[0]) // 2**20 if said else -1
    return told


def reached(trial: Trial) -> dict[str, bool]:
    """Whether a service of the front reaches the stores by name, and a store the world outside its network."""
    script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"

    def reaches(name: str, *words: str) -> bool:
        container = trial.names(name)[0]
        done = subprocess.run(["docker", "exec", container, *words], capture_output=True, check=False)
        return done.returncode == 0

    gateway = run("ip", "-4", "-o", "addr", "show", "scope", "global").split()[3].partition("/")[0]
    return {
        "recommender to postgres": reaches("recommender", "python", "-c", script, "postgres", "5432"),
        "recommender to redis": reaches("recommender", "python", "-c", script, "redis", "6379"),
        "exporter to prometheus": reaches("exporter", "python", "-c", script, "prometheus", "9090"),
        "minio to prometheus": reaches("minio", "python", "-c", script, "prometheus", "9090"),
        "minio to the machine": reaches("minio", "python", "-c", script, gateway, str(PORTS["AIRFLOW_PORT"])),
    }


def trial_of(folder: Path) -> Trial:
    """A copy of docker/ with secrets and ports of its own, and a market that a night takes minutes for."""
    shutil.copytree(PROJECT / "docker", folder, dirs_exist_ok=True)
    for name in (".env", "settings.env"):
        (folder / name).unlink(missing_ok=True)
    run(str(PROJECT / "docker" / "make-env"), str(folder / ".env"), check=False)
    with (folder / ".env").open("a") as handle:
        handle.writelines(f"{name}={value}\n" for name, value in PORTS.items())
    with (folder / "settings.env").open("a") as handle:
        handle.writelines(f"{name}={value}\n" for name, value in native.SMALL.items())
    return Trial(folder, services(env_file(folder / ".env"), set(PROFILES)))


def tried(trial: Trial) -> dict[str, Any]:
    told: dict[str, Any] = {"healthy_after_s": round(trial.up(), 1)}
    say("everything is healthy; a night")
    here = {name: f"http://127.0.0.1:{port}" for name, port in PORTS.items()}
    password = env_file(trial.folder / ".env")["AIRFLOW_PASSWORD"]
    began = time.monotonic()
    told["night"] = native.night(trial.folder, here["AIRFLOW_PORT"], password)
    told["night_s"] = round(time.monotonic() - began, 1)
    say("the champions answer")
    told["answers"] = native.answers(here["SERVING_PORT"], here["FORECASTER_PORT"], here["LANGUAGE_PORT"])
    told["confined"], told["reached"], told["peak_mib"] = confined(trial), reached(trial), peaks(trial)
    say("everything is stopped and started again")
    trial.stop()
    told["healthy_again_after_s"] = round(trial.up(), 1)
    told["answers_again"] = native.answers(
        here["SERVING_PORT"], here["FORECASTER_PORT"], here["LANGUAGE_PORT"]
    )
    return told


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.production.containers",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--build", action="store_true", help="build our images first")
    parser.add_argument(
        "--stand-ins", action="store_true", help="build what stands in for other people's images first"
    )
    parser.add_argument(
        "--wheels", type=Path, help="folder with torch's CPU build, in place of PyTorch's index"
    )
    parser.add_argument("--keep", action="store_true", help="leave the containers running, and their volumes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nightshift-containers-") as name:
        trial = trial_of(Path(name))
        told: dict[str, Any] = {}
        if given.stand_ins:
            build_stand_ins()
        if given.build:
            told["build_s"] = build_ours(trial, given.wheels)
        told["image_mib"] = sizes(trial.services)
        try:
            told |= tried(trial)
        finally:
            if not given.keep:
                trial.away()
    print(json.dumps(told, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
