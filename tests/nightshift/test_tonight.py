"""What `make run` shows of a night while it goes on."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from nightshift.tonight import MARKS, _board, _print_changes


def task(state: str) -> dict[str, Any]:
    """A task as Airflow's API tells it."""
    return {
        "task_id": "train_recommender",
        "map_index": -1,
        "state": state,
        "try_number": 1,
        "duration": 2.0,
        "start_date": None,
    }


@pytest.mark.parametrize("state", [*MARKS, "restarting", "deferred"])
def test_every_state_of_a_task_is_shown_those_without_a_mark_of_ours_too(state: str) -> None:
    said = io.StringIO()
    console = Console(file=said, width=100)
    _print_changes([task(state)], {}, console)
    assert f"train_recommender {state} 2.0 s" in said.getvalue()
    console.print(_board([task(state)]))
