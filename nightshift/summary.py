"""The summary of a night, for a person at a terminal."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from nightshift.parts import service_uri
from nightshift.seats import FORECASTER, LANGUAGE, RECOMMENDER, SEATS
from nightshift.settings import Settings

# What the table of a seat's exam shows, its primary metric first.
SHOWN = {
    "recommender": ("ndcg_at_100", "ndcg_at_10", "hr_at_10", "recall_at_50"),
    "forecaster": ("mse", "mae", "skill", "coverage_80"),
    "language": ("bits_per_byte", "worst_bits_per_byte", "nll", "perplexity"),
}
MASKED = "masked_"  # how counts of masked personal data begin (nightshift.cleaning)
COUNTED = ("interactions", "indicators", "conversations")  # what happened, not to whom and with what


def show(config: Settings, summary: dict[str, Any], console: Console) -> None:
    """The summary of a night, for a person."""
    parts: list[Any] = [_data_lines(summary)]
    for seat in SEATS:
        gate = summary["gates"].get(seat)
        if gate is None:
            parts += [Text(), Text(f"The {seat} seat was left out tonight: no data for it, or no family.")]
        else:
            parts += [Text(), _exam_line(gate), _exam_table(gate), Text(), _verdict_lines(gate)]
    console.print()
    console.print(
        Panel(
            Group(*parts),
            title=f"[bold]Night {summary['night']}",
            subtitle=f"{summary['seconds']:.0f} s · {sum(summary['memory_mb'].values()) / 1024:.1f} GiB",
            padding=(1, 2),
        )
    )
    if summary["served"] is None:
        console.print("[yellow]Nobody sits in the recommender seat yet: nothing is served.")
    elif summary["recommendation"] is None:
        console.print(f"Version {summary['served']['version']} of the recommender is serving.")
    else:
        _show_served(summary, console)
    if summary["trends"]:
        _show_trends(summary, console)
    if summary["coach"]:
        _show_chat(summary, console)
    console.print("[bold]Where to look")
    for name, address, hint in (
        (
            "Airflow",
            f"{config.airflow_uri}/dags/nightly",
            f"{config.airflow_user}, password in {config.home}/secrets.json",
        ),
        (
            "MLflow",
            f"{config.mlflow_uri}/#/models",
            "each version's page has its verdict",
        ),
        ("Service", service_uri(config, RECOMMENDER), "POST /recommend, POST /feedback, GET /model"),
        ("Service", service_uri(config, FORECASTER), "POST /forecast, GET /trends, GET /model"),
        (
            "Service",
            service_uri(config, LANGUAGE),
            "POST /chat, POST /profile, POST /match, GET /roadmap, GET /model",
        ),
    ):
        console.print(
            f"  {name:8} [link={address}]{address}[/link]  [dim]{hint}", soft_wrap=True, highlight=False
        )


def _data_lines(summary: dict[str, Any]) -> Text:
    audit = summary["audit"]
    rows = ", ".join(f"{summary['rows'][name]:,} {name}" for name in COUNTED if summary["rows"].get(name))
    lines = [
        f"{rows or 'no rows'} of the day in the lake, audited: all {audit['expectations']} expectations met"
    ]
    taken = summary["taken_in"] or {}
    if len(taken.get("days", [])) > 1:
        lines.append(f"with its history: {len(taken['days'])} days, {taken['rows']:,} interactions")
    counts: Counter[str] = Counter()
    for name, count in summary["counts"].items():
        counts[name.partition(".")[2]] += count
    del counts["read"], counts["kept"]
    masked = {name.removeprefix(MASKED): n for name, n in counts.items() if n and name.startswith(MASKED)}
    left_out = {name: n for name, n in counts.items() if n and not name.startswith(MASKED)}
    for what, found in (("left out", left_out), ("masked in conversations", masked)):
        if found:
            lines.append(f"{what}: " + ", ".join(f"{n:,} {name}" for name, n in found.items()))
    feedback = summary["counts"].get("events.kept", 0)
    if feedback:
        lines.append(f"{feedback:,} of them are feedback on what the service showed")
    for name, family in summary["families"].items():
        lines.append(
            f"{name} version {family['version']} trained in {family['seconds']:.0f} s{_start(family)}"
        )
    return Text("\n".join(lines))


def _start(family: dict[str, Any]) -> str:
    """From where a family's training started, of those that can go on from an earlier version."""
    if "warm_from" in family:
        return f", on from version {family['warm_from']}"
    return f", from nothing: {family['full_retrain_reason']}" if "full_retrain_reason" in family else ""


def _exam_line(gate: dict[str, Any]) -> Text:
    exam = gate["exam"]
    days = exam["start"] if exam["start"] == exam["end"] else f"{exam['start']} to {exam['end']}"
    return Text(f"The {gate['seat']}'s exam: {exam['units']:,} {exam['unit']}, {days}", style="bold")


def _exam_table(gate: dict[str, Any]) -> Table:
    """Everyone who sat the seat's exam, best first; the verdict's page has every metric."""
    table, metrics = Table(), SHOWN[gate["seat"]]
    present = {who: figures for who, figures in gate["scores"].items() if metrics[0] in figures}
    table.add_column("model")
    for metric in metrics:
        table.add_column(metric, justify="right")
    sign = -1 if SEATS[gate["seat"]].higher_is_better else 1
    for who, figures in sorted(present.items(), key=lambda one: sign * one[1][metrics[0]]):
        label = f"{who} v{gate[who]}" if gate.get(who) else who
        if who == "candidate":
            label += f" ({gate['family']})"
        table.add_row(label, *(f"{figures[m]:.4g}" if m in figures else "–" for m in metrics))
    return table


def _verdict_lines(gate: dict[str, Any]) -> Text:
    styles = {"promote": "bold green", "keep": "bold yellow", "hold": "bold cyan"}
    text = Text()
    text.append(
        f"{gate['seat'].capitalize()}: {gate['decision']}\n", style=styles.get(gate["decision"], "bold red")
    )
    text.append("\n".join(f"  {reason}" for reason in gate["reasons"]))
    for flag in gate.get("flags", ()):
        text.append(f"\n  Flagged: {flag}", style="yellow")
    return text


def _show_served(summary: dict[str, Any], console: Console) -> None:
    served, answer, visits = summary["served"], summary["recommendation"], summary["visits"]
    table = Table(
        title=f"Version {served['version']} is serving; what it shows {answer['user_id']}",
        title_justify="left",
    )
    for name in ("rank", "item", "score", "why"):
        table.add_column(name, justify="right" if name in ("rank", "score") else "left")
    for item in answer["items"]:
        table.add_row(str(item["rank"]), item["title"], f"{item['score']:.2f}", item["reason"])
    console.print(table)
    if visits:
        console.print(
            f"{visits['customers']} simulated customers visited and sent {visits['accepted']} events; "
            "they are part of the next night's data."
        )


def _show_chat(summary: dict[str, Any], console: Console) -> None:
    coach, chat = summary["coach"], summary["chat"]
    console.print(
        f"Version {coach['version']} is the coach" + (":" if chat else "; it did not answer just now.")
    )
    if chat:
        pace = (
            f"{chat['tokens'] / chat['seconds']:.0f} tokens/s"
            if chat.get("tokens")
            else f"{chat['seconds']:.1f} s"
        )
        console.print(f"  [dim]›[/] {escape(chat['asked'])}")
        console.print(f"  [dim]‹[/] {escape(chat['message']['content'])}  [dim]{pace}", highlight=False)


def _show_trends(summary: dict[str, Any], console: Console) -> None:
    trends = summary["trends"]
    table = Table(
        title=f"Version {trends['model_version']} forecasts {trends['topics']} topics (velocity, 0 to 100)",
        title_justify="left",
    )
    for name in ("rank", "topic", "now", "in 4 weeks (80 %)", "driven by"):
        table.add_column(name, justify="right" if name in ("rank", "now", "in 4 weeks (80 %)") else "left")
    for trend in trends["trends"]:
        low, high = (trend["velocity"] + trend["interval_80"][end] for end in ("low", "high"))
        driver = trend["drivers"][0]["indicator"].replace("_", " ") if trend["drivers"] else "–"
        table.add_row(
            str(trend["rank"]), trend["topic"], f"{trend['velocity']:.0f}",
            f"{trend['forecast']:.0f} ({low:.0f} to {high:.0f})", driver,
        )  # fmt: skip
    console.print(table)
