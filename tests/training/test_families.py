from __future__ import annotations

import json
import subprocess
import sys

import pytest

from nightshift.errors import SettingsError
from nightshift.seats import SEATS
from training.families import FAMILIES, of_a_night


def test_every_family_is_named_by_its_own_name_and_competes_for_a_seat() -> None:
    for name, family in FAMILIES.items():
        assert family.name == name
        assert family.seat in SEATS


def test_every_family_has_a_recipe_that_trains() -> None:
    for family in FAMILIES.values():
        assert callable(family.load().train)


def test_other_rooms_ask_by_command_and_it_costs_no_heavy_import() -> None:
    probe = (
        "import runpy, sys; runpy.run_module('training.families', run_name='__main__');"
        "print([m for m in ('torch', 'mlflow', 'feast', 'pandas') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout.splitlines()[-1]) == {n: f.seat for n, f in FAMILIES.items()}
    assert done.stderr.strip() == "[]"


def test_a_setting_chooses_those_of_a_night_in_their_own_order_and_all_by_default() -> None:
    assert list(of_a_night("ridge, ncf,")) == ["ncf", "ridge"]
    assert of_a_night("") == FAMILIES


def test_an_unknown_one_is_named_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"NIGHTSHIFT_FAMILIES: no family nfc; there are ncf, "):
        of_a_night("ncf,nfc")
