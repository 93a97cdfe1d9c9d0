"""A day's way into the lake: which night is next, ingest (stage), publish. The audit stands between.

Conversations are cleaned on this way, before anything is stored: no personal datum is ever staged.

python -m nightshift.intake plan    [--night DATE] [--ahead]
python -m nightshift.intake ingest  --night DATE
python -m nightshift.intake publish --night DATE
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from datetime import date, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.cleaning import clean
from nightshift.commands import alone, emit, read_step, run_command
from nightshift.contracts import CONTRACTS, CONVERSATIONS, INDICATORS, INTERACTIONS, indicators
from nightshift.contracts.indicators import INDICATOR_NAMES, POLICY
from nightshift.errors import ContractError, LakeError, NothingNewError, SourceError
from nightshift.lake import Lake, open_lake
from nightshift.settings import Settings, settings
from nightshift.sources import DayBatch, Source, open_source

REMEMBERED_DAYS = (
    28  # in which nothing may be said again: 0.6 s a day at 150 conversations, 4 s for the first
)
DIMENSIONS = {name: CONTRACTS[name].key[0] for name in ("users", "items")}


def finished(config: Settings, night: date) -> bool:
    """Whether a night ran to its end: its report was written."""
    return read_step(config, night, "report") is not None


def next_night(config: Settings, *, ahead: bool = False) -> date:
    """The night to run now, from the data alone.

    The newest published day if its night has not run to the end; else the next day of the source that is
    neither published nor in quarantine; on an empty lake the `history_days`-th day of the source.
    `ahead` is what the watch asks: the same, but with nothing new it is content with the newest day.

    Raises:
        NothingNewError: the source has no further day.
    """
    lake, source = open_lake(config), open_source(config.source, config)
    last = lake.last_day()
    if last is None:
        return _first_night(config, source, lake)
    if not finished(config, last) and len(lake.days()) > config.exam_days:
        return last
    following = source.next_day(max([last, *lake.quarantined()]))
    if following is None and ahead:
        return last
    if following is None:
        raise NothingNewError(
            f"source {source.name}: no day after {last} yet; --night runs a published one again"
        )
    return following


def _first_night(config: Settings, source: Source, lake: Lake) -> date:
    """The `history_days`-th day of the source that is not in quarantine; the last one if there are fewer."""
    quarantined = set(lake.quarantined())
    day: date | None = source.first_day()
    found: list[date] = []
    while day is not None and len(found) < config.history_days:
        found += [] if day in quarantined else [day]
        day = source.next_day(day)
    if not found:
        raise NothingNewError(
            f"source {source.name}: every day is in quarantine, see {lake.where}/quarantine"
        )
    return found[-1]


def days_to_take(config: Settings, night: date) -> list[date]:
    """The source's days that a night has to stage: its own, and what it missed since the last one.

    A quarantined day is taken again only when it is asked for by name.
    """
    lake, source = open_lake(config), open_source(config.source, config)
    last, quarantined = lake.last_day(), set(lake.quarantined())
    if last is not None and night <= last:
        return [night]
    days = [] if last is not None else [source.first_day()]
    while (following := source.next_day(days[-1] if days else last or night)) and following <= night:
        days.append(following)
    if night not in days:
        days.append(night)  # read() says in the source's own words that it is not there
    days = [day for day in days if day <= night and (day == night or day not in quarantined)]
    return days if last is not None else days[-config.history_days :]


def ingest(config: Settings, night: date) -> dict[str, Any]:
    """Stage a night's days: the configured source's rows, feedback events and feeds, counted by source.

    A published day is left alone, so ingesting twice changes nothing; what the first time told is told again.
    """
    lake = open_lake(config)
    if lake.entry(night) is not None:  # the watch takes in a night's day, too
        first = read_step(config, night, "ingest") or {"night": night, "days": [], "rows": 0, "counts": {}}
        return {**first, "already_published": True}
    totals: dict[str, dict[str, int]] = {}
    rows = 0
    days = days_to_take(config, night)
    joining = ["events", "feeds"] if config.feeds else ["events"]
    sources = [open_source(name, config) for name in (config.source, *joining)]
    known_before: dict[str, pa.Table] | None = None
    known = set(lake.latest("items", night)["item_id"].to_pylist())
    counted_by_feeds = _topics_of_feeds(config)
    said: dict[date, list[dict[str, Any]]] = {}
    for day in days:
        read = _read_or_quarantine(lake, sources, day, night)
        if read is None:
            continue
        if known_before is None:
            known_before = _known_before(lake, sources[0], day)
        batches = _cleaned(_without_repeats(read), _said_before(lake, day, said))
        batches["events"] = _of_known_items(batches["events"], known, batches[config.source], known_before)
        merged = _merge(day, batches, known_before, counted_by_feeds)
        known.update(merged.tables["items"]["item_id"].to_pylist())
        known_before = {}
        lake.stage(merged)
        said[day] = merged.tables[CONVERSATIONS.name].to_pylist()
        rows += _rows(merged, INTERACTIONS.name)
        for name, batch in batches.items():
            for reason, count in batch.counts.items():
                totals.setdefault(name, {}).setdefault(reason, 0)
                totals[name][reason] += count
    return {"night": night, "already_published": False, "days": days, "rows": rows, "counts": totals}


def _read_or_quarantine(
    lake: Lake, sources: list[Source], day: date, night: date
) -> dict[str, DayBatch] | None:
    """Every source's rows of a day. None for a day of the past that cannot be read: it is in quarantine then.

    Raises:
        SourceError, ContractError: the night's own day is not there, or cannot be read (quarantined too, so
            that it stops this night and not all that come after).
    """
    try:
        return {source.name: source.read(day) for source in sources}
    except (SourceError, ContractError) as error:
        if sources[0].next_day(day - timedelta(days=1)) != day:
            raise  # there is no such day: nothing to keep aside
        lake.quarantine(day, {"failures": [{"expectation": "readable", "text": str(error)}]})
        if day == night:
            raise
        return None


def _known_before(lake: Lake, source: Source, first: date) -> dict[str, pa.Table]:
    """What the source told before `first` and the lake missed: newest row per user, item, topic and week.

    A source tells of a user, an item or a topic's week once, on its day. A lake that begins later must not miss
    the opening, nor what was told on a day in quarantine: its items would be unknown to every day after. A lake
    of the time before indicators missed those of all its days. So while no published day has that table, which
    the next one will have, every day before `first` is read (once, minutes if they are many); from then on
    only the days in quarantine are.
    """
    published = lake.days()
    has_indicators = bool(published and lake.paths(INDICATORS.name, published[0], published[-1]))
    days = lake.quarantined() if has_indicators else _days_before(source, first)
    newest: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in DIMENSIONS}
    weeks: list[pa.Table] = []
    for day in (day for day in days if day < first):
        try:
            tables = source.read(day).tables
        except (SourceError, ContractError):
            continue  # unreadable is why it is in quarantine; a later day may tell of them again
        for name, rows in newest.items():
            told = tables[name].to_pylist() if name in tables and day not in published else []
            fitting = (
                row for row in told if CONTRACTS[name].fits(row)
            )  # or they would fail the next day too
            rows.update({row[DIMENSIONS[name]]: row for row in fitting})
        if INDICATORS.name in tables:
            weeks.append(_dated(indicators.sound(tables[INDICATORS.name], day), day))
    for name, rows in newest.items():
        for known in lake.latest(name, first)[DIMENSIONS[name]].to_pylist():
            rows.pop(known, None)
    missed = {name: CONTRACTS[name].table(list(rows.values())) for name, rows in newest.items()}
    return {**missed, INDICATORS.name: _missed_figures(lake, weeks, first)}


def _missed_figures(lake: Lake, weeks: list[pa.Table], first: date) -> pa.Table:
    """The indicators that would be known before `first`, had `weeks` been taken in on their days, and are not.

    weeks: rows of the contract with their `day`.
    """
    if not sum(table.num_rows for table in weeks):
        return INDICATORS.table([])
    days = lake.days()
    taken = lake.read(INDICATORS.name, days[0] if days else first, first)
    both = pa.concat_tables([taken, *weeks]).sort_by("day")  # a day's are published or missed, never both
    is_known = indicators.known(taken).set_index(list(INDICATORS.key))
    should = indicators.known(both).set_index(list(INDICATORS.key))
    missed = should.where(should.ne(is_known.reindex(should.index))).dropna(how="all")
    return INDICATORS.cast(pa.Table.from_pandas(missed.reset_index(), preserve_index=False))


def _dated(table: pa.Table, day: date) -> pa.Table:
    return table.append_column("day", pa.array([day] * table.num_rows, pa.date32()))


def _days_before(source: Source, first: date) -> list[date]:
    days = []
    day: date | None = source.first_day()
    while day is not None and day < first:
        days.append(day)
        day = source.next_day(day)
    return days


def _without_repeats(batches: dict[str, DayBatch]) -> dict[str, DayBatch]:
    """An event or conversation that an earlier source tells too is left out, and counted: the data's own row wins.

    Else one client that sends an id of the day's data would send the whole day to quarantine.
    """
    result = dict(batches)
    for contract in (INTERACTIONS, CONVERSATIONS):
        (key,) = contract.key
        seen = pa.array([], pa.string())
        for name, batch in result.items():
            if contract.name not in batch.tables:
                continue
            rows = batch.tables[contract.name]
            repeated = pc.is_in(rows[key], value_set=seen)
            if repeats := pc.sum(repeated).as_py() or 0:
                tables = {**batch.tables, contract.name: rows.filter(pc.invert(repeated))}
                result[name] = DayBatch(batch.day, tables, _left_out(batch.counts, {"repeated_id": repeats}))
            seen = pa.concat_arrays([seen, *rows[key].chunks])
    return result


def _left_out(counts: dict[str, int], reasons: dict[str, int]) -> dict[str, int]:
    """The counts of a batch of which more was left out, by reason."""
    more = {reason: counts.get(reason, 0) + count for reason, count in reasons.items()}
    return {**counts, **more, "kept": counts["kept"] - sum(reasons.values())}


def _said_before(lake: Lake, day: date, taken: dict[date, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The conversations of the days before `day`: those of this ingest, `taken`, and the published ones."""
    first = day - timedelta(days=REMEMBERED_DAYS)
    published = lake.read(CONVERSATIONS.name, first, day - timedelta(days=1)).to_pylist()
    return published + [row for when, rows in taken.items() if first <= when < day for row in rows]


def _cleaned(batches: dict[str, DayBatch], before: list[dict[str, Any]]) -> dict[str, DayBatch]:
    """The batches with what may be learnt from of their conversations; what was masked and left out is counted."""
    result = dict(batches)
    for name, batch in batches.items():
        rows = batch.tables[CONVERSATIONS.name].to_pylist() if CONVERSATIONS.name in batch.tables else []
        if not rows:
            continue
        kept, counts = clean(rows, before)
        before = before + kept
        masked = {reason: count for reason, count in counts.items() if reason.startswith("masked_")}
        left_out = {reason: count for reason, count in counts.items() if reason not in masked}
        tables = {**batch.tables, CONVERSATIONS.name: CONVERSATIONS.table(kept)}
        result[name] = DayBatch(batch.day, tables, {**_left_out(batch.counts, left_out), **masked})
    return result


def _of_known_items(
    events: DayBatch, known: set[str], of_day: DayBatch, known_before: dict[str, pa.Table]
) -> DayBatch:
    """Feedback on items that nobody sells is left out, and counted: it must not fail a whole day's audit."""
    told = [t["items"]["item_id"].to_pylist() for t in (of_day.tables, known_before) if "items" in t]
    everything = pa.array(sorted(known.union(*told)), pa.string())
    rows = events.tables["interactions"]
    familiar = pc.is_in(rows["item_id"], value_set=everything)
    strange = rows.num_rows - (pc.sum(familiar).as_py() or 0)
    if not strange:
        return events
    counts = {**events.counts, "kept": events.counts["kept"] - strange, "unknown_item": strange}
    return DayBatch(events.day, {**events.tables, "interactions": rows.filter(familiar)}, counts)


def _merge(
    day: date,
    batches: dict[str, DayBatch],
    known_before: dict[str, pa.Table],
    counted_by_feeds: Collection[str],
) -> DayBatch:
    """All sources' rows of a day, and for what they do not tell anew, what was known before it.

    counted_by_feeds: the topics whose policy changes no other source may tell.
    There is no table of interactions if the day's source has none and no feedback came: it is a day of
    indicators only.
    """
    tables: dict[str, pa.Table] = {}
    for name in CONTRACTS:
        if name == INDICATORS.name:
            tables[name] = _one_row_a_week(_told_of_weeks(batches, known_before, counted_by_feeds))
            continue
        parts = [batch.tables[name] for batch in batches.values() if name in batch.tables]
        if name in known_before:
            key = DIMENSIONS[name]
            told = pa.chunked_array([chunk for part in parts for chunk in part[key].chunks], pa.string())
            earlier = known_before[name]
            parts.append(earlier.filter(pc.invert(pc.is_in(earlier[key], value_set=told.combine_chunks()))))
        tables[name] = pa.concat_tables(parts)
    of_day = next(iter(batches.values()))
    if INTERACTIONS.name not in of_day.tables and not tables[INTERACTIONS.name].num_rows:
        del tables[INTERACTIONS.name]
    counts = {f"{s}.{reason}": n for s, batch in batches.items() for reason, n in batch.counts.items()}
    return DayBatch(day=day, tables=tables, counts=counts)


def _topics_of_feeds(config: Settings) -> Collection[str]:
    """The topics whose policy changes the feeds count, so that nobody else tells them."""
    if not config.feeds:
        return []
    from nightshift.sources.rss import read_feeds_file

    return list(read_feeds_file(config.feeds))


def _told_of_weeks(
    batches: dict[str, DayBatch], known_before: dict[str, pa.Table], counted_by_feeds: Collection[str]
) -> list[pa.Table]:
    """What every teller says of topics and weeks, of less weight first."""
    told = {"before": known_before} | {name: batch.tables for name, batch in batches.items()}
    tables = {name: of_teller.get(INDICATORS.name) for name, of_teller in told.items()}
    return [
        table if name == "feeds" else _without_policy(table, counted_by_feeds)
        for name, table in tables.items()
        if table is not None
    ]


def _without_policy(table: pa.Table, topics: Collection[str]) -> pa.Table:
    """The indicators without the policy changes of `topics`, and without rows that then say nothing."""
    of_feeds = pc.is_in(table["topic"], value_set=pa.array(topics, pa.string()))
    emptied = pc.and_(of_feeds, pc.is_valid(table[POLICY]))
    for name in INDICATOR_NAMES:
        if name != POLICY:
            emptied = pc.and_(emptied, pc.is_null(table[name]))
    left = pc.if_else(of_feeds, pa.scalar(None, pa.float64()), table[POLICY])
    place = table.schema.get_field_index(POLICY)
    return table.set_column(place, table.schema.field(place), left).filter(pc.invert(emptied))


def _one_row_a_week(tables: list[pa.Table]) -> pa.Table:
    """The indicators of several tellers with a topic and week in one row: the figures of the last teller count.

    A teller's own second row for a topic and week stays a second row, for the audit to find.
    """
    told = [table for table in tables if table.num_rows]
    if len(told) < 2:
        return told[0] if told else INDICATORS.table([])
    key = list(INDICATORS.key)
    frames = [table.to_pandas() for table in told]
    rows = pd.concat([frame.assign(row=frame.groupby(key, dropna=False).cumcount()) for frame in frames])
    merged = rows.groupby([*key, "row"], as_index=False, dropna=False).last()
    return INDICATORS.cast(pa.Table.from_pandas(merged.drop(columns="row"), preserve_index=False))


def _rows(batch: DayBatch, table: str) -> int:
    return batch.tables[table].num_rows if table in batch.tables else 0


def publish(config: Settings, night: date) -> dict[str, Any]:
    """Publish every audited staged day up to the night, oldest first.

    Raises:
        LakeError: the night is neither staged nor published, or was not audited.
    """
    lake = open_lake(config)
    published = []
    for day in [day for day in lake.staged_days() if day <= night]:
        if lake.entry(day) is not None:
            lake.discard_staged(day)  # somebody else published it between our ingest and now
        else:
            lake.publish(day)
            published.append(day)
    entry = lake.entry(night)
    if entry is None:
        raise LakeError(f"night {night}: nothing staged to publish; run `nightshift ingest --night {night}`")
    return {
        "night": night,
        "published": published,
        "rows": {name: entry["tables"].get(name, {"rows": 0})["rows"] for name in CONTRACTS},
        "lake_days": len(lake.days()),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m nightshift.intake", description=__doc__)
    parser.add_argument("step", choices=("plan", "ingest", "publish"))
    parser.add_argument("--night", type=date.fromisoformat, help="data date; default: computed from the data")
    parser.add_argument("--ahead", action="store_true", help="plan: with nothing new, the newest day again")
    given = parser.parse_args(arguments)
    config = settings()
    night = given.night or next_night(config, ahead=given.ahead)
    if given.step == "plan":
        emit(config, night, "plan", {"night": night})
        return
    with alone(config, "intake"):
        emit(config, night, given.step, {"ingest": ingest, "publish": publish}[given.step](config, night))


if __name__ == "__main__":
    run_command(main)
