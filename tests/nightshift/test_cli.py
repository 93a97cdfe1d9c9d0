from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from nightshift import cli, review
from nightshift.cli import app
from nightshift.registry import Registry
from nightshift.seats import SEATS, Seat
from nightshift.settings import PROJECT, Settings

NIGHTSHIFT = Path(sys.executable).parent / "nightshift"


def call(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "NIGHTSHIFT_HOME": str(home), "COLUMNS": "200", **environment}
    return subprocess.run(
        [NIGHTSHIFT, *words], env=variables, capture_output=True, text=True, cwd=PROJECT, check=False
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command line in this process, for what is refused before anything is done."""
    monkeypatch.setattr(cli, "settings", lambda: Settings(_env_file=None, home=tmp_path))  # type: ignore[call-arg]
    return lambda *words: CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})


def test_help_names_every_command_with_what_it_does(tmp_path: Path) -> None:
    told = call(tmp_path, "--help").stdout
    for command in ("ingest", "audit", "publish", "features", "train", "study", "gate", "night", "watch", "run", "up",
                    "down", "status", "backup", "restore", "approve", "reject", "override", "freeze", "rollback",
                    "history", "replay", "config"):  # fmt: skip
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
    assert done.returncode == 0 and done.stdout.count("stopped") == 4 + len(SEATS) and "0 days" in done.stdout


def test_down_of_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    assert call(tmp_path, "down").returncode == 0


def test_a_step_by_hand_is_the_dags_command_for_the_next_night_and_refused_before_its_turn(
    tmp_path: Path,
) -> None:
    small = {"NIGHTSHIFT_MARKET_USERS": "30", "NIGHTSHIFT_MARKET_ITEMS": "30", "NIGHTSHIFT_HISTORY_DAYS": "3"}
    done = call(tmp_path, "ingest", **small)
    assert done.returncode == 0, done.stderr
    assert '"night": "2026-09-03"' in done.stdout.splitlines()[-1]
    assert (tmp_path / "lake" / "staging" / "2026-09-03" / "interactions.parquet").exists()
    done = call(tmp_path, "publish", **small)
    assert done.returncode == 1 and "run `nightshift audit` first" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("rollback", "barista", "--reason", "x"),
        ("approve", "barista/3", "--reason", "x"),
        ("history", "barista"),
    ],
)
def test_an_unknown_seat_is_answered_with_those_there_are(
    here: Callable[..., Result], words: tuple[str, ...]
) -> None:
    done = here(*words)
    assert done.exit_code == 1 and "the seats are recommender" in done.stderr


def test_a_rollback_of_a_version_is_answered_with_the_command_that_was_meant(
    here: Callable[..., Result],
) -> None:
    done = here("rollback", "recommender/1", "--reason", "x")
    assert done.exit_code == 1 and len(done.stderr.strip().splitlines()) == 1
    assert "nightshift rollback recommender --to 1" in done.stderr
    assert here("rollback", "recommender", "--to", "0", "--reason", "x").exit_code == 2


@pytest.mark.parametrize("command", ["replay", "backtest"])
def test_past_nights_of_an_unknown_source_are_refused_with_those_there_are(
    here: Callable[..., Result], command: str
) -> None:
    days = ("--from", "2026-10-01", "--to", "2026-10-02")
    done = here(command, "--source", "rubbish", *days)
    assert done.exit_code == 2 and "Traceback" not in done.stderr
    for source in ("rubbish", "market", "online_retail", "files"):
        assert source in done.stderr
    long = here(command, "--source", "market", *days, "--history", "401")
    assert long.exit_code == 2 and "--history" in long.stderr and "Traceback" not in long.stderr


def test_help_for_outcomes_says_that_it_may_roll_back_and_how_only_to_look() -> None:
    told = CliRunner().invoke(app, ["outcomes", "--help"], env={"COLUMNS": "80"}).output
    assert "May roll a champion back" in " ".join(told.split())
    assert "Example: nightshift outcomes --look-only" in told


@pytest.mark.parametrize("command", ["approve", "reject", "override", "freeze", "rollback", "history"])
def test_help_for_the_reviewer_teaches_with_an_example(command: str) -> None:
    told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert f"Example: nightshift {command} recommender" in told


def test_a_reviewer_overrides_rolls_back_and_reads_the_history_even_where_it_is_broken(
    mlflow_server: Settings,
    registry: Registry,
    seat: Seat,
    submit: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SEATS, seat.name, seat)
    monkeypatch.setattr(cli, "settings", lambda: mlflow_server)
    monkeypatch.setattr(review, "reviewer", lambda: "mina")
    run = CliRunner().invoke
    first, second = submit(), submit()
    for version in (first, second):
        done = run(app, ["override", f"recommender/{version}", "--reason", "[good] 그래요"])
        assert done.exit_code == 0 and f"recommender/{version} serves within seconds" in done.output
    done = run(app, ["approve", f"recommender/{first}", "--reason", "yes"])
    assert done.exit_code == 1 and len(done.stderr.strip().splitlines()) == 1
    done = run(app, ["rollback", "recommender", "--reason", "bad"])
    assert done.exit_code == 0 and f"recommender/{first} serves again within seconds" in done.stdout
    records = json.loads(run(app, ["history", "recommender", "--json"]).stdout)
    assert [(record["from"], record["to"], record["by"]) for record in records] == [
        (None, first, "mina"), (first, second, "mina"), (second, first, "mina"),
    ]  # fmt: skip
    assert set(records[0]) >= {"at", "action", "version", "reason", "exam_digest", "digest"}
    text = registry.client.get_registered_model(seat.registered_model).tags["move.000001"]
    edited = text.replace("그래요", "아니요")
    registry.client.set_registered_model_tag(seat.registered_model, "move.000001", edited)
    done = run(app, ["history", "recommender"])
    assert done.exit_code == 1 and "[good] 아니요" in done.stdout
    remark = f"record 1 (override of version {second}) was changed after it was written"
    assert remark in done.stderr
    done = run(app, ["history", "recommender", "--json"])
    marks = [record["broken"] for record in json.loads(done.stdout)]
    assert done.exit_code == 1 and (marks[0], marks[1]) == (None, remark)


def test_the_history_has_two_lines_a_record_and_cuts_nothing_in_a_pipe(
    mlflow_server: Settings,
    registry: Registry,
    seat: Seat,
    submit: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SEATS, seat.name, seat)
    monkeypatch.setattr(cli, "settings", lambda: mlflow_server)
    first, second = submit(), submit()
    reason = "the lists were all umbrellas, " * 8 + "and that was that"
    registry.promote(
        seat, first, by="the gate", reason="nobody sat there", exam_digest="4cb1a9b2e45d" + "0" * 52
    )
    registry.hold(seat, second, by="the gate", reason="ask somebody", exam_digest="")
    registry.promote(seat, second, by="mina", reason="yes", action="override")
    registry.rollback(seat, to=None, by="mina", reason=reason)
    done = CliRunner().invoke(app, ["history", "recommender"], env={"COLUMNS": "80"})
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and len(lines) == 8
    assert re.fullmatch(
        rf"#0  \d{{4}}-\d\d-\d\d \d\d:\d\d  promote  nobody → {first}  by the gate  exam 4cb1a9b2e45d",
        lines[0],
    )
    assert f"  hold  version {second}  by the gate" in lines[2]
    assert f"  rollback  {second} → {first}  by mina" in lines[6] and lines[7] == f"    {reason}"
