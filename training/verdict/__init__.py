"""A verdict as people read it: one headline, the reason, what to do, every check with its figures.

The page must answer "why was this not promoted?" in ten seconds: the decision and its reason come first, what failed
stands above what passed. Everything here turns plain values into text:

    page.py      the words            sections.py  the HTML page's parts      tables.py   rows of HTML and Markdown
    drawing.py   intervals as SVG     night_chart.py  the last nights         percents.py gains in words
    changes.py   data and code since the champion     nights.py  what earlier verdicts kept
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from training.gate import Check
from training.verdict import sections, tables
from training.verdict.page import DECISIONS, GROUPS, Page, advice, besides, headline, why
from training.verdict.stylesheet import STYLE

__all__ = ["Page", "description", "headline", "html", "markdown", "tags", "why"]

HELD = DECISIONS["hold"]
MARKS = {"pass": "✓ pass", "fail": "✗ FAIL", "missing": "? MISSING"}


def description(page: Page) -> str:
    """The paragraph on the version's page in MLflow (Markdown)."""
    exam = page.exam
    said = " ".join([why(page), *besides(page)])
    asked = (
        "".join(f"{words} `{command}`. " for words, command in advice(page)) if page.decision == HELD else ""
    )
    return (
        f"**{_text(headline(page))}.** {_text(said)} {asked}"
        f"Examined on night {page.night}: {tables.passed(page)}, {exam['units']:,} {_text(exam['unit'])}, "
        f"{tables.days(exam)}. The whole of it: the run's artifacts, `verdict/verdict.html`."
    )


def tags(page: Page) -> dict[str, str]:
    """The verdict as tags of the version."""
    figures = {
        f"exam_{metric}": f"{figure:.6f}" for metric, figure in page.scores.get("candidate", {}).items()
    }
    frozen = {"examined_reference": str(page.reference or "nobody")} if page.policy.reference else {}
    return {
        "verdict": page.verdict.decision,
        "verdict_reason": page.verdict.reason,
        "exam_digest": str(page.exam["digest"]),
        "policy_digest": page.verdict.policy,
        **frozen,
        "examined_against": str(page.champion) if page.champion is not None else "nobody",
        **figures,
    }


def html(page: Page) -> str:
    """The page as one self-contained HTML file without scripts, which MLflow's artifact viewer shows as a page."""
    parts = (
        sections.hero, sections.overview, sections.checks, sections.nights, sections.changes, sections.figures,
        sections.exam,
    )  # fmt: skip
    body = "".join(part(page) for part in parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(headline(page))}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def markdown(page: Page) -> str:
    """The page as Markdown, without the pictures."""
    parts = [f"# {_text(headline(page))}", f"**Why:** {_text(why(page))}"]
    if said := besides(page):
        parts.append(_text(" ".join(said)))
    parts.append("\n".join(f"- {words} `{command}`" for words, command in advice(page)))
    checks = [check for group in page.groups() for check in page.group(group)]
    rows = [(MARKS[c.status], _flagged(c), GROUPS.get(c.group, c.group), c.sentence) for c in checks]
    parts += [f"## {tables.passed(page)}", _table(("result", "check", "of", "what was found"), rows)]
    if left := tables.not_made(page):
        parts.append(
            "Not checked tonight:\n\n" + "\n".join(f"- {_text(title)}: {reason}" for title, reason in left)
        )
    parts += ["## The last nights", tables.NIGHTS_NOTE, _table(*tables.night_rows(page))]
    if page.changes is not None:
        parts += ["## What changed since the champion"]
        parts += ["\n".join(f"- {_text(line)}" for line in tables.change_lines(page.changes))]
    heads = ("metric", *tables.sitters(page))
    parts += ["## Figures on tonight's exam", _table(heads, tables.figure_rows(page))]
    parts += ["## The exam", "\n".join(f"- {_text(line)}" for line in tables.exam_lines(page))]
    return "\n\n".join(parts) + "\n"


def _flagged(check: Check) -> str:
    return f"{check.name} (flagged)" if check.flag else check.name


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in lines)


def _cell(text: str) -> str:
    return " ".join(_text(text).replace("|", "\\|").split())


def _text(text: str) -> str:
    """Text in Markdown, where a tag would be taken for one."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
