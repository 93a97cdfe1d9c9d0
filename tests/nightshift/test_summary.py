from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from nightshift.settings import Settings
from nightshift.summary import show

GATE = {
    "seat": "recommender",
    "family": "ncf",
    "decision": "keep",
    "reasons": ["Not better than the champion beyond noise."],
    "flags": ["Trained by a tree that differed from its commit."],
    "candidate": 2,
    "champion": 1,
    "scores": {
        "candidate": {"ndcg_at_100": 0.0831},
        "champion": {"ndcg_at_100": 0.0904},
        "popularity": {"ndcg_at_100": 0.0410},
    },
    "exam": {"units": 675, "unit": "users", "start": "2026-09-28", "end": "2026-09-28"},
}
FORECASTS = {
    "seat": "forecaster",
    "family": "ridge",
    "decision": "promote",
    "reasons": ["Better than the seasonal naive baseline beyond noise."],
    "candidate": 3,
    "champion": None,
    "scores": {
        "candidate": {"mse": 61.25},
        "gru v1": {"mse": 63.5},
        "last value": {"mse": 102.0, "mae": 8.0},
    },
    "exam": {"units": 120, "unit": "topics", "start": "2026-08-03", "end": "2026-09-20"},
}
COACHING = {
    "seat": "language",
    "family": "qlora",
    "decision": "promote",
    "reasons": ["Better than the untuned base baseline beyond noise."],
    "candidate": 1,
    "champion": None,
    "scores": {
        "candidate": {"bits_per_byte": 0.4321, "perplexity": 2.5},
        "untuned base": {"bits_per_byte": 0.8765, "perplexity": 9.5},
    },
    "exam": {"units": 118, "unit": "users", "start": "2026-09-28", "end": "2026-09-28"},
}
CHAT = {
    "asked": "요즘 일이 재미없어요.",
    "seconds": 2.0,
    "tokens": 30,
    "message": {"role": "assistant", "content": "어떤 [일]을 좋아하세요?"},
}
TRENDS = {
    "model_version": "3",
    "topics": 120,
    "trends": [
        {
            "rank": 1,
            "topic": "배터리 재활용",
            "velocity": 61.0,
            "change": 4.0,
            "forecast": 65.0,
            "interval_80": {"low": -3.0, "high": 11.0},
            "drivers": [{"indicator": "search_volume_growth", "effect": 3.1}],
        }
    ],
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
    "forecaster": None,
    "trends": None,
    "coach": None,
    "chat": None,
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
                  "champion v1", "0.0831", "0.0904", "Recommender: keep", "beyond noise", "Version 1 is serving",
                  "Flagged: Trained by a tree",
                  "감귤 초콜릿", "popular in food", "739 events"):  # fmt: skip
        assert words in told


def test_the_addresses_are_whole_even_on_a_narrow_terminal(tmp_path: Path) -> None:
    console = Console(record=True, width=40)
    config = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    show(config, SUMMARY, console)
    told = console.export_text()
    for address in (
        f"{config.airflow_uri}/dags/nightly",
        f"{config.mlflow_uri}/#/models",
        config.serving_uri,
        f"http://{config.host}:{config.forecaster_port}",
        f"http://{config.host}:{config.language_port}",
    ):
        assert address in told


def test_every_seat_has_its_table_and_a_seat_that_was_left_out_is_said(tmp_path: Path) -> None:
    alone = shown(tmp_path)
    assert "The forecaster seat was left out tonight" in alone
    gates = {"recommender": GATE, "forecaster": FORECASTS, "language": COACHING}
    both = shown(tmp_path, gates=gates, trends=TRENDS)
    for words in ("The forecaster's exam: 120 topics, 2026-08-03 to 2026-09-20",
                  "candidate v3 (ridge)", "gru v1", "61.25", "last value",
                  "Forecaster: promote", "Version 3 forecasts 120 topics", "배터리 재활용", "65 (58 to 72)",
                  "search volume growth"):  # fmt: skip
        assert words in both
    assert "seat was left out" not in both


def test_an_empty_seat_is_said(tmp_path: Path) -> None:
    assert "Nobody sits" in shown(tmp_path, served=None, recommendation=None, visits=None)


def test_on_a_day_without_interactions_the_recommender_still_serves(tmp_path: Path) -> None:
    told = shown(tmp_path, recommendation=None, visits=None, rows={"indicators": 118}, gates={})
    assert "118 indicators of the day" in told and "Version 1 of the recommender is serving" in told
    assert told.count("seat was left out tonight") == 3


def test_the_coach_is_shown_with_its_exam_its_answer_and_its_pace(tmp_path: Path) -> None:
    told = shown(tmp_path, gates={"language": COACHING}, coach={"version": "1"}, chat=CHAT)
    for words in ("The language's exam: 118 users", "candidate v1 (qlora)", "0.4321", "untuned base", "9.5",
                  "Language: promote", "Version 1 is the coach:", "요즘 일이 재미없어요.", "어떤 [일]을 좋아하세요?",
                  "15 tokens/s", "POST /chat"):  # fmt: skip
        assert words in told
    assert "did not answer" in shown(tmp_path, coach={"version": "1"}, chat=None)


def test_what_was_masked_is_told_apart_from_what_was_left_out(tmp_path: Path) -> None:
    counts = {
        "market.read": 9,
        "market.masked_phone": 2,
        "events.masked_phone": 1,
        "market.toxic": 4,
        "market.bot": 0,
    }
    told = shown(tmp_path, counts=counts, rows={"interactions": 1200, "conversations": 131, "users": 4})
    assert "masked in conversations: 3 phone" in told and "left out: 4 toxic" in told and "bot" not in told
    assert "1,200 interactions, 131 conversations of the day" in told and "users of the day" not in told
