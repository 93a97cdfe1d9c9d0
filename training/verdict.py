"""A verdict as people read it: one headline, the reason, every check with its figures.

The page must answer "why was this not promoted?" in ten seconds: the decision and its reason come first,
what failed stands above what passed. Everything here turns plain values into text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from html import escape
from typing import Any

from training.gate import Check, Verdict, named, written

MARKS = {"pass": "✓ pass", "fail": "✗ FAIL", "missing": "? MISSING"}
COLOURS = {"promote": "#1a7f37", "keep": "#9a6700", "not blessed": "#cf222e"}
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2328}
h1{font-size:1.5rem;border-left:.5rem solid var(--c);padding-left:.75rem}h2{font-size:1.1rem;margin-top:2rem}
.why{font-size:1.1rem}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.35rem .75rem .35rem 0;border-bottom:1px solid #d1d9e0;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.s{white-space:nowrap}.k{min-width:9rem}
.pass{color:#1a7f37}.fail,.missing{color:#cf222e;font-weight:600}code{font-size:.85em}.dim{color:#59636e}"""


@dataclass(frozen=True)
class Page:
    """What a verdict page tells.

    version: None if no candidate arrived. champion: who sat in the seat when the verdict was reached.
    exam: units, unit, digest, start, end, about. scores: who (candidate, champion, rivals, baselines) → metric →
    figure; `baselines` says which of them are cheap models. beaten_by: the candidate that takes the seat instead.
    """

    seat: str
    version: int | None
    family: str
    night: date
    champion: int | None
    exam: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, float]]
    verdict: Verdict
    baselines: tuple[str, ...] = ()
    beaten_by: int | None = None


def headline(page: Page) -> str:
    """The decision in one line."""
    who = f"version {page.version} ({page.family})" if page.version is not None else "no candidate"
    holder = f"version {page.champion}" if page.champion is not None else None
    if page.verdict.decision == "promote":
        gained = f"takes the {page.seat} seat" + (f" from {holder}" if holder else ", which was empty")
        return f"Promoted: {who} {gained}"
    if page.beaten_by is not None:
        return f"Not promoted: {who}; version {page.beaten_by} takes the {page.seat} seat"
    kept = f"{holder} keeps the {page.seat} seat" if holder else f"the {page.seat} seat stays empty"
    return f"{'Not promoted' if page.verdict.decision == 'keep' else 'Not blessed'}: {who}; {kept}"


def description(page: Page) -> str:
    """The paragraph on the version's page in MLflow (Markdown)."""
    exam = page.exam
    return (
        f"**{headline(page)}.** {page.verdict.reason}\n\n"
        f"Examined on night {page.night}: {_passed(page)}, {exam['units']:,} {exam['unit']}, {_days(exam)}. "
        "All figures: the run's artifacts, `verdict/verdict.html`."
    )


def tags(page: Page) -> dict[str, str]:
    """The verdict as tags of the version."""
    figures = {f"exam_{metric}": f"{figure:.6f}" for metric, figure in page.scores["candidate"].items()}
    return {
        "verdict": page.verdict.decision,
        "verdict_reason": page.verdict.reason,
        "exam_digest": str(page.exam["digest"]),
        **figures,
    }


def markdown(page: Page) -> str:
    """The page as Markdown."""
    names = [name.replace("|", "/") for name in page.scores]
    lines = [
        f"# {headline(page)}",
        f"**Why:** {page.verdict.reason}",
        f"## {_passed(page)}",
        "| result | check | what was found |\n|---|---|---|\n"
        + "\n".join(f"| {MARKS[c.status]} | {_cell(c.name)} | {_cell(c.sentence)} |" for c in _ordered(page)),
        "## Figures on tonight's exam",
        f"| metric | {' | '.join(names)} |\n|---|{'---:|' * len(names)}\n"
        + "\n".join(f"| {metric} | {' | '.join(row)} |" for metric, row in _figures(page)),
        "## The exam",
        "\n".join(f"- {line}" for line in _about(page)),
    ]
    return "\n\n".join(lines) + "\n"


def html(page: Page) -> str:
    """The page as one self-contained HTML file, which MLflow's artifact viewer shows as a page."""
    title = escape(headline(page))
    checks = "".join(
        f'<tr><td class="s {c.status}">{MARKS[c.status]}<td class="k">{escape(c.name)}<td>{escape(c.sentence)}'
        for c in _ordered(page)
    )
    heads = "".join(f'<th class="n">{escape(name)}' for name in page.scores)
    rows = "".join(
        f"<tr><td>{escape(metric)}" + "".join(f'<td class="n">{figure}' for figure in row)
        for metric, row in _figures(page)
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f'<body style="--c:{COLOURS[page.verdict.decision]}"><h1>{title}</h1>'
        f'<p class="why"><b>Why:</b> {escape(page.verdict.reason)}</p>'
        f"<h2>{_passed(page)}</h2><table>{checks}</table>"
        f"<h2>Figures on tonight's exam</h2><table><tr><th>metric{heads}{rows}</table>"
        f'<h2>The exam</h2><p class="dim">{"<br>".join(escape(line) for line in _about(page))}</p></body></html>\n'
    )


def _ordered(page: Page) -> list[Check]:
    """What stands in the way first, then what passed."""
    return [*page.verdict.failing(), *(check for check in page.verdict.checks if check.status == "pass")]


def _passed(page: Page) -> str:
    passed = sum(check.status == "pass" for check in page.verdict.checks)
    return f"{passed} of {len(page.verdict.checks)} checks passed"


def _figures(page: Page) -> list[tuple[str, list[str]]]:
    metrics = dict.fromkeys(metric for figures in page.scores.values() for metric in figures)
    return [
        (
            named(metric),
            [written(metric, f[metric]) if metric in f else "–" for f in page.scores.values()],
        )
        for metric in metrics
    ]


def _about(page: Page) -> list[str]:
    exam = page.exam
    return [
        f"{exam['about']}; {_days(exam)}",
        f"exam digest {exam['digest'] or 'none'}; it seeds the bootstrap, so the figures can be computed again",
        f"again by hand: python -m training.examine {page.seat} --night {page.night}",
    ]


def _days(exam: Mapping[str, Any]) -> str:
    return f"{exam['start']}" if exam["start"] == exam["end"] else f"{exam['start']} to {exam['end']}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
