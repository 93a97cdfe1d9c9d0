"""Day folders by contract: CSV and Parquet alike, what may be left out, and files that are wrong."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from nightshift.contracts import CONTRACTS, INTERACTIONS, ITEMS, USERS, Contract
from nightshift.errors import ContractError, SettingsError, SourceError
from nightshift.lake import Lake
from nightshift.settings import Settings
from nightshift.sources import open_source
from nightshift.sources.files import Files

DAY = date(2026, 9, 1)
EVENTS = "event_id,user_id,item_id,kind,value,at,session_id"
GOOD = "e1,u1,i1,click,,2026-09-01T09:30:00Z,s1"


def folder(root: Path, day: date = DAY) -> Path:
    path = root / day.isoformat()
    path.mkdir(exist_ok=True)
    return path


def write(root: Path, *lines: str, header: str = EVENTS, table: str = "interactions") -> Files:
    (folder(root) / f"{table}.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return Files(Settings(_env_file=None, source_path=root))


def write_parquet(root: Path, contract: Contract, table: pa.Table) -> Files:
    pq.write_table(table, folder(root) / f"{contract.name}.parquet")
    return Files(Settings(_env_file=None, source_path=root))


def as_others_write(table: pa.Table) -> pa.Table:
    """A schema as other programs write it: every column nullable."""
    return table.cast(pa.schema([field.with_nullable(True) for field in table.schema]))


# --- what is right -------------------------------------------------------------------------------------


def test_the_contracts_own_samples_come_back_from_parquet_as_they_are(tmp_path: Path) -> None:
    samples = {name: contract.table(list(contract.sample)) for name, contract in CONTRACTS.items()}
    for name, table in samples.items():
        source = write_parquet(tmp_path, CONTRACTS[name], as_others_write(table))
    batch = source.read(DAY)
    assert batch.tables == samples
    assert batch.counts == {"read": 6, "kept": 6, "duplicate": 0}, "events, weeks and conversations"


def test_csv_and_parquet_of_the_same_rows_are_the_same(tmp_path: Path) -> None:
    events = INTERACTIONS.table(list(INTERACTIONS.sample))
    pa.csv.write_csv(events, folder(tmp_path) / "interactions.csv")
    items = (
        "item_id,title,category,price,tags,created_at\ni1,제주 감귤 초콜릿,food,12900,선물|간식,2026-08-01\n"
    )
    (folder(tmp_path) / "items.csv").write_text(items, encoding="utf-8")
    batch = Files(Settings(_env_file=None, source_path=tmp_path)).read(DAY)
    assert batch.tables["interactions"] == events
    (item,) = batch.tables["items"].to_pylist()
    assert item["tags"] == ["선물", "간식"] and item["created_at"] == datetime(2026, 8, 1, tzinfo=UTC)


def test_what_may_be_left_out_is_filled(tmp_path: Path) -> None:
    batch = write(tmp_path, "e1,u1,i1,click,,2026-09-01 09:30:00,").read(DAY)
    (event,) = batch.tables["interactions"].to_pylist()
    assert (event["device"], event["channel"]) == ("unknown", "unknown")
    assert event["value"] is None and event["session_id"] is None
    assert event["at"] == datetime(2026, 9, 1, 9, 30, tzinfo=UTC)
    assert batch.tables["users"].num_rows == batch.tables["items"].num_rows == 0


def test_an_empty_device_is_unknown_and_a_named_one_is_kept(tmp_path: Path) -> None:
    source = write(tmp_path, f"{GOOD},mobile", f"{GOOD.replace('e1', 'e2')},", header=f"{EVENTS},device")
    assert source.read(DAY).tables["interactions"]["device"].to_pylist() == ["mobile", "unknown"]


def test_empty_text_is_null_in_parquet_too(tmp_path: Path) -> None:
    people = pa.table({"user_id": ["u1", "u2"], "registered_at": ["2026-08-01", ""], "country": ["", "KR"]})
    write(tmp_path, GOOD)
    with pytest.raises(ContractError, match=r"users.parquet row 2: registered_at is empty"):
        write_parquet(tmp_path, USERS, people).read(DAY)
    source = write_parquet(tmp_path, USERS, people.slice(0, 1))
    assert source.read(DAY).tables["users"]["country"].to_pylist() == [None]


def test_numbers_naive_times_and_dictionaries_in_parquet_are_read(tmp_path: Path) -> None:
    events = pa.table(
        {
            "event_id": pa.array([1, 2]),
            "user_id": pa.array(["u1", "u1"]).dictionary_encode(),
            "item_id": pa.array(["i1", "i2"], pa.large_string()),
            "kind": ["rating", "view"],
            "value": pa.array([4, None], pa.int32()),
            "at": pa.array([datetime(2026, 9, 1, 9), datetime(2026, 9, 1, 10)], pa.timestamp("ns")),
        }
    )
    first, second = write_parquet(tmp_path, INTERACTIONS, events).read(DAY).tables["interactions"].to_pylist()
    assert (first["event_id"], first["user_id"], first["value"]) == ("1", "u1", 4.0)
    assert second["at"] == datetime(2026, 9, 1, 10, tzinfo=UTC)


def test_rows_that_repeat_exactly_are_left_out_and_counted(tmp_path: Path) -> None:
    other = GOOD.replace("click", "view")
    batch = write(tmp_path, GOOD, GOOD, other, GOOD).read(DAY)
    assert batch.counts == {"read": 4, "kept": 2, "duplicate": 2}
    assert batch.tables["interactions"]["kind"].to_pylist() == ["click", "view"]


def test_days_are_the_folders_named_by_date(tmp_path: Path) -> None:
    source = write(tmp_path, GOOD)
    folder(tmp_path, date(2026, 9, 4))
    (tmp_path / "notes").mkdir()
    (tmp_path / "2026-09-02").write_text("a file, not a folder")
    assert source.first_day() == DAY
    assert source.next_day(DAY) == date(2026, 9, 4) and source.next_day(date(2026, 9, 4)) is None


def test_what_a_value_may_be_is_left_to_the_audit_and_can_be_staged(tmp_path: Path) -> None:
    source = write(tmp_path, "e1,u1,i1,explode,-3,2031-01-01,s1", "e1,u2,i1,rating,9,2026-09-01,s1")
    batch = source.read(DAY)
    assert batch.counts["kept"] == 2
    Lake(tmp_path / "lake").stage(batch)


WEEKS = "topic,week,search_volume_growth,policy_change_frequency"


def test_a_day_may_have_indicators_only_and_what_repeats_exactly_is_counted(tmp_path: Path) -> None:
    lines = ("로봇,2026-W34,0.1,", "로봇,2026-W34,0.1,", "로봇,2026-W34,0.2,", "bots,2026-W34,,2")
    batch = write(tmp_path, *lines, header=WEEKS, table="indicators").read(DAY)
    assert "interactions" not in batch.tables and batch.tables["items"].num_rows == 0
    assert batch.counts == {"read": 4, "kept": 3, "duplicate": 1}
    rows = batch.tables["indicators"].to_pylist()
    assert [row["search_volume_growth"] for row in rows] == [0.1, 0.2, None], "a contradiction is the audit's"
    assert rows[2]["policy_change_frequency"] == 2.0 and rows[2]["funding_volume_growth"] is None


@pytest.mark.parametrize("table", ["indicators", "conversations"])
def test_a_day_with_no_row_of_any_kind_is_refused(tmp_path: Path, table: str) -> None:
    empty = write_parquet(tmp_path, CONTRACTS[table], CONTRACTS[table].table([]))
    words = r"no interactions.csv or .parquet in .*2026-09-01, nor indicators, nor conversations"
    with pytest.raises(SourceError, match=words):
        empty.read(DAY)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("로봇,,0.1,2", "2026-09-01/indicators.csv line 2: week is empty"),
        (",2026-W34,0.1,2", "line 2: topic is empty"),
        ("로봇,2026-W34,fast,2", "line 2: search_volume_growth 'fast' is not a number"),
        ("로봇,2026-W34,inf,2", "line 2: search_volume_growth 'inf' is not a number"),
    ],
)
def test_a_wrong_indicator_is_named_by_file_line_column_and_value(
    tmp_path: Path, line: str, words: str
) -> None:
    with pytest.raises(ContractError, match=words):
        write(tmp_path, line, header=WEEKS, table="indicators").read(DAY)


# --- conversations -------------------------------------------------------------------------------------

TALK = {
    "conversation_id": "c1",
    "user_id": "u1",
    "at": "2026-09-01T18:30:00+09:00",
    "messages": [
        {"role": "user", "content": "요즘\u2028일이 재미없어요."},
        {"role": "assistant", "content": "왜죠?"},
    ],
    "consent": True,
}


def say(root: Path, *lines: str, end: str = "\n") -> Files:
    path = folder(root) / "conversations.jsonl"
    path.write_text("\n".join(lines) + end, encoding="utf-8")
    return Files(Settings(_env_file=None, source_path=root))


def line(**change: object) -> str:
    return json.dumps({**TALK, **change}, ensure_ascii=False)


def test_a_day_may_have_conversations_only_and_they_are_read_from_json_lines(tmp_path: Path) -> None:
    batch = say(tmp_path, line(), line(conversation_id="c2", consent=False, said_by="coach"), line()).read(
        DAY
    )
    assert "interactions" not in batch.tables
    assert batch.counts == {"read": 3, "kept": 3, "duplicate": 0}, "what comes again is for the cleaning"
    first, second, _ = batch.tables["conversations"].to_pylist()
    assert first == {**TALK, "at": datetime(2026, 9, 1, 9, 30, tzinfo=UTC), "said_by": "person"}
    assert (second["conversation_id"], second["consent"], second["said_by"]) == ("c2", False, "coach")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("{", "no JSON"),
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", r"\[\] is no JSON object"),
        (line(consent="yes"), "consent 'yes' is no bool"),
        (line(consent=1), "consent 1 is no bool"),
        (line(said_by=None), "said_by None is no str"),
        (line(user_id=7), "user_id 7 is no str"),
        (line(user_id=""), "user_id '' is no str"),
        (line(conversation_id=None), "conversation_id None is no str"),
        (line(messages={"user": "안녕"}), r"messages \(dict, 1 other keys\) is no list"),
        (line(messages=["안녕"]), r"messages\[0\] \(str\) is not role and content"),
        (line(messages=[*TALK["messages"], {"role": "user"}]), r"messages\[2\] \(dict, role: str\) is not"),
        (
            line(messages=[{"role": "user", "content": 3}]),
            r"messages\[0\] \(dict, role: str, content: int\) is not role",
        ),
        (line(at="today"), "at 'today' is not a time"),
        (line(at=20260901), "at 20260901 is no str"),
        (line(mood="good"), r"field 'mood' is not in the contract \(it has: conversation_id"),
        ('{"conversation_id": "c1"}', "field 'user_id' is missing"),
        (json.dumps({**TALK, "user_id": "\ud800"}), "holds half a character"),
    ],
)
def test_a_wrong_conversation_is_named_by_file_line_field_and_value(
    tmp_path: Path, wrong: str, words: str
) -> None:
    with pytest.raises(
        (ContractError, SourceError), match=f"2026-09-01/conversations.jsonl line 2: {words}"
    ) as raised:
        say(tmp_path, line(), wrong, line()).read(DAY)
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize(
    "wrong",
    [
        line(**{"010-1234-5678": "x"}),
        line(at="010-1234-5678"),
        line(user_id=["010-1234-5678"]),
    ],
)
def test_an_error_repeats_no_personal_data(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ContractError, match=r"line 1.*\[전화번호\]") as raised:
        say(tmp_path, wrong).read(DAY)
    assert "1234" not in str(raised.value)


@pytest.mark.parametrize(
    "wrong", [{"role": "user", "비밀": "비밀"}, "비밀", {"role": ["비밀"], "content": "비밀"}]
)
def test_an_error_about_messages_repeats_no_word_of_them(tmp_path: Path, wrong: object) -> None:
    for messages in ([wrong], wrong):
        with pytest.raises(ContractError, match=r"line 1: messages") as raised:
            say(tmp_path, line(messages=messages)).read(DAY)
        assert "비밀" not in str(raised.value)


def test_whose_the_answers_are_may_be_left_out_of_parquet_too(tmp_path: Path) -> None:
    contract = CONTRACTS["conversations"]
    table = as_others_write(contract.table(list(contract.sample))).drop_columns(["said_by"])
    batch = write_parquet(tmp_path, contract, table).read(DAY)
    assert batch.tables["conversations"]["said_by"].to_pylist() == ["person"]


def test_a_file_of_conversations_cut_short_is_refused_and_nothing_of_it_is_shown(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"conversations.jsonl line 2: .*cut short; copy it again"
    ) as raised:
        say(tmp_path, line(), line()[:-40], end="").read(DAY)
    assert "재미없어요" not in str(raised.value) and "user" not in str(raised.value)


def test_conversations_in_csv_are_refused_and_not_passed_over(tmp_path: Path) -> None:
    (folder(tmp_path) / "conversations.csv").write_text("conversation_id\nc1\n")
    with pytest.raises(SourceError, match=r"conversations.csv is not read; write conversations.jsonl"):
        write(tmp_path, GOOD).read(DAY)


def test_conversations_in_parquet_without_their_messages_are_named(tmp_path: Path) -> None:
    contract = CONTRACTS["conversations"]
    good = as_others_write(contract.table(list(contract.sample)))
    for messages, words in (
        (pa.nulls(1, contract.schema.field("messages").type), "row 1: messages is empty"),
        (pa.array(["안녕"]), "column 'messages' is text"),
        (pa.array([7]), "column 'messages' is int64"),
    ):
        place = good.schema.get_field_index("messages")
        with pytest.raises(ContractError, match=f"conversations.parquet.*{words}"):
            write_parquet(tmp_path, contract, good.set_column(place, "messages", messages)).read(DAY)


# --- what is wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["event_id", "user_id", "item_id", "kind", "at"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    names = EVENTS.split(",")
    gone = names.index(column)
    line = ",".join(value for n, value in enumerate(GOOD.split(",")) if n != gone)
    source = write(tmp_path, line, header=",".join(name for name in names if name != column))
    with pytest.raises(ContractError, match=f"2026-09-01/interactions.csv: column '{column}' is missing"):
        source.read(DAY)


def test_a_column_that_the_contract_does_not_have_is_named(tmp_path: Path) -> None:
    source = write(tmp_path, GOOD, header=EVENTS.replace("session_id", "sesion_id"))
    with pytest.raises(ContractError, match="column 'sesion_id' is not in the contract 'interactions'"):
        source.read(DAY)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("e2,u1,i1,rating,four,2026-09-01,s1", "line 3: value 'four' is not a number"),
        ("e2,u1,i1,rating,4,today,s1", "line 3: at 'today' is not a time"),
        ("e2,,i1,rating,4,2026-09-01,s1", "line 3: user_id is empty"),
        ("e2,u1,i1,rating,4,,s1", "line 3: at is empty"),
        (",,,,,,", "line 3: event_id is empty"),
    ],
)
def test_a_wrong_value_is_named_with_its_line_and_column(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ContractError, match=f"2026-09-01/interactions.csv {message}"):
        write(tmp_path, GOOD, line).read(DAY)


def test_a_wrong_value_in_items_is_named_too(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    header = "item_id,title,category,price,created_at"
    source = write(tmp_path, "i1,감귤,food,cheap,2026-09-01", header=header, table="items")
    with pytest.raises(ContractError, match=r"items.csv line 2: price 'cheap' is not a number"):
        source.read(DAY)


def test_a_parquet_column_of_another_type_is_named(tmp_path: Path) -> None:
    events = INTERACTIONS.table(list(INTERACTIONS.sample)).drop_columns(["value"])
    wrong = events.append_column("value", pa.array([[1.0], [2.0], None]))
    with pytest.raises(ContractError, match=r"interactions.parquet: column 'value' is list"):
        write_parquet(tmp_path, INTERACTIONS, wrong).read(DAY)


def test_a_required_null_in_parquet_is_named_with_its_row(tmp_path: Path) -> None:
    people = pa.table({"user_id": ["u1", None], "registered_at": pa.array([DAY, DAY])})
    write(tmp_path, GOOD)
    with pytest.raises(ContractError, match=r"users.parquet row 2: user_id is empty"):
        write_parquet(tmp_path, USERS, people).read(DAY)


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_a_file_cut_short_is_refused(tmp_path: Path, end: str, keep: float) -> None:
    if end == "csv":
        source = write(tmp_path, *[GOOD] * 9)
    else:
        source = write_parquet(tmp_path, INTERACTIONS, INTERACTIONS.table(list(INTERACTIONS.sample)))
    path = folder(tmp_path) / f"interactions.{end}"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(SourceError, match=rf"interactions.{end}.*copy it again"):
        source.read(DAY)


def test_a_day_without_events_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="a header and no rows"):
        write(tmp_path).read(DAY)
    (folder(tmp_path) / "interactions.csv").unlink()
    with pytest.raises(SourceError, match="no rows; if nothing happened"):
        write_parquet(tmp_path, INTERACTIONS, INTERACTIONS.table([])).read(DAY)


def test_an_absent_day_or_file_is_named(tmp_path: Path) -> None:
    source = write(tmp_path, GOOD)
    with pytest.raises(SourceError, match=r"no interactions.csv or .parquet in .*2026-09-02"):
        source.read(date(2026, 9, 2))


def test_two_files_for_one_table_are_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    source = write_parquet(tmp_path, INTERACTIONS, INTERACTIONS.table(list(INTERACTIONS.sample)))
    with pytest.raises(
        SourceError, match=r"both interactions.csv and interactions.parquet are there; remove one"
    ):
        source.read(DAY)


def test_an_empty_folder_has_no_first_day_and_an_unset_one_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no folder YYYY-MM-DD"):
        Files(Settings(_env_file=None, source_path=tmp_path)).first_day()
    with pytest.raises(SettingsError, match="NIGHTSHIFT_SOURCE_PATH"):
        open_source("files", Settings(_env_file=None))


def test_items_may_have_no_rows_in_parquet(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    assert write_parquet(tmp_path, ITEMS, ITEMS.table([])).read(DAY).tables["items"].num_rows == 0
