from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nightshift.commands import read_step
from nightshift.errors import LakeError
from nightshift.lake import write_json
from nightshift.seats import RECOMMENDER
from nightshift.settings import Settings
from training.lives import compare, main
from training.next_day import KEPT, values_path

FIRST = date(2026, 9, 28)


def rows(night: date, version: int, found: dict[str, float]) -> pd.DataFrame:
    """One version's values on one night: every metric of a user is its figure in `found`."""
    values = {metric: list(found.values()) for metric in KEPT}
    return pd.DataFrame({"night": str(night), "version": version, "user_id": list(found), **values})


def life(night: date, **versions: int | None) -> dict[str, Any]:
    return {"night": str(night), **versions}


def test_hits_and_differences_are_what_one_counts_by_hand() -> None:
    second = FIRST + timedelta(days=1)
    values = pd.concat(
        [
            rows(FIRST, 1, {"ann": 1, "bob": 0, "cy": 1}),
            rows(FIRST, 2, {"ann": 1, "bob": 1, "cy": 0}),
            rows(second, 1, {"ann": 0, "dee": 1}),
            rows(second, 2, {"ann": 1, "dee": 1}),
        ]
    )
    told = compare(
        values, ["never", "gate"], [life(FIRST, gate=1, never=1), life(second, gate=2, never=1)], seed=1
    )
    assert (told["users"], told["user_days"]) == (4, 5)
    assert told["lives"]["never"]["hits"] == 3 and told["lives"]["gate"]["hits"] == 4
    assert told["lives"]["gate"]["ndcg_at_100"] == pytest.approx(4 / 5)
    assert [night["hits"] for night in told["nights"]] == [{"never": 2, "gate": 2}, {"never": 1, "gate": 2}]
    apart = told["differences"]["gate - never"]
    assert (apart["hits"], apart["share"], apart["hr_at_10"]) == (
        1,
        pytest.approx(1 / 3),
        pytest.approx(1 / 5),
    )
    assert told["leads"]["gate"]["hits"] == [0, 1]
    assert told["leads"]["gate"]["low"] == [0, 0] and told["leads"]["gate"]["high"][1] >= 1


def test_nobody_in_the_seat_finds_nothing_for_the_users_who_came() -> None:
    values = rows(FIRST, 7, {"ann": 1, "bob": 0})
    told = compare(values, ["gate", "always"], [life(FIRST, gate=None, always=7)], seed=1)
    assert told["lives"]["gate"] == {"hits": 0, **dict.fromkeys(KEPT, 0)}
    assert told["user_days"] == 2 and told["lives"]["always"]["hits"] == 1
    assert told["differences"]["always - gate"]["share"] is None  # there is nothing to be a share of


def test_equal_lives_have_no_difference_and_no_interval() -> None:
    values = rows(FIRST, 1, {f"u{n}": n % 2 for n in range(50)})
    apart = compare(values, ["one", "other"], [life(FIRST, one=1, other=1)], seed=1)["differences"][
        "other - one"
    ]
    assert apart["hits"] == 0 and tuple(apart["hits_interval"]) == (0, 0)


def test_a_customer_of_ten_days_is_one_customer() -> None:
    """The same gain by the same people every day is less sure than by new people every day."""

    def width(who: Callable[[int, int], str]) -> float:
        random = np.random.default_rng(3)
        gain = (random.random(200) < 0.2).astype(float)
        nights = [FIRST + timedelta(days=n) for n in range(10)]
        values = pd.concat(
            [
                rows(night, version, {who(at, n): gain[n] * (version == 2) for n in range(200)})
                for at, night in enumerate(nights)
                for version in (1, 2)
            ]
        )
        told = compare(values, ["one", "two"], [life(night, one=1, two=2) for night in nights], seed=1)
        low, high = told["differences"]["two - one"]["hits_interval"]
        assert low < told["differences"]["two - one"]["hits"] == 10 * gain.sum() < high
        return high - low

    same = width(lambda night, n: f"u{n}")
    new = width(lambda night, n: f"u{night}-{n}")
    assert same / new == pytest.approx(10**0.5, rel=0.1)


def test_a_version_that_served_and_was_not_judged_is_an_error() -> None:
    with pytest.raises(LakeError, match="version 9 was not judged"):
        compare(rows(FIRST, 1, {"ann": 1}), ["gate"], [life(FIRST, gate=9)], seed=1)


def test_the_command_reads_what_was_judged_and_keeps_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    monkeypatch.setattr("training.lives.settings", lambda: config)
    write_json(
        tmp_path / "lives.json", {"names": ["never", "gate"], "nights": [life(FIRST, never=1, gate=1)]}
    )
    with pytest.raises(LakeError, match=f"night {FIRST}: .* is not there"):
        main(["recommender", "--lives", str(tmp_path / "lives.json")])
    path = values_path(config, FIRST, RECOMMENDER)
    path.parent.mkdir(parents=True)
    rows(FIRST, 1, {"ann": 1, "bob": 1}).to_parquet(path, index=False)
    main(["recommender", "--lives", str(tmp_path / "lives.json")])
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["lives"]["gate"]["hits"] == 2
    assert list(printed["differences"]) == [
        "gate - never"
    ]  # by the order of the names, however the file is sorted
    assert read_step(config, FIRST, "lives-recommender") == printed
