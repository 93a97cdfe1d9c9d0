"""docker/compose.yaml as containers: its images built, its services started by podman-compose, a night through them.

    python -m tests.production.containers [--build] [--stand-ins] [--wheels FOLDER] [--keep]     one JSON object last

Needs root, Podman (4.3 or newer), runc or crun, aardvark-dns and podman-compose. All is in a project of its own,
`nightshift-trial`, with its own volumes, networks, secrets and ports, which are gone afterwards. --build builds our
five images by their Dockerfiles; --stand-ins makes those of others from standins/Dockerfile, under their names, for a
machine that reaches no registry of images: the base image has to be there as python:3.11.13-slim-bookworm all the same.

podman-compose reads the file and makes containers, networks, volumes, users and limits of it. Two things are done here:
waiting for `depends_on`, which it leaves out with Podman before 4.6, and running the health checks, for which Podman
wants systemd. Not run: Grafana, the card, and with --stand-ins MinIO itself.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightshift.settings import PROJECT
from tests.production import native
from tests.production.compose import Service, env_file, services

NAME = "nightshift-trial"
PROFILES = ("core", "monitoring")
STAND_INS = {
    "postgres": ["docker.io/pgvector/pgvector:0.8.0-pg17"],
    "redis": ["docker.io/library/redis:7.4.2-alpine"],
    "minio": [
        "docker.io/minio/minio:RELEASE.2025-09-07T16-13-09Z",
        "docker.io/minio/mc:RELEASE.2025-08-13T08-35-41Z",
    ],
    "prometheus": ["docker.io/prom/prometheus:v2.55.1"],
}
NOT_RUN = {"grafana"}
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
    started: set[str] = field(default_factory=set)

    def compose(self, *words: str) -> str:
        profiles = [word for profile in PROFILES for word in ("--profile", profile)]
        return run("podman-compose", "-p", NAME, "-f", str(self.folder / "compose.yaml"), *profiles, *words)

    def names(self, service: str) -> list[str]:
        """Its containers."""
        return [f"{NAME}_{service}_{number}" for number in range(1, self.replicas(service) + 1)]

    def replicas(self, service: str) -> int:
        return int(self.services[service].told.get("deploy", {}).get("replicas", 1))

    def up(self) -> float:
        """Start everything in the order of depends_on until it is healthy, or has done what it does; seconds."""
        began, ready = time.monotonic(), set[str]()
        wanted = set(self.services) - NOT_RUN
        while ready < wanted:
            new = [name for name in wanted - self.started if self._may_start(self.services[name], ready)]
            if new:
                say(f"starting {', '.join(sorted(new))}")
                for name in new:  # each by itself: podman-compose knows the last --scale alone
                    scale = ["--scale", f"{name}={self.replicas(name)}"] if self.replicas(name) > 1 else []
                    self.compose("up", "-d", "--no-deps", "--no-build", *scale, name)
                self.started |= set(new)
            ready |= {name for name in self.started - ready if self._ready(self.services[name])}
            late = f"not healthy in time: {sorted(wanted - ready)}"
            assert time.monotonic() < began + START_SECONDS, late
            time.sleep(2)
        return time.monotonic() - began

    def _may_start(self, service: Service, ready: set[str]) -> bool:
        return all(name in ready for name in service.needs if name not in NOT_RUN)

    def _ready(self, service: Service) -> bool:
        states = [inspected(name)["State"] for name in self.names(service.name)]
        if service.once:
            failed = [
                state["ExitCode"] for state in states if state["Status"] == "exited" and state["ExitCode"]
            ]
            assert not failed, f"{service.name} ended with {failed[0]}: {logs(self.names(service.name)[0])}"
            return all(state["Status"] == "exited" for state in states)
        died = [state for state in states if state["Status"] == "exited"]
        assert not died, f"{service.name} died: {logs(self.names(service.name)[0])}"
        return all(healthy(name) for name in self.names(service.name))

    def stop(self) -> None:
        # podman-compose stops, and removes, the first of several alone.
        run("podman", "stop", "--ignore", *self._others())
        self.compose("stop")
        self.started.clear()

    def away(self) -> None:
        run("podman", "rm", "--force", "--ignore", *self._others())
        self.compose("down", "--volumes")

    def _others(self) -> list[str]:
        return [container for name in self.services for container in self.names(name)[1:]]


def run(*words: str, check: bool = True) -> str:
    """What a command prints; AssertionError with what it complains of, unless `check` is false."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout + done.stderr if not check else done.stdout


def inspected(container: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("podman", "inspect", container))[0]
    return found


def healthy(container: str) -> bool:
    words = ["podman", "healthcheck", "run", container]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def logs(container: str) -> str:
    return run("podman", "logs", container, check=False)


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
        run("podman", "build", "--network", "host", "-f", file, "--target", target, *named, str(production))


def build_ours(found: dict[str, Service], wheels: Path | None) -> dict[str, float]:
    """Our images by their Dockerfiles; image → seconds.

    With `wheels`, torch is taken from that folder and not from PyTorch's index: the one word in which what is built
    then differs from the Dockerfile.
    """
    told: dict[str, float] = {}
    for service in found.values():
        image, file = service.told["image"], service.dockerfile
        if file is None or image in told:
            continue
        text, words = (
            file.read_text(),
            [f"{name}={value}" for name, value in service.told["build"].get("args", {}).items()],
        )
        options = [word for argument in words for word in ("--build-arg", argument)]
        if wheels is not None:
            text = text.replace('--torch-backend "$TORCH_BACKEND"', "--find-links /wheels")
            options += ["--volume", f"{wheels}:/wheels:ro"]
        say(f"building {image}")
        began = time.monotonic()
        with tempfile.NamedTemporaryFile("w", suffix=".Dockerfile") as handle:
            handle.write(text)
            handle.flush()
            run(
                "podman", "build", "--network", "host", *options, "-f", handle.name, "-t", image, str(PROJECT)
            )
        told[image] = round(time.monotonic() - began, 1)
    return told


def sizes(found: dict[str, Service]) -> dict[str, int]:
    """MiB of each of our images, the base counted in each."""
    images = sorted({one.told["image"] for one in found.values() if one.dockerfile})
    return {
        image: int(run("podman", "image", "inspect", "--format", "{{.Size}}", image)) // 2**20
        for image in images
    }


# --- what is seen -------------------------------------------------------------------------------------------


def confined(trial: Trial) -> dict[str, dict[str, Any]]:
    """Of each running service, from within: user, capabilities, whether its root can be written; and its limit."""
    script = (
        "id -u; grep CapEff /proc/1/status; touch /written 2>/dev/null && echo writable || echo read-only"
    )
    told = {}
    for name in sorted(trial.started):
        if trial.services[name].once:
            continue
        container = trial.names(name)[0]
        user, capabilities, root = run("podman", "exec", container, "sh", "-c", script).splitlines()
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
    told = {}
    for name in sorted(trial.started):
        for container in trial.names(name):
            read = "cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes || cat /sys/fs/cgroup/memory.peak"
            if inspected(container)["State"]["Status"] == "running":
                said = run(
                    "podman", "exec", container, "sh", "-c", f"({read}) 2>/dev/null", check=False
                ).split()
                told[container.removeprefix(f"{NAME}_")] = int(said[0]) // 2**20 if said else -1
    return told


def reached(trial: Trial) -> dict[str, bool]:
    """Whether a service of the front reaches the stores by name, and a store the world outside its network."""
    script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"

    def reaches(name: str, *words: str) -> bool:
        container = trial.names(name)[0]
        done = subprocess.run(["podman", "exec", container, *words], capture_output=True, check=False)
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
            told["build_s"] = build_ours(trial.services, given.wheels)
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
