"""The features' partitions: a file per view and published day, and which rows of them are the newest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.contracts.features import VIEWS, View
from nightshift.errors import FeatureError
from nightshift.settings import Settings
from nightshift.store import shared

FEATURES = "features"  # the store's folder of partitions
TIMESTAMP = "event_timestamp"


def features_place(settings: Settings) -> str:
    """Where the partitions are for all who share the registry: a folder, or a URL."""
    return shared(settings).within(FEATURES).where


def days_of(settings: Settings, view: str, until: date | None = None) -> list[date]:
    """The published days (up to `until`) that the view has a partition of, in order."""
    names = shared(settings).within(FEATURES).names(view)
    found = [day_of(Path(name)) for name in names if name.startswith("day=") and name.endswith(".parquet")]
    return [day for day in found if until is None or day <= until]


def partitions(
    settings: Settings, view: str, until: date | None = None, since: date | None = None
) -> list[Path]:
    """The view's partition files of published days (`since`..`until`), in day order, to be read here.

    In a folder of their own: those of a bucket are fetched into the cache, and what is not there any more is removed.
    """
    place = shared(settings).within(FEATURES)
    days = [day for day in days_of(settings, view, until) if since is None or day >= since]
    return [place.path(partition_name(view, day)) for day in days]


def partition(settings: Settings, view: str, day: date) -> Path:
    """The view's partition file of a day, to be read here."""
    return shared(settings).within(FEATURES).path(partition_name(view, day))


def partition_name(view: str, day: date) -> str:
    return f"{view}/day={day}.parquet"


def day_of(partition: Path) -> date:
    """The published day of a partition file."""
    return date.fromisoformat(partition.stem.removeprefix("day="))


def newest(settings: Settings, view: str, until: date | None = None) -> tuple[date, pd.DataFrame]:
    """The newest row of each key as known at the end of a day, by key, and that day.

    The day is the newest one (up to `until`) whose partition has rows. A daily view's rows are that partition's;
    else each key's newest row, unless it is older by then than a row is good for.

    Raises:
        FeatureError: no partition has rows, or one cannot be read.
    """
    days = days_of(settings, view, until)
    while days and not _reading(partition(settings, view, days[-1]), lambda file: file.metadata.num_rows):
        days.pop()
    if not days:
        limit = f" up to {until}" if until else ""
        place = f"{features_place(settings)}/{view}"
        raise FeatureError(
            f"{place}: no features{limit}; run `nightshift features` for a night that has data"
        )
    paths = [partition(settings, view, day) for day in recent(days, VIEWS[view])]
    return days[-1], newest_rows(paths, VIEWS[view]).to_pandas()


def recent(days: Sequence[date], view: View) -> list[date]:
    """Those of the view's days (in order) whose partitions can hold a row which is good at the end of the last."""
    if view.daily:
        return list(days[-1:])
    return [day for day in days if days[-1] - day <= timedelta(days=view.ttl_days)]


def newest_rows(paths: Sequence[Path], view: View, only: Sequence[Path] | None = None) -> pa.Table:
    """The newest row of each key in some partitions (`recent`, in day order) that is good at the end of the last.

    In order of key. only: no more than those of these rows that lie in these partitions.

    Raises:
        FeatureError: a partition cannot be read.
    """
    oldest = datetime.combine(day_of(paths[-1]), time(), UTC) + timedelta(days=1 - view.ttl_days)
    moments = [view.key, TIMESTAMP]
    heads = [_reading(path, lambda file: file.read(moments)).to_pandas() for path in paths]
    found = pd.concat([head.assign(path=n, row=range(len(head))) for n, head in enumerate(heads)])
    found = found[found[TIMESTAMP] >= oldest].sort_values(moments, kind="stable").groupby(view.key).tail(1)
    tables = [_reading(paths[-1], lambda file: file.schema_arrow).empty_table()]
    for n, places in found.groupby("path")["row"]:
        if only is None or paths[n] in only:
            tables.append(_reading(paths[n], lambda file: file.read()).take(pa.array(places)))
    return pa.concat_tables(tables).sort_by(view.key)


def _reading(path: Path, read: Callable[[pq.ParquetFile], Any]) -> Any:
    try:
        with pq.ParquetFile(path) as file:
            return read(file)
    except (OSError, ValueError) as error:  # Arrow's own errors are ValueErrors
        raise FeatureError(
            f"{path} cannot be read ({error}); delete it and build the features again"
        ) from error
