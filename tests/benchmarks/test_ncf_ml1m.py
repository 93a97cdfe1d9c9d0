"""The MovieLens-1M benchmark on a split that fits on a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from benchmarks.ml1m import sampled
from benchmarks.ml1m.methods import METHODS, OURS, PEER
from benchmarks.ml1m.split import Split, read
from benchmarks.ncf_ml1m import Row, run, summary
from nightshift.errors import SourceError

USERS, ITEMS = 12, 130


@pytest.fixture(scope="module")
def split() -> Split:
    random = np.random.default_rng(0)
    met = np.array([random.permutation(ITEMS)[:9] for _ in range(USERS)])
    rows = np.repeat(np.arange(USERS), 8)
    train = csr_matrix((np.ones(len(rows), np.float32), (rows, met[:, :8].ravel())), shape=(USERS, ITEMS))
    others = [np.setdiff1d(np.arange(ITEMS), row)[:99] for row in met]
    return Split(train, met[:, 8], np.array(others))


def test_both_rankings_are_counted_as_written_and_a_tie_counts_against_the_model(split: Split) -> None:
    random = np.random.default_rng(1)
    scores = random.integers(0, 40, (USERS, ITEMS)).astype(float)  # many ties
    found = split.score(lambda users: scores[users])

    hits, gains = {"": 0.0, "_full": 0.0}, {"": 0.0, "_full": 0.0}
    for user in range(USERS):
        own = scores[user, split.held[user]]
        met = set(split.train[user].indices) | {split.held[user]}
        rivals = {"": split.negatives[user], "_full": [item for item in range(ITEMS) if item not in met]}
        for name, items in rivals.items():
            place = sum(scores[user, item] >= own for item in items)
            hits[name] += place < 10
            gains[name] += 1 / np.log2(place + 2) if place < 10 else 0
    for name in hits:
        assert found[f"hr10{name}"] == pytest.approx(hits[name] / USERS)
        assert found[f"ndcg10{name}"] == pytest.approx(gains[name] / USERS)


def test_a_held_out_item_among_its_own_negatives_is_no_rival_of_itself(split: Split) -> None:
    negatives = split.negatives.copy()
    negatives[:, 0] = split.held
    scores = np.zeros((USERS, ITEMS))
    scores[np.arange(USERS), split.held] = 1.0
    assert replace(split, negatives=negatives).score(lambda users: scores[users])["ndcg10"] == 1.0


def test_a_split_is_read_from_the_papers_files_and_a_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("user,item\n0,2\n1,0\n")
    (tmp_path / "test.csv").write_text("user,item\n1,1\n0,3\n")
    with pytest.raises(SourceError, match=r"test_negatives\.csv"):
        read(tmp_path)
    (tmp_path / "test_negatives.csv").write_text("1,0,2\n0,4,1\n")
    found = read(tmp_path)
    assert found.held.tolist() == [3, 1] and found.negatives.tolist() == [[4, 1], [0, 2]]
    assert found.train.toarray().tolist() == [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    "method", [m for m in METHODS if "192" not in m.name and "128" not in m.name], ids=lambda m: m.name
)
def test_each_smaller_method_fits_and_scores_everybody(method: object, split: Split) -> None:
    row = run(method, split, seeds=1)  # type: ignore[arg-type]
    assert 0 <= row.figures["ndcg10_full"] <= 1 and row.seconds >= 0


def test_the_sampled_networks_learn_what_their_own_loop_is_told(split: Split) -> None:
    hyper = replace(sampled.SMALL, batch=8, learning_rate=0.02, l2=0.0)
    for towers in ("gmf", "mlp"):
        found = sampled.train(split, replace(hyper, towers=towers), epochs=60, seed=0)
        scores = found.scorer(np.arange(USERS))
        met = split.train.toarray() > 0
        assert scores.shape == (USERS, ITEMS) and scores[met].mean() > scores[~met].mean() + 1
        assert len(found.seconds) == 60 and found.rate > 0


def test_the_last_line_has_the_promised_keys_and_a_peer_that_did_not_run_is_null() -> None:
    figures = {"hr10": 0.731, "ndcg10": 0.450, "hr10_full": 0.1, "ndcg10_full": 0.05}
    rows = [Row(OURS, figures, 6.0, 3, 0.001), Row(PEER, {**figures, "hr10": 0.72}, 4.0, 3, 0.0)]
    told = summary(rows, {})
    assert {
        "hr10", "ndcg10", "hr10_full", "ndcg10_full", "cpu_s", "seeds", "irspack_hr10", "irspack_ndcg10",
        "irspack_cpu_s", "recbole_rate_ratio",
    } <= set(told)  # fmt: skip
    assert told["recbole_rate_ratio"] is None and told["irspack_hr10"] == 0.72
    assert told["bars"] == {"hr10": True, "ndcg10": False, "cpu_s": True, "recbole_rate_ratio": None}
