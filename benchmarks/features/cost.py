"""One measurement in a process of its own, whose peak of memory is its own: `python -m benchmarks.features.cost …`.

    world HOME ROWS    a lake of so many interactions
    ours HOME          the last day's user and item features, as a night computes them, as Parquet
    pandas HOME        the same features by pandas, as Parquet
    equal HOME         the columns in which the two that were written differ
Prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.features import by_pandas, world
from feature_repo.build import compute
from feature_repo.engines import open_engine
from nightshift.commands import quiet_libraries
from nightshift.contracts.features import ITEM_VIEW, USER_VIEW
from nightshift.lake import open_lake
from nightshift.settings import Settings

VIEWED = (USER_VIEW, ITEM_VIEW)
CLOSE = 1e-5  # half a millisecond, in minutes: ours square session lengths in whole milliseconds


def ours(home: Path) -> dict[str, Any]:
    config = _settings(home)
    with open_engine(config) as engine:
        found = compute(open_lake(config), world.LAST, engine, VIEWED)
    for view, table in found.items():
        pq.write_table(table, _written(home, "ours", view))
    return {view: table.num_rows for view, table in found.items()}


def pandas(home: Path) -> dict[str, Any]:
    found = dict(zip(VIEWED, by_pandas.features(open_lake(_settings(home)), world.LAST), strict=True))
    for view, frame in found.items():
        frame.reset_index().to_parquet(_written(home, "pandas", view), index=False)
    return {view: len(frame) for view, frame in found.items()}


def equal(home: Path) -> dict[str, Any]:
    both = {view: [pq.read_table(_written(home, by, view)) for by in ("ours", "pandas")] for view in VIEWED}
    return {"differ": [f"{view}:{name}" for view in VIEWED for name in differing(*both[view])]}


def differing(one: pa.Table, other: pa.Table) -> list[str]:
    """The columns of `other` in which two tables are not the same: numbers by more than CLOSE, texts by a letter."""
    return [name for name in other.column_names if not _same(one[name], other[name])]


def _same(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    if len(one) != len(other):
        return False
    if not pa.types.is_floating(one.type):
        return bool(one.cast(pa.string()).equals(other.cast(pa.string())))
    left, right = (part.cast(pa.float64()).to_numpy() for part in (one, other))
    return bool(np.allclose(left, right, rtol=1e-9, atol=CLOSE, equal_nan=True))


def _settings(home: Path) -> Settings:
    return Settings(_env_file=None, home=home)  # type: ignore[call-arg]


def _written(home: Path, by: str, view: str) -> Path:
    (home / by).mkdir(parents=True, exist_ok=True)
    return home / by / f"{view}.parquet"


def make(home: Path) -> dict[str, Any]:
    return {"days": len(world.write_lake(home / "lake", int(sys.argv[3])).days())}


def main() -> None:
    quiet_libraries()
    measure = {"world": make, "ours": ours, "pandas": pandas, "equal": equal}[sys.argv[1]]
    began, used = perf_counter(), process_time()
    found = measure(Path(sys.argv[2]))
    told = {"seconds": perf_counter() - began, "cpu_seconds": process_time() - used}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**found, **told, "peak_gib": peak / 2**30}))


if __name__ == "__main__":
    main()
