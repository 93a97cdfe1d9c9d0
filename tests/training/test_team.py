"""Who leads, who follows, and what is not shared."""

from __future__ import annotations

import sys

import pytest
import torch

from nightshift.errors import SettingsError, TeamError
from nightshift.settings import Settings
from training.run import main
from training.team import ALONE, follows, leading


def test_alone_nothing_is_sent_and_nothing_changes() -> None:
    tensor = torch.arange(3.0)
    ALONE.add_up([tensor])
    ALONE.share([tensor])
    assert tensor.tolist() == [0, 1, 2] and ALONE.told({"a": 1}) == {"a": 1} and ALONE.leads


@pytest.mark.parametrize(("rank", "helps"), [("0", False), ("1", True)])
def test_under_torchrun_all_but_the_first_follow(
    monkeypatch: pytest.MonkeyPatch, rank: str, helps: bool
) -> None:
    assert not follows()
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "RANK": rank, "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert follows() is helps


@pytest.mark.parametrize("family", ["qlora", "ease"])
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_family_that_cannot_be_shared_refuses_torchrun_in_words(
    monkeypatch: pytest.MonkeyPatch, rank: str, family: str
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "RANK": rank, "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["training.run", family, "--night", "2026-09-28"])
    with pytest.raises(SettingsError, match=f"{family} trains in one process: run it without torchrun"):
        main()


def test_a_helper_that_fails_before_it_comes_ends_the_training_at_once() -> None:
    config = Settings(_env_file=None, train_processes=2)  # type: ignore[call-arg]
    with (
        pytest.raises(TeamError, match="ended with status 1 before it came"),
        leading(config, "training.nothing"),
    ):
        pass
