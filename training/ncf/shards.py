"""Positives as integers on disk, in shuffled shards: what the large path reads its epochs from.

Each positive was put into a shard at random, so a shard is a fair sample of all days; an epoch goes through the shards
in a new order and through the rows of each in a new order. Beside the tables it takes the memory of one block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROW = np.dtype([("user", "<i4"), ("item", "<i4"), ("weight", "<f4")])  # users from 1 on, items from 0 on
SHARD_ROWS = 1 << 20  # about as many rows a block has: 12 MB, and as much again while it is shuffled


@dataclass(frozen=True)
class Shards:
    """Some sets of shards under a folder, read together.

    sets: names of the sets; block n is shard n of each. users, items: how many ids there are.
    counts int64 [items], users_counts int64 [users + 1]: positives of each; place 0 of the latter is nobody's.
    """

    folder: Path
    sets: tuple[str, ...]
    number: int
    users: int
    items: int
    counts: np.ndarray
    user_counts: np.ndarray

    @property
    def rows(self) -> int:
        return int(self.counts.sum())

    def blocks(self, random: np.random.Generator) -> Iterator[np.ndarray]:
        """All rows once, in blocks of about SHARD_ROWS, in an order drawn by `random`."""
        for shard in random.permutation(self.number):
            paths = [shard_path(self.folder, name, shard) for name in self.sets]
            parts = [np.fromfile(path, ROW) for path in paths if path.exists()]
            block = np.concatenate([np.empty(0, ROW), *parts])
            if len(block):
                yield block[random.permutation(len(block))]


def shard_path(folder: Path, name: str, shard: int) -> Path:
    return folder / f"{name}-{shard:05d}.bin"


def number_of(rows: int) -> int:
    """Shards for about so many rows."""
    return max(1, -(-rows // SHARD_ROWS))


@dataclass(frozen=True)
class Counts:
    """Of one set that was written: positives of each item [items] and user [users + 1], int64."""

    items: np.ndarray
    users: np.ndarray


def write_set(
    folder: Path,
    name: str,
    batches: Iterable[np.ndarray],
    *,
    number: int,
    users: int,
    items: int,
    random: np.random.Generator,
) -> Counts:
    """Spread rows of ROW over `number` shards at random; a set of that name must not be there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = Counts(np.zeros(items, np.int64), np.zeros(users + 1, np.int64))
    for batch in batches:
        np.add.at(counts.items, batch["item"], 1)
        np.add.at(counts.users, batch["user"], 1)
        shard = random.integers(number, size=len(batch))
        order = np.argsort(shard, kind="stable")
        bounds = np.searchsorted(shard[order], np.arange(number + 1))
        for at in range(number):
            part = batch[order[bounds[at] : bounds[at + 1]]]
            if len(part):
                with shard_path(folder, name, at).open("ab") as handle:
                    part.tofile(handle)
    return counts


def joined(folder: Path, sets: dict[str, Counts], number: int) -> Shards:
    """The shards of sets that were written with the same numbers of shards, users and items."""
    first, *others = sets.values()
    items, users = first.items.copy(), first.users.copy()
    for other in others:
        items += other.items
        users += other.users
    return Shards(folder, tuple(sets), number, len(users) - 1, len(items), items, users)
