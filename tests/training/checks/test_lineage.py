"""A candidate's lineage: what is not audited, shared, changed or unknown keeps it out; a dirty tree is flagged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.training.cases import CLEARLY_BETTER, SOUND, policy
from training.gate import Verdict, decide


def judged(rule: str = "flag", **changes: Any) -> Verdict:
    asked = policy(lineage={"dirty": rule})
    return decide(replace(CLEARLY_BETTER, lineage=replace(SOUND, **changes)), asked)


def test_a_sound_lineage_passes_without_a_flag() -> None:
    assert judged().decision == "promote" and not judged().flags()


@pytest.mark.parametrize(
    ("change", "check", "decision"),
    [
        ({"unaudited": ("2026-09-20",)}, "data audited", "keep"),
        ({"shared": ("2026-09-27",)}, "exam content unseen", "keep"),
        ({"changed": ("predictor.py",)}, "as it was recorded", "keep"),
        ({"absent": ("tag data_digest",)}, "lineage is complete", "not blessed"),
        ({"commit": ""}, "code known", "not blessed"),
        ({"problem": "the run is deleted"}, "lineage", "not blessed"),
    ],
)
def test_every_gap_keeps_it_out_and_is_named(change: dict[str, Any], check: str, decision: str) -> None:
    verdict = judged(**change)
    assert verdict.decision == decision
    assert [failing.name for failing in verdict.failing()] == [check]
    (named,) = change.values()
    assert (named[0] if isinstance(named, tuple) else named) in verdict.reason


def test_a_long_list_is_cut_in_the_sentence_and_whole_in_the_figures() -> None:
    days = tuple(f"2026-09-{day:02d}" for day in range(1, 11))
    (check,) = judged(unaudited=days).failing()
    assert check.sentence.endswith("2026-09-03 and 7 more.") and check.figures["found"] == list(days)


@pytest.mark.parametrize(("rule", "decision"), [("pass", "promote"), ("flag", "promote"), ("fail", "keep")])
def test_a_dirty_tree_is_what_the_policy_makes_of_it(rule: str, decision: str) -> None:
    verdict = judged(rule, dirty=True)
    assert verdict.decision == decision
    assert [check.name for check in verdict.flags()] == (["code known"] if rule == "flag" else [])
