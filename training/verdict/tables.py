"""The verdict's figures as rows and lines of text, for the HTML page and the Markdown one alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.metrics import named, upwards, written
from training.verdict.changes import Changes, Code
from training.verdict.night_chart import gain_of
from training.verdict.nights import NightPoint, tonight
from training.verdict.page import GROUPS, Page
from training.verdict.percents import gain, reaching

SAME_DATA = {
    True: "The same data, by digest.",
    False: "Other data, by digest.",
    None: "Digests are not both known.",
}
NIGHTS_NOTE = (
    "Each night is its own exam, with other questions: compare within a night only, never one with another."
)


def passed(page: Page) -> str:
    good = sum(check.status == "pass" for check in page.verdict.checks)
    return f"{good} of {len(page.verdict.checks)} checks passed"


def days(exam: Mapping[str, Any]) -> str:
    return f"{exam['start']}" if exam["start"] == exam["end"] else f"{exam['start']} to {exam['end']}"


def sitters(page: Page) -> tuple[str, ...]:
    """Who sat the exam, with the numbers of those who have one."""
    numbers = {"candidate": page.version, "champion": page.champion}
    named_ = {who: f"{who} v{number}" for who, number in numbers.items() if number is not None}
    return tuple(named_.get(who, who) for who in page.scores)


def figure_rows(page: Page) -> list[tuple[str, ...]]:
    return [
        (named(metric), *(written(metric, f[metric]) if metric in f else "–" for f in page.scores.values()))
        for metric in metrics(page)
    ]


def night_rows(page: Page) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    heads = ("night", "metric", "examined", "figure", "champion's", "best baseline's", "gain", "decision")

    def told(night: NightPoint, figure: float | None) -> str:
        return "–" if figure is None else written(night.metric, figure)

    return heads, [
        (
            n.night, named(n.metric), f"v{n.version} ({n.family})" if n.version is not None else "nobody",
            told(n, n.candidate_figure), told(n, n.champion_figure), told(n, n.baseline_figure),
            gained(n), n.decision,
        )
        for n in (*page.nights, tonight(page))
    ]  # fmt: skip


def change_lines(found: Changes) -> list[str]:
    rows = [*found.data, *found.params, *found.packages]
    lines = [f"{row.name}: {row.before or '–'} → {row.now or '–'}" for row in rows if not row.same]
    if found.champion is not None:
        lines.append(SAME_DATA[found.same_data])
    return [*lines, *code_lines(found.code, found.champion is not None), *found.code.commits]


def exam_lines(page: Page) -> list[str]:
    exam = page.exam
    units = f"{exam['units']:,} {exam['unit']}, {days(exam)}"
    off = page.policy.switched_off()
    return [
        f"{exam['about']}; {units}" if exam["about"] else units,
        f"exam digest {exam['digest'] or 'none'}; it seeds the bootstrap, so the figures can be computed again",
        f"policy digest {page.verdict.policy or 'none'}; hold: {page.policy.hold}; "
        f"checks it leaves out: {', '.join(off) or 'none'}",
        f"again by hand: python -m training.examine {page.seat} --night {page.night}",
    ]


def code_lines(code: Code, compare: bool) -> list[str]:
    now = f"candidate: commit {code.now[:12]}{_dirt(code.dirty_now)}"
    if not compare:
        return [now]
    lines = [f"champion: commit {code.before[:12]}{_dirt(code.dirty_before)}", now]
    if code.count is None:
        return [*lines, f"what lies between them is unknown: {code.note}"]
    if code.before == code.now:
        return [*lines, "the same commit"]
    files = f"files changed under training/ and feature_repo/: {code.file_count}"
    return [*lines, f"commits between them: {code.count}; {files}", *([code.note] if code.note else [])]


def _dirt(dirty: str) -> str:
    told = {"true": " ⚑ dirty tree: what else was in it is not known", "false": ""}
    return told.get(dirty, ", dirty or not: unknown")


def metrics(page: Page) -> list[str]:
    found = dict.fromkeys(metric for row in page.scores.values() for metric in row)
    return sorted(found, key=lambda metric: metric != page.policy.primary)


def best(page: Page, metric: str) -> set[str]:
    """Who has the best figure as it is written; nobody where all are alike."""
    shown = {who: written(metric, f[metric]) for who, f in page.scores.items() if metric in f}
    if len(set(shown.values())) < 2:
        return set()
    top = max(shown, key=lambda who: upwards(metric, page.scores[who][metric]))
    return {who for who, cell in shown.items() if cell == shown[top]}


def gained(night: NightPoint) -> str:
    span = gain_of(night)
    if span is None:
        return "–"
    if span.low is None or span.high is None:
        return gain(span.point)
    return f"{gain(span.point)} ({reaching(span.low, span.high)})"


def not_made(page: Page) -> list[tuple[str, str]]:
    """Groups without a check tonight, and why: (groups, reason)."""
    off = page.policy.switched_off()
    found: list[tuple[str, str]] = []
    for group, title in GROUPS.items():
        if page.group(group):
            continue
        if group in off:
            found.append((title, "switched off by the policy"))
        elif group == "infra":
            found.append((title, "not tried: only the best of those that pass everything else is started"))
        elif group in ("better", "guardrails", "slices") and page.champion is None:
            found.append((title, "nobody sat in the seat to compare with"))
        elif group == "reference":
            found.append((title, "no version is frozen as the reference yet"))
        else:
            found.append((title, "there was no candidate" if page.version is None else "nothing to judge"))
    reasons = dict.fromkeys(reason for _, reason in found)
    return [(", ".join(title for title, why_not in found if why_not == reason), reason) for reason in reasons]
