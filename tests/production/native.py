"""docker/compose.yaml without Docker: its services as processes, and a night through them.

    python -m tests.production.native [--keep FOLDER]      prints what it saw, one JSON object last

Every service of the profiles `core` and `monitoring` runs with its very command, environment, user, volumes, tmpfs and
read-only root, on its own port and under its own name, in the order of `depends_on`, once its health checks pass: in
namespaces of its own (container.py), with the rooms and the packages that its image has (roles.py). All of them share
one loopback network that nobody outside reaches, and end with this process.

What stands in: PostgreSQL from a wheel and Redis from this machine for their images, and their entrypoint by
postgres.sh; Debian's Prometheus, where it is installed; `localbucket`, which checks no keys, for MinIO and its
one-shots. What is not run: Grafana, the card, images and their base, limits of memory and processes. The market is made
small by settings.env, as an operator would. containers.py runs the same as containers, where there is Docker.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import httpx

from nightshift.airflow_api import Airflow
from nightshift.settings import PROJECT, Settings
from tests.production import roles
from tests.production.compose import Service, env_file, services
from tests.production.services import binaries

INSIDE = "NIGHTSHIFT_NATIVE"  # set in the namespaces, where this program calls itself
NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
OWN = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child")
PROFILES = {"core", "monitoring"}
NOT_RUN = {"grafana", "own", "bucket"} | (set() if shutil.which("prometheus") else {"prometheus"})
NOBODY = 65534
# Where the links of the images' environments lead, and the interpreter itself, which may be anybody's.
PYTHON = [(path, path, False) for path in (sys.prefix, sys.base_prefix)]
USERS = {"postgres": NOBODY, "redis": NOBODY, "nobody": NOBODY}
STAND_IN_CHECKS = {"minio": ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9000"]}  # MinIO's own needs its client
START_SECONDS, NIGHT_SECONDS, STOP_SECONDS = 900, 1500, 60
SMALL = {
    "NIGHTSHIFT_MARKET_USERS": "600",
    "NIGHTSHIFT_MARKET_ITEMS": "200",
    "NIGHTSHIFT_MARKET_TOPICS": "60",
    "NIGHTSHIFT_MARKET_CONVERSATIONS": "20",
    "NIGHTSHIFT_HISTORY_DAYS": "14",
    "NIGHTSHIFT_EXAM_USERS": "400",  # else a week of these two is the exam, and too little is left to learn from
    "NIGHTSHIFT_SCHEDULE": "0 0 1 1 *",
    "NIGHTSHIFT_WATCH_SCHEDULE": "0 0 1 1 *",
}
FAMILIES = ["dae", "ridge"]  # which beat their baselines on so small a market


@dataclass
class Running:
    """A service that was started. `done`: its exit status, of one that ends by itself."""

    service: Service
    process: subprocess.Popen[bytes]
    log: Path
    spec: dict[str, Any]
    healthy: bool = False
    done: int | None = None
    ask_at: float = 0  # when its health is to be asked next


@dataclass
class Box:
    """All services, in one folder."""

    folder: Path
    variables: dict[str, str]
    say: Callable[[str], None]
    running: dict[str, Running] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.services = services(self.variables, PROFILES)
        for name, one in list(self.services.items()):
            for number in range(2, one.told.get("deploy", {}).get("replicas", 1) + 1):
                self.services[f"{name}-{number}"] = Service(f"{name}-{number}", one.told)
        self.hosts = self.folder / "hosts"
        self.hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *self.services)))
        self.users = self.folder / "passwd"  # with the user that our images make
        ours = "nightshift:x:10001:10001::/tmp:/bin/sh\n"
        self.users.write_text(Path("/etc/passwd").read_text() + ours)
        self.settings = env_file(self.folder / "settings.env")

    # --- start ----------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Start everything in the order of depends_on and wait until it is healthy, or has done what it does."""
        waiting = {name: one for name, one in self.services.items() if name not in NOT_RUN}
        deadline = time.monotonic() + START_SECONDS
        while waiting or not all(one.healthy or one.service.once for one in self.running.values()):
            for name in [name for name, one in waiting.items() if self._may_start(one)]:
                self.say(f"starting {name}")
                self.running[name] = self._start(waiting.pop(name))
            for one in self.running.values():
                self._look(one)
            if time.monotonic() > deadline:
                late = [*waiting, *(name for name, one in self.running.items() if not one.healthy)]
                raise AssertionError(
                    f"not healthy in time: {late}; {self._words(self.running.get(late[-1]))}"
                )
            time.sleep(1)

    def _may_start(self, service: Service) -> bool:
        for name, condition in service.needs.items():
            if name in NOT_RUN:
                continue
            one = self.running.get(name)
            if one is None or not (one.healthy if condition == "service_healthy" else one.done == 0):
                return False
        return True

    def _look(self, one: Running) -> None:
        status = one.process.poll()
        if one.service.once:
            one.done, one.healthy = status, status == 0
            assert status in (None, 0), f"{one.service.name} ended with {status}: {self._words(one)}"
            return
        assert status is None, f"{one.service.name} died ({status}): {self._words(one)}"
        if not one.healthy and time.monotonic() >= one.ask_at:
            check = STAND_IN_CHECKS.get(one.service.name, one.service.check)
            began = time.monotonic()
            one.healthy = check is None or self.inside(one, check, seconds=60).returncode == 0
            one.ask_at = time.monotonic() + 3 * (time.monotonic() - began)

    def inside(self, one: Running, words: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
        """A command in a container like this service's, as `docker exec` would run it in that very one."""
        spec = self._write({**one.spec, "command": words}, f"{one.service.name}-exec")
        command = [*OWN, sys.executable, str(PROJECT / "tests" / "production" / "container.py"), str(spec)]
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)

    def _start(self, service: Service) -> Running:
        spec, log = self._spec(service), self.folder / "logs" / f"{service.name}.log"
        command = [*OWN, sys.executable, str(PROJECT / "tests" / "production" / "container.py")]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, str(self._write(spec, service.name))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        # What is to be asked in minutes asks by a program that takes as long to start as the service does.
        seldom = str(service.told.get("healthcheck", {}).get("interval", "")).endswith("m")
        return Running(service, process, log, spec, ask_at=time.monotonic() + 15 * seldom)

    def _write(self, spec: dict[str, Any], name: str) -> Path:
        path = self.folder / "specs" / f"{name}.json"
        path.write_text(json.dumps(spec))
        return path

    def _spec(self, service: Service) -> dict[str, Any]:
        spec = self._ours(service) if service.dockerfile else self._others(service)
        tmpfs = [place.partition(":")[::2] for place in service.told.get("tmpfs", [])]
        return {
            **spec,
            "root": "/tmp/nightshift-root",
            "hostname": service.name,
            "hosts": str(self.hosts),
            "binds": [*spec["binds"], *self._volumes(service, spec["uid"])],
            "tmpfs": tmpfs,
            "read_only": service.told.get("read_only", False),
        }

    def _ours(self, service: Service) -> dict[str, Any]:
        """A service whose image is ours: what its Dockerfile puts there."""
        assert service.dockerfile is not None
        image = roles.image(service.dockerfile)
        prefix = self.folder / "roles" / "-".join(image.extras)
        if not prefix.exists():
            roles.lay_out(image.extras, prefix)
        binds: list[tuple[str, str, bool]] = [
            *((str(PROJECT / source), target, False) for source, target in image.copies),
            (str(prefix), roles.PREFIX, False),
            (str(self.users), "/etc/passwd", False),
            *PYTHON,
        ]
        path = f"{roles.PREFIX}/bin:/usr/local/bin:/usr/bin:/bin"
        arguments = service.told["build"].get("args", {})
        built = {
            name: Template(value).safe_substitute(arguments) for name, value in image.environment.items()
        }
        environment = {**built, "PATH": path, **self.settings, **service.environment}
        return {
            "uid": image.user,
            "workdir": image.workdir,
            "binds": binds,
            "environment": environment,
            "command": service.command,
        }

    def _others(self, service: Service) -> dict[str, Any]:
        """A service of somebody else's image, by what stands in for it here."""
        name, command = service.name, service.command
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", **service.environment}
        binds: list[tuple[str, str, bool]] = []
        if name == "postgres":
            programs = binaries()
            script = PROJECT / "tests" / "production" / "postgres.sh"
            binds = [*PYTHON, (str(script), "/start.sh", False)]
            environment["PATH"] = f"{programs}:{environment['PATH']}"
            command = ["sh", "/start.sh", *command]
        elif name == "prometheus":
            command = ["prometheus", *command]
        elif name == "minio":
            bucket = self.folder / "volumes" / "minio" / "nightshift"
            bucket.mkdir(parents=True, exist_ok=True)
            binds = [*PYTHON]
            command = [f"{sys.prefix}/bin/localbucket", "/data", "--host", "0.0.0.0", "--port", "9000"]
        user = str(service.told.get("user", "nobody")).partition(":")[0]
        uid = USERS.get(user) or int(user)
        workdir = {"redis": "/data"}.get(name, "/")  # as its image has it
        return {
            "uid": uid,
            "workdir": workdir,
            "binds": binds,
            "environment": environment,
            "command": command,
        }

    def _volumes(self, service: Service, uid: int) -> list[tuple[str, str, bool]]:
        found = []
        for volume in service.told.get("volumes", []):
            source, target, *options = volume.split(":")
            if source.startswith("."):
                path = (PROJECT / "docker" / source).resolve()
                if not path.exists():  # Docker makes a folder that is mounted and not there
                    path = self.folder / "volumes" / path.name
                    path.mkdir(exist_ok=True)
            else:
                path = self.folder / "volumes" / source
                path.mkdir(exist_ok=True)
                for place in (path, *path.iterdir()):
                    if place.stat().st_uid == 0:  # new: Docker gives it to whom the image's folder belongs
                        os.chown(place, uid, uid)
            found.append((str(path), target, "ro" not in options))
        return found

    def _words(self, one: Running | None) -> str:
        return one.log.read_text(errors="replace")[-3000:] if one is not None else ""

    # --- stop -----------------------------------------------------------------------------------------------

    def down(self) -> dict[str, int]:
        """Stop everything, the last started first; exit status by service, less than 0 if it had to be killed."""
        return {name: self._end(one) for name, one in reversed(self.running.items())}

    def again(self, name: str) -> None:
        """Stop a service, and start it on what it left."""
        self._end(self.running[name])
        self.running[name] = one = self._start(self.services[name])
        until(lambda: self._look(one) or one.healthy, 180)

    def _end(self, one: Running) -> int:
        if one.process.poll() is None:
            for child in children(one.process.pid):
                os.kill(child, signal.SIGTERM)  # to process 1 of the container, not to `unshare`
        try:
            return one.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            one.process.kill()
            return one.process.wait()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# --- what is done with it ----------------------------------------------------------------------------------


def night(home: Path, url: str, password: str) -> dict[str, Any]:
    """A night through Airflow's API at `url`, as a person would start one; task → state."""
    login = {"airflow_url": url, "airflow_password": password}
    airflow = Airflow(Settings(_env_file=None, home=home, **login))  # type: ignore[call-arg, arg-type]
    run = airflow.trigger("nightly", {"families": FAMILIES})
    deadline = time.monotonic() + NIGHT_SECONDS
    while (state := airflow.state("nightly", run)) not in ("success", "failed"):
        assert time.monotonic() < deadline, f"the night did not end: {states(airflow, run)}"
        time.sleep(2)
    if state == "failed":
        failed = next(task for task in airflow.tasks("nightly", run) if task["state"] == "failed")
        said = airflow.log("nightly", run, failed["task_id"], failed["try_number"], failed["map_index"])
        raise AssertionError(f"{failed['task_id']} failed: {said[-4000:]}")
    return states(airflow, run)


def states(airflow: Airflow, run: str) -> dict[str, Any]:
    return {task["task_id"]: task["state"] for task in airflow.tasks("nightly", run)}


def gates(box: Box) -> dict[str, dict[str, Any]]:
    """What each seat's gate decided and why, as the bucket has it."""
    nights = box.folder / "volumes" / "minio" / "nightshift" / "store" / "nights"
    told = {
        path.stem.removeprefix("gate-"): json.loads(path.read_text()) for path in nights.rglob("gate-*.json")
    }
    return {seat: {"decision": gate["decision"], "reason": gate.get("reason")} for seat, gate in told.items()}


def answers(recommender: str, forecaster: str, language: str) -> dict[str, Any]:
    """What clients of the services at these URLs are told once the champions are seated."""
    told: dict[str, Any] = {}
    with httpx.Client(timeout=30, trust_env=False) as client:
        for seat, url in (("recommender", recommender), ("forecaster", forecaster)):
            until(lambda url=url: client.get(f"{url}/model").json().get("version"), 240)  # type: ignore[misc]
            told[seat] = client.get(f"{url}/model").json()
        asked = {"user_id": "u000001", "k": 5}
        told["recommendation"] = client.post(f"{recommender}/recommend", json=asked).json()
        trends = until(lambda: client.get(f"{forecaster}/trends", params={"k": 3}).json().get("trends"), 60)
        told["trends"] = trends
        event = {
            "event_id": "native-1",
            "user_id": "u000001",
            "item_id": told["recommendation"]["items"][0]["item_id"],
            "kind": "click",
        }
        told["feedback"] = client.post(f"{recommender}/feedback", json={"events": [event]}).json()
        told["coach"] = client.post(
            f"{language}/chat",
            json={"user_id": "u1", "messages": [{"role": "user", "content": "hi"}], "stream": False},
        ).status_code
    return told


def watched() -> dict[str, Any]:
    """What Prometheus knows: which targets are up, and what every query of the dashboard and every alert gives."""
    board = json.loads((PROJECT / "docker" / "grafana" / "dashboards" / "nightshift.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    with httpx.Client(base_url="http://prometheus:9090/api/v1", timeout=30, trust_env=False) as client:

        def ask(query: str) -> list[Any]:
            answer = client.get("/query", params={"query": query}).json()
            assert answer["status"] == "success", (query, answer)
            return list(answer["data"]["result"])

        until(lambda: len(ask("up == 1")) == len(ask("up")) == 5, 120)
        until(lambda: ask("rate(nightshift_recommendations_total[5m])"), 60)
        # The exporter asks each half minute, and may have asked while MLflow was started again.
        until(lambda: ask("nightshift_night_failed") and ask("sum(nightshift_unanswered) == 0"), 120)
        rules = client.get("/rules").json()["data"]["groups"]
        return {
            "up": sorted(found["metric"]["instance"] for found in ask("up == 1")),
            "panels": {query: len(ask(query)) for query in queries},
            "rules": {rule["name"]: rule["health"] for group in rules for rule in group["rules"]},
        }


def kept(box: Box) -> dict[str, Any]:
    """Where state went: objects in the bucket, keys in Redis, and files in the services' own homes."""
    bucket = box.folder / "volumes" / "minio" / "nightshift"
    objects = [str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file()]
    keys = box.inside(box.running["redis"], ["redis-cli", "-n", "1", "dbsize"], 60)
    return {
        "store": sum(name.startswith("store/") for name in objects),
        "artifacts": sum(name.startswith("mlflow/") for name in objects),
        "online": int(keys.stdout.split()[-1]),
        "home": sorted(path.name for path in (box.folder / "volumes" / "home").iterdir()),
    }


def leaks(box: Box) -> list[str]:
    """Names of secrets that stand in the command of some process, or in what a service said."""
    texts = [
        Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
        for pid in os.listdir("/proc")
        if pid.isdigit()
    ]
    texts += [one.log.read_text(errors="replace") for one in box.running.values()]
    texts += [path.read_text(errors="replace") for path in (box.folder / "volumes" / "logs").rglob("*.log")]
    secrets = {name: value for name, value in env_file(box.folder / ".env").items() if name != "COMMIT"}
    return [name for name, value in secrets.items() if any(value in text for text in texts)]


def until(what: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.5)
    return answer


# --- the namespaces -----------------------------------------------------------------------------------------


def network() -> None:
    """Bring up this namespace's loopback (ioctl SIOCSIFFLAGS, IFF_UP | IFF_RUNNING)."""
    with socket.socket() as probe:
        fcntl.ioctl(probe, 0x8914, struct.pack("16sh14s", b"lo", 0x41, b""))


def run(folder: Path) -> dict[str, Any]:
    def say(line: str) -> None:
        print(f"[{time.strftime('%X')}] {line}", file=sys.stderr, flush=True)

    for name in ("volumes", "logs", "specs", "roles"):
        (folder / name).mkdir()
    subprocess.run([PROJECT / "docker" / "make-env", folder / ".env"], check=True)
    with (folder / "settings.env").open("a") as handle:
        handle.writelines(f"{name}={value}\n" for name, value in SMALL.items())
    box = Box(folder, env_file(folder / ".env"), say)
    subprocess.run(["mount", "--bind", box.hosts, "/etc/hosts"], check=True)
    told: dict[str, Any] = {}
    try:
        box.up()
        say("everything is healthy; a night")
        told["night"] = night(folder, "http://api-server:8080", box.variables["AIRFLOW_PASSWORD"])
        told["gates"] = gates(box)
        undecided = {seat: gate for seat, gate in told["gates"].items() if gate["decision"] != "promote"}
        assert not undecided, f"nobody is seated to answer: {undecided}"
        say("the champions answer")
        told["answers"] = answers("http://recommender:3000", "http://forecaster:3001", "http://language:3002")
        say("MLflow is started on a database that is there")
        box.again("mlflow")
        told["watched"] = watched() if "prometheus" in box.running else None
        told["kept"] = kept(box)
        told["leaks"] = leaks(box)
        say("stopping")
    except BaseException:
        for name in ("recommender", "forecaster"):
            say(f"{name} said: {box._words(box.running.get(name))}")
        raise
    finally:
        told["ended"] = box.down()
    return told


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.production.native", description=__doc__)
    parser.add_argument(
        "--keep", type=Path, help="where logs and volumes stay; default: they are thrown away"
    )
    given = parser.parse_args()
    if os.environ.get(INSIDE) is None:
        command = [*NAMESPACES, sys.executable, "-m", "tests.production.native", *sys.argv[1:]]
        return subprocess.run(command, env={**os.environ, INSIDE: "1"}, cwd=PROJECT, check=False).returncode
    network()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="nightshift-native-"))
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # the services' users go through it
    try:
        print(json.dumps(run(folder), ensure_ascii=False))
    finally:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
