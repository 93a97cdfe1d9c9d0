"""How a verdict reads: the decision and its reason first, what failed above what passed."""

from __future__ import annotations

import html as entities
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.verdict.pages import POLICY, evidence, page, pages
from training import verdict as render
from training.gate import Check, Verdict
from training.verdict.changes import Change
from training.verdict.page import Page, advice, besides, why

CHECKS = (
    Check("same exam for all", "pass", "All were scored on the same 812 users."),
    Check("code known", "fail", "The code is not allowed.", group="lineage"),
    Check("floor of AUC", "pass", "AUC 0.81 is enough.", {"candidate": 0.81, "needed": 0.5}, "floors", "auc"),
)
KEPT = Page(
    seat="recommender", version=7, family="ncf", night=date(2026, 10, 1), champion=5,
    exam={"units": 1812, "unit": "users", "digest": "abc123", "start": "2026-10-01", "end": "2026-10-01",
          "about": "1,812 users who met something new"},
    scores={"candidate": {"ndcg_at_100": 0.0612}, "champion": {"ndcg_at_100": 0.0598}, "popularity": {}},
    verdict=Verdict("keep", (CHECKS[1].sentence,), CHECKS, "po11cy"), policy=POLICY,
)  # fmt: skip


class Outline(HTMLParser):
    """The tags of a page, and the text outside of styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.mark.parametrize(
    ("decision", "champion", "version", "line"),
    [
        ("keep", 5, 7, "Not promoted: version 7 (ncf); version 5 keeps the recommender seat"),
        ("promote", 5, 7, "Promoted: version 7 (ncf) takes the recommender seat from version 5"),
        ("promote", None, 7, "Promoted: version 7 (ncf) takes the recommender seat, which was empty"),
        ("hold", 5, 7, "Held for a reviewer: version 7 (ncf) would take the recommender seat from version 5"),
        (
            "hold",
            None,
            7,
            "Held for a reviewer: version 7 (ncf) would take the recommender seat, which is empty",
        ),
        ("not blessed", None, 7, "Not blessed: version 7 (ncf); the recommender seat stays empty"),
        ("not blessed", 5, None, "Not blessed: no candidate; version 5 keeps the recommender seat"),
    ],
)
def test_the_headline_says_who_sits_in_the_seat_now(
    decision: str, champion: int | None, version: int | None, line: str
) -> None:
    verdict = Verdict(decision, ("so",), CHECKS)  # type: ignore[arg-type]
    assert render.headline(replace(KEPT, verdict=verdict, champion=champion, version=version)) == line


@pytest.mark.parametrize("show", [render.markdown, render.html])
def test_the_page_opens_with_decision_and_reason_then_what_failed_then_what_passed(
    show: Callable[[Page], str],
) -> None:
    text = entities.unescape(
        re.sub(r"<style>.*?</style>|<title>.*?</title>", "", show(KEPT), flags=re.DOTALL)
    )
    parts = ["Not promoted", "Why:", "The code is not allowed.", "nightshift override recommender/7 --reason"]
    parts += [
        "2 of 3 checks passed",
        "code known",
        "same exam for all",
        "0.0612",
        "0.0598",
        "1,812 users",
        "abc123",
    ]
    at = 0
    for part in parts:
        assert part in text[at:], f"{part!r} is not where a reader comes to it"
        at = text.index(part, at) + len(part)


@pytest.mark.parametrize(
    ("name", "opening", "figures"),
    [
        (
            "promote",
            "It did better than the champion by more than luck gives: NDCG@100 ",
            " % better (95 % interval: ",
        ),
        ("keep-noise", "It may only have been lucky against the champion: NDCG@100 ", " % worse to "),
        (
            "keep-slice",
            "It is better as a whole, but worse for the slice “category: 도서” (219 users)",
            "(99.84 %",
        ),
        ("not-blessed", "The candidate could not be scored: PackageError", "cut short."),
        (
            "hold",
            "It won, but something was flagged, and a person must say yes. Trained by a tree",
            "48ea460c1d2e",
        ),
        (
            "first",
            "It did better than the popularity baseline by more than luck gives",
            " % better (95 % interval",
        ),
    ],
)
def test_the_reason_is_one_plain_sentence_with_its_figure(name: str, opening: str, figures: str) -> None:
    said = why(pages()[name])
    assert said.startswith(opening) and figures in said
    assert f"Why: {' '.join(said.split())}" in Outline(render.html(pages()[name])).text


def test_of_several_regressed_slices_the_worst_is_named() -> None:
    one = next(check for check in pages()["keep-slice"].verdict.checks if check.status == "fail")
    worse = replace(one, name="slice country: 대한민국", figures={**one.figures, "difference": -0.05})
    told = replace(pages()["keep-slice"], verdict=Verdict("keep", ("so",), (one, worse)))
    assert "“country: 대한민국”" in why(told) and "38.6 % worse" in why(told)
    assert besides(told) == ["Besides: 1 more failed; they stand first in their groups below."]


def test_where_lower_is_better_a_fall_is_told_as_better() -> None:
    figures = {"candidate": 11.0, "other": 10.0, "difference": 1.0, "low": -0.5, "high": 2.5, "needed": -0.1}
    check = Check("better than the champion", "fail", "so", figures, "better", "mse")
    assert "10 % worse" in why(replace(KEPT, verdict=Verdict("keep", ("so",), (check,))))
    fallen = {**figures, "candidate": 9.0, "difference": -1.0, "low": -2.5, "high": 0.5}
    said = why(replace(KEPT, verdict=Verdict("keep", ("so",), (replace(check, figures=fallen),))))
    assert "lucky" in said and "10 % better (95 % interval: 5 % worse to 25 % better)" in said


@pytest.mark.parametrize("group", ["better", "guardrails", "reference", "slices", "baselines"])
@pytest.mark.parametrize("point", [-0.02, 0.0, 0.0004])
def test_every_kind_of_failed_comparison_has_its_sentence(group: str, point: float) -> None:
    names = {"reference": "not behind the frozen reference v3: NDCG@100", "slices": "slice a: b"}
    name = names.get(group, "better than x")
    figures = {"candidate": 0.1 + point, "other": 0.1, "difference": point, "low": point - 1e-4, "high": point + 1e-4,
               "needed": 0.001, "units": 90}  # fmt: skip
    check = Check(name, "fail", "so", figures, group, "ndcg_at_100")
    told = replace(KEPT, verdict=Verdict("keep", ("so",), (check,)))
    assert re.search(r"(% worse|% better|equal)", why(told)) and "0.1" in why(told)
    assert "<svg" in render.html(told)


@pytest.mark.parametrize(
    ("other", "said"), [(100.0, "1 % better"), (0.0, "+1.00 in its own unit"), (1e-300, "own unit")]
)
def test_a_gain_over_nothing_is_told_in_the_metrics_own_unit(other: float, said: str) -> None:
    figures = {
        "candidate": other + 1,
        "other": other,
        "difference": 1.0,
        "low": -1.0,
        "high": 3.0,
        "needed": 0.0,
    }
    check = Check("better than the champion", "fail", "so", figures, "better", "novelty_at_10")
    told = replace(KEPT, verdict=Verdict("keep", ("so",), (check,)))
    assert said in why(told) and "<svg" in render.html(told)


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("promote", ['nightshift rollback recommender --reason "…"']),
        ("keep-slice", ['nightshift override recommender/12 --reason "…"']),
        ("hold", ['nightshift approve recommender/12 --reason "…"', 'nightshift reject recommender/12 --reason "…"']),
        ("not-blessed", ["python -m training.examine recommender --night 2026-10-01",
                         'nightshift override recommender/12 --reason "…"']),
    ],
)  # fmt: skip
def test_what_to_do_is_a_command_to_copy(name: str, commands: list[str]) -> None:
    assert [command for _, command in advice(pages()[name])] == commands
    assert all(command in Outline(render.html(pages()[name])).text for command in commands)


def test_the_description_is_one_paragraph_that_stands_alone() -> None:
    text = render.description(KEPT)
    assert text.startswith(
        "**Not promoted: version 7 (ncf); version 5 keeps the recommender seat.** The code is"
    )
    assert "2 of 3 checks passed" in text and "1,812 users" in text and "verdict/verdict.html" in text
    assert "\n" not in text
    assert "`nightshift approve recommender/12" in render.description(pages()["hold"])


def test_tags_hold_the_verdict_its_reason_exam_policy_champion_and_every_figure() -> None:
    assert render.tags(KEPT) == {
        "verdict": "keep",
        "verdict_reason": CHECKS[1].sentence,
        "exam_digest": "abc123",
        "policy_digest": "po11cy",
        "examined_reference": "nobody",
        "examined_against": "5",
        "exam_ndcg_at_100": "0.061200",
    }
    assert render.tags(replace(KEPT, champion=None, scores={}))["examined_against"] == "nobody"


def test_a_candidate_beaten_by_another_reads_so_and_has_no_picture_of_a_win() -> None:
    reason = "Good enough, but version 13 (gru) did better still."
    checks = tuple(check for check in pages()["promote"].verdict.checks if check.group != "infra")
    told = replace(pages()["promote"], beaten_by=13, verdict=Verdict("keep", (reason,), checks))
    assert why(told) == reason
    top = render.html(told).partition("</header>")[0]
    assert "version 13 takes the recommender seat" in top and "version 13 serves" in top and "<svg" not in top


def test_what_was_not_checked_is_listed_with_its_reason() -> None:
    kept = Outline(render.html(pages()["keep-slice"])).text
    assert (
        "In the real service: not tried: only the best of those that pass everything else is started" in kept
    )
    first = Outline(render.html(pages()["first"])).text
    assert "Better than the champion, Guardrails, Slices: nobody sat in the seat to compare with" in first
    assert "No ratchet: the frozen reference: no version is frozen" in first
    off = page(evidence(), POLICY.model_copy(update={"slices": None, "behaviour": {}}))
    assert "Slices, Behaviour: switched off by the policy" in Outline(render.html(off)).text
    assert "switched off by the policy" in render.markdown(off)


def test_every_check_and_every_slice_is_on_the_page_and_flags_are_seen() -> None:
    for told in pages().values():
        text = Outline(render.html(told)).text
        for check in told.verdict.checks:
            named = (
                check.name.removeprefix("slice ").partition(": ")[2]
                if "units" in check.figures
                else check.name
            )
            assert named == "" or named.split()[0] in text, check.name
            assert check.status == "pass" or named.split()[0] in text
    assert "⚑ flag" in Outline(render.html(pages()["hold"])).text
    assert "⚑" not in Outline(render.html(pages()["promote"])).text


def test_a_group_with_a_failure_stands_above_those_without() -> None:
    assert pages()["keep-slice"].groups()[0] == "slices"
    assert pages()["keep-noise"].groups()[:2] == ["better", "guardrails"]
    assert pages()["promote"].groups()[0] == "contest"


def test_changes_and_nights_are_told() -> None:
    for show in (render.html, render.markdown):
        text = entities.unescape(show(pages()["keep-slice"]))
        for part in ("121,530", "8dca64a NCF: negatives", "learning_rate", "0.0008", "2.3.1", "Other data, by digest",
                     "never one with another", "frozen reference v3"):  # fmt: skip
            assert part in text, part


NASTY = ["<script>x</script>", "\"'><img onerror=x>", "a & b", "</style>", "</title>", "]]>", "|", "<!--"]
ANY_TEXT = st.sampled_from(NASTY) | st.text(min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(text=ANY_TEXT)
def test_no_text_from_outside_becomes_a_tag_or_an_attribute(text: str) -> None:
    base = pages()["keep-slice"]
    few = [check for group in base.groups() for check in base.group(group)[:3]]
    base = replace(base, verdict=replace(base.verdict, checks=tuple(few)), nights=base.nights[:2])
    found = base.changes
    assert found is not None
    checks = tuple(replace(c, name=f"slice {text}: {text}" if "units" in c.figures else c.name + text,
                           sentence=text + c.sentence) for c in base.verdict.checks)  # fmt: skip
    told = replace(
        base, family=text, exam={**base.exam, "about": text, "unit": text, "digest": text},
        scores={**base.scores, text: {"auc": 1.0, text: 2.0}},
        verdict=Verdict("keep", (text,), (*checks, Check(text, "fail", text, group=text)), text),
        changes=replace(found, params=(Change(text, text, text + "."),), code=replace(found.code, commits=(text,))),
    )  # fmt: skip
    before, after = Outline(render.html(base)), Outline(render.html(told))
    assert set(after.tags) <= set(before.tags) | {"th"} and set(after.attributes) <= set(before.attributes)
    assert not re.search("<[a-z!/]", render.markdown(told) + render.description(told))


def test_a_table_of_the_markdown_page_is_not_broken_by_a_text() -> None:
    nasty = Check("x|y", "missing", "<script>alert(1)</script> | a\nb")
    told = replace(KEPT, verdict=Verdict("not blessed", (nasty.sentence,), (nasty,)))
    row = next(line for line in render.markdown(told).splitlines() if "MISSING" in line)
    assert row == r"| ? MISSING | x\|y | A fair contest | &lt;script>alert(1)&lt;/script> \| a b |"


@pytest.mark.parametrize("name", ["promote", "keep-slice", "not-blessed", "hold", "first"])
def test_html_is_self_contained_and_every_picture_has_words(name: str) -> None:
    text = render.html(pages()[name])
    assert not re.search(r"(src|href)=|@import|url\(|<script", text)
    for picture in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        told = all(part in picture for part in ("<title>", "<desc>", 'role="img"'))
        assert told or 'aria-hidden="true"' in picture


def test_a_night_without_a_candidate_has_a_page() -> None:
    nobody = Check("every candidate is here", "missing", "There is no candidate.")
    verdict = Verdict("not blessed", (nobody.sentence,), (nobody,))
    told = replace(KEPT, version=None, family="", scores={"champion": {"ndcg_at_100": 0.1}}, verdict=verdict)
    assert "Not blessed" in render.html(told) and "override" not in render.html(told)
    assert "There is no candidate." in render.markdown(told)
