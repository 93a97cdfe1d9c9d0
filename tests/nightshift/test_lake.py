from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.contracts import CONTRACTS, INTERACTIONS
from nightshift.errors import ContractError, LakeError
from nightshift.lake import Lake, _with_day, training_window, write_json
from nightshift.s3 import S3Store
from nightshift.sources import DayBatch
from nightshift.store import Store

DAY = date(2026, 9, 1)


def sample(day: date = DAY, **changes: object) -> DayBatch:
    tables = {c.name: c.table([dict(row) for row in c.sample]) for c in CONTRACTS.values()}
    if changes:
        tables["interactions"] = INTERACTIONS.table([{**row, **changes} for row in INTERACTIONS.sample])
    return DayBatch(day=day, tables=tables, counts={"read": 3, "kept": 3})


@pytest.fixture
def lake(store: Store) -> Lake:
    """An empty lake, in a folder and in a bucket."""
    return Lake(store.within("lake"))


def publish(lake: Lake, batch: DayBatch) -> None:
    lake.stage(batch)
    lake.record_audit(batch.day, {"passed": True})
    lake.publish(batch.day)


def snapshot(lake: Lake) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(lake.root.rglob("*")) if p.is_file()}


def test_a_staged_day_is_seen_by_nobody_until_it_is_published(lake: Lake) -> None:
    lake.stage(sample())
    assert lake.days() == [] and lake.read("interactions", DAY, DAY).num_rows == 0
    lake.record_audit(DAY, {"passed": True})
    lake.publish(DAY)
    assert lake.days() == [DAY] and lake.staged_days() == []
    assert lake.read("interactions", DAY, DAY)["event_id"].to_pylist() == ["e1", "e2", "e3"]


def test_a_days_interactions_lie_in_order_of_user_which_the_file_tells(lake: Lake) -> None:
    told = [("b", "e1"), ("사용자", "e2"), ("a", "e3"), ("b", "e0"), ("B", "e4")]
    row = INTERACTIONS.sample[0]
    rows = INTERACTIONS.table([{**row, "user_id": user, "event_id": event} for user, event in told])
    publish(lake, DayBatch(day=DAY, tables={"interactions": rows}))
    found = lake.read("interactions", DAY, DAY)
    assert found["user_id"].to_pylist() == ["B", "a", "b", "b", "사용자"]
    assert found["event_id"].to_pylist() == ["e4", "e3", "e1", "e0", "e2"], (
        "one user's rows stay as they came"
    )
    group = pq.read_metadata(lake.paths("interactions", DAY, DAY)[0]).row_group(0)
    assert group.sorting_columns == (pq.SortingColumn(INTERACTIONS.schema.get_field_index("user_id")),)


def test_a_day_that_was_not_audited_is_not_published(lake: Lake) -> None:
    lake.stage(sample())
    with pytest.raises(LakeError, match="not passed an audit"):
        lake.publish(DAY)
    assert lake.days() == []


def test_an_audit_counts_only_for_the_content_it_saw(lake: Lake) -> None:
    lake.stage(sample())
    lake.record_audit(DAY, {"passed": True})
    folder = lake.staged_folder(DAY)
    assert folder is not None
    audit = (folder / "audit.json").read_bytes()
    lake.stage(sample(user_id="someone else"))
    lake.store.add(f"staging/{DAY}", "audit.json", audit)
    with pytest.raises(LakeError, match="not passed an audit"):
        lake.publish(DAY)


def test_publishing_the_same_day_twice_changes_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    publish(lake, sample())
    before = snapshot(lake)
    publish(lake, sample())
    assert snapshot(lake) == before


def test_a_published_day_never_changes(lake: Lake) -> None:
    publish(lake, sample())
    digest = lake.digest(DAY, DAY)
    with pytest.raises(LakeError, match="published already"):
        publish(lake, sample(user_id="someone else"))
    assert lake.digest(DAY, DAY) == digest
    assert "someone else" not in lake.read("interactions", DAY, DAY)["user_id"].to_pylist()


def test_a_kill_before_the_manifest_is_replaced_leaves_the_lake_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path)
    publish(lake, sample())
    lake.stage(sample(DAY + timedelta(days=1)))
    lake.record_audit(DAY + timedelta(days=1), {"passed": True})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nightshift.store.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            lake.publish(DAY + timedelta(days=1))
    assert Lake(tmp_path).days() == [DAY]
    lake.publish(DAY + timedelta(days=1))
    assert Lake(tmp_path).days() == [DAY, DAY + timedelta(days=1)]


def test_a_quarantined_day_is_kept_with_its_report_and_leaves_the_lake_unchanged(lake: Lake) -> None:
    lake.stage(sample())
    lake.quarantine(DAY, {"why": "too strange"})
    folder = lake.quarantined_folder(DAY)
    assert folder is not None
    assert json.loads((folder / "report.json").read_text()) == {"why": "too strange"}
    assert (folder / "interactions.parquet").exists()
    assert lake.days() == [] and lake.staged_days() == [] and lake.quarantined() == [DAY]
    publish(lake, sample())
    assert lake.quarantined() == [], "a mended and published day is not in quarantine any more"


def test_a_half_written_staged_file_is_named(lake: Lake) -> None:
    lake.stage(sample())
    folder = lake.staged_folder(DAY)
    assert folder is not None
    whole = (folder / "interactions.parquet").read_bytes()
    lake.store.add(f"staging/{DAY}", "interactions.parquet", whole[:100])
    with pytest.raises(LakeError, match=r"day 2026-09-01: staged file .* ingest again"):
        lake.staged(DAY)


def test_a_missing_column_is_named_with_what_was_found(tmp_path: Path) -> None:
    batch = sample()
    batch.tables["interactions"] = batch.tables["interactions"].drop_columns(["user_id"])
    with pytest.raises(ContractError, match=r"interactions: column 'user_id' is missing \(found: event_id"):
        Lake(tmp_path).stage(batch)


def test_text_where_numbers_belong_is_named_with_row_and_value(tmp_path: Path) -> None:
    batch = sample()
    table = batch.tables["interactions"]
    values = pa.array(["1.0", "2.5", "many"])
    batch.tables["interactions"] = table.set_column(table.schema.get_field_index("value"), "value", values)
    with pytest.raises(ContractError, match="interactions row 2: column 'value': 'many'"):
        Lake(tmp_path).stage(batch)


def test_the_latest_row_of_an_item_is_the_one_known_on_that_day(lake: Lake) -> None:
    publish(lake, sample())
    later = sample(DAY + timedelta(days=1))
    items = CONTRACTS["items"]
    later.tables["items"] = items.table([{**items.sample[0], "price": 99.0}])
    publish(lake, later)
    prices = {r["item_id"]: r["price"] for r in lake.latest("items", DAY + timedelta(days=1)).to_pylist()}
    assert prices == {"i1": 99.0, "i2": 7.5}
    assert {r["price"] for r in lake.latest("items", DAY).to_pylist()} == {12900.0, 7.5}


def test_a_day_that_another_machine_publishes_in_between_is_not_lost(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that race are in test_store.py; here they meet where it hurts, each time."""
    mine, other = (Lake(S3Store(bucket, tmp_path / name)) for name in ("mine", "other"))
    days = [DAY, DAY + timedelta(days=1)]
    for day in days:
        mine.stage(sample(day))
        mine.record_audit(day, {"passed": True})

    def meanwhile(manifest: dict[str, Any] | None, day: date, *rest: Any) -> dict[str, Any]:
        if day == DAY and other.entry(days[1]) is None:
            other.publish(days[1])  # after mine has read the manifest, and before it writes it
        return _with_day(manifest, day, *rest)

    monkeypatch.setattr("nightshift.lake._with_day", meanwhile)
    mine.publish(DAY)
    assert mine.days() == other.days() == days and mine.staged_days() == []
    assert other.read("interactions", *days).num_rows == 2 * len(INTERACTIONS.sample)


def test_a_manifest_of_an_unknown_version_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", {"version": 9, "days": {}})
    with pytest.raises(LakeError, match="is of version 9"):
        Lake(tmp_path).days()


def test_a_quiet_shops_exam_takes_in_days_until_enough_users_were_active(lake: Lake) -> None:
    for number in range(12):
        batch = sample(DAY + timedelta(days=number))
        rows = [{**row, "event_id": f"{number}-{n}", "user_id": f"{number}-{n}"}
                for n, row in enumerate(INTERACTIONS.sample)]  # fmt: skip
        batch.tables["interactions"] = INTERACTIONS.table(rows)
        publish(lake, batch)
    last = DAY + timedelta(days=11)

    def exam(users: int) -> int:
        _, end, start = training_window(lake, last, window_days=90, exam_days=1, exam_users=users)
        assert start - end == timedelta(days=1)
        return (last - start).days + 1

    assert [exam(users) for users in (0, 3, 4, 7)] == [1, 1, 2, 3], "three users a day"
    assert exam(1_000) == 4, "never more than a third of what is published"


@given(gaps=st.lists(st.integers(1, 4), min_size=2, max_size=12), exam_days=st.integers(1, 3))
def test_the_exam_never_overlaps_the_training_window(gaps: list[int], exam_days: int) -> None:
    days = [DAY]
    for gap in gaps:
        days.append(days[-1] + timedelta(days=gap))

    class Published(Lake):
        def days(self) -> list[date]:
            return days

    lake = Published(Path("unused"))
    if len(days) <= exam_days:
        with pytest.raises(LakeError, match="nothing to train on"):
            training_window(lake, days[-1], exam_days=exam_days, window_days=90)
        return
    first, last, exam_start = training_window(lake, days[-1], exam_days=exam_days, window_days=90)
    assert first <= last < exam_start <= days[-1]
    assert len([d for d in days if d >= exam_start]) == exam_days
    assert not [d for d in days if last < d < exam_start], "no published day falls between"


def test_a_digest_of_some_tables_changes_with_them_alone(tmp_path: Path) -> None:
    one, other = Lake(tmp_path / "one"), Lake(tmp_path / "other")
    publish(one, sample())
    publish(other, sample(user_id="someone else"))
    assert one.digest(DAY, DAY) != other.digest(DAY, DAY)
    assert one.digest(DAY, DAY, ["interactions"]) != other.digest(DAY, DAY, ["interactions"])
    assert one.digest(DAY, DAY, ["indicators"]) == other.digest(DAY, DAY, ["indicators"])
    assert one.digest(DAY, DAY, ["indicators"]) != one.digest(DAY, DAY, ["users"])
