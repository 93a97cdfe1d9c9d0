"""Bad days are found, named and set aside; good ones, in any language, may be published."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring import quality
from monitoring.quality import Auditor, Report, audit_night, known_items, refusal
from nightshift.commands import read_step, run_command
from nightshift.contracts import CONTRACTS, CONVERSATIONS, INTERACTIONS, indicators
from nightshift.contracts.table import FINITE
from nightshift.errors import ContractError, LakeError, QuarantinedError
from nightshift.lake import Lake
from nightshift.settings import Settings
from nightshift.sources import DayBatch

NIGHT = date(2026, 9, 1)  # the day of the contracts' samples


def rows(count: int = 20) -> list[dict[str, Any]]:
    """`count` valid Korean interactions of NIGHT, half of them ratings."""
    sample = INTERACTIONS.sample[2]
    rating = {"kind": "rating", "value": 4.0}
    view = {"kind": "view", "value": None}
    return [
        {
            **sample,
            **(rating if n % 2 else view),
            "event_id": f"사건{n}",
            "at": sample["at"] + timedelta(seconds=n),
        }
        for n in range(count)
    ]


def batch(
    interactions: list[dict[str, Any]], day: date = NIGHT, items: list[dict[str, Any]] | None = None
) -> DayBatch:
    """A day with these interactions and, unless others are given, the items of the contract's sample."""
    given = {"interactions": interactions, "users": list(CONTRACTS["users"].sample)}
    given["items"] = list(CONTRACTS["items"].sample) if items is None else items
    tables = {name: CONTRACTS[name].table(table) for name, table in given.items()}
    return DayBatch(day=day, tables=tables, counts={"read": len(interactions), "kept": len(interactions)})


@pytest.fixture(scope="module")
def auditor(tmp_path_factory: pytest.TempPathFactory) -> Auditor:
    return Auditor(tmp_path_factory.mktemp("quality"))


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]


def audit(auditor: Auditor, interactions: list[dict[str, Any]], **other: Any) -> Report:
    no_items = known_items(Lake(Path("/nonexistent")))
    return auditor.audit(NIGHT, batch(interactions, **other).tables, no_items)


def failed(report: Report) -> list[tuple[str, str | None, str]]:
    return [(one["table"], one["column"], one["expectation"]) for one in report.failures]


def numbers() -> st.SearchStrategy[float]:
    edges = [0.0, -0.0, 5e-324, 10.0, -10.0, FINITE, -FINITE, math.nextafter(FINITE, math.inf), 1e16]
    return st.one_of(st.floats(), st.sampled_from(edges))


@pytest.fixture(scope="module")
def bounds() -> dict[str, list[Any]]:
    """By contract, the suite's expectations of bounds that hold for every row."""
    from great_expectations.expectations import ExpectColumnValuesToBeBetween  # takes seconds to import

    from monitoring.suites import suite

    return {
        name: [
            e
            for e in suite(contract).expectations
            if isinstance(e, ExpectColumnValuesToBeBetween) and not e.row_condition
        ]
        for name, contract in CONTRACTS.items()
    }


@given(st.data(), st.sampled_from(sorted(CONTRACTS)))
def test_what_fits_a_contract_is_within_the_bounds_of_its_suite(
    bounds: dict[str, list[Any]], data: st.DataObject, name: str
) -> None:
    contract = CONTRACTS[name]
    given = {c.name: data.draw(numbers()) for c in contract.columns if pa.types.is_floating(c.type)}
    row = {**contract.sample[0], **given}
    its = [e for e in bounds[name] if e.column in given]
    assert {e.column for e in its} == set(given), "every number has bounds"
    within = all(e.min_value <= given[e.column] <= e.max_value for e in its)
    assert contract.fits(row) == within


@given(st.lists(st.tuples(st.sampled_from("ab"), numbers(), numbers()), max_size=4))
def test_what_is_sound_of_a_bad_day_is_within_the_bounds(told: list[tuple[str, float, float]]) -> None:
    rows = [
        {"topic": topic, "week": "2026-W34", "patent_filing_rate": patents, "search_volume_growth": search}
        for topic, patents, search in told
    ]
    for row in indicators.sound(CONTRACTS["indicators"].table(rows), NIGHT).to_pylist():
        assert 0 <= row["patent_filing_rate"] <= FINITE and -10 <= row["search_volume_growth"] <= 10


def test_the_greatest_number_that_fits_passes_the_audit_and_the_next_one_does_not(auditor: Auditor) -> None:
    purchase = {"kind": "purchase", "value": FINITE}
    assert audit(auditor, changed(0, **purchase)).failures == []
    beyond = changed(0, kind="purchase", value=math.nextafter(FINITE, math.inf))
    assert not INTERACTIONS.fits(beyond[0]) and failed(audit(auditor, beyond))


def changed(row: int, **values: Any) -> list[dict[str, Any]]:
    found = rows()
    found[row].update(values)
    return found


def test_a_valid_korean_day_passes_with_every_expectation_of_the_contracts(auditor: Auditor) -> None:
    report = audit(auditor, rows())
    assert report.failures == []
    assert report.rows == {"interactions": 20, "users": 2, "items": 2, "indicators": 0, "conversations": 0}
    assert report.expectations > 50


@pytest.mark.parametrize(
    ("values", "column", "expectation", "named"),
    [
        ({"kind": "삭제"}, "kind", "expect_column_values_to_be_in_set", "'삭제'"),
        ({"device": "fridge"}, "device", "expect_column_values_to_be_in_set", "'fridge'"),
        ({"user_id": None}, "user_id", "expect_column_values_to_not_be_null", "1 of 20 rows"),
        ({"at": None}, "at", "expect_column_values_to_not_be_null", "1 of 20 rows"),
        ({"event_id": "사건0"}, "event_id", "expect_column_values_to_be_unique", "'사건0'"),
        ({"session_id": "긴" * 129}, "session_id", "expect_column_value_lengths_to_be_between", "1 of 20"),
        ({"value": 9.0}, "value", "expect_column_values_to_be_between", "'9.0'"),
        ({"value": None}, "value", "expect_column_values_to_not_be_null", "A rating has a value"),
        (
            {"kind": "purchase", "value": -1.0},
            "value",
            "expect_column_values_to_be_between",
            "'-1.0'",
        ),
        (
            {"kind": "purchase", "value": float("inf")},
            "value",
            "expect_column_values_to_be_between",
            "'inf'",
        ),
        (
            {"at": datetime(2026, 9, 2, tzinfo=UTC)},
            "at",
            "expect_column_values_to_be_between",
            "2026-09-02 00:00:00+00:00",
        ),
    ],
)
def test_one_bad_value_fails_exactly_its_own_expectation(
    auditor: Auditor, values: dict[str, Any], column: str, expectation: str, named: str
) -> None:
    alone = {"interactions": INTERACTIONS.table(changed(3, **values))}  # each table costs its own suite
    described = CONTRACTS["items"].table(list(CONTRACTS["items"].sample))["item_id"].combine_chunks()
    report = auditor.audit(NIGHT, alone, described)
    assert failed(report) == [("interactions", column, expectation)]
    assert f"interactions.{column}: {expectation}" in report.reason()
    assert named in report.reason()


def test_a_day_without_interactions_fails_but_one_without_new_items_does_not(auditor: Auditor) -> None:
    assert failed(audit(auditor, [])) == [("interactions", None, "expect_table_row_count_to_be_between")]
    described = CONTRACTS["items"].table(list(CONTRACTS["items"].sample))["item_id"].combine_chunks()
    tables = batch(rows(), items=[]).tables
    assert auditor.audit(NIGHT, tables, described).passed


def test_an_absent_interactions_table_counts_as_an_empty_one(auditor: Auditor) -> None:
    tables = {name: t for name, t in batch(rows()).tables.items() if name != "interactions"}
    report = auditor.audit(NIGHT, tables, known_items(Lake(Path("/nonexistent"))))
    assert failed(report) == [("interactions", None, "expect_table_row_count_to_be_between")]


def weeks(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    """The contract's two rows, and a further one of another topic for each of `changes`."""
    sample = CONTRACTS["indicators"].sample
    return [*sample, *({**sample[0], "topic": f"주제{n}", **change} for n, change in enumerate(changes))]


def audit_weeks(auditor: Auditor, *changes: dict[str, Any]) -> Report:
    tables = {"indicators": CONTRACTS["indicators"].table(weeks(*changes))}
    return auditor.audit(NIGHT, tables, known_items(Lake(Path("/nonexistent"))))


def test_a_day_of_indicators_only_passes(auditor: Auditor) -> None:
    assert audit_weeks(auditor, {"week": "2021-W01"}).failures == []


def test_a_day_with_indicators_and_an_empty_table_of_interactions_fails(auditor: Auditor) -> None:
    tables = {**batch([]).tables, "indicators": CONTRACTS["indicators"].table(weeks())}
    report = auditor.audit(NIGHT, tables, known_items(Lake(Path("/nonexistent"))))
    assert failed(report) == [("interactions", None, "expect_table_row_count_to_be_between")]


@pytest.mark.parametrize(
    ("change", "column", "expectation", "named"),
    [
        ({"week": "2026-W60"}, "week", "expect_column_values_to_match_regex", "'2026-W60'"),
        ({"week": "2025-W53"}, "no_such_week", "expect_column_values_to_be_null", "'2025-W53 of 주제0'"),
        ({"week": "2026-W36"}, "week_not_over", "expect_column_values_to_be_null", "'2026-W36 of 주제0'"),
        ({"topic": None}, "topic", "expect_column_values_to_not_be_null", "1 of 3 rows"),
        ({"topic": "긴" * 129}, "topic", "expect_column_value_lengths_to_be_between", "1 of 3 rows"),
        (
            {"search_volume_growth": 11.0},
            "search_volume_growth",
            "expect_column_values_to_be_between",
            "'11.0'",
        ),
        ({"patent_filing_rate": -1.0}, "patent_filing_rate", "expect_column_values_to_be_between", "'-1.0'"),
        (
            {"policy_change_frequency": float("inf")},
            "policy_change_frequency",
            "expect_column_values_to_be_between",
            "'inf'",
        ),
    ],
)
def test_one_bad_indicator_fails_exactly_its_own_expectation(
    auditor: Auditor, change: dict[str, Any], column: str, expectation: str, named: str
) -> None:
    report = audit_weeks(auditor, change)
    assert failed(report) == [("indicators", column, expectation)]
    assert named in report.reason()


def test_two_rows_for_one_topic_and_week_fail_and_both_are_named(auditor: Auditor) -> None:
    report = audit_weeks(auditor, {"topic": "robotics", "search_volume_growth": 9.0})
    assert failed(report) == [("indicators", None, "expect_compound_columns_to_be_unique")]
    for words in ("2 of 3 rows", "'topic robotics, week 2026-W35'", "One row for each topic and week"):
        assert words in report.reason()


def talks(**change: Any) -> list[dict[str, Any]]:
    """Four sound conversations, the second with a change."""
    sample = CONVERSATIONS.sample[0]
    found = [{**sample, "conversation_id": f"대화{n}"} for n in range(4)]
    found[1].update(change)
    return found


def audit_talks(auditor: Auditor, rows: list[dict[str, Any]]) -> Report:
    tables = {"conversations": CONVERSATIONS.table(rows)}
    return auditor.audit(NIGHT, tables, known_items(Lake(Path("/nonexistent"))))


def said(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


ASKED, ANSWERED = ("user", "요즘 일이 재미없어요."), ("assistant", "어떤 일이 즐거웠나요?")


@pytest.mark.parametrize(
    "change", [{}, said(("system", "코치입니다."), ASKED, ANSWERED), said(*[ASKED, ANSWERED] * 32)]
)
def test_a_day_of_conversations_only_passes(auditor: Auditor, change: dict[str, Any]) -> None:
    assert audit_talks(auditor, talks(**change)).failures == []


NULL = "expect_column_values_to_be_null"


@pytest.mark.parametrize(
    ("change", "column", "expectation", "named"),
    [
        (said(ASKED), "turns_out_of_order", NULL, "'대화1'"),
        (said(ANSWERED, ASKED), "turns_out_of_order", NULL, "'대화1'"),
        (said(ASKED, ASKED, ANSWERED, ANSWERED), "turns_out_of_order", NULL, "'대화1'"),
        (said(ASKED, ("system", "끼어들기"), ANSWERED), "turns_out_of_order", NULL, "'대화1'"),
        (said(), "turns_out_of_order", NULL, "'대화1'"),
        ({"messages": [None, None]}, None, None, None),
        (said(("user", "말" * 8_001), ANSWERED), "turn_too_long", NULL, "8,000 characters"),
        (said(*[ASKED, ANSWERED] * 33), "turn_too_long", NULL, "64 messages"),
        (said(ASKED, ("assistant", " \n")), "empty_turn", NULL, "'대화1'"),
        (said(("user", "제 번호는 010-9876-5432"), ANSWERED), "personal_data", NULL, "'대화1'"),
        (said(ASKED, ("assistant", "someone@example.com 맞나요?")), "personal_data", NULL, "'대화1'"),
        ({"said_by": "robot"}, "said_by", "expect_column_values_to_be_in_set", "'robot'"),
        ({"consent": False}, "consent", "expect_column_values_to_be_in_set", "'False'"),
        ({"conversation_id": "대화0"}, "conversation_id", "expect_column_values_to_be_unique", "'대화0'"),
        ({"user_id": None}, "user_id", "expect_column_values_to_not_be_null", "1 of 4 rows"),
        ({"user_id": "긴" * 129}, "user_id", "expect_column_value_lengths_to_be_between", "1 of 4 rows"),
        ({"messages": None}, "messages", "expect_column_values_to_not_be_null", "1 of 4 rows"),
        (
            {"at": datetime(2026, 9, 2, tzinfo=UTC)},
            "at",
            "expect_column_values_to_be_between",
            "2026-09-02 00:00:00+00:00",
        ),
    ],
)
def test_one_bad_conversation_fails_exactly_its_own_expectation(
    auditor: Auditor, change: dict[str, Any], column: str | None, expectation: str | None, named: str | None
) -> None:
    report = audit_talks(auditor, talks(**change))
    if column is None:
        assert {one["column"] for one in report.failures} == {"turns_out_of_order", "empty_turn"}
        return
    assert failed(report) == [("conversations", column, expectation)]
    assert named is not None and named in report.reason()


def test_bad_conversations_quarantine_their_day_and_the_report_repeats_nothing_that_was_said(
    home: Settings,
) -> None:
    lake, secret = Lake(home.lake_dir), "010-9876-5432"
    rows_said = talks(**said(("user", f"번호는 {secret}, 비밀이에요"), ANSWERED))
    tables = {**batch(rows()).tables, "conversations": CONVERSATIONS.table(rows_said)}
    lake.stage(DayBatch(NIGHT, tables, {"read": 24, "kept": 24}))
    audit_night(home, NIGHT)
    refused = refusal(lake, NIGHT)
    assert isinstance(refused, QuarantinedError)
    for words in ("conversations.personal_data", "'대화1'", "No phone", "report.json"):
        assert words in str(refused)
    assert lake.quarantined() == [NIGHT] and lake.days() == []
    written = [path for path in home.home.rglob("*") if path.suffix in (".json", ".html")]
    assert len(written) > 3
    assert not [path for path in written if secret in (text := path.read_text()) or "비밀" in text]


def test_late_feedback_never_fails_a_day_however_much_and_however_late(auditor: Auditor) -> None:
    old = datetime(2026, 1, 20, tzinfo=UTC)
    assert audit(auditor, [{**row, "at": old} for row in rows()]).failures == []


def test_events_about_items_that_nobody_described_fail_above_one_percent(auditor: Auditor) -> None:
    many = rows(200)
    many[0]["item_id"] = many[1]["item_id"] = "유령"
    assert audit(auditor, many).passed
    many[2]["item_id"] = "유령"
    report = audit(auditor, many)
    assert failed(report) == [("interactions", "unknown_item_id", "expect_column_values_to_be_null")]
    assert "3 of 200 rows, such as '유령'" in report.reason()


def test_a_column_that_went_missing_is_named(auditor: Auditor) -> None:
    tables = batch(rows()).tables
    tables["interactions"] = tables["interactions"].drop_columns(["channel"])
    report = auditor.audit(NIGHT, tables, known_items(Lake(Path("/nonexistent"))))
    assert ("interactions", None, "expect_table_columns_to_match_set") in failed(report)
    assert any("channel" in one["text"] for one in report.failures if one["column"] == "channel")


def test_a_table_without_a_required_column_cannot_even_be_staged(home: Settings) -> None:
    day = batch(rows())
    day.tables["interactions"] = day.tables["interactions"].drop_columns(["kind"])
    with pytest.raises(ContractError, match="column 'kind' is missing"):
        Lake(home.lake_dir).stage(day)
    assert Lake(home.lake_dir).staged_days() == []


def test_a_passed_day_can_be_published_and_its_data_docs_open_from_disk(home: Settings) -> None:
    lake = Lake(home.lake_dir)
    lake.stage(batch(rows()))
    with pytest.raises(LakeError, match="has not passed an audit"):
        lake.publish(NIGHT)
    result = audit_night(home, NIGHT)
    assert (result["days"], result["passed"], result["failed_expectations"]) == (1, [NIGHT], 0)
    page = Path(result["data_docs"])
    assert "interactions" in page.read_text()
    assert list(page.parent.glob("validations/interactions/2026-09-01/*/*.html"))
    assert refusal(lake, NIGHT) is None
    lake.publish(NIGHT)
    assert lake.days() == [NIGHT]
    again = audit_night(home, NIGHT)
    assert (again["days"], again["rows"]) == (0, 0)
    assert refusal(lake, NIGHT) is None


def test_a_bad_night_is_quarantined_the_lake_unchanged_and_the_reason_stays(home: Settings) -> None:
    lake = Lake(home.lake_dir)
    lake.stage(batch(rows()))
    audit_night(home, NIGHT)
    lake.publish(NIGHT)
    before, next_night = lake.digest(NIGHT, NIGHT), NIGHT + timedelta(days=1)
    bad = [{**row, "at": row["at"] + timedelta(days=1)} for row in changed(3, kind="삭제")]
    lake.stage(batch(bad, next_night, items=[]))
    result = audit_night(home, next_night)
    assert result["quarantined"] == [next_night]
    assert (lake.days(), lake.staged_days(), lake.digest(NIGHT, next_night)) == ([NIGHT], [], before)
    report = json.loads((lake.root / "quarantine" / str(next_night) / "report.json").read_text())
    assert [one["values"] for one in report["failures"]] == [["삭제"]]
    first = refusal(lake, next_night)
    assert isinstance(first, QuarantinedError)
    for words in ("interactions.kind", "expect_column_values_to_be_in_set", "'삭제'", "report.json"):
        assert words in str(first)
    audit_night(home, next_night)
    assert str(refusal(lake, next_night)) == str(first)


def test_a_bad_day_of_the_past_is_set_aside_and_the_night_goes_on(home: Settings) -> None:
    lake, tomorrow = Lake(home.lake_dir), NIGHT + timedelta(days=1)
    yesterday, opening = NIGHT - timedelta(days=1), NIGHT - timedelta(days=2)
    lake.stage(batch([{**row, "at": row["at"] - timedelta(days=2)} for row in rows()], opening))
    audit_night(home, opening)
    lake.publish(opening)
    lake.stage(
        batch([{**row, "at": row["at"] - timedelta(days=1)} for row in changed(3, kind="?")], yesterday)
    )
    lake.stage(batch(rows()))
    lake.stage(batch(rows(), tomorrow))
    result = audit_night(home, NIGHT)
    assert (result["passed"], result["quarantined"]) == ([NIGHT], [yesterday])
    assert list(result["reasons"]) == [str(yesterday)]
    assert refusal(lake, NIGHT) is None
    assert lake.staged_days() == [NIGHT, tomorrow], "a day later than the night is not this night's business"


def test_a_bad_first_day_of_an_empty_lake_stops_the_audit_and_leaves_the_others_staged(
    home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, night = Lake(home.lake_dir), NIGHT + timedelta(days=2)
    others = [NIGHT + timedelta(days=1), night]
    lake.stage(batch(changed(3, kind="삭제")))
    for n, day in enumerate(others, 1):  # they tell of no item: the catalogue came with the first day
        lake.stage(batch([{**row, "at": row["at"] + timedelta(days=n)} for row in rows()], day, items=[]))
    monkeypatch.setattr(quality, "read_settings", lambda: home)
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: quality.main(["--night", str(night)]))
    printed = capsys.readouterr()
    assert ended.value.code == QuarantinedError.exit_status
    assert (lake.quarantined(), lake.staged_days(), lake.days()) == ([NIGHT], others, [])
    result = json.loads(printed.out.splitlines()[-1])
    assert (result["days"], result["left_staged"]) == (1, [str(day) for day in others])
    assert len(printed.err.splitlines()) == 1
    for words in ("day 2026-09-01", "interactions.kind", "'삭제'", "--night 2026-09-01", "night 2026-09-03"):
        assert words in printed.err
    with pytest.raises(LakeError, match="has not passed an audit"):
        lake.publish(others[0])

    lake.stage(batch(rows()))  # mended
    assert audit_night(home, night)["passed"] == [NIGHT, *others]


def test_on_an_empty_lake_a_bad_day_after_a_good_first_one_does_not_stop_the_audit(home: Settings) -> None:
    lake, night = Lake(home.lake_dir), NIGHT + timedelta(days=2)
    lake.stage(batch(rows()))
    lake.stage(batch([], NIGHT + timedelta(days=1)))
    lake.stage(batch(rows(), night, items=[]))
    result = audit_night(home, night)
    assert (result["passed"], result["left_staged"]) == ([NIGHT, night], [])
    assert refusal(lake, night) is None


def test_a_staged_file_cut_in_half_is_quarantined_and_named(home: Settings) -> None:
    lake = Lake(home.lake_dir)
    lake.stage(batch(rows()))
    file = lake.root / "staging" / str(NIGHT) / "interactions.parquet"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert audit_night(home, NIGHT)["quarantined"] == [NIGHT]
    assert "cannot be read" in str(refusal(lake, NIGHT))


@pytest.mark.parametrize(
    ("interactions", "status", "words"),
    [
        (None, LakeError.exit_status, "nothing is staged"),
        (
            [],
            QuarantinedError.exit_status,
            "interactions: expect_table_row_count_to_be_between failed, found 0",
        ),
    ],
)
def test_the_command_prints_its_result_and_a_refused_night_ends_it_in_one_line(
    home: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    interactions: list[dict[str, Any]] | None,
    status: int,
    words: str,
) -> None:
    if interactions is not None:
        Lake(home.lake_dir).stage(batch(interactions))
    monkeypatch.setattr(quality, "read_settings", lambda: home)
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: quality.main(["--night", "2026-09-01"]))
    printed = capsys.readouterr()
    assert ended.value.code == status
    result = json.loads(printed.out.splitlines()[-1])
    assert result == read_step(home, NIGHT, "audit")
    assert result["days"] == (interactions is not None)
    assert len(printed.err.splitlines()) == 1
    assert words in printed.err


def test_a_result_cut_short_by_a_kill_does_not_stop_the_next_night(home: Settings) -> None:
    lake = Lake(home.lake_dir)
    lake.stage(batch(rows()))
    audit_night(home, NIGHT)
    for path in (home.home / "quality" / "gx").rglob("*.json"):
        path.write_text(path.read_text()[:40])
    (home.home / "quality" / "gx" / "great_expectations.yml").write_text("config_version: [")
    lake.publish(NIGHT)
    tomorrow = NIGHT + timedelta(days=1)
    lake.stage(batch(rows(), tomorrow))
    assert audit_night(home, tomorrow)["passed"] == [tomorrow]
