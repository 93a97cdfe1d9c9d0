from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nightshift.settings import PROJECT, Settings

NIGHTSHIFT = Path(sys.executable).parent / "nightshift"


def call(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "NIGHTSHIFT_HOME": str(home), "COLUMNS": "200", **environment}
    return subprocess.run(
        [NIGHTSHIFT, *words], env=variables, capture_output=True, text=True, cwd=PROJECT, check=False
    )


def test_help_names_every_command_with_what_it_does(tmp_path: Path) -> None:
    told = call(tmp_path, "--help").stdout
    for command in ("ingest", "audit", "publish", "features", "train", "gate", "night", "watch", "run", "up",
                    "down", "status", "rollback", "history", "replay", "config"):  # fmt: skip
        assert command in told


def test_config_prints_every_setting_and_hides_secrets(tmp_path: Path) -> None:
    told = call(tmp_path, "config", NIGHTSHIFT_AIRFLOW_PASSWORD="open-sesame").stdout
    for name in Settings.model_fields:
        assert f"NIGHTSHIFT_{name.upper()}" in told
    assert "open-sesame" not in told and "*****" in told


def test_a_wrong_setting_is_named_in_one_line(tmp_path: Path) -> None:
    done = call(tmp_path, "config", NIGHTSHIFT_MLFLOW_PORT="ninety")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1 and "NIGHTSHIFT_MLFLOW_PORT" in done.stderr


def test_status_of_a_fresh_home_says_that_nothing_runs(tmp_path: Path) -> None:
    done = call(tmp_path, "status")
    assert done.returncode == 0 and done.stdout.count("stopped") == 6 and "0 days" in done.stdout


def test_down_of_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    assert call(tmp_path, "down").returncode == 0


def test_a_step_by_hand_is_the_dags_command_for_the_next_night(tmp_path: Path) -> None:
    small = {"NIGHTSHIFT_MARKET_USERS": "30", "NIGHTSHIFT_MARKET_ITEMS": "30", "NIGHTSHIFT_HISTORY_DAYS": "3"}
    done = call(tmp_path, "ingest", **small)
    assert done.returncode == 0, done.stderr
    assert '"night": "2026-09-03"' in done.stdout.splitlines()[-1]
    assert (tmp_path / "lake" / "staging" / "2026-09-03" / "interactions.parquet").exists()


@pytest.mark.parametrize("words", [("rollback", "barista", "--reason", "x"), ("history", "barista")])
def test_an_unknown_seat_is_answered_with_those_there_are(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = call(tmp_path, *words)
    assert done.returncode == 1 and "the seats are recommender" in done.stderr


def test_publishing_before_the_audit_is_refused_with_what_to_do(tmp_path: Path) -> None:
    small = {"NIGHTSHIFT_MARKET_USERS": "30", "NIGHTSHIFT_MARKET_ITEMS": "30", "NIGHTSHIFT_HISTORY_DAYS": "3"}
    call(tmp_path, "ingest", **small)
    done = call(tmp_path, "publish", **small)
    assert done.returncode == 1 and "run `nightshift audit` first" in done.stderr
