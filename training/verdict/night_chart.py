"""The picture of a seat's last nights: above, everyone's figure night by night; below, the candidate's gain over the
champion with its interval, and what was decided. Nothing joins one night to the next: each is an exam of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from training.metrics import named, upwards, written
from training.verdict.drawing import Span, label, picture_of, ticks
from training.verdict.nights import NightPoint
from training.verdict.percents import percent, shares

LEFT, RIGHT = 78, 850  # px
TOP, MIDDLE, LOWER, BOTTOM = 70, 216, 262, 382  # the two panels: TOP..MIDDLE and LOWER..BOTTOM
DECIDED = {"promote": "▲ promoted", "hold": "‖ held", "keep": "– kept", "not blessed": "? not blessed"}


def night_chart(nights: Sequence[NightPoint], title: str, told: str) -> str:
    """nights: of one metric, oldest first; tonight is the last."""
    metric = nights[-1].metric
    step = min((RIGHT - LEFT) / len(nights), 120.0)
    xs = [LEFT + step * (n + 0.5) for n in range(len(nights))]
    figures = [
        f for n in nights for f in (n.candidate_figure, n.champion_figure, n.baseline_figure) if f is not None
    ]
    gains = [gain_of(night) for night in nights]
    upper = _scale(figures, TOP, MIDDLE, turned=upwards(metric, 1.0) < 0)
    ends = [end for g in gains if g is not None for end in g.ends()]
    lower = _scale([0.0, *ends], LOWER, BOTTOM)
    parts = [f'<rect class="tonight" x="{round(xs[-1] - step / 2, 1)}" y="{TOP - 10}" width="{round(step, 1)}" '
             f'height="{BOTTOM - TOP + 76}" rx="6"/>', _legend()]  # fmt: skip
    parts += [
        _grid(upper, lambda value: written(metric, value)),
        _grid(lower, lambda value: percent(value, True)),
    ]
    better = "lower is better: drawn upside down" if upwards(metric, 1.0) < 0 else "higher is better"
    parts.append(
        label(LEFT, TOP - 16, f"{named(metric)} on each night's own exam ({better})", "start", "head")
    )
    parts.append(label(LEFT, LOWER - 14, "Candidate minus champion, in % of the champion's figure (up is better)",
                       "start", "head"))  # fmt: skip
    parts.append(f'<path class="zero" d="M{LEFT} {lower.y(0)}H{RIGHT}"/>')
    for night, x, gain in zip(nights, xs, gains, strict=True):
        parts += [_figures(night, x, upper), _gain(gain, x, lower), _named(night, x, step)]
    return picture_of(860, BOTTOM + 72, "".join(parts), title, told, "wide")


def gain_of(night: NightPoint) -> Span | None:
    """The night's gain over its champion in per cent of the champion's figure; None if there was none to compare."""
    scale = shares(night.champion_figure) if night.champion_figure is not None else None
    if night.difference is None or scale is None:
        return None
    point, low, high = (
        None if value is None else upwards(night.metric, value) * scale
        for value in (night.difference, night.low, night.high)
    )
    assert point is not None
    if low is not None and high is not None:
        low, high = min(low, high), max(low, high)
    return Span(point, low, high, needed=None)


def short(night: str) -> str:
    """A night's date as it stands under the picture."""
    day = date.fromisoformat(night)
    return f"{day:%b} {day.day}"


class _scale:
    """From values to px, `bottom` .. `top`; turned: small values stand on top."""

    def __init__(self, values: Sequence[float], top: float, bottom: float, turned: bool = False) -> None:
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        self.low, self.high, self.top, self.bottom, self.turned = low - room, high + room, top, bottom, turned

    def y(self, value: float) -> float:
        at = (value - self.low) / (self.high - self.low)
        return round(self.bottom - (1 - at if self.turned else at) * (self.bottom - self.top), 1)


def _grid(scale: _scale, told: object) -> str:
    parts = []
    for tick in ticks(scale.low, scale.high, 4):
        parts.append(f'<path class="grid" d="M{LEFT} {scale.y(tick)}H{RIGHT}"/>')
        parts.append(label(LEFT - 8, scale.y(tick) + 4, told(tick), "end", "t"))  # type: ignore[operator]
    return "".join(parts)


def _legend() -> str:
    return (
        '<circle class="pt" cx="90" cy="10" r="5"/>' + label(100, 14, "candidate", "start", "t")
        + f'<path class="hollow" d="{_diamond(186, 10)}"/>' + label(197, 14, "champion of that night", "start", "t")
        + '<path class="cheap" d="M350 10h12"/>' + label(368, 14, "best cheap baseline", "start", "t")
        + label(RIGHT, 14, " · ".join(DECIDED.values()), "end", "t")
    )  # fmt: skip


def _figures(night: NightPoint, x: float, scale: _scale) -> str:
    found = [
        f for f in (night.candidate_figure, night.champion_figure, night.baseline_figure) if f is not None
    ]
    if not found:
        return ""
    x = round(x, 1)
    parts = [f'<path class="stem" d="M{x} {scale.y(min(found))}V{scale.y(max(found))}"/>']
    if night.baseline_figure is not None:
        parts.append(f'<path class="cheap" d="M{x - 8} {scale.y(night.baseline_figure)}h16"/>')
    if night.champion_figure is not None:
        parts.append(f'<path class="hollow" d="{_diamond(x - 7, scale.y(night.champion_figure))}"/>')
    if night.candidate_figure is not None:
        parts.append(f'<circle class="pt" cx="{x + 7}" cy="{scale.y(night.candidate_figure)}" r="5"/>')
    return "".join(parts)


def _gain(gain: Span | None, x: float, scale: _scale) -> str:
    x = round(x, 1)
    if gain is None:
        return label(x, scale.y(0) - 6, "no one", "middle", "t") if scale.high > 0 else ""
    parts = []
    if gain.low is not None and gain.high is not None:
        low, high = scale.y(gain.low), scale.y(gain.high)
        parts.append(f'<path class="ci" d="M{x} {low}V{high}M{x - 4} {low}h8M{x - 4} {high}h8"/>')
    parts.append(f'<circle class="pt" cx="{x}" cy="{scale.y(gain.point)}" r="4.5"/>')
    return "".join(parts)


def _named(night: NightPoint, x: float, step: float) -> str:
    """Under the night: its date, the decision, who was examined."""
    mark, _, word = DECIDED.get(night.decision, "? unknown").partition(" ")
    who = f"v{night.version}" if night.version is not None else "nobody"
    lines = [
        label(x, BOTTOM + 18, short(night.night), "middle", "t"),
        label(x, BOTTOM + 38, mark, "middle", "big"),
    ]
    lines.append(label(x, BOTTOM + 56, f"{word}, {who}" if step >= 96 else who, "middle", "t"))
    return "".join(lines)


def _diamond(x: float, y: float) -> str:
    return f"M{round(x, 1)} {round(y - 6.5, 1)}l6.5 6.5l-6.5 6.5l-6.5 -6.5z"
