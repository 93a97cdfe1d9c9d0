"""docker/: the file is sound by every tool that can be had, and its services run a night as processes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nightshift.parts import SINGLE
from nightshift.settings import PROJECT, Settings
from tests.production import compose, native
from tests.production.containers import there
from tests.production.services import missing

DOCKER = PROJECT / "docker"
PAGE = (PROJECT / "docs" / "running" / "compose.md").read_text()
ALL = {"core", "gpu", "monitoring"}


def tool(name: str, package: str) -> str:
    """The path of a program of the machine's; a skip that says how to get it, where it is not."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"no {name} on this machine: apt-get install {package}")
    return found


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A .env made by docker/make-env."""
    subprocess.run([DOCKER / "make-env", tmp_path / ".env"], check=True, capture_output=True)
    return tmp_path / ".env"


@pytest.fixture
def services(secrets: Path) -> dict[str, compose.Service]:
    return compose.services(compose.env_file(secrets), ALL)


# --- secrets ------------------------------------------------------------------------------------------------


def test_make_env_gives_a_secret_of_its_own_to_everything_that_asks_for_one(secrets: Path) -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", compose.FILE.read_text()))
    made = compose.env_file(secrets)
    commit = made.pop("COMMIT")  # no secret: of what code the images are
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?", commit)
    assert asked == set(made) and len(set(made.values())) == len(made)
    assert all(len(value) == 48 for value in made.values())
    for path in (secrets, secrets.with_name("settings.env")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_make_env_again_adds_what_is_missing_and_changes_nothing(secrets: Path) -> None:
    before = compose.env_file(secrets)
    lines = [line for line in secrets.read_text().splitlines() if not line.startswith("REDIS_PASSWORD=")]
    secrets.write_text("\n".join([*lines, "MLFLOW_PORT=5600"]))  # and no end of the last line
    secrets.with_name("settings.env").write_text("NIGHTSHIFT_CLOCK=wall\n")
    subprocess.run([DOCKER / "make-env", secrets], check=True, capture_output=True)
    after = compose.env_file(secrets)
    assert after.pop("REDIS_PASSWORD") != before.pop("REDIS_PASSWORD")
    assert after == {**before, "MLFLOW_PORT": "5600"}
    assert secrets.with_name("settings.env").read_text() == "NIGHTSHIFT_CLOCK=wall\n"


def test_without_its_secrets_the_file_is_refused_with_what_to_do() -> None:
    with pytest.raises(KeyError, match="run docker/make-env"):
        compose.services({}, {"core"})


# --- what the file says -------------------------------------------------------------------------------------


def test_every_service_is_confined(services: dict[str, compose.Service]) -> None:
    for name, service in services.items():
        told = service.told
        assert told["cap_drop"] == ["ALL"] and told["security_opt"] == ["no-new-privileges:true"], name
        assert told["read_only"] is True and told["mem_limit"] and told["pids_limit"] and told["init"], name
        assert told["restart"] in ("unless-stopped", "on-failure"), name
        assert service.dockerfile is not None or told["user"] not in ("root", "0") or name == "own", name
        assert service.once or service.check, f"{name} has no health check"
        for port in told.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is published to the world"


def test_every_image_has_its_version(services: dict[str, compose.Service]) -> None:
    for name, service in services.items():
        tag = service.told["image"].rpartition(":")[2]
        assert re.search(r"\d+\.\d+|RELEASE\.\d", tag), name
    for file in DOCKER.glob("*/Dockerfile"):
        bases = re.findall(r"^FROM (\S+)", file.read_text(), re.MULTILINE)
        assert bases and all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases), file


def test_no_secret_is_written_into_a_command(services: dict[str, compose.Service], secrets: Path) -> None:
    values = compose.env_file(secrets).values()
    for name, service in services.items():
        words = " ".join([*service.command, *(service.check or [])])
        assert not any(value in words for value in values), name


def test_a_service_of_a_seat_knows_no_secret_of_airflows(
    services: dict[str, compose.Service], secrets: Path
) -> None:
    made = compose.env_file(secrets)
    for name in ("recommender", "forecaster", "language", "language-gpu"):
        known = " ".join(services[name].environment.values())
        assert not any(made[n] in known for n in made if n.startswith(("AIRFLOW", "POSTGRES", "MINIO"))), name


def test_every_setting_that_a_service_is_given_exists(services: dict[str, compose.Service]) -> None:
    for name, service in services.items():
        for variable in service.environment:
            if variable.startswith("NIGHTSHIFT_") and variable != "NIGHTSHIFT_DB_PASSWORD":
                assert variable.removeprefix("NIGHTSHIFT_").lower() in Settings.model_fields, (
                    f"{name}: {variable}"
                )


def test_the_profiles_are_what_the_page_says(secrets: Path) -> None:
    variables = compose.env_file(secrets)
    core, gpu = (set(compose.services(variables, {name})) for name in ("core", "gpu"))
    assert core - gpu == {"training", "language"} and gpu - core == {"training-gpu", "language-gpu"}
    parts = {
        service.command[3] for service in compose.services(variables, {"core"}).values() if service.dockerfile
    }
    assert parts == {*SINGLE, "worker", "migrate", "open"}, "every part of the stack is a service"


def test_only_the_gpu_profile_asks_for_a_card_and_its_tenants_share_the_lease(
    services: dict[str, compose.Service],
) -> None:
    with_card = {
        name for name, service in services.items() if "devices" in json.dumps(service.told.get("deploy", {}))
    }
    assert with_card == {"training-gpu", "language-gpu"}
    for name in with_card:
        assert services[name].environment["NIGHTSHIFT_LANGUAGE_LEASE"] == "always"
        assert "home:/var/lib/nightshift" in services[name].told["volumes"]
        assert services[name].told["build"]["args"]["TORCH_BACKEND"].startswith("cu")


def test_the_page_has_the_files_ports_and_logins() -> None:
    published = dict(re.findall(r"127\.0\.0\.1:\$\{(\w+_PORT):-(\d+)\}", compose.FILE.read_text()))
    rows = re.findall(r"^\| ([\d, ]+) \| (`.*?`) \|", PAGE, re.MULTILINE)
    told = {
        variable.strip("` "): port.strip()
        for ports, variables in rows
        for port, variable in zip(ports.split(","), variables.split(","), strict=True)
    }
    assert told == published
    for name in re.findall(r"`(\w+_PASSWORD)`", PAGE):
        assert f"{{{name}" in compose.FILE.read_text(), name


def test_the_pages_commands_name_what_there_is() -> None:
    """`make-env` is run above, the containers by a long test; Docker's engine is not here."""
    for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL):
        for command in block.splitlines():
            words = command.split()
            if words[:2] == ["docker", "compose"]:
                assert (
                    words[2:4] == ["-f", "docker/compose.yaml"]
                    and words[5] in ALL
                    and words[6] in ("up", "ps")
                )
            elif words[:2] == ["python", "-m"]:
                assert importlib.util.find_spec(words[2]), command
            else:
                assert command == "git pull" or os.access(PROJECT / command, os.X_OK), command


# --- what other tools say -----------------------------------------------------------------------------------


def test_docker_compose_reads_the_file_as_we_do(secrets: Path, services: dict[str, compose.Service]) -> None:
    """By the plugin Compose 2, which needs no engine for this."""
    if not there("docker", "compose", "version"):
        pytest.skip("no Compose 2 on this machine: https://docs.docker.com/compose/install/linux/")
    folder = secrets.parent
    shutil.copyfile(compose.FILE, folder / "compose.yaml")
    profiles = [word for name in sorted(ALL) for word in ("--profile", name)]
    command = ["docker", "compose", "-f", "compose.yaml", *profiles, "config"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = yaml.safe_load(done.stdout)["services"]
    assert set(theirs) == set(services)
    for name, ours in services.items():
        found = compose.Service(name, theirs[name])
        assert found.told["image"] == ours.told["image"], name
        ports = [
            f"{port['host_ip']}:{port['published']}:{port['target']}" for port in found.told.get("ports", [])
        ]
        assert ports == ours.told.get("ports", []), name
        assert {key: str(value) for key, value in (found.environment).items()} == ours.environment, name
        words = [word.replace("$$", "$") for word in found.command]  # it writes a file to be read again
        assert words == ours.command, name
        assert found.needs == ours.needs, name


@pytest.mark.parametrize("file", sorted(DOCKER.glob("*/Dockerfile")), ids=lambda file: file.parent.name)
def test_hadolint_has_nothing_to_say(file: Path) -> None:
    done = subprocess.run(
        [tool("hadolint", "hadolint"), "--no-color", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_shellcheck_has_nothing_to_say() -> None:
    scripts = [DOCKER / "make-env", *DOCKER.glob("*/*.sh"), *(PROJECT / "tests" / "production").glob("*.sh")]
    done = subprocess.run(
        [tool("shellcheck", "shellcheck"), *scripts], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_prometheus_takes_the_rules_and_they_fire_when_they_should() -> None:
    promtool = tool("promtool", "prometheus")
    for words in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(
            [promtool, *words], cwd=DOCKER / "prometheus", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_configuration_and_scrapes_services_that_there_are(
    tmp_path: Path, services: dict[str, compose.Service]
) -> None:
    told = (DOCKER / "prometheus" / "prometheus.yml").read_text()
    for target in re.findall(r"targets: \[([\w:.-]+)\]", told):
        assert target.partition(":")[0] in {*services, "127.0.0.1"}, target
    (tmp_path / "prometheus.yml").write_text(told.replace("/etc/prometheus", str(DOCKER / "prometheus")))
    command = [tool("promtool", "prometheus"), "check", "config", tmp_path / "prometheus.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- a night ------------------------------------------------------------------------------------------------


@pytest.mark.stack
@pytest.mark.service
def test_its_services_run_a_night_as_processes(tmp_path: Path) -> None:
    """native.py says what is as in containers, and what stands in."""
    probe = [*native.NAMESPACES, "true"]
    if os.getuid() != 0 or subprocess.run(probe, capture_output=True, check=False).returncode:
        missing("namespaces need root: unshare --net --mount --pid")
    done = subprocess.run(
        [sys.executable, "-m", "tests.production.native"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    told = json.loads(done.stdout.splitlines()[-1])
    trained = {"train_recommender", "train_forecaster", "gate_recommender", "gate_forecaster", "report"}
    assert {name for name, state in told["night"].items() if state == "success"} >= trained
    answers = told["answers"]
    assert len(answers["recommendation"]["items"]) == 5 and answers["recommendation"]["known_user"]
    assert len(answers["trends"]) == 3 and answers["feedback"]["accepted"] == 1
    assert answers["coach"] == 503, "nobody is seated there: no family of its seat was trained"
    assert told["leaks"] == []
    assert told["kept"]["store"] > 20 and told["kept"]["artifacts"] > 10 and told["kept"]["online"] > 100
    if told["watched"] is not None:  # Prometheus is on this machine
        assert set(told["watched"]["rules"].values()) == {"ok"}
        unseen = [query for query, series in told["watched"]["panels"].items() if not series]
        assert not unseen, f"the dashboard asks for what nobody tells: {unseen}"
    assert {name: status for name, status in told["ended"].items() if status < 0} == {}, (
        "killed, after a minute"
    )
