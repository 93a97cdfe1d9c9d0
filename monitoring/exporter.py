"""What no service tells of itself, for Prometheus: `python -m monitoring.exporter [--host 127.0.0.1] [--port 9108]`.

Who is champion, how old data and features are, how much feedback waits, whether nights end well, and how Airflow's
parts are. Asked each half minute and kept, so that a scrape costs nothing; what cannot be asked now is said under
`nightshift_unanswered`, and its figures are left out, for an old figure would look like a new one.
Ages are by the clock that serving goes by (NIGHTSHIFT_CLOCK).
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from prometheus_client import CollectorRegistry, Metric, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from nightshift.airflow_api import Airflow
from nightshift.commands import run_command
from nightshift.errors import NightshiftError
from nightshift.eventlog import EventLog
from nightshift.featurestore import Written
from nightshift.lake import open_lake
from nightshift.registry import Registry
from nightshift.seats import SEATS
from nightshift.settings import Settings, settings

PAUSE_SECONDS = 30.0
FIGURES = {  # name → (what it is, its label or None)
    "champion": ("Version in Production; 0 with nobody seated.", "seat"),
    "lake_age_days": ("Days since the newest published day.", None),
    "features_age_days": ("Days since the day that the online features are of.", None),
    "events_pending": ("Feedback events that no night has taken yet.", None),
    "night_ended_timestamp": ("When the last night ended, in seconds since 1970.", None),
    "night_failed": ("1 if the last night that ended failed.", None),
    "airflow_healthy": ("1 if Airflow has heard from that part of it lately.", "part"),
    "unanswered": ("1 if this could not be asked the last time.", "asked"),
}
Values = dict[tuple[str, str], float]  # (a figure's name, its label's value or "") → value
log = logging.getLogger("nightshift.exporter")


class Exporter(Collector):
    """Asks, and tells what the last answers were."""

    def __init__(self, config: Settings) -> None:
        self._questions = {"registry": champions, "lake": ages, "eventlog": events, "airflow": nights}
        self._config = config
        self._known: Values = {}

    def ask(self) -> None:
        """Ask everything once. Never raises because something is away: that is a figure, too."""
        known: Values = {}
        for name, question in self._questions.items():
            try:
                known |= question(self._config)
                known["unanswered", name] = 0
            except (NightshiftError, OSError, ValueError) as error:
                log.warning("%s: %s", name, error)
                known["unanswered", name] = 1
        self._known = known

    def collect(self) -> Iterator[Metric]:
        known = self._known
        for name, (what, label) in FIGURES.items():
            family = GaugeMetricFamily(f"nightshift_{name}", what, labels=[label] if label else [])
            for (figure, of), value in known.items():
                if figure == name:
                    family.add_metric([of] if label else [], value)
            yield family


def champions(config: Settings) -> Values:
    registry = Registry(config)
    seated = {seat.name: registry.champion(seat) for seat in SEATS.values()}
    return {("champion", name): champion.number if champion else 0 for name, champion in seated.items()}


def ages(config: Settings) -> Values:
    last, written = open_lake(config).last_day(), features_day(config)
    if last is None:
        return {}
    today = last + timedelta(days=1) if config.clock == "data" else datetime.now(UTC).date()
    found: Values = {("lake_age_days", ""): (today - last).days}
    if written is not None:
        found["features_age_days", ""] = (today - written).days
    return found


def events(config: Settings) -> Values:
    log = EventLog(config.eventlog_uri)
    try:
        return {("events_pending", ""): log.pending()}
    finally:
        log.close()


def nights(config: Settings) -> Values:
    airflow = Airflow(config)
    parts = airflow.call("GET", "/monitor/health").items()  # a status of None: there is no such part here
    found: Values = {
        ("airflow_healthy", part): float(told["status"] == "healthy")
        for part, told in parts
        if told["status"] is not None
    }
    newest = {"state": ["success", "failed"], "order_by": "-end_date", "limit": 1}
    for run in airflow.call("GET", "/dags/nightly/dagRuns", params=newest)["dag_runs"]:
        found["night_ended_timestamp", ""] = datetime.fromisoformat(run["end_date"]).timestamp()
        found["night_failed", ""] = float(run["state"] == "failed")
    return found


def features_day(config: Settings) -> date | None:
    """The newest day that the online store was filled from, or None if it never was."""
    written = Written(config).read()
    if written is None:
        return None
    told = written["partitions"]
    days = [name.removeprefix("day=").removesuffix(".parquet") for names in told.values() for name in names]
    return date.fromisoformat(max(days)) if days else None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m monitoring.exporter", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9108)
    parser.add_argument(
        "--once", action="store_true", help="ask once, print what Prometheus would read, and end"
    )
    given = parser.parse_args(arguments)
    registry, exporter = CollectorRegistry(), Exporter(settings())
    registry.register(exporter)
    exporter.ask()
    if given.once:
        print(generate_latest(registry).decode(), end="")
        return
    start_http_server(given.port, given.host, registry=registry)
    while True:
        time.sleep(PAUSE_SECONDS)
        exporter.ask()


if __name__ == "__main__":
    run_command(main)
