from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from nightshift.settings import Settings
from nightshift.summary import show

GATE = {
    "decision": "keep",
    "reasons": ["Not better than the champion beyond noise."],
    "candidate": 2,
    "champion": 1,
    "candidate_metrics": {"ndcg_at_10": 0.0831},
    "champion_metrics": {"ndcg_at_10": 0.0904},
    "baseline_metrics": {"ndcg_at_10": 0.0410},
    "exam": {"users": 675, "start": "2026-09-28", "end": "2026-09-28"},
}
SUMMARY: dict[str, Any] = {
    "night": "2026-09-28",
    "rows": {"interactions": 6147},
    "audit": {"expectations": 65},
    "counts": {"market.read": 6147, "market.kept": 6147, "events.kept": 12, "events.unknown_item": 3},
    "taken_in": {"days": ["2026-09-28"], "rows": 6147},
    "families": {"ncf": {"version": 2, "seconds": 31.0}},
    "gates": {"recommender": GATE},
    "served": {"version": "1"},
    "recommendation": {
        "user_id": "u1",
        "items": [{"rank": 1, "title": "감귤 초콜릿", "score": 1.5, "reason": "popular in food"}],
    },
    "visits": {"customers": 200, "accepted": 739},
    "seconds": 112.0,
    "memory_mb": {"mlflow": 420},
}


def shown(tmp_path: Path, **changes: Any) -> str:
    console = Console(record=True, width=150)
    show(Settings(_env_file=None, home=tmp_path), {**SUMMARY, **changes}, console)  # type: ignore[call-arg]
    return console.export_text()


def test_the_summary_tells_the_data_the_exam_the_verdict_and_what_is_served(tmp_path: Path) -> None:
    told = shown(tmp_path)
    for words in ("6,147", "65 expectations", "3 unknown_item", "12 of them are feedback", "candidate v2",
                  "champion v1", "0.0831", "0.0904", "Verdict: keep", "beyond noise", "Version 1 is serving",
                  "감귤 초콜릿", "popular in food", "739 events"):  # fmt: skip
        assert words in told


def test_the_three_addresses_are_whole_even_on_a_narrow_terminal(tmp_path: Path) -> None:
    console = Console(record=True, width=40)
    config = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    show(config, SUMMARY, console)
    told = console.export_text()
    for address in (
        f"{config.airflow_uri}/dags/nightly",
        f"{config.mlflow_uri}/#/models/recommender",
        config.serving_uri,
    ):
        assert address in told


def test_an_empty_seat_is_said(tmp_path: Path) -> None:
    assert "Nobody sits" in shown(tmp_path, served=None, recommendation=None, visits=None)
