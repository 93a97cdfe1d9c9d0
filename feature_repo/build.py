"""`python -m feature_repo.build --night D`: features of every published day up to D that has none, then Feast.

    features/<view>/day=2026-09-28.parquet   in the store: one partition per published day, written once, whole or not
                                             at all; of topics it has rows on days that tell of some week
    home/feast/registry.db, online.db        what Feast keeps, or the servers that the settings name; written.json, or
                                             a key beside the values in Redis, says what they hold

Partitions are built in day order, each from what was published up to its day, so a night that is replayed gives
the same bytes. A day that is published late (it sat in quarantine) gets its own partition; the ones after it stay
as they were, because models were trained and served on them.
The online store always gets the newest rows there are, whatever night is asked for: so an older value can never
overwrite a newer one, which SQLite would let it. Two machines that build at once write the same partitions, of which
the first stays, and in Redis the newer row of a key; on one machine they wait for one another.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import sqlite3
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from feature_repo.engines import Engine, open_engine
from feature_repo.pipelines import item, topic, user
from feature_repo.pipelines.common import EVENT_TIMESTAMP, schema
from nightshift import velocity
from nightshift.commands import emit, run_command
from nightshift.contracts.features import ITEM_VIEW, SERVICES, TOPIC_VIEW, USER_VIEW, VIEWS, WINDOW_DAYS
from nightshift.errors import FeatureError, LakeError
from nightshift.featurestore import (
    Written,
    alone_at_registry,
    connect,
    overwriting,
    reaching,
    registry_stands,
    shared_parts,
    store_config,
)
from nightshift.lake import Lake, open_lake
from nightshift.partitions import (
    FEATURES,
    days_of,
    features_place,
    newest_rows,
    partition,
    partition_name,
    partitions,
    recent,
)
from nightshift.settings import Settings, settings
from nightshift.store import shared


def build(settings: Settings, night: date) -> dict[str, Any]:
    """Build what is missing up to `night` and bring the online store up to date; says what was done.

    Raises:
        LakeError: the night is not published.
        FeatureError: partitions are there that were built with other feature definitions.
    """
    began = time.monotonic()
    with _alone(settings), reaching(settings):
        built = build_partitions(settings, night)
        materialized = refresh_online(settings)
    return {
        "message": _message(built, materialized),
        "days_built": len(built),
        "users": _rows(partition(settings, USER_VIEW, night)),
        "items": _rows(partition(settings, ITEM_VIEW, night)),
        "topics": _rows(partition(settings, TOPIC_VIEW, night)),
        "materialized": materialized,
        "features": [f"{name}:{f.name}" for name, view in VIEWS.items() for f in view.features],
        "seconds": round(time.monotonic() - began, 2),
    }


# --- offline: partitions -------------------------------------------------------------------------------


def build_partitions(settings: Settings, night: date) -> list[date]:
    """Write the partitions that are missing up to `night`; the days that were built, in order."""
    lake, place = open_lake(settings), shared(settings).within(FEATURES)
    days = [day for day in lake.days() if day <= night]
    if not days or days[-1] != night:
        raise LakeError(f"night {night} is not published; run `nightshift ingest --night {night}` first")
    there = {view: set(days_of(settings, view)) for view in VIEWS}
    missing = {day: [view for view in VIEWS if day not in there[view]] for day in days}
    missing = {day: views for day, views in missing.items() if views}
    if not missing:  # Spark takes 13 CPU seconds to start
        return []
    with open_engine(settings) as engine:
        for day in _progress(list(missing)):
            for view, table in compute(lake, day, engine, missing[day]).items():
                with place.new_file(partition_name(view, day)) as path:
                    pq.write_table(table if VIEWS[view].daily else _untaken(settings, view, day, table), path)
    return list(missing)


def compute(
    lake: Lake, day: date, engine: Engine, views: Collection[str] = tuple(VIEWS)
) -> dict[str, pa.Table]:
    """View name → its partition for `day`, from what was published up to `day` alone."""
    found = _daily(lake, day, engine, [view for view in views if VIEWS[view].daily])
    if TOPIC_VIEW in views:
        found[TOPIC_VIEW] = _topics(lake, day)
    return found


def _daily(lake: Lake, day: date, engine: Engine, views: list[str]) -> dict[str, pa.Table]:
    if not views:
        return {}
    start = day - timedelta(days=WINDOW_DAYS - 1)
    interactions = engine.read(lake, "interactions", start, day)
    items = engine.kept("items", engine.latest(lake, "items", day))
    users = engine.kept("users", engine.latest(lake, "users", day).order_by(user.KEY))
    of_users, met = [], []
    for number, share in enumerate(engine.shares(lake, start, day)):
        theirs = share.of(interactions)
        if USER_VIEW in views:
            of_users.append(engine.arrow(user.user_features(theirs, items, share.of(users), day)))
        if ITEM_VIEW in views:
            met.append(engine.kept(f"met_{number}", item.met_by(theirs, day)))
    found = {USER_VIEW: pa.concat_tables(of_users)} if of_users else {}
    if met:
        found[ITEM_VIEW] = engine.arrow(item.item_features(ibis.union(*met), items, day))
    return {view: table.cast(schema(VIEWS[view].key, VIEWS[view].features)) for view, table in found.items()}


def _topics(lake: Lake, day: date) -> pa.Table:
    if not any(map(_rows, lake.paths("indicators", day, day))):
        return topic.SCHEMA.empty_table()  # most days tell of no week: don't read the years before
    return topic.topic_features(lake.read("indicators", date.min, day), day)


def _untaken(settings: Settings, view: str, day: date, table: pa.Table) -> pa.Table:
    """Without rows whose key has one for that very moment in a later day's partition.

    Only a day that is published late meets any: the history of a topic that opened in the meantime. What was
    written stands; two rows for one moment would leave it to chance which of them a join finds.
    """
    later = partitions(settings, view, since=day + timedelta(days=1))
    if not later or not table.num_rows:
        return table
    moment = [VIEWS[view].key, EVENT_TIMESTAMP]
    taken = pa.concat_tables([pq.ParquetFile(path).read(moment) for path in later])
    left = table.join(taken.group_by(moment).aggregate([]), moment, join_type="left anti")
    return left.select(table.column_names).sort_by([(name, "ascending") for name in moment])


def _rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


# --- online: Feast -------------------------------------------------------------------------------------


def refresh_online(settings: Settings) -> int:
    """Apply the definitions and write the newest row of each key online, unless it is there; rows written.

    What is there is what came from the partitions that written.json names.
    """
    newest = {name: recent(days_of(settings, name), view) for name, view in VIEWS.items()}
    paths = {name: [partition(settings, name, day) for day in days] for name, days in newest.items()}
    for view, found in paths.items():
        _check_columns(settings, view, found[-1])
    config, marker = store_config(settings), Written(settings)
    wanted = {
        "definitions": _digest(config),
        "partitions": {view: [path.name for path in found] for view, found in paths.items()},
    }
    known = marker.read() or {}
    stands = registry_stands(settings, config)
    if stands and known == wanted:
        return 0
    if not stands or known.get("definitions") != wanted["definitions"]:
        known = {}  # a change of what is stored: all is written again
        _check_velocity(settings)
        with alone_at_registry(settings, config):
            store = connect(overwriting(config))
            from feature_repo.services import definitions  # it imports Feast, as `connect` does at less cost

            store.apply(definitions(features_place(settings)))
        store.refresh_registry()  # of a server, what is remembered here is else that of before
        _let_readers_read(config)
    else:
        store = connect(config)
    rows = 0
    for view, found in paths.items():
        there = known.get("partitions", {}).get(view, [])
        table = newest_rows(found, VIEWS[view], only=[path for path in found if path.name not in there])
        if table.num_rows:
            store.write_to_online_store(view, df=table.to_pandas())
        rows += table.num_rows
    marker.write(wanted)
    return rows


def _check_columns(settings: Settings, view: str, path: Path) -> None:
    expected, found = schema(VIEWS[view].key, VIEWS[view].features).names, pq.read_schema(path).names
    if found != expected:
        odd = sorted(set(found) ^ set(expected)) or ["their order"]
        raise FeatureError(
            f"{features_place(settings)}/{view}/{path.name}: built with other feature definitions (differs in "
            f"{', '.join(odd)}); move {features_place(settings)}/{view} away and build again"
        )


def _check_velocity(settings: Settings) -> None:
    """The change from a velocity by one formula to one by another would be nobody's change."""
    place = f"{features_place(settings)}/{TOPIC_VIEW}"
    for path in partitions(settings, TOPIC_VIEW):
        by = set(pq.ParquetFile(path).read(["velocity_definition"])[0].unique().to_pylist())
        if by - {velocity.DEFINITION}:
            raise FeatureError(
                f"{place}/{path.name}: holds velocities by {', '.join(sorted(by))}, and now it is "
                f"{velocity.DEFINITION}; move {place} away and build again"
            )


def _digest(config: dict[str, Any]) -> str:
    """Changes when Feast has to be told again: its settings, the features, or where the partitions lie.

    What may differ between machines that share a server, its address say, is none of it.
    """
    told = (shared_parts(config), VIEWS, SERVICES, velocity.DEFINITION)
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _let_readers_read(config: dict[str, Any]) -> None:
    """Serving reads while a night writes: with SQLite's write-ahead log it never waits, without it it may fail."""
    if config["online_store"]["type"] == "sqlite":
        connection = sqlite3.connect(config["online_store"]["path"])
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()


# --- the command ---------------------------------------------------------------------------------------


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """One build at a time on this machine: a night and a person may start one at the same moment."""
    folder = settings.home / FEATURES
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _progress(days: list[date]) -> Iterator[date]:
    console = Console(stderr=True)
    yield from track(days, "features", console=console, disable=not sys.stderr.isatty())


def _message(built: list[date], materialized: int) -> str:
    if built:
        return f"built {built[0]}..{built[-1]}, {materialized} rows online"
    return f"no new day; {materialized} rows online" if materialized else "nothing new"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m feature_repo.build", description=__doc__.split("\n")[0])
    parser.add_argument("--night", type=date.fromisoformat, required=True, help="data date, YYYY-MM-DD")
    night = parser.parse_args().night
    emit(settings(), night, "features", build(settings(), night))


if __name__ == "__main__":
    run_command(main)
