"""The parts of the verdict's HTML page, top to bottom. Every text from outside is escaped here or in `drawing`."""

from __future__ import annotations

from html import escape

from training.gate import Check
from training.metrics import described, named
from training.verdict import drawing
from training.verdict.changes import Change, Code
from training.verdict.night_chart import night_chart
from training.verdict.nights import tonight
from training.verdict.page import (
    GROUPS,
    Page,
    advice,
    besides,
    confidence,
    deciding,
    figures_of,
    headline,
    slice_of,
    span_of,
    told,
    why,
)  # fmt: skip
from training.verdict.tables import (
    NIGHTS_NOTE,
    SAME_DATA,
    best,
    code_lines,
    exam_lines,
    figure_rows,
    gained,
    metrics,
    not_made,
    passed,
    sitters,
)  # fmt: skip

LOOK = {
    "promote": ("good", "✓"),
    "hold": ("wait", "‖"),
    "keep": ("bad-news", "✗"),
    "not blessed": ("bad-news", "?"),
}
MARKS = {"pass": ("good", "✓ pass"), "fail": ("bad-news", "✗ failed"), "missing": ("bad-news", "? missing")}
RULES = {
    "better": "The interval must lie right of zero, and the point must reach the dashed line.",
    "baselines": "“Better than”: the interval must lie right of zero. “Not below”: it must reach zero.",
    "floors": "The figure must reach its limit, whatever the champion does.",
    "guardrails": "The whole interval must stay right of the dashed line: a loss larger than that must be ruled out.",
    "slices": "A slice fails if its whole interval lies left of zero and its point left of the dashed line.",
    "reference": "The point must stay right of the dashed line, so that small losses cannot add up over the nights.",
    "behaviour": "How the model answers, whatever it scores.",
    "infra": "The packaged model in the real service, in a process of its own.",
}


def hero(page: Page) -> str:
    """The decision, its one reason with its picture, and what to do."""
    look, mark = LOOK[page.verdict.decision]
    decision, _, rest = headline(page).partition(": ")
    check, picture = deciding(page), ""
    if check is not None and (span := span_of(check)) is not None:
        other = "champion" if check.group in ("better", "guardrails", "slices") else "other"
        if check.group in ("better", "baselines", "reference"):
            other = check.name.removeprefix("better than the ").removeprefix("not below the ")
            other = (
                other.removeprefix("not behind the ").rpartition(": ")[0]
                if check.group == "reference"
                else other
            )
        rule = f'<p class="dim small">{RULES.get(check.group, "")}</p>'
        picture = f'<div class="picture">{drawing.hero(span, check.name, check.sentence, other)}{rule}</div>'
    more = "".join(f'<p class="besides dim">{escape(line)}</p>' for line in besides(page))
    steps = "".join(
        f"<p>{escape(words)}</p><pre><code>{escape(command)}</code></pre>" for words, command in advice(page)
    )
    return (
        f'<header class="hero {look}"><p class="eyebrow">Night {page.night} · seat {escape(page.seat)}</p>'
        f"<h1><b>{mark} {escape(decision)}</b>{escape(rest[:1].upper() + rest[1:])}</h1>"
        f'<p class="why"><b>Why:</b> {escape(why(page))}</p>{more}{picture}'
        f'<div class="do"><b>What to do</b>{steps}</div></header>'
    )


def overview(page: Page) -> str:
    """Every group in a word: how many of its checks passed, or why it has none."""
    chips = []
    for group in page.groups():
        found = page.group(group)
        good = sum(check.status == "pass" for check in found)
        look, mark = ("good", "✓") if good == len(found) else ("bad-news", "✗")
        if any(check.status == "missing" for check in found):
            mark = "?"
        flag = " ⚑" if any(check.flag for check in found) else ""
        title = escape(GROUPS.get(group, group))
        counted = f"{title} <b>{good}/{len(found)}</b>{flag}"
        chips.append(f'<li class="{look}"><span class="mark">{mark}</span> {counted}</li>')
    chips += [f'<li class="off">○ {escape(title)}: {_brief(reason)}</li>' for title, reason in not_made(page)]
    flags = "".join(
        f'<p class="small wait flagged"><span class="mark">⚑ flag</span> {escape(check.sentence)}</p>'
        for check in page.verdict.flags()
    )
    return f'<section><h2>{passed(page)}</h2><ul class="chips">{"".join(chips)}</ul>{flags}</section>'


def checks(page: Page) -> str:
    """Group by group, what stands in the way first."""
    groups = "".join(_group(page, group) for group in page.groups())
    left = "".join(f"<li>{escape(title)}: {escape(reason)}</li>" for title, reason in not_made(page))
    left = f'<h3>Not checked tonight</h3><ul class="plain">{left}</ul>' if left else ""
    note = "Right is better in every picture. Solid line: no difference; dashed: what is asked; shaded: not allowed."
    return f'<section><h2>The checks</h2><p class="dim small">{note}</p></section>{groups}{left}'


def nights(page: Page) -> str:
    """The last nights of the seat."""
    alike = [n for n in (*page.nights, tonight(page)) if n.metric == page.policy.primary]
    alike = [n for n in alike if n.candidate_figure is not None or n.champion_figure is not None]
    if not alike:
        return ""
    words = "; ".join(f"{n.night}: {n.decision}, {gained(n)}" for n in alike)
    picture = night_chart(alike, "The last nights of the seat", words)
    note = NIGHTS_NOTE if page.nights else "This is the first night on record. " + NIGHTS_NOTE
    return f'<section><h2>The last nights</h2><p class="dim small">{note}</p>{picture}</section>'


def changes(page: Page) -> str:
    """What is different since the champion."""
    found = page.changes
    if found is None:
        return ""
    since = (
        f"since version {found.champion}" if found.champion is not None else "– no champion to compare with"
    )
    data = _compared("data", found.data, found.champion, all_rows=True)
    params = _compared("parameter", found.params, found.champion) if found.params else ""
    packages = _compared("package", found.packages, found.champion) if found.packages else ""
    if found.champion is not None:
        data = f"<p>{SAME_DATA[found.same_data]}</p>" + data
        params = params or "<p>The same in both runs.</p>"
        known = "The same versions." if found.packages_known else "Not on record for both."
        packages = packages or f"<p>{known}</p>"
    blocks = [("Data", data), ("Code", _code(found.code, found.champion is not None))]
    blocks += [("Run parameters", params), ("Packages", packages)] if found.champion is not None else []
    body = "".join(f"<div><h3>{title}</h3>{block}</div>" for title, block in blocks)
    return f'<section><h2>What changed {since}</h2><div class="two small">{body}</div></section>'


def figures(page: Page) -> str:
    """Everyone's figures on tonight's exam."""
    rows = ""
    for metric, row in zip(metrics(page), figure_rows(page), strict=True):
        notes = ["decides"] if metric == page.policy.primary else []
        notes += [] if described(metric).higher_is_better else ["lower is better"]
        note = f' <span class="dim small">{", ".join(notes)}</span>' if notes else ""
        leaders = best(page, metric)
        cells = "".join(
            f'<td class="n{" best" if who in leaders else ""}">{escape(cell)}{" •" if who in leaders else ""}'
            for who, cell in zip(page.scores, row[1:], strict=True)
        )
        rows += f"<tr><td>{escape(row[0])}{note}{cells}"
    heads = "".join(f'<th class="n" scope="col">{escape(who)}' for who in sitters(page))
    return (
        '<section><h2>Figures on tonight\'s exam</h2><p class="dim small">•: the best of its row.</p>'
        f'<div class="scroll"><table><tr><th scope="col">metric{heads}{rows}</table></div></section>'
    )


def exam(page: Page) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in exam_lines(page))
    return f'<footer class="small"><h2>The exam</h2><ul class="plain">{lines}</ul></footer>'


def _group(page: Page, group: str) -> str:
    found = page.group(group)
    rule = f'<p class="dim small">{RULES[group]}</p>' if group in RULES else ""
    judged = [check for check in found if group == "slices" and "units" in check.figures and span_of(check)]
    summary = [check for check in found if judged and check.name == "slices" and check.status == "pass"]
    rest = [check for check in found if check not in (*judged, *summary)]
    spans = [span for check in rest if (span := span_of(check)) is not None and span.share]
    scale = drawing.axis(spans, 8, drawing.STRIP - 16) if spans else None
    body = "".join(_row(check, scale) for check in rest)
    if scale is not None:
        body += f'<tr class="axis"><td colspan="3"><td>{drawing.strip_axis(scale)}'
    widths = '<colgroup><col style="width:6.6rem"><col><col style="width:11rem"><col style="width:300px"></colgroup>'
    table = f'<table class="checks">{widths}{body}</table>' if rest else ""
    forest = _forest(page, judged, " ".join(check.sentence for check in summary)) if judged else ""
    return f"<section><h3>{escape(GROUPS.get(group, group))}</h3>{rule}{table}{forest}</section>"


def _row(check: Check, scale: drawing.Axis | None) -> str:
    """A check: mark, name with its sentence, figures, picture. A comparison that passed needs no sentence beside it."""
    look, mark = MARKS[check.status]
    span, picture = span_of(check), ""
    if span is not None:
        own = scale if span.share and scale is not None else drawing.axis([span], 8, drawing.STRIP - 16)
        picture = drawing.strip(span, own, check.name, check.sentence)
    elif {"candidate", "needed"} <= check.figures.keys():
        picture = _bullet(check)
    sentence = f'<br><span class="small">{escape(check.sentence)}</span>'
    if check.status == "pass" and figures_of(check):
        sentence = ""
    said = escape(figures_of(check))
    if span is not None:
        said += f'<br><span class="dim">{escape(told(span, check.metric))}</span>'
    kind = "flag" if check.flag else "stuck" if check.status != "pass" else ""
    flag = '<br><span class="wait"><span class="mark">⚑ flag</span></span>' if check.flag else ""
    if sentence and picture:
        wide, rest = ' colspan="2"', f'<td class="draw">{picture}'  # the sentence holds the figures
    elif said:
        wide, rest = "", f'<td class="small">{said}<td class="draw">{picture}'
    else:
        wide, rest = ' colspan="3"', ""
    name = f"<b>{escape(check.name)}</b>" if kind else escape(check.name)
    status = f'<td class="{look}"><span class="mark">{mark}</span>{flag}'
    return f'<tr class="{kind}">{status}<td{wide}>{name}{sentence}{rest}'


def _bullet(check: Check) -> str:
    figure, limit = float(check.figures["candidate"]), float(check.figures["needed"])
    if figure < 0 or limit <= 0:
        return ""  # a limit of zero leaves nothing to draw: any figure is beyond it
    more = described(check.metric).higher_is_better
    return drawing.bullet(figure, limit, more, check.status != "pass", check.name, check.sentence)


def _forest(page: Page, judged: list[Check], summary: str) -> str:
    rows = []
    for check in judged:
        span = span_of(check)
        assert span is not None
        group, name = slice_of(check)
        rows.append(drawing.Slice(group, name, int(check.figures["units"]), span, told(span, check.metric)))
    worst = {row.group: any(r.span.failed for r in rows if r.group == row.group) for row in rows}
    order = sorted(worst, key=lambda group: not worst[group])
    rows.sort(key=lambda row: order.index(row.group))
    bad = [f"{row.group}: {row.name}" for row in rows if row.span.failed]
    words = f"{len(rows)} slices; failed: {', '.join(bad) or 'none'}."
    sure = f"{100 * confidence(page, judged[0]):.4g} %"
    note = f"{named(judged[0].metric)}, in % of the champion's; intervals of {sure} each, so that all hold together."
    picture = drawing.forest(rows, str(page.exam["unit"]), "Gain on every slice", words)
    return f'<p class="small dim">{escape(note)} {escape(summary)}</p>{picture}'


def _compared(what: str, rows: tuple[Change, ...], champion: int | None, all_rows: bool = False) -> str:
    shown = [row for row in rows if all_rows or not row.same or row.before == "(hidden)"]
    if not shown:
        return ""
    head = f'<tr><th scope="col">{what}' + ('<th scope="col">champion' if champion is not None else "")
    body = ""
    for row in shown:
        before = f"<td>{escape(row.before or '–')}" if champion is not None else ""
        differs = ' class="differs"' if champion is not None and not row.same else ""
        arrow = "→ " if differs else ""
        body += f"<tr><td>{escape(row.name)}{before}<td{differs}>{arrow}{escape(row.now or '–')}"
    return f'<table>{head}<th scope="col">candidate{body}</table>'


def _code(code: Code, compare: bool) -> str:
    lines = "".join(f"<p>{escape(line)}</p>" for line in code_lines(code, compare))
    for title, shown, count in (
        ("commits", code.commits, code.count),
        ("files", code.files, code.file_count),
    ):
        if shown and count is not None:
            more = f"<li>… and {count - len(shown)} more {title}" if count > len(shown) else ""
            lines += f'<ul class="plain">{"".join(f"<li><code>{escape(line)}</code>" for line in shown)}{more}</ul>'
    return lines


def _brief(reason: str) -> str:
    return escape(reason.partition(":")[0])
