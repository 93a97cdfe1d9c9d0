from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift.errors import ContractError
from training.exams import ranking
from training.exams.ranking import METRICS, Exam, score_model

ITEMS = [f"i{n:02d}" for n in range(60)]


# Three categories, two countries and half of the interactions with the first five items.
KNOWN: dict[str, Any] = {
    "category": {item: ("book", "food", "toy")[n % 3] for n, item in enumerate(ITEMS)},
    "popularity": {item: 11 if n < 5 else 1 for n, item in enumerate(ITEMS)},
    "country": {str(n): ("KR", "JP")[n % 2] for n in range(100)},
}


class Table:
    """A model that answers from an array [users, items]."""

    user_features: list[str] = []  # noqa: RUF012

    def __init__(self, scores: np.ndarray, items: list[str]) -> None:
        self.scores, self.items = scores.astype(np.float32), items
        self.titles = self.categories = items

    def known(self, user_id: str) -> bool:
        return True

    def seen(self, user_id: str) -> np.ndarray:
        return np.empty(0, dtype=np.int64)

    def score(self, users: pd.DataFrame) -> np.ndarray:
        return self.scores[[int(user) for user in users["user_id"]]]

    def reason(self, user_id: str, column: int) -> str:
        return ""


def exam(
    relevant: list[list[str]], seen: list[list[str]] | None = None, items: list[str] = ITEMS, **known: Any
) -> Exam:
    users = [str(n) for n in range(len(relevant))]
    return Exam(
        users=users,
        relevant=relevant,
        seen=seen or [[] for _ in users],
        features=pd.DataFrame({"user_id": users}),
        catalogue=items,
        start=date(2026, 9, 2),
        end=date(2026, 9, 2),
        digest="d",
        **known,
    )


def falling(users: int = 1) -> np.ndarray:
    """The first item best, the last one worst."""
    return np.tile(-np.arange(60.0), (users, 1))


def test_figures_agree_with_those_worked_out_by_hand() -> None:
    # ranks 1, 3 and 31 of 60; two of three in the first ten
    scores = score_model(Table(falling(), ITEMS), exam([["i00", "i02", "i30"]]))

    means = scores.means()
    assert means["hr_at_10"] == 1
    assert means["precision_at_10"] == pytest.approx(0.2)
    assert means["recall_at_50"] == 1
    ideal = 1 + 1 / np.log2(3) + 1 / 2
    assert means["ndcg_at_10"] == pytest.approx((1 + 1 / 2) / ideal)
    assert means["ndcg_at_100"] == pytest.approx((1 + 1 / 2 + 1 / np.log2(32)) / ideal)
    assert means["auc"] == pytest.approx(1 - (0 + 1 + 28) / (3 * 57))
    assert means["coverage_at_10"] == pytest.approx(10 / 60)


def test_a_perfect_ranking_scores_one_and_the_reverse_nothing() -> None:
    relevant = [ITEMS[:12]]
    best = score_model(Table(falling(), ITEMS), exam(relevant)).means()
    worst = score_model(Table(-falling(), ITEMS), exam([["i00"]])).means()

    assert best["ndcg_at_10"] == best["hr_at_10"] == best["auc"] == best["recall_at_50"] == 1
    assert best["ndcg_at_100"] == 1 and worst["ndcg_at_100"] == pytest.approx(1 / np.log2(61))
    assert worst["ndcg_at_10"] == worst["hr_at_10"] == worst["auc"] == worst["recall_at_50"] == 0


def test_items_seen_before_take_no_place() -> None:
    wanted = [["i10"]]
    without = score_model(Table(falling(), ITEMS), exam(wanted)).means()
    with_seen = score_model(Table(falling(), ITEMS), exam(wanted, seen=[["i03", "not on offer"]])).means()

    assert without["hr_at_10"] == 0
    assert with_seen["hr_at_10"] == 1


def test_a_tie_ranks_the_irrelevant_item_first() -> None:
    scores = score_model(Table(np.zeros((1, 60)), ITEMS), exam([["i00"]])).means()

    assert scores["hr_at_10"] == scores["auc"] == scores["recall_at_50"] == 0


def test_items_that_the_model_does_not_know_rank_last_and_are_not_shown() -> None:
    model = Table(falling(2)[:, :5], ITEMS[:5])
    scores = score_model(model, exam([["i59"], ["i00"]])).per_unit
    assert scores["hr_at_10"].tolist() == [0, 1]
    assert scores["auc"].tolist() == [0, 1]
    assert score_model(model, exam([["i59"]])).totals["coverage_at_10"] == pytest.approx(5 / 60)


def test_items_no_longer_on_offer_take_no_place() -> None:
    offered = ITEMS[20:]
    scores = score_model(Table(falling(), ITEMS), exam([["i20"]], items=offered)).means()

    assert scores["ndcg_at_10"] == 1


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_ranks_last(broken: float) -> None:
    table = falling()
    table[0, 0] = broken

    assert score_model(Table(table, ITEMS), exam([["i00"]])).means()["auc"] == 0


def test_users_are_scored_in_chunks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    model = Table(random.normal(size=(17, 60)), ITEMS)
    sheet = exam([[str(item)] for item in random.choice(ITEMS, 17)], **KNOWN)
    at_once = score_model(model, sheet)
    monkeypatch.setattr(ranking, "CHUNK_CELLS", 180)
    in_chunks = score_model(model, sheet)

    assert in_chunks.totals["coverage_at_10"] == at_once.totals["coverage_at_10"]
    for name, values in {**at_once.per_unit, **at_once.slices}.items():
        np.testing.assert_array_equal({**in_chunks.per_unit, **in_chunks.slices}[name], values)


def test_scores_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ContractError, match=r"\(1, 60\).*\(1, 59\)"):
        score_model(Table(falling(), ITEMS[:59]), exam([["i00"]]))


def test_nobody_at_the_exam_means_zero_everywhere() -> None:
    means = score_model(Table(falling(), ITEMS), exam([])).means()
    assert means == dict.fromkeys(set(METRICS) - {"calibration_error_at_10"}, 0.0)


def test_the_head_of_an_exam_is_the_same_exam_for_fewer_users() -> None:
    sheet = exam([["i00"], ["i01"], ["i02"]])
    model = Table(falling(3), ITEMS)
    head = sheet.head(2)

    expected = score_model(model, sheet).per_unit["ndcg_at_10"][:2]
    np.testing.assert_array_equal(score_model(model, head).per_unit["ndcg_at_10"], expected)
    assert head.digest != sheet.digest
    assert sheet.head(3).digest == sheet.digest


@given(data=st.data())
def test_the_ranking_agrees_with_one_sorted_naively(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 70))
    items = [f"i{n}" for n in range(count)]
    # few distinct values, so that ties happen
    values = np.array(data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count)), dtype=float)
    wanted = data.draw(st.lists(st.sampled_from(items), min_size=1, max_size=12, unique=True))
    left = [item for item in items if item not in wanted]
    seen = data.draw(st.lists(st.sampled_from(left), max_size=5, unique=True)) if left else []

    got = score_model(Table(values[None], items), exam([wanted], [seen], items)).means()

    ranking = sorted((i for i in items if i not in seen), key=lambda i: (-values[int(i[1:])], i in wanted))
    hits = [item in wanted for item in ranking]
    for k in (10, 100):
        dcg = sum(1 / np.log2(2 + place) for place, hit in enumerate(hits[:k]) if hit)
        ideal = sum(1 / np.log2(2 + place) for place in range(min(k, len(wanted))))
        assert got[f"ndcg_at_{k}"] == pytest.approx(dcg / ideal)
    assert got["hr_at_10"] == float(any(hits[:10]))
    assert got["precision_at_10"] == pytest.approx(sum(hits[:10]) / 10)
    assert got["recall_at_50"] == pytest.approx(sum(hits[:50]) / len(wanted))
    others = [values[int(i[1:])] for i in items if i not in seen and i not in wanted]
    right = [values[int(i[1:])] > other for i in wanted for other in others]
    assert got["auc"] == pytest.approx(np.mean(right) if right else 1.0)


# --- the list of ten -----------------------------------------------------------------------------------


def test_showing_what_everybody_knows_is_less_novel_than_showing_what_few_do() -> None:
    sheet = exam([["i00"]], **KNOWN)
    known = score_model(Table(falling(), ITEMS), sheet).means()["novelty_at_10"]
    rare = score_model(Table(-falling(), ITEMS), sheet).means()["novelty_at_10"]
    total = 5 * 12 + 55 * 2  # one interaction more for each item
    assert known == pytest.approx(-(5 * np.log2(12 / total) + 5 * np.log2(2 / total)) / 10)
    assert rare == pytest.approx(-np.log2(2 / total))


def test_a_list_like_what_its_user_met_is_calibrated_and_one_of_another_kind_is_not() -> None:
    books = [item for item in ITEMS if KNOWN["category"][item] == "book"]
    toys = [item for item in ITEMS if KNOWN["category"][item] == "toy"]
    sheet = exam([["i01"], ["i01"]], seen=[books[10:], toys[10:]], **KNOWN)
    shows_books = np.tile([2.0 if item in books[:10] else 0.0 for item in ITEMS], (2, 1))
    alike, other = score_model(Table(shows_books, ITEMS), sheet).per_unit["miscalibration_at_10"]
    assert alike < 0.3 and other > 0.8


def test_some_users_of_an_exam_sit_the_same_exam_under_a_digest_of_their_own() -> None:
    sheet = exam([["a"], ["b"], ["c"]], [["d"], [], ["a"]])
    some = sheet.where(np.array([True, False, True]))
    assert (some.users, some.relevant, some.seen) == (
        [sheet.users[0], sheet.users[2]], [["a"], ["c"]], [["d"], ["a"]],
    )  # fmt: skip
    assert some.features["user_id"].tolist() == some.users
    assert len({sheet.digest, some.digest, sheet.where(np.array([True, True, False])).digest}) == 3


def test_what_a_recommendation_showed_on_the_exam_days_is_left_out_but_was_not_met_before() -> None:
    met = ["i10", "i11", "i12", "i13", "i14"]
    sheet = exam([["i00"]], seen=[met], steered={"0": ["i14"]}, **KNOWN)
    assert sheet.met(0) == met[:4]
    scores = score_model(Table(falling(), ITEMS), sheet)
    assert "users: new" in scores.slices and "users: returning" not in scores.slices


# --- slices --------------------------------------------------------------------------------------------


@st.composite
def sittings(draw: st.DrawFn) -> tuple[np.ndarray, Exam]:
    """Scores [users, 60] with few distinct values, and an exam of which everything is known."""
    users = draw(st.integers(1, 4))
    relevant = draw(st.lists(wanted_items(), min_size=users, max_size=users))
    seen = [
        [item for item in draw(st.lists(st.sampled_from(ITEMS), max_size=8, unique=True)) if item not in mine]
        for mine in relevant
    ]
    random = np.random.default_rng(draw(st.integers(0, 1_000)))
    return random.integers(0, 30, (users, 60)).astype(float), exam(relevant, seen, **KNOWN)


def wanted_items() -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(ITEMS), min_size=1, max_size=6, unique=True)


@settings(max_examples=40)
@given(sittings())
def test_a_perfect_ranking_has_an_ndcg_of_one_in_every_slice(sitting: tuple[np.ndarray, Exam]) -> None:
    _, sheet = sitting
    perfect = np.array([[item in mine for item in ITEMS] for mine in sheet.relevant], dtype=float)
    slices = score_model(Table(perfect, ITEMS), sheet).slices
    assert {name.partition(":")[0] for name in slices} == {"users", "country", "items", "category"}
    for values in slices.values():
        there = values[np.isfinite(values)]
        assert len(there) and there == pytest.approx(np.ones(len(there)))


@settings(max_examples=40)
@given(sittings())
def test_every_user_is_in_one_slice_of_each_kind_of_users_and_with_the_same_figure(
    sitting: tuple[np.ndarray, Exam],
) -> None:
    scores, sheet = sitting
    found = score_model(Table(scores, ITEMS), sheet)
    for group in ("users", "country"):
        parts = np.stack([values for name, values in found.slices.items() if name.startswith(f"{group}: ")])
        assert (np.isfinite(parts).sum(axis=0) == 1).all()
        assert np.nansum(parts, axis=0) == pytest.approx(found.per_unit["ndcg_at_100"])


@settings(max_examples=40)
@given(sittings())
def test_a_slice_of_items_is_an_exam_on_these_alone_with_the_others_left_out(
    sitting: tuple[np.ndarray, Exam],
) -> None:
    scores, sheet = sitting
    slices = score_model(Table(scores, ITEMS), sheet).slices
    kinds = {"items: popular": set(ITEMS[:5]), "items: rare": set(ITEMS[5:])}
    for name in ("book", "food", "toy"):
        kinds[f"category: {name}"] = {item for item in ITEMS if KNOWN["category"][item] == name}
    for name, kind in kinds.items():
        for user, (mine, seen) in enumerate(zip(sheet.relevant, sheet.seen, strict=True)):
            wanted = [item for item in mine if item in kind]
            got = slices[name][user] if name in slices else np.nan
            if not wanted:
                assert np.isnan(got)
                continue
            alone = exam([wanted], [[*seen, *(item for item in mine if item not in kind)]])
            assert got == pytest.approx(
                score_model(Table(scores[user][None], ITEMS), alone).means()["ndcg_at_100"]
            )


@settings(max_examples=40)
@given(sittings(), st.randoms())
def test_users_in_another_order_have_their_own_figures_in_that_order(
    sitting: tuple[np.ndarray, Exam], random: Any
) -> None:
    scores, sheet = sitting
    order = list(range(len(sheet)))
    random.shuffle(order)
    users = [sheet.users[row] for row in order]
    moved = replace(
        sheet,
        users=users,
        relevant=[sheet.relevant[row] for row in order],
        seen=[sheet.seen[row] for row in order],
        features=pd.DataFrame({"user_id": users}),
    )
    before, after = (score_model(Table(scores, ITEMS), one) for one in (sheet, moved))
    assert before.totals == after.totals and before.slices.keys() == after.slices.keys()
    for name, values in {**before.per_unit, **before.slices}.items():
        np.testing.assert_allclose({**after.per_unit, **after.slices}[name], values[order])


def test_kinds_of_which_nothing_is_known_are_no_slices() -> None:
    assert set(score_model(Table(falling(), ITEMS), exam([["i00"]])).slices) == {"users: new"}
    some = exam([["i00"], ["i01"]], country={"1": "KR"})
    assert {"country: KR", "country: unknown"} <= set(score_model(Table(falling(2), ITEMS), some).slices)
