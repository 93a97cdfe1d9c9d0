"""How a verdict reads: the decision and its reason first, what failed above what passed."""

from __future__ import annotations

import html as entities
import re
from dataclasses import replace
from datetime import date

import pytest

from training import verdict as render
from training.gate import Check, Verdict

CHECKS = (
    Check("same exam for all", "pass", "All were scored on the same 812 users."),
    Check("better than the champion", "fail", "NDCG@10 0.0612 against the champion's 0.0598: not better."),
    Check("floor of AUC", "pass", "AUC 0.81 reaches the floor of 0.5."),
)
KEPT = render.Page(
    seat="recommender",
    version=7,
    family="ncf",
    night=date(2026, 10, 1),
    champion=5,
    exam={
        "units": 1812,
        "unit": "users",
        "digest": "abc123",
        "start": "2026-10-01",
        "end": "2026-10-01",
        "about": "1,812 users who met something new",
    },
    scores={"candidate": {"ndcg_at_10": 0.0612}, "champion": {"ndcg_at_10": 0.0598}, "popularity": {}},
    verdict=Verdict("keep", (CHECKS[1].sentence,), CHECKS),
)


@pytest.mark.parametrize(
    ("decision", "champion", "version", "line"),
    [
        ("keep", 5, 7, "Not promoted: version 7 (ncf); version 5 keeps the recommender seat"),
        ("promote", 5, 7, "Promoted: version 7 (ncf) takes the recommender seat from version 5"),
        ("promote", None, 7, "Promoted: version 7 (ncf) takes the recommender seat, which was empty"),
        ("not blessed", None, 7, "Not blessed: version 7 (ncf); the recommender seat stays empty"),
        ("not blessed", 5, None, "Not blessed: no candidate; version 5 keeps the recommender seat"),
    ],
)
def test_the_headline_says_who_sits_in_the_seat_now(
    decision: str, champion: int | None, version: int | None, line: str
) -> None:
    verdict = Verdict(decision, ("so",), CHECKS)  # type: ignore[arg-type]
    page = replace(KEPT, verdict=verdict, champion=champion, version=version)
    assert render.headline(page) == line


@pytest.mark.parametrize("show", [render.markdown, render.html])
def test_the_page_opens_with_decision_and_reason_then_what_failed_then_what_passed(show: object) -> None:
    text = entities.unescape(re.sub(r"<style>.*?</style>|<title>.*?</title>", "", show(KEPT)))  # type: ignore[operator]
    parts = ["Not promoted", "Why:", CHECKS[1].sentence, "2 of 3 checks passed"]
    parts += ["✗ FAIL", "✓ pass", "0.0612", "0.0598", "1,812 users", "abc123"]
    at = 0
    for part in parts:
        assert part in text[at:], f"{part!r} is not where a reader comes to it"
        at = text.index(part, at)


def test_the_description_is_one_paragraph_that_stands_alone() -> None:
    text = render.description(KEPT)
    assert text.startswith("**Not promoted: version 7 (ncf); version 5 keeps the recommender seat.** NDCG@10")
    assert "2 of 3 checks passed" in text and "1,812 users" in text


def test_tags_hold_the_verdict_its_reason_the_exam_and_every_figure() -> None:
    assert render.tags(KEPT) == {
        "verdict": "keep",
        "verdict_reason": CHECKS[1].sentence,
        "exam_digest": "abc123",
        "exam_ndcg_at_10": "0.061200",
    }


def test_text_from_outside_cannot_break_the_page() -> None:
    nasty = Check("x|y", "missing", "<script>alert(1)</script> | a\nb")
    page = replace(KEPT, verdict=Verdict("not blessed", (nasty.sentence,), (nasty,)))
    assert "<script>" not in render.html(page)
    row = next(line for line in render.markdown(page).splitlines() if "MISSING" in line)
    assert row == r"| ? MISSING | x\|y | <script>alert(1)</script> \| a b |"


def test_html_is_self_contained() -> None:
    assert not re.search(r"(src|href)=|@import|url\(", render.html(KEPT))
