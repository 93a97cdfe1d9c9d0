"""What Prometheus is told, of a real lake, registry and event log; Airflow is asked in tests/production."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from monitoring import exporter
from monitoring.exporter import Exporter, ages, champions, events, features_day
from nightshift.eventlog import EventLog
from nightshift.featurestore import Written
from nightshift.seats import SEATS
from nightshift.settings import Settings
from tests.conftest import TINY_DAYS, TINY_START, free_port


def told(config: Settings) -> dict[tuple[str, str], float]:
    """What a scrape reads: (name, label) → value."""
    registry, one = CollectorRegistry(), Exporter(config)
    registry.register(one)
    one.ask()
    text = generate_latest(registry).decode()
    return {
        (sample.name.removeprefix("nightshift_"), next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_is_away_is_said_and_its_figures_are_left_out(
    tiny_home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = {"mlflow_url": f"http://127.0.0.1:{free_port()}", "airflow_url": f"http://127.0.0.1:{free_port()}"}
    monkeypatch.setattr("nightshift.airflow_api.TRIES", 1)
    seen = told(tiny_home.model_copy(update=away))
    assert seen["unanswered", "registry"] == seen["unanswered", "airflow"] == 1
    assert seen["unanswered", "lake"] == seen["unanswered", "eventlog"] == 0
    assert seen["lake_age_days", ""] == 1 and seen["events_pending", ""] == 0
    assert not any(name in ("champion", "night_failed", "airflow_healthy") for name, _ in seen)


def test_a_seat_without_a_champion_is_told_as_zero(mlflow_server: Settings) -> None:
    assert champions(mlflow_server) == {("champion", seat): 0 for seat in SEATS}


def test_ages_are_by_the_clock_that_serving_goes_by(tiny_home: Settings) -> None:
    last = date.fromordinal(TINY_START.toordinal() + TINY_DAYS - 1)
    assert ages(tiny_home)["lake_age_days", ""] == 1
    wall = tiny_home.model_copy(update={"clock": "wall"})
    assert ages(wall)["lake_age_days", ""] == (datetime.now(UTC).date() - last).days


def test_the_features_are_as_old_as_the_newest_partition_that_was_written(tmp_path: object) -> None:
    config = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg, arg-type]
    assert features_day(config) is None and ages(config) == {}
    names = {
        "user": ["day=2026-09-02.parquet", "day=2026-09-03.parquet"],
        "topic": ["day=2026-08-30.parquet"],
    }
    Written(config).write({"partitions": names})
    assert features_day(config) == date(2026, 9, 3)


def test_feedback_that_no_night_has_taken_is_counted(tmp_path: object) -> None:
    config = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg, arg-type]
    log = EventLog(config.eventlog_uri)
    at = datetime(2026, 9, 1, tzinfo=UTC)
    row = {"user_id": "u", "item_id": "i", "kind": "click", "value": None, "at": at, "session_id": "s"}
    log.append([{**row, "event_id": str(n), "device": "mobile", "channel": "home"} for n in range(3)])
    log.close()
    assert events(config) == {("events_pending", ""): 3}


def test_every_figure_has_its_meaning_and_every_alert_and_panel_asks_for_one_that_there_is() -> None:
    from nightshift.settings import PROJECT

    asked = (PROJECT / "docker" / "prometheus" / "alerts.yml").read_text()
    asked += (PROJECT / "docker" / "grafana" / "dashboards" / "nightshift.json").read_text()
    for name in exporter.FIGURES:
        assert f"nightshift_{name}" in asked, f"nobody looks at {name}"
