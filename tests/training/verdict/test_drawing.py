"""The pictures: what they show stays inside them, at the right side of zero, and in shapes as well as colours."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.verdict import drawing, percents
from training.verdict.drawing import Slice, Span, axis
from training.verdict.night_chart import night_chart
from training.verdict.nights import NightPoint

FINITE = st.floats(-1e6, 1e6, allow_nan=False)
SPANS = st.builds(
    lambda point, reach, needed, failed: Span(point, point - reach, point + reach, needed, failed),
    FINITE, st.floats(0, 1e6), st.none() | FINITE, st.booleans(),
)  # fmt: skip


def numbers(picture: str) -> list[float]:
    return [float(n) for n in re.findall(r'(?:x|cx|cy|y|r|width|height)="([-\d.e+]+)"', picture)]


@settings(max_examples=150)
@given(spans=st.lists(SPANS, min_size=1, max_size=12))
def test_every_picture_is_well_formed_and_drawn_within_its_frame(spans: list[Span]) -> None:
    scale = axis(spans, 8, 284)
    rows = [Slice("g", "n", n + 1, span, "told") for n, span in enumerate(spans)]
    pictures = [drawing.strip(spans[0], scale, "title", "desc"), drawing.strip_axis(scale)]
    pictures += [
        drawing.hero(spans[0], "title", "desc", "champion"),
        drawing.forest(rows, "users", "title", "desc"),
    ]
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        width = float(root.attrib["width"])
        assert all(math.isfinite(n) and n >= -1 for n in numbers(picture))
        assert all(float(c.attrib["cx"]) <= width for c in root.iter("circle"))


@settings(max_examples=150)
@given(spans=st.lists(SPANS, min_size=1, max_size=12))
def test_an_axis_shows_zero_every_point_and_every_line_and_keeps_their_order(spans: list[Span]) -> None:
    scale = axis(spans, 8, 284)
    shown = sorted([0.0, *(s.point for s in spans), *(s.needed for s in spans if s.needed is not None)])
    assert scale.low < shown[0] and shown[-1] < scale.high
    places = [scale.x(value) for value in shown]
    assert places == sorted(places) and places[0] >= 8 and places[-1] <= 292


def test_a_failed_point_has_another_shape_than_a_passed_one() -> None:
    fine, bad = Span(1, 0, 2, -1), Span(1, 0, 2, -1, failed=True)
    scale = axis([fine], 8, 284)
    assert "<circle" in drawing.strip(fine, scale, "t", "d")
    assert "<circle" not in drawing.strip(bad, scale, "t", "d")


def test_an_interval_that_goes_on_beyond_the_picture_ends_in_an_arrow() -> None:
    wide = Span(1, -500, 500, -5)
    scale = axis([wide, Span(2, 1, 3, -5), Span(3, 2, 4, -5)], 8, 284)
    assert "l5 4" in drawing.strip(wide, scale, "t", "d")
    assert "l5 4" not in drawing.strip(Span(2, 1, 3, -5), scale, "t", "d")
    assert "l5 4" in drawing.strip(Span(1, -math.inf, math.inf, -5), scale, "t", "d")


def test_the_shaded_side_ends_at_what_is_asked() -> None:
    scale = axis([Span(3, 1, 5, 2)], 8, 284)
    picture = drawing.strip(Span(3, 1, 5, 2), scale, "t", "d")
    shade = re.search(r'<rect class="bad" x="([\d.]+)" y="0" width="([\d.]+)"', picture)
    assert shade is not None
    assert float(shade[1]) + float(shade[2]) == pytest.approx(scale.x(2), abs=0.11)


def test_the_point_of_a_slice_grows_with_its_units() -> None:
    rows = [Slice("g", str(n), n, Span(1, 0, 2, -5), "told") for n in (10, 1000)]
    small, large = (float(r) for r in re.findall(r' r="([\d.]+)"', drawing.forest(rows, "users", "t", "d")))
    assert large > 2 * small


def test_a_label_is_shown_in_full_in_as_many_lines_as_it_takes() -> None:
    name = "가전·디지털 " * 12 + "supercalifragilisticexpialidocious" * 3
    lines = drawing.wrap(name, 30)
    assert "".join(lines).replace(" ", "") == name.replace(" ", "")
    assert all(drawing.reach(line) <= 30 for line in lines) and len(lines) > 4
    assert drawing.reach("가a") == 3


def test_texts_in_pictures_are_escaped() -> None:
    nasty = "<script>&\"'"
    rows = [Slice(nasty, nasty, 1, Span(1, 0, 2, -5, failed=True), nasty)]
    for picture in (
        drawing.forest(rows, nasty, nasty, nasty),
        drawing.hero(rows[0].span, nasty, nasty, nasty),
    ):
        assert "<script" not in picture
        assert ElementTree.fromstring(picture).find("title").text == nasty  # type: ignore[union-attr]


@given(low=FINITE, reach=st.floats(1e-9, 1e6), most=st.integers(1, 9))
def test_ticks_are_few_and_lie_within(low: float, reach: float, most: int) -> None:
    high = low + reach
    if high - low < 1e-6 * max(abs(low), 1e-6):
        return
    found = drawing.ticks(low, high, most)
    assert len(found) <= most + 1
    assert all(low - 1e-6 * reach - 1e-9 <= tick <= high + 1e-6 * reach + 1e-9 for tick in found)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0, "equal"),
        (0.04, "equal"),
        (1.25, "1.2 % better"),
        (-3.0, "3 % worse"),
        (1234.5, "1,234 % better"),
    ],
)
def test_gains_are_told_in_words(value: float, told: str) -> None:
    assert percents.gain(value) == told


def test_percents_of_either_sign() -> None:
    assert [percents.percent(v, sign=True) for v in (5.0, -5.5, 0.0)] == ["+5 %", "−5.5 %", "0 %"]
    assert percents.reaching(-3.0, -1.0) == "3 % to 1 % worse"
    assert percents.reaching(-3.0, 1.0) == "3 % worse to 1 % better"


def night(number: int, **changes: object) -> NightPoint:
    values = {"night": f"2026-09-{number:02d}", "metric": "mse", "decision": "keep", "version": number, "family": "gru",
              "champion": 1, "candidate_figure": 11.0, "champion_figure": 10.0, "baseline": "ridge",
              "baseline_figure": 12.0, "difference": 1.0, "low": 0.5, "high": 1.5}  # fmt: skip
    return NightPoint(**{**values, **changes})  # type: ignore[arg-type]


def test_in_the_picture_of_the_nights_better_is_up_even_where_lower_is_better() -> None:
    picture = night_chart([night(1)], "t", "d")
    candidate = float(re.findall(r'cy="([\d.]+)" r="5"', picture)[1])  # the first is the legend's
    champion = float(re.findall(r'class="hollow" d="M[\d.]+ ([\d.]+)', picture)[1])
    assert champion < candidate, "the champion's lower error stands higher"
    point = float(re.findall(r'cy="([\d.]+)" r="4.5"', picture)[0])
    zero = float(re.findall(r'class="zero" d="M78 ([\d.]+)', picture)[0])
    assert point > zero, "a worse candidate's gain lies below zero"


@settings(max_examples=60)
@given(
    points=st.lists(
        st.tuples(st.none() | FINITE, st.none() | FINITE, st.none() | FINITE, st.none() | st.floats(0, 100)),
        min_size=1, max_size=14,
    )
)  # fmt: skip
def test_any_nights_make_a_picture(points: list[tuple[float | None, ...]]) -> None:
    rows = [
        night(n + 1, candidate_figure=c, champion_figure=h, baseline_figure=b,
              difference=None if c is None or h is None else c - h, low=None if reach is None else -reach, high=reach)
        for n, (c, h, b, reach) in enumerate(points)
    ]  # fmt: skip
    picture = night_chart(rows, "t", "d")
    ElementTree.fromstring(picture)
    assert "nan" not in picture and "inf" not in picture
