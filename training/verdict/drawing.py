"""Small pictures as inline SVG, for the verdict's page: an interval against what was asked, a forest plot, the nights.

Right is better in all of them, whichever way a metric runs. Numbers and texts come from outside; every text is escaped
here. Colours come from the page's style sheet by class names, and no picture tells anything by colour alone: what
failed has another shape. What is asked lies at a dashed line with the forbidden side shaded.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from training.verdict.percents import gain, percent

ROW, STRIP = 22, 300  # px
LETTER = 6.4  # px that a letter of the pictures' 12 px text takes; a wide (CJK) one twice as much


@dataclass(frozen=True)
class Span:
    """A gain and its interval, in `unit`, better to the right. low, high: None = no interval, infinite = no bound.

    needed: the gain that was asked for. share: whether the numbers are per cent of the other's figure.
    """

    point: float
    low: float | None
    high: float | None
    needed: float | None
    failed: bool = False
    share: bool = True

    def ends(self) -> list[float]:
        found = (self.point, self.low, self.high, self.needed)
        return [value for value in found if value is not None and math.isfinite(value)]


@dataclass(frozen=True)
class Slice:
    """A row of a forest plot. told: what its gain is, in words."""

    group: str
    name: str
    units: int
    span: Span
    told: str


@dataclass(frozen=True)
class Axis:
    """From values to px: `left` .. `left + width` is `low` .. `high`."""

    low: float
    high: float
    left: float
    width: float

    def x(self, value: float) -> float:
        """Within the picture; what lies outside is drawn at its edge."""
        at = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.left + at * self.width, 1)

    def ticks(self, most: int = 5) -> list[float]:
        return ticks(self.low, self.high, most)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers within low .. high: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def axis(spans: Sequence[Span], left: float, width: float) -> Axis:
    """An axis that shows zero, every point and every line asked for; of very wide intervals only a part."""
    inner = [0.0, *(s.point for s in spans), *(s.needed for s in spans if s.needed is not None)]
    reach = 2.5 * max(map(abs, inner)) or 1.0
    ends = [end for s in spans for end in s.ends() if len(spans) < 3 or abs(end) <= reach]
    low, high = min([*inner, *ends]), max([*inner, *ends])
    room = 0.08 * (high - low) or 1.0
    return Axis(low - room, high + room, left, width)


def strip(span: Span, scale: Axis, title: str, told: str, height: int = 30) -> str:
    """One check's interval, small."""
    body = (
        _ground(span.needed, scale, 0, height) + _zero(scale, 0, height) + _mark(span, scale, height / 2, 4.5)
    )
    return picture_of(scale.left * 2 + scale.width, height, body, title, told, "strip")


def strip_axis(scale: Axis, share: bool = True) -> str:
    """The numbers under a column of strips; read out with every strip, so hidden from screen readers."""
    body = ""
    for tick in scale.ticks(5):
        at = _inside(scale.x(tick), "+10 %", STRIP)
        body += f'<path class="tick" d="M{scale.x(tick)} 0v4"/>' + label(
            at, 15, _tick(tick, share), "middle", "t"
        )
    return picture_of(scale.left * 2 + scale.width, 18, body, "", "", "strip")


def bullet(figure: float, limit: float, more: bool, failed: bool, title: str, told: str) -> str:
    """A figure against a limit, both from zero on; `more`: it must be reached, else not exceeded."""
    top = 1.15 * max(figure, limit)
    scale = Axis(0, top, 8, STRIP - 16)
    at, line = scale.x(figure), scale.x(limit)
    bad = (8.0, line) if more else (line, STRIP - 8.0)
    body = f'<rect class="bad" x="{bad[0]}" y="4" width="{round(bad[1] - bad[0], 1)}" height="22"/>'
    body += f'<path class="zero" d="M8 4v22"/><rect class="bar{_failed(failed)}" x="8" y="11" height="8" '
    body += f'width="{max(round(at - 8, 1), 1)}"/><path class="need" d="M{line} 2v26"/>'
    return picture_of(STRIP, 30, body, title, told, "strip")


def hero(span: Span, title: str, told: str, other: str) -> str:
    """The deciding check's interval, large: what was asked, where zero is, and how far luck may reach."""
    scale, top, bottom = axis([span], 20, 820), 34, 84
    words = gain if span.share else _plain
    parts = [
        _ground(span.needed, scale, top, bottom),
        _zero(scale, top - 8, bottom),
        _mark(span, scale, 64, 8),
    ]
    parts.append(
        label(_inside(scale.x(span.point), words(span.point)), 51, words(span.point), "middle", "big")
    )
    same = _inside(scale.x(0), f"same as the {other}")
    parts.append(label(same, 20, f"same as the {other}", "middle", "t"))
    room = reach(f"same as the {other}") * LETTER / 2 + 70
    parts.append(label(20, 20, "← worse", "start", "t") if same - 20 > room else "")
    parts.append(label(840, 20, "better →", "end", "t") if 840 - same > room else "")
    marked = None
    if span.needed:
        marked, said = scale.x(span.needed), "asked" if span.needed > 0 else "allowed"
        line = f"{said}: {words(span.needed)}"
        parts.append(f'<path class="need" d="M{marked} {bottom}v10"/>')
        parts.append(label(_inside(marked, line), bottom + 23, line, "middle", "t strong"))
    for tick in scale.ticks(7):
        parts.append(f'<path class="tick" d="M{scale.x(tick)} {bottom}v5"/>')
        if marked is None or abs(scale.x(tick) - marked) > 90:  # px; nearer, the two texts would touch
            parts.append(
                label(_inside(scale.x(tick), "+100 %"), bottom + 19, _tick(tick, span.share), "middle", "t")
            )
    return picture_of(860, 112, "".join(parts), title, told, "wide")


def forest(slices: Sequence[Slice], unit: str, title: str, told: str) -> str:
    """All slices, group by group: a point as large as the slice has units, its interval, zero, and the loss allowed."""
    scale = axis([s.span for s in slices], 330, 372)
    biggest = max(s.units for s in slices)
    rows, y, group = [], 26.0, None
    for row in slices:
        if row.group != group:
            group, y = row.group, y + (6 if group is not None else 0)
            rows.append(label(6, y + 16, row.group or "slices", "start", "head"))
            y += ROW
        lines = wrap(row.name, 236 / LETTER)
        height = max(ROW, 15 * len(lines) + 7)
        rows.append(_forest_row(row, lines, scale, y, height, biggest))
        y += height
    head = label(6, 14, "slice", "start", "t") + label(312, 14, unit, "end", "t")
    head += label(716, 14, "point: larger with more " + unit, "end", "t")
    head += label(724, 14, "gain", "start", "t")
    foot = "".join(
        f'<path class="grid" d="M{scale.x(t)} 22V{y}"/>'
        + label(scale.x(t), y + 16, _tick(t, True), "middle", "t")
        for t in scale.ticks(6)
    )
    foot += label(scale.left, y + 32, "← worse", "start", "t")
    foot += label(scale.left + scale.width, y + 32, "better →", "end", "t")
    body = head + foot + _zero(scale, 22, y) + "".join(rows)
    return picture_of(860, y + 38, body, title, told, "wide")


def _forest_row(row: Slice, lines: list[str], scale: Axis, y: float, height: float, biggest: int) -> str:
    middle, failed = y + height / 2, row.span.failed
    parts = [f'<rect class="hit" x="0" y="{y}" width="860" height="{height}" rx="4"/>'] if failed else []
    parts.append(_ground(row.span.needed, scale, y, y + height))
    parts.append(_zero(scale, y, y + height))
    first = middle - 15 * (len(lines) - 1) / 2 + 4
    strong = " strong" if failed else ""
    for n, line in enumerate(lines):
        parts.append(label(20, first + 15 * n, line, "start", "label" + strong))
    if failed:
        parts.append(label(6, first, "✗", "start", "label strong failed"))
    parts.append(label(312, middle + 4, f"{row.units:,}", "end", "t"))
    parts.append(_mark(row.span, scale, middle, 2.5 + 4.5 * math.sqrt(row.units / max(biggest, 1))))
    parts.append(label(724, middle + 4, row.told, "start", "label" + strong))
    return "".join(parts)


def _ground(needed: float | None, scale: Axis, top: float, bottom: float) -> str:
    """The forbidden side, and the line where it ends."""
    if needed is None:
        return ""
    x, left = scale.x(needed), scale.x(scale.low)
    shade = f'<rect class="bad" x="{left}" y="{top}" width="{round(x - left, 1)}" height="{round(bottom - top, 1)}"/>'
    return f'{shade}<path class="need" d="M{x} {top}V{bottom}"/>'


def _zero(scale: Axis, top: float, bottom: float) -> str:
    return f'<path class="zero" d="M{scale.x(0)} {top}V{bottom}"/>'


def _mark(span: Span, scale: Axis, y: float, size: float) -> str:
    """The interval with its point: a disc, or a diamond for what failed; an arrow where the interval goes on."""
    bad, x = _failed(span.failed), scale.x(span.point)
    parts = []
    if span.low is not None and span.high is not None and span.low < span.high:
        left, right = scale.x(span.low), scale.x(span.high)
        parts.append(f'<path class="ci{bad}" d="M{left} {y}H{right}"/>')
        for end, value, way in ((left, span.low, 1), (right, span.high, -1)):
            over = value < scale.low or value > scale.high
            path = f"m{5 * way} -4l{-5 * way} 4l{5 * way} 4" if over else "m0 -4v8"
            parts.append(f'<path class="ci{bad}" d="M{end} {y}{path}"/>')
    r = round(size, 1)
    if span.failed:
        side = round(size * 1.25, 1)
        diamond = f"M{x} {round(y - side, 1)}l{side} {side}l-{side} {side}l-{side} -{side}z"
        parts.append(f'<path class="pt fails" d="{diamond}"/>')
    else:
        parts.append(f'<circle class="pt" cx="{x}" cy="{y}" r="{r}"/>')
    return "".join(parts)


def _failed(failed: bool) -> str:
    return " fails" if failed else ""


def _tick(value: float, share: bool) -> str:
    return percent(value, sign=True).replace(" %", "") + " %" if share else _plain(value)


def _plain(value: float) -> str:
    return f"{value:+.4g}".replace("-", "−") if value else "0"


def _inside(x: float, text: str, width: float = 860) -> float:
    """`x`, moved so that a text centred there stays in the picture."""
    half = reach(text) * LETTER / 2 + 4
    return round(min(max(x, half), width - half), 1)


def reach(text: str) -> int:
    """How many letters wide a text is; CJK letters are two wide."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def wrap(text: str, letters: float) -> list[str]:
    """`text` in lines of at most that many letters, all of it: broken between words, or within a word too long."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if reach(joined) <= letters:
            lines[-1] = joined
            continue
        lines.append("")
        for letter in word:
            if reach(lines[-1] + letter) > letters:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line] or [""]


def label(x: float, y: float, text: str, anchor: str, kind: str) -> str:
    return f'<text class="{kind}" x="{round(x, 1)}" y="{round(y, 1)}" text-anchor="{anchor}">{escape(text)}</text>'


def picture_of(width: float, height: float, body: str, title: str, told: str, kind: str) -> str:
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    if not title:
        return f'<svg class="{kind}" {size} aria-hidden="true">{body}</svg>'
    words = f"<title>{escape(title)}</title><desc>{escape(told)}</desc>"
    return f'<svg class="{kind}" {size} role="img">{words}{body}</svg>'
