"""compose.yaml as containers, where there is Podman and our images are built: what processes cannot show."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from nightshift.settings import PROJECT
from tests.production.containers import STAND_INS


def podman() -> str:
    """A skip that says what to do, where something is missing: no other test needs any of it."""
    for program in ("podman", "podman-compose"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on this machine: see tests/production/containers.py")
    if os.getuid() != 0:
        pytest.skip("podman-compose is run as root here")
    return "podman"


@pytest.mark.stack
@pytest.mark.long  # seven minutes and ten GB of images; test_compose.py runs the same services as processes
def test_its_services_run_a_night_as_containers_and_start_again_on_what_they_left() -> None:
    images = [tag for tags in STAND_INS.values() for tag in tags]
    if subprocess.run([podman(), "image", "exists", images[0]], check=False).returncode:
        pytest.skip("no images: python -m tests.production.containers --build")
    command = [sys.executable, "-m", "tests.production.containers"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    told = json.loads(done.stdout.splitlines()[-1])
    for name, one in told["confined"].items():
        assert one["uid"] and not int(one["capabilities"], 16) and one["root"] == "read-only", (name, one)
        assert one["mib"] > 0 and told["peak_mib"].get(f"{name}_1", 0) < one["mib"], (name, one)
    stores, others = (
        ("recommender to postgres", "recommender to redis"),
        ("minio to prometheus", "minio to the machine"),
    )
    assert all(told["reached"][name] for name in stores) and not any(told["reached"][name] for name in others)
    for seat in ("recommender", "forecaster"):
        first, again = told["answers"][seat], told["answers_again"][seat]
        assert first["version"] and first["version"] == again["version"]
