"""compose.yaml as containers, where there is Docker and our images are built: what processes cannot show."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from nightshift.settings import PROJECT
from tests.production.containers import STAND_INS, there


@pytest.mark.stack
@pytest.mark.long  # seven minutes and ten GB of images; test_compose.py runs the same services as processes
def test_its_services_run_a_night_as_containers_and_start_again_on_what_they_left() -> None:
    if not there("docker", "compose", "version") or not there("docker", "info"):
        pytest.skip("no Docker engine with Compose 2 on this machine: see tests/production/containers.py")
    if not all(there("docker", "image", "inspect", tag) for tags in STAND_INS.values() for tag in tags):
        pytest.skip("no images: python -m tests.production.containers --build")
    command = [sys.executable, "-m", "tests.production.containers"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    told = json.loads(done.stdout.splitlines()[-1])
    for name, one in told["confined"].items():
        assert one["uid"] and not int(one["capabilities"], 16) and one["root"] == "read-only", (name, one)
        assert one["mib"] > 0 and told["peak_mib"].get(f"{name}-1", 0) < one["mib"], (name, one)
    stores, others = (
        ("recommender to postgres", "recommender to redis"),
        ("minio to prometheus", "minio to the machine"),
    )
    assert all(told["reached"][name] for name in stores) and not any(told["reached"][name] for name in others)
    for seat in ("recommender", "forecaster"):
        first, again = told["answers"][seat], told["answers_again"][seat]
        assert first["version"] and first["version"] == again["version"]
