"""Users in shares, so that what a group-by has to hold is of one size however many interactions there are.

A window's files lie in order of user (contracts/interactions.py), and their footers tell from whom to whom each row
group goes. From these alone shares are cut, and who reads one passes over the groups of the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import ibis.expr.types as ir
import pyarrow.parquet as pq

from nightshift.contracts import INTERACTIONS

ROWS = 10_000_000  # of interactions in a share, about


@dataclass(frozen=True)
class Share:
    """The users whose id is above `above`, and at most `to`; None is no bound. Ids are compared by their bytes."""

    above: str | None = None
    to: str | None = None

    def of(self, table: ir.Table) -> ir.Table:
        """The share's rows of a table that has a user_id."""
        bounds = []
        if self.above is not None:
            bounds.append(table.user_id > self.above)
        if self.to is not None:
            bounds.append(table.user_id <= self.to)
        return table.filter(*bounds) if bounds else table


EVERYBODY = [Share()]


def shares(paths: Iterable[Path], rows: int) -> list[Share]:
    """Shares of about `rows` interactions of these files, in order of user; everybody is in exactly one.

    One share if a file does not say that it is in order of user: each share would have to read all of it.
    """
    groups: list[tuple[str, int]] = []
    for path in paths:
        found = _groups(path)
        if found is None:
            return EVERYBODY
        groups += found
    total = sum(count for _, count in groups)
    parts, passed, bounds = max(1, round(total / rows)), 0, list[str]()
    for last, count in sorted(groups):
        passed += count
        if passed * parts >= total * (len(bounds) + 1):
            bounds.append(last)
    cuts = [None, *sorted(set(bounds[:-1])), None]
    return [Share(above, to) for above, to in pairwise(cuts)]


def _groups(path: Path) -> list[tuple[str, int]] | None:
    """(last user, rows) of each row group; None of a file that is in no order, or does not tell."""
    told = pq.read_metadata(path)
    groups = [told.row_group(number) for number in range(told.num_row_groups)]
    groups = [group for group in groups if group.num_rows]
    column = INTERACTIONS.schema.get_field_index(INTERACTIONS.order[0])
    if any(pq.SortingColumn(column) not in group.sorting_columns for group in groups):
        return None
    return [(group.column(column).statistics.max, group.num_rows) for group in groups]
