from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from nightshift.errors import SourceError
from nightshift.replay import Say, each_night, plot, replay_settings, show, source_days
from nightshift.settings import PROJECT, Settings
from nightshift.sources import open_source

ROWS = [
    {"night": "2011-11-01", "decision": "not blessed", "version": None, "ndcg_at_10": None, "hr_at_10": None,
     "ndcg_at_10_interval": None, "hr_at_10_interval": None,
     "scored_day": "2011-11-02", "users": 70,
     "popularity_ndcg_at_10": 0.06, "popularity_hr_at_10": 0.3, "popularity_ndcg_at_10_interval": [0.05, 0.07],
     "popularity_hr_at_10_interval": [0.2, 0.4]},
    {"night": "2011-11-02", "decision": "promote", "version": 2, "scored_day": "2011-11-03", "users": 75,
     "ndcg_at_10": 0.11, "hr_at_10": 0.5, "ndcg_at_10_interval": [0.09, 0.13], "hr_at_10_interval": [0.4, 0.6],
     "popularity_ndcg_at_10": 0.07, "popularity_hr_at_10": 0.3, "popularity_ndcg_at_10_interval": [0.05, 0.09],
     "popularity_hr_at_10_interval": [0.2, 0.4]},
]  # fmt: skip


def test_a_replay_has_its_own_state_and_its_own_mlflow(tmp_path: Path) -> None:
    values = {"mlflow_url": "http://real:5000", "eventlog_url": "postgresql://real/events"}
    base = Settings(_env_file=None, home=tmp_path, **values)  # type: ignore[call-arg,arg-type]
    config = replay_settings(base, "market", None, None, 14)
    assert config.home == tmp_path / "replay" / "market" and config.history_days == 14
    assert config.mlflow_port != base.mlflow_port
    assert "real" not in str(config.exportable().values())
    assert config.exportable()["NIGHTSHIFT_MLFLOW_URL"] == f"http://127.0.0.1:{config.mlflow_port}"
    assert config.exportable()["NIGHTSHIFT_EVENTLOG_URL"] == f"sqlite:///{config.home}/eventlog.db"


def test_the_days_are_the_sources_and_one_more_to_judge_the_last_model_by(tmp_path: Path) -> None:
    for day in ("2011-11-03", "2011-11-04", "2011-11-06", "2011-11-07"):
        (tmp_path / f"{day}.csv").write_text("InvoiceNo\n")
    config = Settings(_env_file=None, home=tmp_path, source="online_retail", source_path=tmp_path)  # type: ignore[call-arg]
    source = open_source("online_retail", config)
    assert source_days(source, date(2011, 11, 4), date(2011, 11, 6)) == [
        date(2011, 11, 4), date(2011, 11, 6), date(2011, 11, 7),
    ]  # fmt: skip
    with pytest.raises(SourceError, match="no day in 2011-11-07"):
        source_days(source, date(2011, 11, 7), date(2011, 11, 9))


def test_every_night_is_lived_with_the_day_after_while_mlflow_is_up_and_it_is_stopped_whatever_happens(
    tmp_path: Path,
) -> None:
    base = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    config = replay_settings(base, "market", None, tmp_path / "own", 14)
    days = [date(2026, 9, 28) + timedelta(days=n) for n in range(4)]
    lived: list[tuple[date, date]] = []

    def live(night: date, following: date, say: Say) -> None:
        assert httpx.get(f"{config.mlflow_uri}/health", trust_env=False).status_code == 200
        say("living")
        lived.append((night, following))
        if len(lived) == 2:
            raise SourceError("enough")

    with pytest.raises(SourceError, match="enough"):
        each_night(config, days, Console(quiet=True), live)
    assert lived == [(days[0], days[1]), (days[1], days[2])]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{config.mlflow_uri}/health", trust_env=False)


def test_the_table_and_the_plot_hold_nights_with_and_without_a_champion(tmp_path: Path) -> None:
    console = Console(record=True, width=160)
    show(ROWS, console)
    told = console.export_text()
    assert "not blessed" in told and "v2" in told and "0.110 ±0.020" in told and "all" in told
    plot(ROWS, tmp_path / "deep" / "replay.png", title="a replay")
    assert (tmp_path / "deep" / "replay.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long  # every command of two nights; the stack's first night runs them all once
def test_a_replay_judges_each_production_model_by_the_next_day_and_reaches_nothing_that_runs(
    tmp_path: Path,
) -> None:
    small = {"market_users": 200, "market_items": 100, "market_topics": 10, "market_conversations": 0,
             "families": "item_knn"}  # fmt: skip
    real = Settings(_env_file=None, home=tmp_path / "var", mlflow_url="http://127.0.0.1:9", **small)  # type: ignore[call-arg,arg-type]
    night, own = real.market_start + timedelta(days=3), tmp_path / "own"
    command = [str(Path(sys.executable).parent / "nightshift"), "replay", "--source", "market", "--history", "4",
               "--from", str(night), "--to", str(night), "--home", str(own), "--png", str(own / "out.png")]  # fmt: skip
    environment = {**os.environ, **real.exportable()}
    done = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (row,) = json.loads((own / "out.json").read_text())
    assert row["night"] == str(night) and row["scored_day"] == str(night + timedelta(days=1))
    assert row["users"] > 0 and row["popularity_hr_at_10"] > 0
    assert (own / "out.png").exists() and not (tmp_path / "var").exists()
