"""The images' environments: each role has what its processes import, and not what the others are for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nightshift.settings import PROJECT
from tests.production import roles

IMAGES = sorted(path.parent.name for path in (PROJECT / "docker").glob("*/Dockerfile"))
RUNS = {  # what is started or run in each image
    "serving": ["serving.recommender", "serving.forecaster", "nightshift.offline"],
    "mlflow": ["nightshift.parts", "nightshift.upgrade", "nightshift.backup", "mlflow.server.auth"],
    "airflow": [
        "nightshift.intake",
        "monitoring.quality",
        "monitoring.watch",
        "monitoring.outcomes",
        "feature_repo.build",
    ],
    "language": ["serving.language", "nightshift.language.engine"],
    "training": ["training.run", "training.examine", "training.study", "serving.recommender"],
}
LEFT_OUT = {
    "serving": {
        "airflow",
        "great_expectations",
        "evidently",
        "torch",
        "transformers",
        "sklearn",
        "shap",
        "trl",
    },
    "mlflow": {"airflow", "bentoml", "feast", "torch", "great_expectations"},
    "airflow": {"torch", "transformers", "bentoml", "shap", "trl"},
    "language": {"airflow", "great_expectations", "evidently", "shap", "trl"},
    "training": {"great_expectations", "evidently"},
}


def test_every_image_is_looked_at() -> None:
    assert set(IMAGES) == set(RUNS) == set(LEFT_OUT)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_has_the_packages_of_its_role_and_no_other(name: str) -> None:
    read = roles.image(PROJECT / "docker" / name / "Dockerfile")
    tops = {
        file.partition("/")[0] for one in roles.packages(read.extras).values() for file in roles.recorded(one)
    }
    assert not tops & LEFT_OUT[name]
    assert read.user == 10001 and "PASSWORD" not in str(read.environment)


@pytest.mark.parametrize(
    "name", ["serving", "mlflow", "airflow"]
)  # the others have torch, and seconds to import it
def test_what_an_image_runs_imports_with_its_packages_and_rooms_alone(name: str, tmp_path: Path) -> None:
    read = roles.image(PROJECT / "docker" / name / "Dockerfile")
    roles.lay_out(read.extras, tmp_path / "venv")
    rooms = tmp_path / "rooms"
    for source, target in read.copies:
        place = rooms / Path(target).relative_to(read.workdir)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(PROJECT / source)
    script = f"import {', '.join(RUNS[name])}, sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-c", script],
        cwd=rooms, env={"PYTHONPATH": str(rooms), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not set(done.stdout.split()) & LEFT_OUT[name]


@pytest.mark.parametrize(
    "file", sorted((PROJECT / "training").rglob("*predictor.py")), ids=lambda file: file.parent.name
)
def test_what_a_packaged_model_imports_is_where_it_serves(file: Path) -> None:
    """A predictor travels with its model, and is imported by the service of its seat."""
    words = re.findall(r"^\s*(?:import|from) (\w+)", file.read_text(), re.MULTILINE)
    role = "language" if file.parent.name == "qlora" else "serving"
    there = {
        recorded.partition("/")[0].removesuffix(".py")
        for one in roles.packages([role]).values()
        for recorded in roles.recorded(one)
    }
    assert set(words) - set(sys.stdlib_module_names) <= there | {"nightshift"}


def test_a_dockerfile_is_read_as_docker_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(
        "FROM python AS build\nRUN uv pip install \\\n  --extra airflow --extra data\n"
        "FROM python\nCOPY --from=build /opt/venv /opt/venv\nWORKDIR /opt/here\n"
        "COPY a a\nCOPY b/x.py b/y.py b/\nENV A=1 \\\n    B=two\nUSER 7:7\n"
    )
    read = roles.image(file)
    assert read.extras == ["airflow", "data"] and read.user == 7
    assert read.environment == {"A": "1", "B": "two"}
    assert read.copies == [
        ("a", "/opt/here/a"), ("b/x.py", "/opt/here/b/x.py"), ("b/y.py", "/opt/here/b/y.py"),
    ]  # fmt: skip


def test_a_package_that_is_asked_for_and_not_installed_is_named() -> None:
    assert "nightshift" not in roles.packages([])
    assert {"mlflow-skinny", "pyarrow"} <= set(roles.packages([]))
    with pytest.raises(KeyError):
        roles.packages(["no-such-role"])
