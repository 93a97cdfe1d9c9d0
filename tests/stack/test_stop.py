"""The last of the stack's tests: it is stopped, after all the others have used it."""

from __future__ import annotations

import psutil
import pytest

from nightshift.airflow_api import Airflow
from nightshift.settings import Settings
from nightshift.stack import Stack

pytestmark = pytest.mark.stack


def test_stopping_leaves_no_process_behind(small: Settings, stack: Airflow) -> None:
    family = [
        p for leader in Stack(small).running().values() for p in [leader, *leader.children(recursive=True)]
    ]
    Stack(small).down(lambda _: None)
    assert [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
