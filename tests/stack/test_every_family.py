"""A night as it is after installing, with nothing chosen: every family of every seat on the real stack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nightshift.seats import SEATS
from nightshift.stack import Stack
from tests.stack.conftest import make_run_once, market
from training.families import FAMILIES


@pytest.mark.stack
@pytest.mark.long  # nine minutes on two cores; each family trains in test_conformance.py, and a night of four here
def test_a_night_with_nothing_chosen_trains_every_family_and_fills_every_seat(tmp_path: Path) -> None:
    config = market(tmp_path / "var")
    try:
        done = make_run_once(config, families=())
    finally:
        Stack(config).down(lambda _: None)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = json.loads((config.home / "last_night.json").read_text())
    decided = {seat: gate["decision"] for seat, gate in told["gates"].items()}
    assert decided == dict.fromkeys(SEATS, "promote")
    for seat, gate in told["gates"].items():
        assert set(gate["verdicts"]) == {f.name for f in FAMILIES.values() if f.seat == seat}
