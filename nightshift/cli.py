"""`nightshift …`: the front door. Each step is the same command that the DAG runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nightshift.commands import quiet_libraries, run_command
from nightshift.settings import PROJECT, Settings, settings

app = typer.Typer(
    help="Models that retrain every night, win their place or don't, and are watched by day.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # locals can hold secrets
)
console = Console()

NightOption = Annotated[
    datetime | None,
    typer.Option("--night", formats=["%Y-%m-%d"], help="Data date; default: the next one by the data."),
]
NewestOption = Annotated[
    datetime | None,
    typer.Option("--night", formats=["%Y-%m-%d"], help="Data date; default: the newest published day."),
]
SeatArgument = Annotated[str, typer.Argument(help="The seat, such as recommender.")]
VersionArgument = Annotated[
    str, typer.Argument(help="recommender/12, or a bare 12 if only one seat has a version 12.")
]
ReasonOption = Annotated[str, typer.Option(help="Why, in up to 2,000 characters; it is recorded.")]
SourceOption = Annotated[
    Literal["market", "online_retail", "files"], typer.Option(help="Where the days come from.")
]
FromOption = Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First night.")]
ToOption = Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last night.")]
DataOption = Annotated[Path | None, typer.Option(help="Folder of day files.", exists=True, file_okay=False)]
HistoryOption = Annotated[
    int, typer.Option(help="Days of history that the first night takes in.", min=2, max=400)
]
StateOption = Annotated[
    Path | None, typer.Option("--home", help="Where its state goes; default: a folder of its own in var.")
]
PlotOption = Annotated[Path | None, typer.Option("--png", help="The plot; default: a file in its state.")]
Steps, Operate, Review = "Steps of a night (the DAG's own commands)", "The stack", "For the reviewer"


def step(module: str, *arguments: str, night: datetime | None, of_newest: bool = False) -> None:
    """Run `python -m module … --night …` in this terminal and leave with its exit status if it failed.

    night: None means the next night by the data; with `of_newest` the newest published day, if there is one.
    """
    from nightshift.intake import next_night
    from nightshift.lake import open_lake

    chosen = []

    def choose() -> None:
        newest = open_lake(settings()).last_day() if of_newest else None
        chosen.append(night.date() if night else newest or next_night(settings()))

    run_command(choose)
    leave_with(in_terminal([module, *arguments, "--night", chosen[0].isoformat()]))


def leave_with(status: int) -> None:
    if status != 0:
        raise typer.Exit(status)


def in_terminal(words: list[str]) -> int:
    """`python -m …` with this terminal; its exit status. Told to stop, it tells the step, and waits for it."""
    from nightshift.parts import environment

    process = subprocess.Popen([sys.executable, "-m", *words], cwd=PROJECT, env=environment(settings()))
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


@app.command(rich_help_panel=Steps)
def ingest(night: NightOption = None) -> None:
    """Stage a night's days: the source's rows and the feedback events."""
    step("nightshift.intake", "ingest", night=night)


@app.command(rich_help_panel=Steps)
def audit(night: NightOption = None) -> None:
    """Audit what is staged (Great Expectations); a bad day goes to quarantine with its report."""
    step("monitoring.quality", night=night)


@app.command(rich_help_panel=Steps)
def publish(night: NightOption = None) -> None:
    """Move audited days into the lake."""
    step("nightshift.intake", "publish", night=night)


@app.command(rich_help_panel=Steps)
def features(night: NewestOption = None) -> None:
    """Build the features point in time and fill the online store."""
    step("feature_repo.build", night=night, of_newest=True)


@app.command(rich_help_panel=Steps)
def train(
    family: Annotated[str, typer.Argument(help="The family, such as ncf.")],
    night: NewestOption = None,
    smoke: Annotated[bool, typer.Option(help="Seconds instead of quality.")] = False,
    seed: Annotated[int | None, typer.Option(help="Same seed and data, same model on CPU.")] = None,
) -> None:
    """Train a family and submit the candidate."""
    options = [*(["--smoke"] if smoke else []), *(["--seed", str(seed)] if seed is not None else [])]
    step("training.run", family, *options, night=night, of_newest=True)


@app.command(rich_help_panel=Steps)
def study(
    family: Annotated[str, typer.Argument(help="The family, such as ncf.")],
    night: NewestOption = None,
    minutes: Annotated[float, typer.Option(help="When to end at the latest.", min=0.01)] = 10.0,
    trials: Annotated[int | None, typer.Option(help="How many settings to try.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="What is drawn depends on it.")] = None,
) -> None:
    """Look for better settings of a family; the next night tries what it proposes."""
    options = ["--minutes", str(minutes)]
    for name, value in (("--trials", trials), ("--seed", seed)):
        options += [name, str(value)] if value is not None else []
    step("training.study", family, *options, night=night, of_newest=True)


@app.command(rich_help_panel=Steps)
def gate(seat: SeatArgument = "recommender", night: NewestOption = None) -> None:
    """Examine tonight's candidate against the champion; promote it if it wins."""
    step("training.examine", seat, night=night, of_newest=True)


@app.command(rich_help_panel=Steps)
def night(
    night: NightOption = None,
    smoke: Annotated[bool, typer.Option(help="Seconds instead of quality.")] = False,
) -> None:
    """Run a whole night here, without Airflow. Needs MLflow up (`nightshift up`)."""
    step("nightshift.night", "run", *(["--smoke"] if smoke else []), night=night)


@app.command(rich_help_panel=Steps)
def watch() -> None:
    """Compare the newest features with those the champion was trained on."""
    leave_with(in_terminal(["monitoring.watch"]))


@app.command(rich_help_panel=Operate)
def run(
    once: Annotated[bool, typer.Option(help="One night, then stop everything.")] = False,
    smoke: Annotated[bool, typer.Option(help="Seconds instead of quality.")] = False,
) -> None:
    """Start the stack, run the next night through Airflow, show what happened, keep serving."""
    from nightshift import tonight

    def command() -> None:
        config = settings()
        started: list[str] = []
        try:
            tonight.run(config, console, smoke=smoke, started=started)
            if not once:
                tonight.keep_serving(config, console)
        except KeyboardInterrupt:
            console.print("interrupted")
            raise SystemExit(130) from None
        finally:
            if started:  # else it is another shell's stack, which serves on
                tonight.stop(config, console)

    run_command(command)


@app.command(rich_help_panel=Operate)
def up() -> None:
    """Start the stack and leave it running."""
    from nightshift.airflow_api import Airflow
    from nightshift.stack import Stack
    from nightshift.tonight import DAGS

    def command() -> None:
        with console.status("starting") as status:
            Stack(settings()).up(lambda line: status.update(line))
            Airflow(settings()).prepare(DAGS)

    run_command(command)
    status()


@app.command(rich_help_panel=Operate)
def down() -> None:
    """Stop the stack in the order that loses nothing."""
    from nightshift import tonight

    run_command(lambda: tonight.stop(settings(), console))


@app.command(rich_help_panel=Operate)
def status() -> None:
    """What runs, where, with how much memory; the lake; who is champion."""
    from nightshift.parts import parts
    from nightshift.stack import Stack

    config = settings()
    stack = Stack(config)
    alive, memory = stack.running(), stack.memory_mb()
    table = Table("part", "state", "address", "MiB", title="Stack", title_justify="left")
    for part in parts(config):
        address = f"http://{config.host}:{part.port}" if part.port else ""
        state = "[green]running" if part.name in alive else "[dim]stopped"
        table.add_row(part.name, state, address, f"{memory.get(part.name, 0):.0f}")
    console.print(table)
    run_command(_print_lake)
    if "mlflow" in alive:
        run_command(_print_champions)


def _print_lake() -> None:
    from nightshift.lake import open_lake

    days = open_lake(settings()).days()
    console.print(f"Lake: {len(days)} days" + (f", {days[0]} … {days[-1]}" if days else ""))


def _print_champions() -> None:
    from nightshift import studies
    from nightshift.registry import Registry
    from nightshift.seats import SEATS

    registry = Registry(settings())
    for seat in SEATS.values():
        champion = registry.champion(seat)
        who = (
            f"version {champion.number}, trained on night {champion.tags.get('night')}"
            if champion
            else "nobody yet"
        )
        console.print(f"Champion of {seat.name}: {who}")
    for one in studies.proposals(settings()):
        tried = registry.get(SEATS[one.seat], one.version) if one.version is not None else None
        console.print(f"Study of {one.family}: {studies.state(one, tried)}")


@app.command(rich_help_panel=Operate)
def backup(
    to: Annotated[Path | None, typer.Option(help="Folder of backups; default: NIGHTSHIFT_BACKUPS.")] = None,
    keep: Annotated[
        int | None, typer.Option(help="Delete all but the newest so many afterwards.", min=1)
    ] = None,
    secrets: Annotated[bool, typer.Option("--secrets", help="Passwords and keys too.")] = False,
) -> None:
    """Back up all that cannot be made again; the stack may run.

    Example: nightshift backup --to /mnt/backups --keep 7
    """
    from nightshift import backup as backing

    def command() -> None:
        with _progress("backing up") as progress:
            made = backing.make(settings(), to, secrets=secrets, keep=keep, progress=progress)
        for line in made.told["left_out"]:
            _say(f"not in it: {line}")
        if secrets:
            _say("it holds passwords and keys: whoever can read that folder has them")
        size = sum(each["size"] for each in made.told["files"])
        _say(
            f"{made.path}: {len(made.told['files'])} files, {_size(size)}, {_size(made.new)} of it new there"
        )
        if made.dropped:
            _say(f"deleted: {', '.join(made.dropped)}")

    run_command(command)


@app.command(rich_help_panel=Operate)
def restore(
    backup: Annotated[
        Path | None,
        typer.Argument(help="A backup, or a folder of them: its newest; default: NIGHTSHIFT_BACKUPS."),
    ] = None,
    home: Annotated[Path | None, typer.Option(help="Where to; default: NIGHTSHIFT_HOME.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Read every byte of it; restore nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Move a state that is there aside.")] = False,
) -> None:
    """Check a backup, and put it where the state lives. The stack must not run there.

    Example: nightshift restore /mnt/backups
    """
    from nightshift import restore as restoring

    def command() -> None:
        config = settings()
        if home is not None:
            config = config.model_copy(update={"home": home.expanduser().resolve()})
        chosen = restoring.find(backup or settings().backups_dir)
        with _progress("checking" if check else "restoring") as progress:
            if check:
                restoring.check(chosen, progress)
            else:
                aside = restoring.restore(chosen, config, force=force, progress=progress)
        if check:
            _say(f"{chosen.path}: whole, {len(chosen.told['files'])} files")
            return
        for line in aside:
            _say(line)
        days = chosen.told["days"]
        last = f", the lake up to {days[-1]}" if days else ""
        _say(f"{config.home}: restored from {chosen.path.name}{last}; `nightshift up` starts it")

    run_command(command)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal; nothing elsewhere."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None)
        yield lambda name, done, total: bar.update(
            task, description=name[-40:], completed=done, total=total or None
        )


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


@app.command(rich_help_panel=Review)
def approve(version: VersionArgument, reason: ReasonOption) -> None:
    """Seat a version that the gate put on hold for you; live in the service within seconds.

    Example: nightshift approve recommender/12 --reason "looked at the slices with Jun"
    """
    _decide("approve", version, reason)


@app.command(rich_help_panel=Review)
def reject(version: VersionArgument, reason: ReasonOption) -> None:
    """Turn a version down: the gate does not seat it, and no rollback returns to it.

    Example: nightshift reject recommender/12 --reason "trained while the shop was closed"
    """
    _decide("reject", version, reason)


@app.command(rich_help_panel=Review)
def override(version: VersionArgument, reason: ReasonOption) -> None:
    """Seat a version against the gate's verdict; it has to load, and the history says it was you.

    Example: nightshift override recommender/12 --reason "a hot fix for the empty lists"
    """
    _decide("override", version, reason)


@app.command(rich_help_panel=Review)
def freeze(version: VersionArgument, reason: ReasonOption) -> None:
    """Make a version the reference that no champion may fall behind; who serves does not change.

    Example: nightshift freeze recommender/12 --reason "a year of good work, and a new catalogue"
    """
    _decide("freeze", version, reason)


def _decide(action: str, version: str, reason: str) -> None:
    def command() -> None:
        from nightshift import review
        from nightshift.registry import Registry

        registry = Registry(settings())
        seat, found = review.find(registry, version)
        line = getattr(review, action)(registry, seat, found.number, by=review.reviewer(), reason=reason)
        _say(line)

    run_command(command)


@app.command(rich_help_panel=Review)
def rollback(
    seat: SeatArgument,
    reason: ReasonOption,
    to: Annotated[
        int | None, typer.Option(help="Version; default: the champion before this one.", min=1)
    ] = None,
) -> None:
    """Give the seat back to an earlier version; live in the service within seconds.

    Example: nightshift rollback recommender --reason "complaints about empty shelves"
    """

    def command() -> None:
        from nightshift import review
        from nightshift.errors import SettingsError
        from nightshift.registry import Registry
        from nightshift.seats import find_seat

        name, slash, number = seat.partition("/")
        if slash:
            raise SettingsError(
                f"a rollback is of a seat, and {seat!r} names a version; to go back to that version: "
                f"nightshift rollback {name} --to {number.removeprefix('v')}"
            )
        found = find_seat(seat)
        line = review.rollback(Registry(settings()), found, to, by=review.reviewer(), reason=reason)
        _say(line)

    run_command(command)


@app.command(rich_help_panel=Review)
def history(
    seat: SeatArgument,
    as_json: Annotated[bool, typer.Option("--json", help="A list of records, oldest first.")] = False,
) -> None:
    """All that was decided about a seat, newest last: when (UTC), from, to, by whom, why, and on which exam.

    Fails if a record was changed since it was written, and says which; the records are shown all the same.

    Example: nightshift history recommender --json
    """
    run_command(lambda: _history(seat, as_json))


def _history(name: str, as_json: bool) -> None:
    from nightshift.errors import RegistryError
    from nightshift.registry import Registry
    from nightshift.seats import find_seat

    rows, wrong = Registry(settings()).audit(find_seat(name))
    if as_json:
        for row in rows:
            row["broken"] = "; ".join(x for x in wrong if x.startswith(f"record {row['number']} ")) or None
        print(json.dumps(rows, ensure_ascii=False))
    else:
        for row in rows:
            _say(_headline(row))
            if console.is_terminal:
                console.print(Padding(Text(row["reason"]), (0, 0, 0, 4)))
            else:  # one line, whatever its length: a pipe has no width
                _say(f"    {row['reason']}")
    if wrong:
        raise RegistryError(f"the history of {name} is broken: {'; '.join(wrong)}")


def _headline(row: dict[str, Any]) -> str:
    """One record of the history but for its reason: `#3  2026-11-20 16:47  rollback  2 → 1  by root  exam 4cb1…`."""
    moved = row["to"] == row["version"] and row["from"] != row["to"]
    what = f"{row['from'] or 'nobody'} → {row['to']}" if moved else f"version {row['version']}"
    words = [f"#{row['number']}", row["at"][:16].replace("T", " "), row["action"], what, f"by {row['by']}"]
    if row["exam_digest"]:
        words.append(f"exam {row['exam_digest'][:12]}")
    return "  ".join(words)


@app.command(rich_help_panel=Review)
def outcomes(
    settle: Annotated[float, typer.Option(help="Minutes that a user has to do something.", min=0)] = 30,
    look_only: Annotated[bool, typer.Option("--look-only", help="Judge, and change nothing.")] = False,
) -> None:
    """Judge champions by what users did with their answers. May roll a champion back!

    One whose answers users do less with than with those of the champion before it, beyond noise, loses the seat at
    once, as it does when the watch looks every hour. With --look-only nothing is moved and nothing is written.

    Example: nightshift outcomes --look-only
    """
    from nightshift.parts import environment

    words = [sys.executable, "-m", "monitoring.outcomes", "--settle", str(settle)]
    words += ["--look-only"] if look_only else []
    done = subprocess.run(words, cwd=PROJECT, env=environment(settings()), stdout=subprocess.PIPE, text=True)
    leave_with(done.returncode)
    seats = json.loads(done.stdout.splitlines()[-1])["seats"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))  # without lines it fits 80 columns
    for heading in ("seat", "version", "requests", "rate", "before", "its rate", "verdict"):
        table.add_column(heading, no_wrap=True)
    for name, seen in seats.items():
        rates = ["–" if seen[key] is None else f"{seen[key]:.1%}" for key in ("rate", "rate_before")]
        verdict = "rolled back" if seen["rolled_back"] else seen["verdict"]
        table.add_row(
            name, _shown(seen["champion"]), str(seen["requests"]), rates[0], _shown(seen["previous"]), rates[1],
            verdict,
        )  # fmt: skip
    console.print(table)
    for name, seen in seats.items():
        _say(f"{name}: {seen['reason']}")


@app.command(rich_help_panel=Review)
def replay(
    source: SourceOption,
    start: FromOption,
    end: ToOption,
    data: DataOption = None,
    history: HistoryOption = 60,
    home: StateOption = None,
    png: PlotOption = None,
) -> None:
    """Run past nights without Airflow; judge each Production model by the next day's real behaviour."""
    from nightshift import replay as replaying

    run_command(
        lambda: replaying.run(
            replaying.replay_settings(settings(), source, data, home, history),
            start.date(), end.date(), console, png,
        )
    )  # fmt: skip


@app.command(rich_help_panel=Review)
def backtest(
    source: SourceOption,
    start: FromOption,
    end: ToOption,
    data: DataOption = None,
    history: HistoryOption = 60,
    family: Annotated[str | None, typer.Option(help="Whose models are always promoted.")] = None,
    home: StateOption = None,
    png: PlotOption = None,
) -> None:
    """The whole policy on history: never retrain, always promote, our gate; what each would have found."""
    from nightshift import backtest as backtesting
    from nightshift.replay import replay_settings

    run_command(
        lambda: backtesting.run(
            replay_settings(settings(), source, data, home, history, kind="backtest"),
            start.date(), end.date(), console, png, family,
        )
    )  # fmt: skip


@app.command()
def config() -> None:
    """Print the settings in force; secrets are hidden."""
    table = Table("setting", "value", "meaning")
    values = settings().model_dump(mode="json")
    for name, field in Settings.model_fields.items():
        table.add_row(f"NIGHTSHIFT_{name.upper()}", _shown(values[name]), field.description or "")
    console.print(table)


def _say(line: str) -> None:
    """Print text that people wrote: as it is, and unbroken."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _shown(value: Any) -> str:
    return "–" if value is None else str(value)


def wrong_setting(error: ValidationError) -> str:
    """The first setting that is wrong, by the name a person gave it; no value, for it may be a secret."""
    first = error.errors(include_input=False)[0]
    name = str(first["loc"][0]).upper().removeprefix("NIGHTSHIFT_")
    unknown = "there is no such setting; `nightshift config` lists them"
    return f"NIGHTSHIFT_{name}: {unknown if first['type'] == 'extra_forbidden' else first['msg']}"


def main() -> None:
    # `kill` and a closed terminal end things in order, as Ctrl-C does.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda *_: sys.exit(130))
    quiet_libraries()
    try:
        settings()
    except ValidationError as error:
        print(f"SettingsError: {wrong_setting(error)}", file=sys.stderr)
        raise SystemExit(1) from None
    app()
