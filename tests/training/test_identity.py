"""The same model under another number: no further try, and as withdrawn as it was."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nightshift.registry import Version
from training.identity import MADE_OF, made_of, tries, withdrawn

TAGS = {name: name for name in MADE_OF} | {"dirty": "false"}
ONE = Version("recommender", 1, "run", datetime(2026, 9, 28, tzinfo=UTC), TAGS)
SAME = replace(ONE, number=2)


@pytest.mark.parametrize("name", MADE_OF)
def test_another_family_content_window_code_or_seed_makes_another_model(name: str) -> None:
    other = replace(SAME, tags={**TAGS, name: "other"})
    assert tries([ONE, SAME]) == 1 and tries([ONE, other]) == 2
    taken_out = replace(ONE, tags={**TAGS, "rolled_back": "mina: no"})
    assert withdrawn(SAME, [taken_out]) and not withdrawn(other, [taken_out])


def test_what_is_not_on_record_is_no_ground_to_call_two_models_the_same() -> None:
    bare = replace(SAME, tags={"rejected": "mina: no"})
    assert made_of(bare) is None and not withdrawn(ONE, [bare])
    assert withdrawn(bare, []) == "mina: no"


def test_a_dirty_tree_is_a_try_of_its_own_and_does_not_bring_back_what_was_taken_out() -> None:
    dirty = {**TAGS, "dirty": "true"}
    assert tries([replace(ONE, tags=dirty), replace(SAME, tags=dirty)]) == 2
    assert "as version 1" in withdrawn(SAME, [replace(ONE, tags={**dirty, "rejected": "mina: no"})])
