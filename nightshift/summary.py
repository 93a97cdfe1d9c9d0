"""The summary of a night, for a person at a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from nightshift.seats import RECOMMENDER
from nightshift.settings import Settings


def show(config: Settings, summary: dict[str, Any], console: Console) -> None:
    """The summary of a night, for a person."""
    gate = summary["gates"][RECOMMENDER.name]
    console.print()
    console.print(
        Panel(
            Group(_data_lines(summary), Text(), _exam_table(gate), Text(), _verdict_lines(gate)),
            title=f"[bold]Night {summary['night']}",
            subtitle=f"{summary['seconds']:.0f} s · {sum(summary['memory_mb'].values()) / 1024:.1f} GiB",
            padding=(1, 2),
        )
    )
    if summary["served"] is None or summary["recommendation"] is None:
        console.print("[yellow]Nobody sits in the recommender seat yet: nothing is served.")
    else:
        _show_served(summary, console)
    console.print("[bold]Where to look")
    for name, address, hint in (
        (
            "Airflow",
            f"{config.airflow_uri}/dags/nightly",
            f"{config.airflow_user}, password in {config.home}/secrets.json",
        ),
        (
            "MLflow",
            f"{config.mlflow_uri}/#/models/{RECOMMENDER.registered_model}",
            "each version's page has its verdict",
        ),
        ("Service", config.serving_uri, "POST /recommend, POST /feedback, GET /model"),
    ):
        console.print(
            f"  {name:8} [link={address}]{address}[/link]  [dim]{hint}", soft_wrap=True, highlight=False
        )


def _data_lines(summary: dict[str, Any]) -> Text:
    rows, audit = summary["rows"]["interactions"], summary["audit"]
    lines = [
        f"{rows:,} interactions of the day in the lake, audited: all {audit['expectations']} expectations met"
    ]
    taken = summary["taken_in"] or {}
    if len(taken.get("days", [])) > 1:
        lines.append(f"with its history: {len(taken['days'])} days, {taken['rows']:,} interactions")
    left_out = {k: v for k, v in summary["counts"].items() if v and not k.endswith((".read", ".kept"))}
    if left_out:
        lines.append("left out: " + ", ".join(f"{v:,} {k.partition('.')[2]}" for k, v in left_out.items()))
    feedback = summary["counts"].get("events.kept", 0)
    if feedback:
        lines.append(f"{feedback:,} of them are feedback on what the service showed")
    for name, family in summary["families"].items():
        lines.append(f"{name} version {family['version']} trained in {family['seconds']:.0f} s")
    return Text("\n".join(lines))


def _exam_table(gate: dict[str, Any]) -> Table:
    table = Table(
        title=f"Exam: {gate['exam']['users']:,} users, full catalogue, {gate['exam']['start']}",
        title_justify="left",
    )
    table.add_column("metric")
    columns = [
        ("candidate", gate["candidate_metrics"]),
        ("champion", gate["champion_metrics"]),
        ("popularity", gate["baseline_metrics"]),
    ]
    present = [(name, metrics) for name, metrics in columns if metrics]
    for name, _ in present:
        label = f"{name} v{gate[name]}" if gate.get(name) else name
        table.add_column(label, justify="right")
    for metric in present[0][1] if present else ():
        table.add_row(metric, *(f"{metrics.get(metric, float('nan')):.4f}" for _, metrics in present))
    return table


def _verdict_lines(gate: dict[str, Any]) -> Text:
    style = {"promote": "bold green", "keep": "bold yellow"}.get(gate["decision"], "bold red")
    text = Text()
    text.append(f"Verdict: {gate['decision']}\n", style=style)
    text.append("\n".join(f"  {reason}" for reason in gate["reasons"]))
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
