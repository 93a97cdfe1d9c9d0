"""What a verdict's page tells, and the words it tells it in: the headline, the one deciding reason, what to do.

Pure: plain values in, plain text out. `training.verdict` lays the text out for HTML, Markdown and MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from training.checks.case import Check
from training.gate import Verdict
from training.metrics import described, named, upwards, written
from training.policy import Policy
from training.verdict.changes import Changes
from training.verdict.drawing import Span
from training.verdict.nights import NightPoint
from training.verdict.percents import gain, percent, reaching, shares

GROUPS = {
    "contest": "A fair contest",
    "better": "Better than the champion",
    "baselines": "Better than the cheap baselines",
    "floors": "Floors",
    "guardrails": "Guardrails",
    "slices": "Slices",
    "reference": "No ratchet: the frozen reference",
    "behaviour": "Behaviour",
    "lineage": "Lineage",
    "infra": "In the real service",
}
DECISIONS = {
    "promote": "Promoted",
    "hold": "Held for a reviewer",
    "keep": "Not promoted",
    "not blessed": "Not blessed",
}


@dataclass(frozen=True)
class Page:
    """What a verdict page tells.

    version: None if no candidate arrived. champion: who sat in the seat when the verdict was reached. reference: the
    frozen version.
    exam: units, unit, digest, start, end, about. scores: who (candidate, champion, reference, rivals, baselines) →
    metric → figure; `baselines` says which of them are cheap models. beaten_by: the candidate that takes the seat
    instead. rivals: see Evidence. nights: those before this one, oldest first. changes: None = nobody looked.
    """

    seat: str
    version: int | None
    family: str
    night: date
    champion: int | None
    exam: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, float]]
    verdict: Verdict
    policy: Policy
    baselines: tuple[str, ...] = ()
    reference: int | None = None
    beaten_by: int | None = None
    rivals: int = 1
    nights: tuple[NightPoint, ...] = ()
    changes: Changes | None = None

    @property
    def decision(self) -> str:
        return DECISIONS[self.verdict.decision]

    def group(self, name: str) -> list[Check]:
        """A group's checks, what stands in the way first."""
        order = {"missing": 0, "fail": 1, "pass": 2}
        return sorted((c for c in self.verdict.checks if c.group == name), key=lambda c: order[c.status])

    def groups(self) -> list[str]:
        """The groups that have checks, those with something missing or failed first."""
        own = dict.fromkeys([*GROUPS, *(check.group for check in self.verdict.checks)])
        stuck = {check.group for check in self.verdict.failing()}
        return sorted((g for g in own if self.group(g)), key=lambda g: g not in stuck)


def headline(page: Page) -> str:
    """The decision in one line."""
    who = f"version {page.version} ({page.family})" if page.version is not None else "no candidate"
    holder = f"version {page.champion}" if page.champion is not None else None
    if page.verdict.decision in ("promote", "hold"):
        takes = "takes" if page.verdict.decision == "promote" else "would take"
        return f"{page.decision}: {who} {takes} the {page.seat} seat" + (
            f" from {holder}" if holder else ", which was empty" if takes == "takes" else ", which is empty"
        )
    if page.beaten_by is not None:
        return f"Not promoted: {who}; version {page.beaten_by} takes the {page.seat} seat"
    kept = f"{holder} keeps the {page.seat} seat" if holder else f"the {page.seat} seat stays empty"
    return f"{page.decision}: {who}; {kept}"


def deciding(page: Page) -> Check | None:
    """The one check to look at first: what is missing, then what failed, the worst slice of several; of a candidate
    that passed, the win itself. None if another candidate's win decided it."""
    if failing := page.verdict.failing():
        alike = [c for c in failing if c.group == failing[0].group and c.status == failing[0].status]
        return min(alike, key=_loss) if alike[0].group == "slices" else alike[0]
    if page.beaten_by is not None:
        return None
    wins = [c for c in page.verdict.checks if c.group in ("better", "baselines")]
    return wins[0] if wins else None


def why(page: Page) -> str:
    """The deciding reason in one sentence, in plain words, with its figure."""
    check = deciding(page)
    if check is None:
        return page.verdict.reason
    if page.verdict.decision == "hold":
        flags = " ".join(flag.sentence for flag in page.verdict.flags())
        always = "It won, but here every promotion needs a person's yes."
        return f"It won, but something was flagged, and a person must say yes. {flags}" if flags else always
    if check.status == "pass":
        return _won(page, check)
    if check.status == "fail" and span_of(check) is not None:
        return {"better": _not_better, "baselines": _not_better, "slices": _slice,
                "guardrails": _guardrail, "reference": _fallen}[check.group](page, check)  # fmt: skip
    return check.sentence


def besides(page: Page) -> list[str]:
    """What else decided it: how much more stands in the way, or what the gate said besides the win."""
    failing = page.verdict.failing()
    counts = {status: sum(check.status == status for check in failing) for status in ("missing", "fail")}
    if failing:
        counts[failing[0].status] -= 1
    words = {"missing": "without evidence", "fail": "failed"}
    more = [f"{count} more {words[status]}" for status, count in counts.items() if count]
    if failing:
        return [f"Besides: {', '.join(more)}; they stand first in their groups below."] if more else []
    if page.verdict.decision == "hold" and (check := deciding(page)) is not None:
        return [_won(page, check)]
    return list(page.verdict.reasons[1:])


def advice(page: Page) -> list[tuple[str, str]]:
    """What a reviewer can do: (words, command)."""
    version, again = (
        f"{page.seat}/{page.version}",
        f"python -m training.examine {page.seat} --night {page.night}",
    )
    override = f'nightshift override {version} --reason "…"'
    if page.verdict.decision == "promote" and page.champion is None:
        another = f'nightshift override {page.seat}/VERSION --reason "…"'
        return [
            ("Nothing has to be done. Nobody sat there before; to seat another version instead:", another)
        ]
    if page.verdict.decision == "promote":
        back = f'nightshift rollback {page.seat} --reason "…"'
        return [("Nothing has to be done. To take it back, live within seconds:", back)]
    if page.verdict.decision == "hold":
        return [
            ("It waits for a person. To give it the seat:", f'nightshift approve {version} --reason "…"'),
            ("To turn it down:", f'nightshift reject {version} --reason "…"'),
        ]
    serves = f"version {page.champion} goes on serving" if page.champion is not None else "nobody serves"
    if page.beaten_by is not None:
        serves = f"version {page.beaten_by} serves"
    steps = []
    if any(check.status == "missing" for check in page.verdict.checks):
        steps.append((f"See to what is missing, then hold the exam again; until then {serves}:", again))
        said = "To seat it without that evidence, on your own word:"
    else:
        said = f"Nothing has to be done: {serves}. To seat it all the same, on your own word:"
    return steps if page.version is None else [*steps, (said, override)]


def span_of(check: Check) -> Span | None:
    """A comparison's gain as a picture shows it: in per cent of the other's figure, or if that is zero, in its own."""
    figures, failed = check.figures, check.status != "pass"
    if not {"difference", "other", "needed"} <= figures.keys():
        return None
    percent_of = shares(float(figures["other"]))
    scale = 1.0 if percent_of is None else percent_of

    def turned(name: str) -> float | None:
        value = figures.get(name)
        return None if value is None else scale * upwards(check.metric, float(value))

    point, ends = turned("difference"), [turned("low"), turned("high")]
    if point is None or not math.isfinite(point):
        return None
    low, high = sorted(e for e in ends if e is not None) if None not in ends else (None, None)
    if low == high:
        low = high = None  # a total: a figure of the whole exam, without an interval
    return Span(point, low, high, turned("needed"), failed, share=percent_of is not None)


def confidence(page: Page, check: Check) -> float:
    """Of the check's interval; slices share theirs out (training.checks.slices), rivals the others (Case)."""
    if check.group == "slices" and page.policy.slices is not None:
        judged = sum("units" in c.figures for c in page.group("slices"))
        return 1 - (1 - page.policy.slices.confidence) / max(judged, 1)
    return 1 - (1 - page.policy.exam.confidence) / max(page.rivals, 1)


def slice_of(check: Check) -> tuple[str, str]:
    """(group, name) of a slice's check."""
    group, colon, name = check.name.removeprefix("slice ").partition(": ")
    return (group, name) if colon else ("", group)


def told(span: Span, metric: str) -> str:
    """A gain in words."""
    return (
        gain(span.point)
        if span.share
        else f"{written(metric, upwards(metric, span.point), '+')} in its own unit"
    )


def figures_of(check: Check) -> str:
    """A check's figures on one line."""
    f = check.figures
    if {"candidate", "other"} <= f.keys():
        return f"{written(check.metric, f['candidate'])} against {written(check.metric, f['other'])}"
    if {"candidate", "needed"} <= f.keys():
        more = described(check.metric).higher_is_better
        return f"{written(check.metric, f['candidate'])}, {'at least' if more else 'at most'} {f['needed']:g}"
    return ""


def _won(page: Page, check: Check) -> str:
    told = f"It did better than {_other(check)} by more than luck gives: {_compared(check)}"
    return f"{told}{_interval(page, check)}."


def _loss(check: Check) -> float:
    span = span_of(check)
    return span.point if span is not None else 0.0


def _other(check: Check) -> str:
    for start in ("better than ", "not below "):
        if check.name.startswith(start):
            return check.name.removeprefix(start)
    return "the other"


def _compared(check: Check) -> str:
    span = span_of(check)
    assert span is not None
    whose = "against the champion's" if check.group in ("slices", "guardrails") else "against"
    figures = figures_of(check).replace("against", whose)
    return f"{named(check.metric)} {figures}, {told(span, check.metric)}"


def _interval(page: Page, check: Check) -> str:
    span = span_of(check)
    if span is None or span.low is None or span.high is None or not span.share:
        return ""
    return f" ({100 * confidence(page, check):.4g} % interval: {reaching(span.low, span.high)})"


def _asked(check: Check) -> str:
    span = span_of(check)
    assert span is not None
    assert span.needed is not None
    return percent(abs(span.needed)) if span.share else written(check.metric, abs(span.needed))


def _not_better(page: Page, check: Check) -> str:
    span, other = span_of(check), _other(check)
    assert span is not None
    if span.point <= 0:
        return f"It did not do better than {other}: {_compared(check)}{_interval(page, check)}."
    if span.low is not None and span.low <= 0:
        return f"It may only have been lucky against {other}: {_compared(check)}{_interval(page, check)}."
    return f"It is better than {other}, but by too little for a change: {_compared(check)}; {_asked(check)} is asked."


def _slice(page: Page, check: Check) -> str:
    group, name = slice_of(check)
    won = any(c.group == "better" and c.status == "pass" for c in page.verdict.checks)
    start = "It is better as a whole, but worse" if won else "It is worse"
    where = f"{group}: {name}" if group else name
    units = f"{check.figures.get('units', 0):,} {page.exam['unit']}"
    return f"{start} for the slice “{where}” ({units}), beyond noise: {_compared(check)}{_interval(page, check)}."


def _guardrail(page: Page, check: Check) -> str:
    allowed = f"; a loss of {_asked(check)} is allowed, and more is not ruled out"
    return f"It may lose too much {named(check.metric)}: {_compared(check)}{_interval(page, check)}{allowed}."


def _fallen(page: Page, check: Check) -> str:
    frozen = check.name.removeprefix("not behind ").rpartition(": ")[0]
    return f"Small losses have added up: against {frozen}, {_compared(check)}; {_asked(check)} is allowed."
