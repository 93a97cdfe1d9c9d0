from __future__ import annotations

import json
import math
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.commands import emit, plain, read_step, read_steps, run_command
from nightshift.errors import ContractError, RegistryError
from nightshift.settings import Settings

NIGHT = date(2026, 9, 28)


def test_a_step_prints_one_json_line_and_keeps_it(
    stored_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    config = stored_home
    emit(config, NIGHT, "train-ncf", {"rows": np.int64(3), "loss": float("nan"), "title": "감귤"})
    printed = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert printed == {"rows": 3, "loss": None, "title": "감귤"} == read_step(config, NIGHT, "train-ncf")
    assert read_step(config, NIGHT, "gate-recommender") is None
    assert read_steps(config, NIGHT) == {"train-ncf": printed}


@pytest.mark.parametrize(("error", "status"), [(RegistryError("gone\nfar"), 1), (ContractError("row 3"), 65)])
def test_an_error_for_a_person_is_one_line_and_says_by_its_status_whether_to_retry(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as left:
        run_command(command)
    assert left.value.code == status
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_bug_keeps_its_traceback() -> None:
    def command() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        run_command(command)


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.floats(width=32).map(np.float32) | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_plain_values_always_survive_json(value: object) -> None:
    done = plain(value)
    assert json.loads(json.dumps(done, allow_nan=False)) == done or math.nan in [done]
