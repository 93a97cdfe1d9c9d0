from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.errors import ContractError
from training.exams import ranking
from training.exams.ranking import METRICS, Exam, score_model

ITEMS = [f"i{n:02d}" for n in range(60)]


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


def exam(relevant: list[list[str]], seen: list[list[str]] | None = None, items: list[str] = ITEMS) -> Exam:
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
    assert means["auc"] == pytest.approx(1 - (0 + 1 + 28) / (3 * 57))
    assert means["coverage_at_10"] == pytest.approx(10 / 60)


def test_a_perfect_ranking_scores_one_and_the_reverse_nothing() -> None:
    relevant = [ITEMS[:12]]
    best = score_model(Table(falling(), ITEMS), exam(relevant)).means()
    worst = score_model(Table(-falling(), ITEMS), exam([["i00"]])).means()

    assert best["ndcg_at_10"] == best["hr_at_10"] == best["auc"] == best["recall_at_50"] == 1
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
    sheet = exam([[str(item)] for item in random.choice(ITEMS, 17)])
    at_once = score_model(model, sheet)
    monkeypatch.setattr(ranking, "CHUNK_CELLS", 180)
    in_chunks = score_model(model, sheet)

    assert in_chunks.totals["coverage_at_10"] == at_once.totals["coverage_at_10"]
    for name, values in at_once.per_unit.items():
        np.testing.assert_array_equal(in_chunks.per_unit[name], values)


def test_scores_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ContractError, match=r"\(1, 60\).*\(1, 59\)"):
        score_model(Table(falling(), ITEMS[:59]), exam([["i00"]]))


def test_nobody_at_the_exam_means_zero_everywhere() -> None:
    assert score_model(Table(falling(), ITEMS), exam([])).means() == dict.fromkeys(METRICS, 0.0)


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
    dcg = sum(1 / np.log2(2 + place) for place, hit in enumerate(hits[:10]) if hit)
    ideal = sum(1 / np.log2(2 + place) for place in range(min(10, len(wanted))))
    assert got["ndcg_at_10"] == pytest.approx(dcg / ideal)
    assert got["hr_at_10"] == float(any(hits[:10]))
    assert got["precision_at_10"] == pytest.approx(sum(hits[:10]) / 10)
    assert got["recall_at_50"] == pytest.approx(sum(hits[:50]) / len(wanted))
    others = [values[int(i[1:])] for i in items if i not in seen and i not in wanted]
    right = [values[int(i[1:])] > other for i in wanted for other in others]
    assert got["auc"] == pytest.approx(np.mean(right) if right else 1.0)
