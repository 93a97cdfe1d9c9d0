"""The pages on running it say what is so: ports, secrets, settings, the unit file, the chart's names."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.capacity.plan import SIZES, needs
from nightshift.settings import PROJECT, Settings

PAGES = PROJECT / "docs" / "running"
BOX = (PAGES / "single-box.md").read_text()
CLUSTER = (PAGES / "kubernetes.md").read_text()
VALUES = yaml.safe_load((PROJECT / "docker" / "helm" / "nightshift" / "values.yaml").read_text())
SECRET_SETTINGS = {
    name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
}
# Each is run in another place: by the tests of the stack, of its stop, and of what a benchmark is made of.
RUN_ELSEWHERE = {
    "make install",
    "nightshift up",
    "nightshift status",
    "nightshift config",
    "nightshift down",
    "python -m benchmarks.sizing",
    "python -m benchmarks.sizing --quick",
}


def section(page: str, title: str) -> str:
    return page.partition(f"## {title}\n")[2].partition("\n## ")[0]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_the_table_of_ports_has_every_port_with_its_default() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| `NIGHTSHIFT_(\w+)`", section(BOX, "Ports"), re.MULTILINE))
    ports = {name: field.default for name, field in Settings.model_fields.items() if name.endswith("_port")}
    assert {name.lower(): int(port) for port, name in rows.items()} == ports


def test_the_table_of_secrets_has_every_setting_that_holds_one() -> None:
    told = set(re.findall(r"NIGHTSHIFT_(\w+)", section(BOX, "Secrets")))
    assert {name.lower() for name in told} == SECRET_SETTINGS


@pytest.mark.parametrize("block", blocks(BOX, "dotenv"), ids=["stores", "card"])
def test_what_a_page_puts_into_env_is_understood(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"NIGHTSHIFT_{name.upper()}", raising=False)
    (tmp_path / ".env").write_text(block)
    read = Settings(_env_file=tmp_path / ".env")  # type: ignore[call-arg]  # a name that is none is refused
    given = {line.partition("=")[0].removeprefix("NIGHTSHIFT_").lower() for line in block.splitlines()}
    assert given <= read.model_fields_set


def test_the_unit_is_one_that_systemd_understands(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here; on Debian: apt install systemd")
    (unit,) = blocks(BOX, "ini")
    here = unit.replace("/srv/nightshift/.venv/bin", str(Path(sys.executable).parent))
    here = here.replace("/srv/nightshift", str(PROJECT)).replace("User=nightshift", "User=root")
    path = tmp_path / "nightshift.service"
    path.write_text(here)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "nightshift" in line]
    assert not ours and (done.returncode == 0 or "nightshift" not in done.stderr), done.stderr


def test_the_clusters_ports_and_secrets_are_the_charts() -> None:
    rows = dict(
        re.findall(r"^\| `nightshift-([a-z-]+)` \| (\d+) \|", section(CLUSTER, "Ports"), re.MULTILINE)
    )
    services = {name: service["port"] for name, service in VALUES["services"].items()}
    airflow = {"api-server": Settings.model_fields["airflow_port"].default}  # its chart's default too
    assert {name: int(port) for name, port in rows.items()} == {
        **services,
        "mlflow": VALUES["mlflow"]["port"],
        **airflow,
    }
    told = section(CLUSTER, "Secrets")
    template = (PROJECT / "docker" / "helm" / "nightshift" / "templates" / "secrets.yaml").read_text()
    kept = set(re.findall(r'"(NIGHTSHIFT_\w+)"', template)) | set(
        re.findall(r"^  ([\w.-]+): \{\{", template, re.M)
    )
    kept = {name for name in kept if name not in ("name", "labels", "annotations")}
    assert kept and all(f"`{name}`" in told for name in kept), kept
    for name in (
        "nightshift-stores",
        "nightshift-logins",
        "nightshift-airflow",
        "nightshift-airflow-database",
    ):
        assert f"| `{name}`" in told


def test_the_sizes_on_paper_are_the_units_of_the_page_multiplied() -> None:
    page = (PAGES / "sizing.md").read_text()
    costs, sizes = section(page, "What one costs"), section(page, "What so many take")
    rows = {
        "lake_bytes_per_interaction": "an interaction in the lake",
        "feature_bytes_per_user_day": "a user's features of a day",
        "feature_bytes_per_item_day": "an item's",
        "redis_bytes_per_user": "a user's features online, Redis",
        "online_write_cpu_seconds_per_million": "writing a million users online",
        "eventlog_bytes_per_event": "an event in the log, PostgreSQL",
        "artifact_bytes_per_user_and_item": "a version in MLflow",
    }
    unit = {}
    for name, row in rows.items():
        (told,) = re.findall(rf"^\| {re.escape(row)} \| ([\d,.]+)", costs, re.MULTILINE)
        unit[name] = float(told.replace(",", ""))
    told_in = {
        "lake_gib": "lake, a year, GiB",
        "features_gib": "features, a year, GiB",
        "redis_gib": "Redis, GiB",
        "eventlog_gib": "event log, 90 days, GiB",
        "version_gib": "a version in MLflow, GiB",
        "training_gib": "tables that train, GiB (computed)",
    }
    for column, business in enumerate(SIZES):
        found = needs(business, unit)
        for name, row in told_in.items():
            (line,) = (line for line in sizes.splitlines() if line.startswith(f"| {row} |"))
            value = line.split("|")[2 + column].strip()
            if value == "< 0.1":
                assert found[name] < 0.1
            else:  # the page's units are rounded
                assert float(value.replace(",", "")) == pytest.approx(found[name], rel=0.03), (row, business)


@pytest.mark.parametrize("page", ["single-box.md", "kubernetes.md", "sizing.md"])
def test_the_pages_commands_are_run_by_a_test(page: str) -> None:
    lines = [line for block in blocks((PAGES / page).read_text(), "bash") for line in block.splitlines()]
    assert {re.sub(r"\s+# .*$", "", line).strip() for line in lines if line} <= RUN_ELSEWHERE
