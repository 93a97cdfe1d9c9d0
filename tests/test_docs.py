"""The documentation is true: settings are documented, links lead somewhere, files named exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nightshift.settings import PROJECT, Settings

PAGES = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def test_every_setting_and_no_other_stands_in_the_example_with_its_default() -> None:
    lines = (PROJECT / "docker" / ".env.example").read_text().splitlines()
    given = dict(line.removeprefix("#").split("=", 1) for line in lines if line.startswith("#NIGHTSHIFT_"))
    assert set(given) == {f"NIGHTSHIFT_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        expected = "var" if name == "home" else "" if field.default is None else str(field.default)
        assert given[f"NIGHTSHIFT_{name.upper()}"] == expected, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_named_in_a_page_exist(page: Path) -> None:
    inside = {"NIGHTSHIFT_SCHEDULE_FROM", "NIGHTSHIFT_X"}  # set by the stack; an example
    for name in set(re.findall(r"NIGHTSHIFT_[A-Z_]+", page.read_text())) - inside:
        assert name.removeprefix("NIGHTSHIFT_").lower() in Settings.model_fields, f"{page.name}: {name}"


def test_every_room_of_the_architecture_page_is_there() -> None:
    text = (PROJECT / "docs" / "ARCHITECTURE.md").read_text()
    for name in re.findall(r"\b([a-z_]+\.py)\b", text):
        assert list(PROJECT.glob(f"*/{name}")) or list(PROJECT.glob(f"*/*/{name}")), name


def test_every_test_and_benchmark_named_among_the_faults_is_there() -> None:
    text = (PROJECT / "docs" / "faults.md").read_text()
    named = re.findall(r"tests/[a-z_/]+\.py", text)
    commands = re.findall(r"python -m (benchmarks\.[a-z_]+)", text)
    assert len(named) > 15 and len(commands) > 2
    for path in [*named, *(command.replace(".", "/") + ".py" for command in commands)]:
        assert (PROJECT / path).exists(), path
