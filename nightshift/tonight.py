"""`make run`: start the stack, let Airflow run a night, show it task by task, tell what happened."""

from __future__ import annotations

import signal
import time
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pyarrow.compute as pc
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from nightshift.airflow_api import Airflow
from nightshift.commands import plain, read_step
from nightshift.errors import StackError
from nightshift.intake import next_night
from nightshift.lake import open_lake, write_json
from nightshift.night import StepFailedError, run_step
from nightshift.parts import service_uri
from nightshift.seats import FORECASTER, LANGUAGE, RECOMMENDER, Seat
from nightshift.settings import Settings
from nightshift.stack import SERVICES, Stack
from nightshift.summary import show

DAGS = ("nightly", "watch", "study")
ORDER = ("plan", "ingest", "audit", "publish", "features", "families", "train", "gate", "report")
TRENDS = 5  # topics shown after a night
ASKED = "요즘 일이 재미없어요. 무엇부터 생각해 보면 좋을까요?"  # the coach, after a night
ANSWER_SECONDS, BASE_SECONDS = (
    120,
    300,
)  # of a whole answer on two busy cores; until an 8B base is read from disk
CUSTOMERS = 200  # simulated customers who visit the service after a night of the market
MARKS = {
    "success": "[green]✓",
    "failed": "[red]✗",
    "upstream_failed": "[red]–",
    "skipped": "[dim]–",
    "up_for_retry": "[yellow]↻",
    "running": "[cyan]●",
}


def run(
    config: Settings, console: Console, *, smoke: bool, started: list[str], customers: int = CUSTOMERS
) -> dict[str, Any]:
    """Start what is not running, run the next night through Airflow, show and keep its summary.

    started: what was started is added, as soon as it may have to be stopped again.

    Raises:
        StackError: the stack did not come up, or a task of the night failed (with its reason).
    """
    began = time.monotonic()
    night = next_night(config)
    try:
        with console.status("starting the stack") as status:
            started += [part.name for part in Stack(config).parts if part.name not in Stack(config).running()]
            Stack(config).up(lambda line: status.update(line))
            status.update("waiting for Airflow to read the DAGs")
            airflow = Airflow(config)
            airflow.prepare(DAGS)
        console.print(f"[green]✓[/] stack is up [dim]({time.monotonic() - began:.0f} s)")
        night, run_id = begin(airflow, night, smoke=smoke)
        console.print(
            f"[bold]Night {night}[/]  [dim]{config.airflow_uri}/dags/nightly/runs/{run_id}", soft_wrap=True
        )
        follow(config, airflow, run_id, console)
        summary = {**(read_step(config, night, "report") or {}), **after(config, console, customers)}
    except BaseException as error:
        # Whoever reads this file by machine must not take an older night for this one.
        write_json(config.home / "last_night.json", {"night": night, "error": str(error) or repr(error)})
        raise
    summary["seconds"] = round(time.monotonic() - began, 1)
    summary["memory_mb"] = {name: round(used) for name, used in Stack(config).memory_mb().items()}
    write_json(config.home / "last_night.json", plain(summary))
    show(config, summary, console)
    return summary


def begin(airflow: Airflow, night: date, *, smoke: bool) -> tuple[date, str]:
    """The run to follow: one that a stop left half-way and Airflow now goes on with, else a new one."""
    active = airflow.active("nightly")
    if active is not None:
        given = (active["conf"] or {}).get("night")
        return (date.fromisoformat(given) if given else night), str(active["dag_run_id"])
    return night, airflow.trigger("nightly", {"night": night.isoformat(), "smoke": smoke})


def follow(config: Settings, airflow: Airflow, run_id: str, console: Console) -> None:
    """Show the run's tasks until it ends.

    Raises:
        StackError: a task failed (named, with its reason), or a part of the stack died.
    """
    seen: dict[str, str] = {}
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while True:
            state = airflow.state("nightly", run_id)
            tasks = sorted(airflow.tasks("nightly", run_id), key=_position)
            if console.is_terminal:
                live.update(_board(tasks))
            else:
                _print_changes(tasks, seen, console)
            if state in ("success", "failed"):
                break
            if gone := [name for name in Stack(config).died() if name not in SERVICES]:
                log = config.logs_dir / f"{gone[0]}.log"
                raise StackError(f"{gone[0]} has died during the night; see {log}; run again: it goes on")
            time.sleep(1)  # each look is two requests, of a machine that has a night to do
    if state == "failed":
        raise StackError(_why_failed(airflow, run_id, tasks))


def _position(task: dict[str, Any]) -> tuple[int, str, int]:
    name = task["task_id"]
    kind = name.partition("_")[0]  # gate_recommender is a gate
    return (ORDER.index(kind) if kind in ORDER else len(ORDER) - 2, name, task["map_index"])


def _label(task: dict[str, Any]) -> str:
    mapped = task.get("rendered_map_index") or (task["map_index"] if task["map_index"] >= 0 else "")
    return f"{task['task_id']} {mapped}".strip()


def _board(tasks: list[dict[str, Any]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for task in tasks:
        mark: Any = Text.from_markup(MARKS.get(task["state"], "[dim]·"))
        if task["state"] == "running":
            mark = Spinner("dots", style="cyan")
        tries = f"try {task['try_number']}" if (task["try_number"] or 0) > 1 else ""
        table.add_row(mark, _label(task), Text(_seconds(task), style="dim"), Text(tries, style="yellow"))
    return table


def _seconds(task: dict[str, Any]) -> str:
    if task["duration"]:
        return f"{task['duration']:.1f} s"
    if task["start_date"]:
        started = datetime.fromisoformat(task["start_date"])
        return f"{(datetime.now(UTC) - started).total_seconds():.0f} s"
    return ""


def _print_changes(tasks: list[dict[str, Any]], seen: dict[str, str], console: Console) -> None:
    for task in tasks:
        label, state = _label(task), task["state"]
        if state and seen.get(label) != state and state not in ("scheduled", "queued"):
            console.print(
                f"  {MARKS.get(state, '[dim]·')}[/] {label} {state} [dim]{_seconds(task)}", highlight=False
            )
            seen[label] = state


def _why_failed(airflow: Airflow, run_id: str, tasks: list[dict[str, Any]]) -> str:
    failed = next((task for task in tasks if task["state"] == "failed"), None)
    if failed is None:
        return f"the night failed, but no task did; see run {run_id} in Airflow"
    log = airflow.log("nightly", run_id, failed["task_id"], failed["try_number"], failed["map_index"])
    lines = [
        line.strip() for line in log.splitlines() if "Error" in line and "Bash command failed" not in line
    ]
    reason = lines[-1] if lines else "its log says no reason"
    return f"task {_label(failed)} failed: {reason}"


# --- after the night ---------------------------------------------------------------------------------------


def after(config: Settings, console: Console, customers: int) -> dict[str, Any]:
    """What a night looks like from outside: the models now served, real answers, and the visitors."""
    seen: dict[str, Any] = {"served": None, "recommendation": None, "visits": None}
    return {
        **seen,
        **_recommended(config, console, customers),
        **_forecast(config),
        **_coached(config, console),
    }


def _coached(config: Settings, console: Console) -> dict[str, Any]:
    """The language model now served, and one question with its answer and the seconds that it took."""
    with httpx.Client(
        base_url=service_uri(config, LANGUAGE), timeout=ANSWER_SECONDS, trust_env=False
    ) as service:
        coach = wait_until_served(config, LANGUAGE, service, BASE_SECONDS)
        if coach is None:
            return {"coach": None, "chat": None}
        asked = {"user_id": "make run", "messages": [{"role": "user", "content": ASKED}], "stream": False}
        with console.status("the coach is asked something"):
            began = time.monotonic()
            reply = service.post("/chat", json=asked)
            seconds = time.monotonic() - began
    chat = {"asked": ASKED, "seconds": round(seconds, 2), **reply.json()} if reply.is_success else None
    return {"coach": coach, "chat": chat}


def _forecast(config: Settings) -> dict[str, Any]:
    with httpx.Client(base_url=service_uri(config, FORECASTER), timeout=30, trust_env=False) as service:
        forecaster = wait_until_served(config, FORECASTER, service)
        if forecaster is None:
            return {"forecaster": None, "trends": None}
        # The topics are forecast anew when a model or a day arrives, a moment after it.
        reply = service.get("/trends", params={"k": TRENDS})
        return {"forecaster": forecaster, "trends": reply.json() if reply.is_success else None}


def _recommended(config: Settings, console: Console, customers: int) -> dict[str, Any]:
    with httpx.Client(base_url=service_uri(config, RECOMMENDER), timeout=30, trust_env=False) as service:
        served = wait_until_served(config, RECOMMENDER, service)
        if served is None:
            return {}
        answer = None
        for user in busiest_users(config):
            reply = service.post("/recommend", json={"user_id": user, "k": 5})
            answer = reply.json() if reply.is_success else None
            if answer and answer["known_user"]:
                break
    visits = None
    if config.source == "market" and customers:
        with console.status(f"{customers} simulated customers visit the service"):
            try:
                visits = run_step(config, ["nightshift.visits", "--customers", str(customers)])
            except StepFailedError as error:  # the night itself is done
                console.print(f"[yellow]the simulated customers could not visit: {escape(str(error))}")
    return {"served": served, "recommendation": answer, "visits": visits}


def wait_until_served(
    config: Settings, seat: Seat, service: httpx.Client, seconds: float = 60
) -> dict[str, Any] | None:
    """The service's own word on its model, once it is the registry's champion; None with no champion.

    Raises:
        StackError: the service did not take the champion in time.
    """
    from nightshift.registry import Registry

    champion = Registry(config).champion(seat)
    if champion is None:
        return None
    deadline = time.monotonic() + seconds
    while True:
        answer = service.get("/model")
        model: dict[str, Any] = answer.json() if answer.is_success else {}
        if str(model.get("version")) == str(champion.number):
            return model
        if time.monotonic() > deadline:
            raise StackError(
                f"version {champion.number} is Production, but the {seat.name} service still answers "
                f"{answer.status_code} {answer.text[:200]}; see {config.logs_dir / seat.name}.log"
            )
        time.sleep(0.5)


def busiest_users(config: Settings, at_most: int = 10) -> list[str]:
    """The users with most interactions on the newest day, busiest first (ties by id)."""
    lake = open_lake(config)
    last = lake.last_day()
    assert last is not None, "a night has just been published"
    counts = pc.value_counts(lake.read("interactions", last, last)["user_id"]).to_pylist()
    return [str(c["values"]) for c in sorted(counts, key=lambda c: (-c["counts"], c["values"]))[:at_most]]


def keep_serving(config: Settings, console: Console) -> None:
    """Wait until Ctrl-C, then stop everything. Says so if a process dies meanwhile."""
    console.print("[dim]Serving until Ctrl-C. `make run` in another shell runs the next night.")
    stack = Stack(config)
    told: set[str] = set()
    try:
        while stack.running():
            for name in set(stack.died()) - told:
                console.print(
                    f"[red]{name} has died; see {config.logs_dir / name}.log; `nightshift up` restarts it"
                )
                told.add(name)
            time.sleep(2)
        console.print("the stack was stopped")
    except KeyboardInterrupt:
        console.print()


def stop(config: Settings, console: Console) -> None:
    """Stop everything in order. A second Ctrl-C is answered, not obeyed: it would leave the rest running."""
    patience = "still stopping; a running task is given up to two minutes to end"
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda *_: console.print(patience))
    with console.status("stopping") as status:
        Stack(config).down(lambda line: status.update(line))
    console.print(f"[green]✓[/] everything is stopped; state is kept in {config.home}", soft_wrap=True)
