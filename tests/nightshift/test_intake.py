from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nightshift import intake
from nightshift.commands import emit, read_step
from nightshift.contracts import INTERACTIONS, ITEMS, USERS
from nightshift.errors import ContractError, LakeError, NothingNewError, SourceError
from nightshift.eventlog import EventLog
from nightshift.lake import Lake
from nightshift.settings import Settings
from nightshift.sources import DayBatch
from nightshift.sources.files import Files

FIRST = date(2026, 9, 1)


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    """Files of six days, a gap (no trade) on the fourth."""
    for number in (0, 1, 2, 4, 5, 6):
        write_day(tmp_path / "in", FIRST + timedelta(days=number))
    values = {"home": tmp_path / "var", "source": "files", "source_path": tmp_path / "in", "history_days": 3}
    return Settings(_env_file=None, **values)  # type: ignore[call-arg,arg-type]


def write_day(root: Path, day: date) -> None:
    folder = root / day.isoformat()
    folder.mkdir(parents=True)
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    rows = [{**row, "event_id": f"{day}-{n}", "at": at} for n, row in enumerate(INTERACTIONS.sample)]
    with (folder / "interactions.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, INTERACTIONS.schema.names)
        writer.writeheader()
        writer.writerows({**row, "at": at.isoformat()} for row in rows)
    import pyarrow.parquet as pq

    pq.write_table(ITEMS.table([dict(row) for row in ITEMS.sample]), folder / "items.parquet")


def take(config: Settings, night: date) -> None:
    """ingest, pass the audit, publish."""
    lake = Lake(config.lake_dir)
    intake.ingest(config, night)
    for day in lake.staged_days():
        lake.record_audit(day, {"passed": True})
    intake.publish(config, night)


def finish(config: Settings, night: date) -> None:
    emit(config, night, "report", {"night": night})


def test_the_first_night_ends_the_history_that_it_takes_in(config: Settings) -> None:
    assert intake.next_night(config) == FIRST + timedelta(days=2)
    take(config, FIRST + timedelta(days=2))
    assert Lake(config.lake_dir).days() == [FIRST + timedelta(days=n) for n in range(3)]


def test_a_night_that_did_not_end_is_run_again(config: Settings) -> None:
    night = intake.next_night(config)
    take(config, night)
    assert intake.next_night(config) == night
    finish(config, night)
    assert intake.next_night(config) == FIRST + timedelta(days=4), "the day without trade is passed over"


def test_a_day_that_cannot_be_read_stops_its_own_night_and_no_other(config: Settings) -> None:
    take(config, FIRST + timedelta(days=2))
    finish(config, FIRST + timedelta(days=2))
    bad, following = FIRST + timedelta(days=4), FIRST + timedelta(days=5)
    path = config.source_path / bad.isoformat() / "interactions.csv"  # type: ignore[operator]
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises((SourceError, ContractError), match=r"interactions\.csv"):
        intake.ingest(config, bad)
    lake = Lake(config.lake_dir)
    assert lake.quarantined() == [bad] and lake.staged_days() == []
    assert intake.next_night(config) == following
    take(config, following)
    path.write_text(whole)
    take(config, bad)  # mended, and asked for by name
    assert lake.days()[-2:] == [bad, following] and lake.quarantined() == []


def test_a_bad_day_of_the_past_does_not_stop_the_night(config: Settings) -> None:
    take(config, FIRST + timedelta(days=2))
    (config.source_path / "2026-09-05" / "interactions.csv").write_text("nonsense")  # type: ignore[operator]
    take(config, FIRST + timedelta(days=6))
    lake = Lake(config.lake_dir)
    assert lake.quarantined() == [FIRST + timedelta(days=4)]
    assert lake.days()[-2:] == [FIRST + timedelta(days=5), FIRST + timedelta(days=6)]


def test_an_unreadable_first_night_does_not_block_the_second(config: Settings) -> None:
    night = intake.next_night(config)
    (config.source_path / night.isoformat() / "interactions.csv").write_text("nonsense")  # type: ignore[operator]
    with pytest.raises((SourceError, ContractError)):
        intake.ingest(config, night)
    assert intake.next_night(config) > night


def test_a_source_that_grew_from_one_day_goes_on(config: Settings, tmp_path: Path) -> None:
    write_day(tmp_path / "young", FIRST)
    young = config.model_copy(update={"source_path": tmp_path / "young"})
    take(young, intake.next_night(young))
    write_day(tmp_path / "young", FIRST + timedelta(days=1))
    assert intake.next_night(young) == FIRST + timedelta(days=1), "one day alone leaves nothing to train on"


def test_feedback_that_a_quarantined_day_had_taken_joins_the_next_night(config: Settings) -> None:
    take(config, FIRST + timedelta(days=2))
    bad = FIRST + timedelta(days=4)
    event = {**INTERACTIONS.sample[0], "event_id": "kept", "at": datetime(2026, 9, 5, 9, tzinfo=UTC)}
    EventLog(config.eventlog_uri).append([event])
    intake.ingest(config, bad)
    Lake(config.lake_dir).quarantine(bad, {})
    take(config, FIRST + timedelta(days=5))
    day = FIRST + timedelta(days=5)
    assert "kept" in Lake(config.lake_dir).read("interactions", day, day)["event_id"].to_pylist()


def test_a_broken_event_in_the_log_stops_no_day(config: Settings) -> None:
    broken = [
        {"kind": "teleport"},
        {"kind": "rating", "value": 9.0},
        {"kind": "purchase", "value": -1.0},
        {"user_id": "u" * 500},
    ]
    at = datetime(2026, 9, 3, 20, tzinfo=UTC)
    rows = [
        {**INTERACTIONS.sample[0], **change, "event_id": f"b{n}", "at": at} for n, change in enumerate(broken)
    ]
    EventLog(config.eventlog_uri).append(rows)
    counts = intake.ingest(config, FIRST + timedelta(days=2))["counts"]["events"]
    assert counts == {"read": 4, "kept": 0, "breaks_contract": 4}


def test_an_item_told_of_on_a_quarantined_day_is_known_to_the_days_after(config: Settings) -> None:
    take(config, FIRST + timedelta(days=2))
    bad, following = FIRST + timedelta(days=4), FIRST + timedelta(days=5)
    import pyarrow.parquet as pq

    new = ITEMS.table([{**ITEMS.sample[0], "item_id": "told on the bad day"}])
    pq.write_table(new, config.source_path / bad.isoformat() / "items.parquet")  # type: ignore[operator]
    intake.ingest(config, bad)
    Lake(config.lake_dir).quarantine(bad, {})
    take(config, following)
    lake = Lake(config.lake_dir)
    assert "told on the bad day" in lake.latest("items", following)["item_id"].to_pylist()


def test_a_staged_copy_of_a_day_that_somebody_published_meanwhile_is_dropped(config: Settings) -> None:
    night = FIRST + timedelta(days=2)
    take(config, night)
    lake = Lake(config.lake_dir)
    lake.stage(lake_batch(lake, night))
    assert intake.publish(config, night)["published"] == [] and lake.staged_days() == []


def lake_batch(lake: Lake, day: date) -> DayBatch:
    """A published day as a batch again, with one row less."""
    rows = lake.read("interactions", day, day).drop_columns(["day"]).slice(1)
    return DayBatch(day=day, tables={"interactions": rows}, counts={})


def test_a_source_without_a_new_day_says_so(config: Settings) -> None:
    last = FIRST + timedelta(days=6)
    take(config, last)
    finish(config, last)
    with pytest.raises(NothingNewError, match="no day after 2026-09-07") as nothing:
        intake.next_night(config)
    assert nothing.value.exit_status == 99, "Airflow skips the run instead of failing it"
    assert intake.next_night(config, ahead=True) == last, "the watch looks at the newest day again"


def test_a_night_takes_in_the_days_that_were_missed(config: Settings) -> None:
    take(config, FIRST + timedelta(days=2))
    assert intake.days_to_take(config, FIRST + timedelta(days=6)) == [
        FIRST + timedelta(days=n) for n in (4, 5, 6)
    ]


def test_a_quarantined_day_is_passed_over_until_it_is_asked_for(config: Settings) -> None:
    take(config, FIRST + timedelta(days=2))
    finish(config, FIRST + timedelta(days=2))
    bad, following = FIRST + timedelta(days=4), FIRST + timedelta(days=5)
    intake.ingest(config, bad)
    Lake(config.lake_dir).quarantine(bad, {})
    assert intake.next_night(config) == following
    assert intake.days_to_take(config, following) == [following]
    take(config, following)
    assert intake.days_to_take(config, bad) == [bad]


def test_ingesting_a_published_day_changes_nothing(config: Settings) -> None:
    night = FIRST + timedelta(days=2)
    take(config, night)
    before = Lake(config.lake_dir).digest(FIRST, night)
    assert intake.ingest(config, night)["already_published"]
    assert intake.publish(config, night)["published"] == []
    assert Lake(config.lake_dir).staged_days() == []
    assert Lake(config.lake_dir).digest(FIRST, night) == before


def test_ingesting_a_published_day_keeps_what_was_told_of_it(
    config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = FIRST + timedelta(days=2)
    monkeypatch.setattr(intake, "settings", lambda: config)
    intake.main(["ingest", "--night", str(night)])
    told = read_step(config, night, "ingest")
    take(config, night)
    intake.main(["ingest", "--night", str(night)])
    assert told is not None and len(told["days"]) == 3 and told["rows"] > 0
    assert read_step(config, night, "ingest") == {**told, "already_published": True}


def test_feedback_joins_the_night_and_is_counted_by_source(config: Settings) -> None:
    night = FIRST + timedelta(days=2)
    event = {**INTERACTIONS.sample[0], "event_id": "from-the-service",
             "at": datetime(2026, 9, 3, 20, tzinfo=UTC)}  # fmt: skip
    EventLog(config.eventlog_uri).append([event])
    result = intake.ingest(config, night)
    assert result["counts"]["events"]["kept"] == 1 and result["counts"]["files"]["kept"] == 9
    staged = Lake(config.lake_dir).staged(night).tables["interactions"]["event_id"].to_pylist()
    assert "from-the-service" in staged


def test_feedback_with_an_id_of_the_days_own_data_is_left_out_and_counted(config: Settings) -> None:
    night = FIRST + timedelta(days=2)
    copied = {**INTERACTIONS.sample[0], "event_id": f"{night}-0", "user_id": "somebody else",
              "at": datetime(2026, 9, 3, 20, tzinfo=UTC)}  # fmt: skip
    EventLog(config.eventlog_uri).append([copied])
    assert intake.ingest(config, night)["counts"]["events"] == {"read": 1, "kept": 0, "repeated_id": 1}
    staged = Lake(config.lake_dir).staged(night).tables["interactions"]
    assert staged.num_rows == 3 and "somebody else" not in staged["user_id"].to_pylist()


def test_feedback_on_an_item_that_nobody_sells_is_left_out_and_counted(config: Settings) -> None:
    night = FIRST + timedelta(days=2)
    strange = {**INTERACTIONS.sample[0], "event_id": "x", "item_id": "made up",
               "at": datetime(2026, 9, 3, 20, tzinfo=UTC)}  # fmt: skip
    EventLog(config.eventlog_uri).append([strange])
    assert intake.ingest(config, night)["counts"]["events"] == {"read": 1, "kept": 0, "unknown_item": 1}
    assert "x" not in Lake(config.lake_dir).staged(night).tables["interactions"]["event_id"].to_pylist()


def test_feedback_that_comes_after_its_day_was_published_joins_the_next_night(config: Settings) -> None:
    take(config, FIRST + timedelta(days=2))
    late = {**INTERACTIONS.sample[0], "event_id": "late", "at": datetime(2026, 9, 3, 20, tzinfo=UTC)}
    EventLog(config.eventlog_uri).append([late])
    intake.ingest(config, FIRST + timedelta(days=2))
    take(config, FIRST + timedelta(days=4))
    day = FIRST + timedelta(days=4)
    assert "late" in Lake(config.lake_dir).read("interactions", day, day)["event_id"].to_pylist()


def test_a_night_that_the_source_does_not_have_is_named(config: Settings) -> None:
    with pytest.raises(SourceError, match="2026-09-04"):
        intake.ingest(config, FIRST + timedelta(days=3))


def test_a_lake_that_begins_later_still_knows_the_items_of_the_opening(config: Settings) -> None:
    opening = FIRST + timedelta(days=2)
    for day in (FIRST + timedelta(days=n) for n in (4, 5, 6)):
        (config.source_path / day.isoformat() / "items.parquet").unlink()  # type: ignore[operator]
    take(config, FIRST + timedelta(days=6))
    lake = Lake(config.lake_dir)
    assert opening not in lake.days() and len(lake.days()) == 3
    assert set(lake.latest("items", lake.days()[0])["item_id"].to_pylist()) == {"i1", "i2"}
    assert lake.entry(lake.days()[0])["counts"]["files.kept"] == 3, "only its own rows count"  # type: ignore[index]


def test_publishing_what_was_never_ingested_is_refused(config: Settings) -> None:
    with pytest.raises(LakeError, match="nothing staged"):
        intake.publish(config, FIRST)


# --- indicators ----------------------------------------------------------------------------------------


def tell(config: Settings, day: date, *lines: str) -> None:
    """indicators.csv of a day. lines: `topic,week,search,patents`."""
    assert config.source_path is not None
    folder = config.source_path / day.isoformat()
    folder.mkdir(exist_ok=True)
    header = "topic,week,search_volume_growth,patent_filing_rate"
    (folder / "indicators.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def figures(config: Settings, day: date) -> list[tuple[str, str, float | None, float | None]]:
    rows = Lake(config.lake_dir).read("indicators", day, day).to_pylist()
    return [(r["topic"], r["week"], r["search_volume_growth"], r["patent_filing_rate"]) for r in rows]


def test_a_day_of_indicators_only_has_no_interactions_and_is_published(config: Settings) -> None:
    take(config, FIRST + timedelta(days=2))
    only = FIRST + timedelta(days=3)
    tell(config, only, "로봇,2026-W35,0.1,3")
    assert intake.ingest(config, only)["rows"] == 0
    assert "interactions" not in Lake(config.lake_dir).staged(only).tables
    take(config, only)
    assert figures(config, only) == [("로봇", "2026-W35", 0.1, 3.0)]
    assert intake.publish(config, only)["rows"] == {
        "interactions": 0,
        "users": 0,
        "items": 0,
        "indicators": 1,
        "conversations": 0,
    }


def test_feedback_on_a_day_of_indicators_only_is_kept(config: Settings) -> None:
    take(config, FIRST + timedelta(days=2))
    only = FIRST + timedelta(days=3)
    tell(config, only, "로봇,2026-W35,0.1,3")
    event = {**INTERACTIONS.sample[0], "event_id": "kept", "at": datetime(2026, 9, 4, 9, tzinfo=UTC)}
    EventLog(config.eventlog_uri).append([event])
    assert intake.ingest(config, only)["rows"] == 1


def test_a_lake_that_begins_later_knows_the_weeks_that_were_told_before(config: Settings) -> None:
    opening, first = FIRST, FIRST + timedelta(days=4)
    tell(config, opening, "a,2026-W34,0.1,3", "a,2026-W35,0.2,4", "b,2026-W35,0.3,5")
    tell(config, FIRST + timedelta(days=1), "b,2026-W35,0.4,")
    tell(config, first, "a,2026-W35,0.9,")
    take(config, FIRST + timedelta(days=6))
    assert Lake(config.lake_dir).days()[0] == first
    assert figures(config, first) == [
        ("a", "2026-W34", 0.1, 3.0),
        ("a", "2026-W35", 0.9, 4.0),
        ("b", "2026-W35", 0.4, 5.0),
    ]


def test_the_weeks_that_a_quarantined_day_told_are_told_once_by_the_next(config: Settings) -> None:
    tell(config, FIRST, "a,2026-W34,0.1,3", "a,2026-W35,0.1,3")
    take(config, FIRST + timedelta(days=2))
    bad = FIRST + timedelta(days=4)
    tell(
        config,
        bad,
        "a,2026-W34,0.5,",
        "b,2026-W35,0.2,4",
        "c,2025-W53,1,1",
        "d,2026-W36,1,1",
        "a,2026-W35,0.1,",
    )
    intake.ingest(config, bad)
    Lake(config.lake_dir).quarantine(bad, {})
    take(config, FIRST + timedelta(days=5))
    assert figures(config, FIRST + timedelta(days=5)) == [
        ("a", "2026-W34", 0.5, None),
        ("b", "2026-W35", 0.2, 4.0),
    ], "what was new, by itself; not what could pass no audit"
    take(config, FIRST + timedelta(days=6))
    assert figures(config, FIRST + timedelta(days=6)) == []


def test_what_a_quarantined_day_told_does_not_undo_what_was_told_since(config: Settings) -> None:
    take(config, FIRST + timedelta(days=2))
    bad, since, night = (FIRST + timedelta(days=n) for n in (4, 5, 6))
    tell(config, bad, "a,2026-W34,0.5,8")
    intake.ingest(config, bad)
    Lake(config.lake_dir).quarantine(bad, {})
    tell(config, since, "a,2026-W34,0.7,")
    take(config, since)
    assert figures(config, since) == [("a", "2026-W34", 0.7, 8.0)]
    take(config, night)
    assert figures(config, night) == []


def test_a_row_of_a_quarantined_day_that_breaks_the_contract_does_not_spoil_the_next(
    config: Settings,
) -> None:
    take(config, FIRST + timedelta(days=2))
    bad, following = FIRST + timedelta(days=4), FIRST + timedelta(days=5)
    import pyarrow.parquet as pq

    rows = [{**ITEMS.sample[0], "item_id": "sound"}, {**ITEMS.sample[0], "item_id": "broken", "price": -1.0}]
    pq.write_table(ITEMS.table(rows), config.source_path / bad.isoformat() / "items.parquet")  # type: ignore[operator]
    intake.ingest(config, bad)
    Lake(config.lake_dir).quarantine(bad, {})
    take(config, following)
    known = Lake(config.lake_dir).latest("items", following)["item_id"].to_pylist()
    assert "sound" in known and "broken" not in known


def test_a_days_contradiction_is_left_for_the_audit_whatever_was_known_before(config: Settings) -> None:
    tell(config, FIRST, "a,2026-W35,0.1,3")
    first = FIRST + timedelta(days=4)
    tell(config, first, "a,2026-W35,0.2,", "a,2026-W35,0.3,", "a,2026-W35,0.3,")
    take(config, FIRST + timedelta(days=6))
    assert [row[2] for row in figures(config, first)] == [0.2, 0.3]


def test_an_absurd_figure_of_a_quarantined_day_does_not_spoil_the_next(config: Settings) -> None:
    take(config, FIRST + timedelta(days=2))
    bad, following = FIRST + timedelta(days=4), FIRST + timedelta(days=5)
    tell(config, bad, "a,2026-W35,0.1,1e16", "b,2026-W35,0.1,1e15")
    import pyarrow.parquet as pq

    rows = [{**ITEMS.sample[0], "item_id": "sound"}, {**ITEMS.sample[0], "item_id": "broken", "price": 1e16}]
    pq.write_table(ITEMS.table(rows), config.source_path / bad.isoformat() / "items.parquet")  # type: ignore[operator]
    intake.ingest(config, bad)
    Lake(config.lake_dir).quarantine(bad, {})
    take(config, following)
    assert figures(config, following) == [("b", "2026-W35", 0.1, 1e15)]
    assert "broken" not in Lake(config.lake_dir).latest("items", following)["item_id"].to_pylist()


def test_a_lake_of_the_time_before_indicators_is_told_all_of_them_once(
    config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(config, FIRST, "a,2026-W34,0.1,3", "b,2026-W35,0.3,5")  # a day before the lake's first
    tell(config, FIRST + timedelta(days=4), "a,2026-W35,0.2,4")
    lake, days = Lake(config.lake_dir), [FIRST + timedelta(days=n) for n in (2, 4)]
    for day in days:
        tables = Files(config).read(day).tables
        del tables["indicators"]
        lake.stage(DayBatch(day, {"users": USERS.table([]), **tables}, {}))
        lake.record_audit(day, {"passed": True})
        lake.publish(day)
    reads: list[date] = []
    read = Files.read
    monkeypatch.setattr(Files, "read", lambda source, day: reads.append(day) or read(source, day))
    night, following = FIRST + timedelta(days=5), FIRST + timedelta(days=6)
    intake.ingest(config, night)
    lake.quarantine(night, {})  # what stops this night is no reason to forget them
    take(config, following)
    assert figures(config, following) == [
        ("a", "2026-W34", 0.1, 3.0),
        ("a", "2026-W35", 0.2, 4.0),
        ("b", "2026-W35", 0.3, 5.0),
    ]
    reads.clear()
    write_day(config.source_path, FIRST + timedelta(days=7))  # type: ignore[arg-type]
    take(config, FIRST + timedelta(days=7))
    assert figures(config, FIRST + timedelta(days=7)) == []
    assert reads == [FIRST + timedelta(days=7), night], "the night's own day, and the one in quarantine"


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[str]:
    """The address of a feed on loopback, with an item in 2024-W01 and one in 2024-W05."""
    items = "".join(
        f"<item><guid>{day}</guid><pubDate>{day} 2024 09:00:00 GMT</pubDate></item>"
        for day in ("01 Jan", "30 Jan")
    )
    (tmp_path / "feed.rss").write_text(f'<rss version="2.0"><channel>{items}</channel></rss>')
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/feed.rss"
    server.shutdown()
    server.server_close()


def test_feeds_join_the_night_and_share_a_row_with_the_days_own_figures(
    config: Settings, feed: str, tmp_path: Path
) -> None:
    (tmp_path / "feeds.yaml").write_text(f"로봇: [{feed}]", encoding="utf-8")
    config = config.model_copy(update={"feeds": tmp_path / "feeds.yaml"})
    tell(config, FIRST, "로봇,2024-W05,0.1,3")
    night = FIRST + timedelta(days=2)
    assert intake.ingest(config, night)["counts"]["feeds"] == {"read": 1, "kept": 1}
    assert Lake(config.lake_dir).staged(night).tables["indicators"].num_rows == 0, (
        "told on the first day taken"
    )
    rows = Lake(config.lake_dir).staged(FIRST).tables["indicators"].to_pylist()
    (row,) = [row for row in rows if row["week"] == "2024-W05"]
    assert (row["search_volume_growth"], row["patent_filing_rate"]) == (0.1, 3.0)
    assert row["policy_change_frequency"] == 1.0


def test_nobody_but_the_feeds_tells_the_policy_changes_of_their_topics(
    config: Settings, feed: str, tmp_path: Path
) -> None:
    (tmp_path / "feeds.yaml").write_text(f"로봇: [{feed}]", encoding="utf-8")
    config = config.model_copy(update={"feeds": tmp_path / "feeds.yaml"})
    header = "topic,week,search_volume_growth,policy_change_frequency"
    before, day, later = (FIRST + timedelta(days=n) for n in (0, 4, 6))
    for told_on, lines in (
        (before, ["로봇,2024-W06,,8", "robotics,2024-W06,,8"]),
        (day, ["로봇,2024-W05,0.1,7", "로봇,2023-W52,,7"]),
        (later, ["로봇,2024-W05,0.2,9", "robotics,2024-W05,,9"]),  # the feeds tell nothing on this day
    ):
        path = config.source_path / told_on.isoformat() / "indicators.csv"  # type: ignore[operator]
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    take(config, later)
    lake = Lake(config.lake_dir)
    rows = lake.read("indicators", FIRST, later).to_pylist()
    others = {(r["topic"], r["week"], r["policy_change_frequency"]) for r in rows if r["topic"] == "robotics"}
    assert others == {("robotics", "2024-W06", 8.0), ("robotics", "2024-W05", 9.0)}
    policy = {
        r["week"]: r["policy_change_frequency"] for r in rows if r["topic"] == "로봇" and r["day"] == day
    }
    assert (policy["2024-W05"], policy["2024-W06"]) == (1.0, 0.0) and "2023-W52" not in policy
    (revised,) = [r for r in rows if r["topic"] == "로봇" and r["day"] == later]
    assert (revised["search_volume_growth"], revised["policy_change_frequency"]) == (0.2, None)


def test_a_feed_that_cannot_be_read_does_not_stop_the_night(config: Settings, tmp_path: Path) -> None:
    (tmp_path / "feeds.yaml").write_text("로봇: ['http://127.0.0.1:9/nobody']", encoding="utf-8")
    config = config.model_copy(update={"feeds": tmp_path / "feeds.yaml"})
    night = FIRST + timedelta(days=2)
    assert intake.ingest(config, night)["counts"]["feeds"] == {"read": 1, "kept": 0, "unreadable": 1}
    assert night in Lake(config.lake_dir).staged_days()


# --- conversations -------------------------------------------------------------------------------------

SECRETS = ("010-9876-5432", "someone@example.com", "900101-1234567", "4111 1111 1111 1111")


def talk(
    number: int, day: date, user: str, coach: str = "어떤 점이 마음에 걸리나요?", **other: Any
) -> dict[str, Any]:
    at = datetime(day.year, day.month, day.day, 10, number, tzinfo=UTC)
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": coach}]
    row = {"conversation_id": f"{day}-c{number}", "user_id": "u1", "at": at, "messages": messages}
    return {**row, "consent": True, **other}


def say(config: Settings, day: date, *rows: dict[str, Any]) -> None:
    """conversations.jsonl of a day."""
    assert config.source_path is not None
    folder = config.source_path / day.isoformat()
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({**row, "at": row["at"].isoformat()}, ensure_ascii=False) for row in rows]
    (folder / "conversations.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def heard(config: Settings, day: date) -> list[str]:
    """What users said first in the conversations of a published day."""
    rows = Lake(config.lake_dir).read("conversations", day, day).to_pylist()
    return [row["messages"][0]["content"] for row in rows]


def test_conversations_join_the_night_clean_and_what_was_done_to_them_is_counted(config: Settings) -> None:
    night = FIRST + timedelta(days=2)
    say(
        config,
        night,
        talk(0, night, f"제 번호는 {SECRETS[0]}, 메일은 {SECRETS[1]}입니다."),
        talk(1, night, "요즘 일이 재미없어요."),
        talk(2, night, "요즘 일이 재미없어요."),
        talk(3, night, "배우면 싫어요.", consent=False),
        talk(4, night, "  "),
    )
    log = EventLog(config.eventlog_uri)
    log.converse(
        [
            talk(5, night, f"주민등록번호 {SECRETS[2]}, 카드 {SECRETS[3]} 적어도 되나요?"),
            talk(6, night, "요즘 일이 재미없어요."),
            talk(7, night + timedelta(days=1), "내일 이야기해요."),
            talk(1, night, "같은 이름의 다른 이야기예요."),
        ]
    )
    counts = intake.ingest(config, night)["counts"]
    assert counts["files"] == {
        "read": 14, "kept": 11, "duplicate": 1, "no_consent": 1, "empty_turn": 1, "masked_phone": 1, "masked_email": 1,
    }  # fmt: skip
    assert counts["events"] == {
        "read": 3, "kept": 1, "repeated_id": 1, "duplicate": 1, "masked_resident": 1, "masked_card": 1,
    }  # fmt: skip
    take(config, night)
    assert heard(config, night) == [
        "제 번호는 [전화번호], 메일은 [이메일]입니다.",
        "요즘 일이 재미없어요.",
        "주민등록번호 [주민등록번호], 카드 [카드번호] 적어도 되나요?",
    ]
    entry = Lake(config.lake_dir).entry(night)
    assert entry is not None and entry["counts"]["events.masked_card"] == 1
    assert intake.publish(config, night)["rows"]["conversations"] == 3


def holds(root: Path, *secrets: str) -> list[Path]:
    """The files under `root` in which one of these can be read, Parquet as its rows."""
    import pyarrow.parquet as pq

    found = []
    for path in (path for path in root.rglob("*") if path.is_file()):
        rows = str(pq.ParquetFile(path).read().to_pylist()) if path.suffix == ".parquet" else ""
        if any(secret in rows or secret.encode() in path.read_bytes() for secret in secrets):
            found.append(path)
    return found


def test_no_personal_datum_is_ever_staged_published_or_in_quarantine(config: Settings) -> None:
    take(config, FIRST + timedelta(days=2))
    days = [FIRST + timedelta(days=n) for n in (4, 5, 6)]
    for day in days:
        say(
            config,
            day,
            *(talk(n, day, f"{day} {secret}", f"{secret} 맞지요?") for n, secret in enumerate(SECRETS)),
        )
    bad, unreadable, good = days
    intake.ingest(config, bad)
    assert holds(config.lake_dir / "staging", "전화번호") and not holds(config.home, *SECRETS)
    Lake(config.lake_dir).quarantine(bad, {})
    path = config.source_path / unreadable.isoformat() / "conversations.jsonl"  # type: ignore[operator]
    path.write_text(path.read_text()[:-70])
    take(config, good)
    lake = Lake(config.lake_dir)
    assert lake.quarantined() == [bad, unreadable] and lake.days()[-1] == good
    assert len(holds(config.lake_dir, "전화번호")) == 2, "the bad day's and the good day's"
    assert not holds(config.home, *SECRETS)


def test_a_day_of_conversations_only_is_published(config: Settings) -> None:
    take(config, FIRST + timedelta(days=2))
    only = FIRST + timedelta(days=3)
    say(config, only, talk(0, only, "주말인데 일 생각만 나요."))
    assert intake.ingest(config, only)["rows"] == 0
    take(config, only)
    assert heard(config, only) == ["주말인데 일 생각만 나요."]
    assert "interactions" not in Lake(config.lake_dir).entry(only)["tables"]  # type: ignore[index]


def test_what_was_said_in_the_four_weeks_before_is_not_taken_in_again(config: Settings) -> None:
    first, second = FIRST + timedelta(days=1), FIRST + timedelta(days=2)
    say(config, first, talk(0, first, "배터리 일을 그만둘까 해요."))
    say(config, second, talk(0, second, "배터리 일을 그만둘까 해요."))
    assert intake.ingest(config, second)["counts"]["files"]["duplicate"] == 1, "within one ingest"
    take(config, second)
    third = FIRST + timedelta(days=28)
    say(config, third, talk(0, third, "배터리 일을 그만둘까 해요!"), talk(1, third, "새 이야기예요."))
    assert intake.ingest(config, third)["counts"]["files"]["near_duplicate"] == 1, "from the lake"
    take(config, third)
    assert (heard(config, first), heard(config, second), heard(config, third)) == (
        ["배터리 일을 그만둘까 해요."],
        [],
        ["새 이야기예요."],
    )
    long_after = third + timedelta(days=intake.REMEMBERED_DAYS + 1)
    write_day(config.source_path, long_after)  # type: ignore[arg-type]
    say(config, long_after, talk(0, long_after, "새 이야기예요."))
    take(config, long_after)
    assert heard(config, long_after) == ["새 이야기예요."]


def test_ingesting_again_before_the_audit_gives_the_same_conversations(config: Settings) -> None:
    night = FIRST + timedelta(days=2)
    say(config, night, talk(0, night, "요즘 일이 재미없어요."))
    EventLog(config.eventlog_uri).converse([talk(1, night, "월급이 적어서 고민이에요.")])
    first = intake.ingest(config, night)
    assert intake.ingest(config, night) == first
    take(config, night)
    assert heard(config, night) == ["요즘 일이 재미없어요.", "월급이 적어서 고민이에요."]


def test_a_conversation_that_a_quarantined_day_had_taken_joins_the_next_night(config: Settings) -> None:
    take(config, FIRST + timedelta(days=2))
    bad, following = FIRST + timedelta(days=4), FIRST + timedelta(days=5)
    EventLog(config.eventlog_uri).converse([talk(0, bad, "성과급이 없어요.")])
    intake.ingest(config, bad)
    Lake(config.lake_dir).quarantine(bad, {})
    take(config, following)
    assert heard(config, following) == ["성과급이 없어요."]


def test_a_lake_of_the_time_before_conversations_goes_on(config: Settings) -> None:
    lake, old, night = Lake(config.lake_dir), FIRST + timedelta(days=2), FIRST + timedelta(days=4)
    tables = Files(config).read(old).tables
    del tables["conversations"]
    lake.stage(DayBatch(old, {"users": USERS.table([]), **tables}, {}))
    lake.record_audit(old, {"passed": True})
    lake.publish(old)
    assert intake.publish(config, old)["rows"]["conversations"] == 0
    say(config, night, talk(0, night, "이제 말해요."))
    take(config, night)
    assert (heard(config, old), heard(config, night)) == ([], ["이제 말해요."])
