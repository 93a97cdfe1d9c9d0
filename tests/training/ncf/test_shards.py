from __future__ import annotations

from pathlib import Path

import numpy as np

from training.ncf.shards import ROW, SHARD_ROWS, joined, number_of, write_set


def rows(count: int, seed: int = 0) -> np.ndarray:
    random, found = np.random.default_rng(seed), np.empty(count, ROW)
    found["user"], found["item"] = random.integers(1, 21, count), random.integers(0, 30, count)
    found["weight"] = random.random(count)
    return found


def written(folder: Path, name: str, batches: list[np.ndarray], seed: int = 0):  # type: ignore[no-untyped-def]
    random = np.random.default_rng(seed)
    return write_set(folder, name, batches, number=4, users=20, items=30, random=random)


def test_an_epoch_reads_every_row_of_every_set_once(tmp_path: Path) -> None:
    first, second = rows(500), rows(300, 1)
    sets = {"a": written(tmp_path, "a", [first[:200], first[200:]]), "b": written(tmp_path, "b", [second])}
    shards = joined(tmp_path, sets, 4)
    read = np.concatenate(list(shards.blocks(np.random.default_rng(2))))

    np.testing.assert_array_equal(np.sort(read), np.sort(np.concatenate([first, second])))
    assert shards.rows == 800 and shards.users == 20 and shards.items == 30
    both = np.concatenate([first, second])
    np.testing.assert_array_equal(shards.counts, np.bincount(both["item"], minlength=30))
    np.testing.assert_array_equal(shards.user_counts, np.bincount(both["user"], minlength=21))


def test_blocks_come_in_another_order_each_epoch_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    shards = joined(tmp_path, {"a": written(tmp_path, "a", [rows(500)])}, 4)
    random = np.random.default_rng(2)
    first, second = (np.concatenate(list(shards.blocks(random))) for _ in range(2))
    again = np.concatenate(list(shards.blocks(np.random.default_rng(2))))

    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)


def test_a_shard_is_a_fair_sample_of_what_was_told_in_order(tmp_path: Path) -> None:
    told = rows(8_000)
    told["weight"] = np.arange(8_000)  # when
    shards = joined(tmp_path, {"a": written(tmp_path, "a", np.split(told, 8))}, 4)
    for block in shards.blocks(np.random.default_rng(0)):
        assert abs(len(block) - 2_000) < 200
        assert abs(block["weight"].mean() - 4_000) < 250


def test_one_set_can_be_read_without_the_other(tmp_path: Path) -> None:
    early = written(tmp_path, "early", [rows(100)])
    written(tmp_path, "late", [rows(50, 1)])
    assert sum(map(len, joined(tmp_path, {"early": early}, 4).blocks(np.random.default_rng(0)))) == 100


def test_blocks_stay_of_one_size_however_many_rows_there_are() -> None:
    assert number_of(0) == number_of(1) == 1
    assert number_of(100 * SHARD_ROWS) == 100 and number_of(SHARD_ROWS + 1) == 2
