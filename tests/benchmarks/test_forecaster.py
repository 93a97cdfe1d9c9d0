"""The benchmark as a command: what it prints, and what it says of data that is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import contest, forecaster

KEYS = {
    "skill_gru", "skill_transformer", "skill_ridge", "skill_lgbm", "skill_mean", "mse_ratio_ridge", "upper_vs_last",
    "coverage80", "coverage95", "skill_seasonal", "skill_autoets", "spread_gru", "mae_skill_gru", "seeds", "series",
}  # fmt: skip


@pytest.fixture(scope="module")
def weekly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Series that swing: what they do next follows from what they did, and a line of noise."""
    folder, random = tmp_path_factory.mktemp("m4"), np.random.default_rng(0)
    values = np.exp(
        np.sin(np.arange(213) / 6 + 6 * random.random((12, 1))) + 0.05 * random.normal(size=(12, 213))
    )
    for name, part in (("train", values[:, :200]), ("test", values[:, 200:])):
        lines = [
            ",".join([f'"W{number}"', *(f'"{value:.6f}"' for value in row)])
            for number, row in enumerate(part)
        ]
        header = ",".join(f'"V{column}"' for column in range(part.shape[1] + 1))
        (folder / f"Weekly-{name}.csv").write_text("\n".join([header, *lines]))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    whole = forecaster._market
    monkeypatch.setattr(forecaster, "_market", lambda topics=None: whole(12))
    monkeypatch.setattr("sys.argv", ["benchmarks.forecaster", "--quick", *arguments])
    forecaster.main()


def test_a_run_ends_in_one_line_of_json_with_the_figures_of_each_set(
    weekly: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--data", str(weekly), "--figures", str(tmp_path))
    printed = capsys.readouterr()
    found = json.loads(printed.out.splitlines()[-1])
    assert set(found) == {"m4", "market"}
    assert set(found["m4"]) >= KEYS
    assert found["m4"]["series"] == 12
    assert found["m4"]["skill_gru"] > 0.5  # it swings on
    assert found["m4"]["skill_ridge"] > 0.5
    assert "ili is left out" in printed.err
    assert {path.name for path in tmp_path.iterdir()} == {"forecaster-skill.png", "forecaster-examples.png"}


def test_without_m4_the_market_is_still_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--data", str(tmp_path))
    printed = capsys.readouterr()
    assert list(json.loads(printed.out.splitlines()[-1])) == ["market"]
    assert f"m4 is left out: {tmp_path / 'Weekly-train.csv'} is not there" in printed.err


def test_the_market_is_the_same_whatever_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_MARKET_SEED", "99")
    monkeypatch.setenv("NIGHTSHIFT_MARKET_TOPICS", "11")
    assert (forecaster._market().market_seed, forecaster._market().market_topics) == (7, 120)


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({}, 0),
        ({"mse_ratio_ridge": 1.11}, 1),
        ({"mse_ratio_ridge_mean": 1.03}, 1),
        ({"coverage80": 0.76}, 1),
        ({"coverage95": 0.981}, 1),
        ({"upper_vs_last": 1.0}, 1),
    ],
)
def test_a_bar_that_is_missed_is_said_to_fail(changed: dict[str, Any], failing: int) -> None:
    good = {
        "mse_ratio_ridge": 1.09, "mse_ratio_ridge_mean": 1.01, "coverage80": 0.78, "coverage95": 0.97,
        "upper_vs_last": 0.9,
    }  # fmt: skip
    held = contest.bars("market", {**good, **changed})
    assert list(held.values()).count(False) == failing
