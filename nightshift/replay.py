"""Past nights of the recommender, one after another, without Airflow; each Production model judged by the next day.

Protocol: night D takes in day D, trains on the days before it, examines candidate and champion on day D, and
seats a winner. The model that is then Production is scored on day D+1, which nothing has seen yet: the items
that each user met for the first time that day, ranked over the full catalogue. A replay has its own state
folder and its own MLflow, so it touches nobody's registry; run again, it goes on where it stopped.
"""

from __future__ import annotations

import itertools
import math
import socket
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from nightshift.commands import read_step
from nightshift.errors import SourceError
from nightshift.intake import finished
from nightshift.lake import write_json
from nightshift.night import data_commands, families, run_night, run_step
from nightshift.seats import RECOMMENDER
from nightshift.settings import Settings
from nightshift.sources import Source, open_source
from nightshift.stack import Stack

Say = Callable[[str], None]


def replay_settings(
    base: Settings, source: str, data: Path | None, home: Path | None, history: int, kind: str = "replay"
) -> Settings:
    """`base` with its own state folder, its own MLflow on a free port, and the source to replay."""
    with socket.socket() as probe:
        probe.bind((base.host, 0))
        port = probe.getsockname()[1]
    state = home or base.home / kind / source
    changed = {
        "source": source,
        "source_path": data,
        "home": state,
        "history_days": history,
        "mlflow_port": port,
        # Said in full, so that no URL of the running system reaches the steps by the environment or `.env`:
        # a replay must not seat anybody in the real registry or claim the real feedback.
        "mlflow_url": f"http://{base.host}:{port}",
        "mlflow_backend_url": None,
        "mlflow_artifacts_url": None,
        "eventlog_url": f"sqlite:///{state / 'eventlog.db'}",
        "store_url": None,
        "feast_registry_url": None,
        "online_url": None,
    }
    return Settings.model_validate({**base.model_dump(), **changed})


def run(config: Settings, start: date, end: date, console: Console, png: Path | None) -> list[dict[str, Any]]:
    """Replay the source's days from `start` to `end`; print the table, write the plot, return the rows.

    Raises:
        SourceError: the source has no day in the range, or none after it to judge the last model by.
    """
    nights = source_days(open_source(config.source, config), start, end)
    each_night(config, nights, console, lambda night, following, say: _live(config, night, following, say))
    rows = [_row(config, night) for night in nights[:-1]]
    show(rows, console)
    target = png or config.home / "replay.png"
    plot(rows, target, title=f"{config.source}: each night's Production model on the next day")
    write_json(target.with_suffix(".json"), rows)
    console.print(f"plot: {target}\nrows: {target.with_suffix('.json')}")
    return rows


def each_night(
    config: Settings, nights: list[date], console: Console, live: Callable[[date, date, Say], None]
) -> None:
    """`live(night, the day after, say)` for every night but the last, with MLflow up and a bar that moves.

    Killed, it starts again at the first night: `live` must leave alone what is done.
    """
    stack = Stack(config, only=("mlflow",))
    columns = (SpinnerColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("starting MLflow", total=len(nights) - 1)
            stack.up(lambda line: progress.update(task, description=line))
            for night, following in itertools.pairwise(nights):

                def say(doing: str, night: date = night) -> None:
                    progress.update(task, description=f"night {night}: {doing}")

                say("looking")
                live(night, following, say)
                progress.advance(task)
    finally:
        stack.down(lambda _: None)


def run_recommenders(config: Settings, night: date, say: Say) -> None:
    """A night of the recommender's seat and all its families, unless it ran to its end before."""
    if not finished(config, night):
        chosen = {name: seat for name, seat in families(config).items() if seat == RECOMMENDER.name}
        run_night(config, night, smoke=False, chosen=chosen, say=say)


def take_in(config: Settings, day: date, say: Say) -> None:
    """A day's data, up to its features, to judge by."""
    for command in data_commands(day):
        say(" ".join(command))
        run_step(config, command)


def _live(config: Settings, night: date, following: date, say: Say) -> None:
    run_recommenders(config, night, say)
    if read_step(config, night, "next-day-recommender") is None:
        take_in(config, following, say)
        say(f"judging by {following}")
        run_step(config, ["training.next_day", RECOMMENDER.name, "--night", night.isoformat()])


def source_days(source: Source, start: date, end: date) -> list[date]:
    """The source's days in start..end and one more, on which the last model is judged."""
    days: list[date] = []
    day = source.next_day(start - timedelta(days=1))
    while day is not None and day <= end:
        days.append(day)
        day = source.next_day(day)
    if not days or day is None:
        raise SourceError(f"source {source.name}: no day in {start}…{end} with a day after it to judge by")
    return [*days, day]


def _row(config: Settings, night: date) -> dict[str, Any]:
    gate = read_step(config, night, f"gate-{RECOMMENDER.name}") or {}
    scored = read_step(config, night, "next-day-recommender") or {}
    return {
        "night": night.isoformat(),
        "decision": gate.get("decision"),
        "reasons": gate.get("reasons"),
        **scored,
    }


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """The replay as a table, 80 columns wide; the last line is over all users of all judged days."""
    year = rows[0]["night"][:4]
    table = Table(
        title=f"Each night's Production model, judged by the next day ({year})", title_justify="left"
    )
    for name in ("night", "verdict", "serves", "judged", "users"):
        table.add_column(name, justify="right" if name == "users" else "left", no_wrap=True)
    for name in ("NDCG@10", "popular", "HR@10", "popular"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["night"][5:], str(row["decision"]), _seated(row), row["scored_day"][5:], f"{row['users']:,}",
            _figure(row, "ndcg_at_10"), f"{row['popularity_ndcg_at_10']:.3f}",
            _figure(row, "hr_at_10"), f"{row['popularity_hr_at_10']:.3f}",
        )  # fmt: skip
    judged = [row for row in rows if row["version"] is not None]
    if judged:
        users = sum(row["users"] for row in judged)
        names = ("ndcg_at_10", "popularity_ndcg_at_10", "hr_at_10", "popularity_hr_at_10")
        means = [f"{sum(row[name] * row['users'] for row in judged) / users:.3f}" for name in names]
        table.add_section()
        table.add_row("all", "", "", "", f"{users:,}", *means)
    console.print(table)
    console.print("± is half of the 95 % bootstrap interval over users; popular: the most popular items.")


def _seated(row: dict[str, Any]) -> str:
    return "nobody" if row["version"] is None else f"v{row['version']}"


def _figure(row: dict[str, Any], metric: str) -> str:
    if row[metric] is None:
        return "–"
    low, high = row[f"{metric}_interval"]
    return f"{row[metric]:.3f} ±{(high - low) / 2:.3f}"


def plot(rows: list[dict[str, Any]], target: Path, *, title: str) -> None:
    """HR@10 and NDCG@10 by judged day with 95 % intervals, beside popularity; promotions are marked."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    days = [row["scored_day"][5:] for row in rows]
    for axis, metric, label in zip(axes, ("ndcg_at_10", "hr_at_10"), ("NDCG@10", "HR@10"), strict=True):
        # A night on which nobody sat in the seat leaves a gap in the line.
        known = [row if row[metric] is not None else {} for row in rows]
        values = [row.get(metric, math.nan) for row in known]
        bounds = [row.get(f"{metric}_interval", (math.nan, math.nan)) for row in known]
        low = [value - bound[0] for value, bound in zip(values, bounds, strict=True)]
        high = [bound[1] - value for value, bound in zip(values, bounds, strict=True)]
        axis.errorbar(
            days, values, yerr=[low, high], fmt="o-", capsize=3, label="Production", color="#1f4e79"
        )
        axis.plot(
            days, [row[f"popularity_{metric}"] for row in rows], "s--", label="popularity", color="#999999"
        )
        for position, row in enumerate(rows):
            if row["decision"] == "promote":
                axis.annotate(f"v{row['version']}", (position, values[position]), textcoords="offset points",
                              xytext=(0, 12), ha="center", fontsize=8, color="#1f4e79")  # fmt: skip
        axis.set(title=label, xlabel="judged on", ylim=(0, None))
        axis.tick_params(axis="x", rotation=45)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    figure.suptitle(title)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=130)
    plt.close(figure)
