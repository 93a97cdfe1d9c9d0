"""Audits staged days: each passes and may be published, or goes to quarantine with the reason.

    python -m monitoring.quality --night 2026-09-28

Every staged day up to the night is audited, oldest first. A bad day of the past is quarantined and the night
goes on without it; a bad night stops here, in one line that says what is wrong. So does a bad first day of an
empty lake: it carries the catalogue, without which every later day would fail, so those stay staged, unaudited.

Great Expectations keeps its suites, results and Data Docs under `home/quality`; all but the results is built anew
from the contracts, so the folder may be deleted at any time. Results are filed under the audited day: auditing a
day again replaces them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.commands import alone, emit, quiet_libraries, run_command
from nightshift.contracts import CONTRACTS, CONVERSATIONS, INDICATORS, ITEMS
from nightshift.errors import LakeError, QuarantinedError
from nightshift.lake import Lake, open_lake
from nightshift.settings import Settings
from nightshift.settings import settings as read_settings

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult

SHOWN_VALUES = 3  # offending values named in the one line; the report has up to 20
INDEXED_RESULTS = 400  # newest results on the Data Docs' first page: about eleven weeks of five tables


@dataclass(frozen=True)
class Report:
    """What the audit of one day found. `failures`: see `describe` for their keys."""

    day: date
    rows: dict[str, int] = field(default_factory=dict)
    expectations: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.failures

    def reason(self) -> str:
        """The first failure in words, and how many more there are."""
        more = f" (and {len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
        return self.failures[0]["text"] + more

    def as_dict(self) -> dict[str, Any]:
        return {
            "day": self.day.isoformat(),
            "passed": self.passed,
            "rows": self.rows,
            "expectations": self.expectations,
            "failures": self.failures,
        }


class Auditor:
    """Great Expectations' file context under one folder, with one suite and validation definition per contract."""

    def __init__(self, root: Path) -> None:
        quiet_libraries()
        import great_expectations as gx

        from monitoring import suites

        root.mkdir(parents=True, exist_ok=True)
        # Built from the contracts each time: a configuration cut short by a kill must not stop later nights.
        for name in ("great_expectations.yml", "uncommitted/config_variables.yml"):
            (root / "gx" / name).unlink(missing_ok=True)
        for folder in ("expectations", "validation_definitions"):
            shutil.rmtree(root / "gx" / folder, ignore_errors=True)
        self._context = gx.get_context(mode="file", project_root_dir=root)
        variables: Any = self._context.variables
        variables.progress_bars = {"globally": False}
        site = variables.data_docs_sites["local_site"]
        site["show_how_to_buttons"] = False
        site["site_index_builder"]["validation_results_limit"] = INDEXED_RESULTS
        variables.save()
        self._suites = suites
        self._results: list[Any] = []
        source = self._context.data_sources.add_pandas("staged")
        self._definitions = {}
        for name, contract in CONTRACTS.items():
            batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("day")
            suite = self._context.suites.add_or_update(suites.suite(contract))
            self._definitions[name] = self._context.validation_definitions.add_or_update(
                gx.ValidationDefinition(name=name, data=batch, suite=suite)
            )

    def audit(self, day: date, tables: Mapping[str, pa.Table], known_items: pa.Array) -> Report:
        """Check one day's tables; one that is missing counts as empty, which interactions may be if, and only if,
        they are missing and the day has indicators or conversations.

        known_items: ids (string) of items described before this day; the day's own are added here.
        """
        from great_expectations.core.run_identifier import RunIdentifier
        from great_expectations.data_context.types.resource_identifiers import (
            ExpectationSuiteIdentifier,
            ValidationResultIdentifier,
        )

        run = RunIdentifier(day.isoformat(), run_time=datetime(day.year, day.month, day.day, tzinfo=UTC))
        known_items = with_items(known_items, tables)
        rows, expectations, failures = {}, 0, []
        for name, contract in CONTRACTS.items():
            table = tables.get(name, contract.schema.empty_table())
            rows[name] = table.num_rows
            if table.num_rows == 0 and (contract.may_be_empty or _need_not_be(name, tables)):
                continue  # nothing to check; half of a night's tables bring no new rows
            result = self._definitions[name].run(
                batch_parameters={"dataframe": self._suites.batch_frame(contract, table, day, known_items)},
                expectation_parameters=self._suites.day_parameters(day),
                run_id=run,
            )
            suite = ExpectationSuiteIdentifier(name)
            self._results.append(ValidationResultIdentifier(suite, run, result.batch_id))
            expectations += len(result.results)
            failures += failures_of(name, result)
        return Report(day, rows, expectations, failures)

    def build_docs(self) -> Path:
        """Render this auditor's results and the suites; returns the first page, which opens from disk."""
        suites = [result.expectation_suite_identifier for result in self._results]
        self._context.build_data_docs(resource_identifiers=[*self._results, *suites])
        return Path(self._context.root_directory) / "uncommitted" / "data_docs" / "local_site" / "index.html"


def _need_not_be(table: str, tables: Mapping[str, pa.Table]) -> bool:
    """Whether a day of indicators or conversations only has no such table."""
    others = (tables[name].num_rows for name in (INDICATORS.name, CONVERSATIONS.name) if name in tables)
    return table not in tables and any(others)


def failures_of(table: str, result: ExpectationSuiteValidationResult) -> list[dict[str, Any]]:
    return [describe(table, one) for one in result.results if not one.success]


def describe(table: str, result: ExpectationValidationResult) -> dict[str, Any]:
    """A failed expectation as plain values: table, column, expectation, meaning, count, rows, values, text."""
    config, found = result.expectation_config, result.result
    column = config.kwargs.get("column") if config else None
    expectation = config.type if config else "unknown"
    meaning = config.description if config else None
    count, rows = found.get("unexpected_count"), found.get("element_count")
    values = list(dict.fromkeys(_shown(value) for value in found.get("partial_unexpected_list", [])))
    text = f"{table}.{column}" if column else table
    text += f": {expectation} failed"
    if count is not None:
        text += f" for {count} of {rows} rows, such as {', '.join(map(repr, values[:SHOWN_VALUES]))}"
    elif "observed_value" in found:
        text += f", found {found['observed_value']}"
    else:
        text += f" ({_exception(result)})"
    if meaning:
        text += f" [{meaning}]"
    return {
        "table": table,
        "column": column,
        "expectation": expectation,
        "meaning": meaning,
        "count": count,
        "rows": rows,
        "values": values,
        "text": text,
    }


def _shown(value: Any) -> str:
    """A value in words; that of several columns is a dictionary."""
    if isinstance(value, dict):
        return ", ".join(f"{column} {one}" for column, one in value.items())
    return str(value)


def _exception(result: ExpectationValidationResult) -> str:
    """Great Expectations files exceptions flat, or one per metric."""
    info = result.exception_info or {}
    found = info.get("exception_message") or next(
        (i["exception_message"] for i in info.values() if isinstance(i, dict) and i.get("exception_message")),
        "no details",
    )
    return str(found).splitlines()[0]


def known_items(lake: Lake) -> pa.Array:
    """Ids (string) of the items that published days describe."""
    days = lake.days()
    paths = lake.paths(ITEMS.name, days[0], days[-1]) if days else []
    parts = [pq.ParquetFile(path).read(columns=["item_id"])["item_id"] for path in paths]
    return pa.chunked_array(parts, type=pa.string()).combine_chunks()


def with_items(known: pa.Array, tables: Mapping[str, pa.Table]) -> pa.Array:
    if ITEMS.name not in tables or "item_id" not in tables[ITEMS.name].column_names:
        return known
    new = tables[ITEMS.name]["item_id"].cast(pa.string())
    return pa.chunked_array([known, *new.chunks], type=pa.string()).combine_chunks()


def audit_days(lake: Lake, days: list[date], auditor: Auditor) -> list[Report]:
    """Audit staged days in order; each passing one is recorded, each failing one quarantined.

    The items of a quarantined day do not count as known to the days after it. So if nothing is published yet
    and the first day fails, the audit stops there: the other days would fail for want of its catalogue.
    """
    opening = not lake.days()
    known = known_items(lake)
    reports: list[Report] = []
    for day in days:
        try:
            tables = lake.staged(day).tables
            report = auditor.audit(day, tables, known)
        except LakeError as error:
            tables, report = {}, Report(day, failures=[{"expectation": "readable", "text": str(error)}])
        if report.passed:
            lake.record_audit(day, report.as_dict())
            known = with_items(known, tables)
        else:
            lake.quarantine(day, report.as_dict())
        reports.append(report)
        if opening and not reports[0].passed:
            break
    return reports


def audit_night(settings: Settings, night: date) -> dict[str, Any]:
    """Audit every staged day up to `night` and return the step's result; see `refusal` for the night itself."""
    lake = open_lake(settings)
    days = [day for day in lake.staged_days() if day <= night]
    reports: list[Report] = []
    docs = None
    if days:
        auditor = Auditor(settings.home / "quality")
        reports = audit_days(lake, days, auditor)
        docs = auditor.build_docs()
    return {
        "days": len(reports),
        "passed": [report.day for report in reports if report.passed],
        "quarantined": [report.day for report in reports if not report.passed],
        "left_staged": days[len(reports) :],
        "reasons": {report.day.isoformat(): report.reason() for report in reports if not report.passed},
        "rows": sum(sum(report.rows.values()) for report in reports),
        "expectations": sum(report.expectations for report in reports),
        "failed_expectations": sum(len(report.failures) for report in reports),
        "data_docs": docs,
    }


def refusal(lake: Lake, night: date) -> LakeError | QuarantinedError | None:
    """Why the night cannot go on after its audit, or None: the night is audited, or published before.

    Read from the lake, so that a second try of a quarantined night gives the same reason as the first.
    """
    if night in lake.staged_days() or night in lake.days():
        return None
    folder = lake.quarantined_folder(night)
    if folder is None:
        return LakeError(f"night {night}: nothing is staged; run `nightshift ingest --night {night}` first")
    path = folder / "report.json"
    found = Report(night, failures=json.loads(path.read_text())["failures"])
    return QuarantinedError(
        f"night {night} failed its audit and is in quarantine, the lake is unchanged: {found.reason()}. "
        f"Report: {path}. Mend the source, then run `nightshift ingest --night {night}` again"
    )


def no_opening(result: dict[str, Any], night: date) -> QuarantinedError | None:
    """Why the night cannot go on if its audit (`result`) stopped at the lake's first day, or None."""
    if not result["left_staged"]:
        return None
    (day,) = result["quarantined"]
    return QuarantinedError(
        f"day {day}, the first of an empty lake, failed its audit and is in quarantine: "
        f"{result['reasons'][day.isoformat()]}. {len(result['left_staged'])} later day(s) wait, unaudited: it "
        f"carries the catalogue. Mend the source and run `nightshift ingest`, `audit` and `publish --night {day}`, "
        f"then night {night}; or run night {night} again from its ingest to begin without that day"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Audit the staged days up to a night.")
    parser.add_argument("--night", type=date.fromisoformat, required=True)
    night = parser.parse_args(arguments).night
    settings = read_settings()
    lake = open_lake(settings)
    with alone(settings, "intake"):
        result = audit_night(settings, night)
    stopped = no_opening(result, night)
    for day, reason in result["reasons"].items():
        if day != night.isoformat() and stopped is None:
            print(f"day {day} is quarantined, the night goes on without it: {reason}", file=sys.stderr)
    if not result["days"] and night in lake.days():
        print(f"night {night} is published already: nothing to audit", file=sys.stderr)
    emit(settings, night, "audit", result)
    refused = stopped or refusal(lake, night)
    if refused is not None:
        raise refused


if __name__ == "__main__":
    run_command(main)
