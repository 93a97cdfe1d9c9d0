"""From a topic to a plan."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nightshift.errors import SettingsError
from nightshift.settings import Settings
from nightshift.sources.market.words import topic_name
from serving.coach.roadmap import FOR_ALL, MOST_STEPS, plan, read, told

NOON = datetime(2026, 9, 28, 12, tzinfo=UTC)
OURS = read(Settings(_env_file=None))  # type: ignore[call-arg]


def steps(topic: str) -> dict[str, str]:
    return {step.step_id: step.told["why"] for step in plan(OURS, "u1", topic, NOON).steps}


def test_a_topic_calls_for_its_field_and_its_aspect_and_every_topic_for_some() -> None:
    found = steps("배터리 재활용 · battery recycling")
    assert list(found)[:2] == ["batteries", "circular-economy"] and "배터리" in found["batteries"]
    assert [why for why in steps("도예").values()] == [FOR_ALL] * 3


def test_every_topic_of_the_market_has_a_field_of_its_own() -> None:
    for number in range(1_000):
        found = plan(OURS, "u1", topic_name(number), NOON)
        assert found.steps[0].told["why"] != FOR_ALL and 3 < len(found.steps) <= MOST_STEPS, found.topic


def test_a_latin_word_counts_whole() -> None:
    assert "machine-learning" in steps("AI ethics") and "machine-learning" not in steps("MAINTENANCE")


def test_the_same_topic_makes_the_same_plan_and_nothing_is_done_yet() -> None:
    first = told(plan(OURS, "u1", "로봇 안전", NOON))
    assert first == told(plan(OURS, "u1", "로봇 안전", NOON))
    assert first.progress == 0 and all(step.resources for step in first.steps)


GOOD = {"id": "a", "name": "A", "resources": [{"kind": "book", "title": "T", "by": "B", "language": "en"}]}


def catalogue(tmp_path: Path, *competencies: dict[str, object]) -> Settings:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"competencies": competencies}))
    return Settings(_env_file=None, catalogue=path)  # type: ignore[call-arg]


def test_ones_own_catalogue_is_used(tmp_path: Path) -> None:
    assert [each.id for each in read(catalogue(tmp_path, GOOD)).competencies] == ["a"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({**GOOD, "resources": []}, "competencies.0.resources"),
        ({**GOOD, "price": 3}, "competencies.0.price"),
        ({**GOOD, "words": ["only some"]}, "at least must have no words"),
        ({**GOOD, "id": "A B"}, "competencies.0.id"),
    ],
)
def test_a_catalogue_that_is_wrong_is_refused_with_the_place(
    tmp_path: Path, wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingsError, match="NIGHTSHIFT_CATALOGUE") as refused:
        read(catalogue(tmp_path, wrong))
    assert said in str(refused.value) and "mine.json" in str(refused.value)


def test_a_catalogue_that_is_away_is_said(tmp_path: Path) -> None:
    config = Settings(_env_file=None, catalogue=tmp_path / "none.json")  # type: ignore[call-arg]
    with pytest.raises(SettingsError, match="cannot be read"):
        read(config)
