from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from nightshift.errors import BaseModelError, SettingsError
from nightshift.language.bases import Base, BaseRef
from nightshift.language.chat import Encoded
from nightshift.settings import Settings
from training.qlora import memory, recipe
from training.qlora.data import Lessons
from training.qlora.recipe import ASKED, RECIPE
from training.qlora.tuning import Tuned
from training.recipe import Night, Trained


def train(
    settings: Settings, night: Night, folder: Path, log: recipe.LogEpoch = lambda epoch, told: None
) -> Trained:
    return RECIPE.train(night, settings, folder, smoke=True, seed=1, log_epoch=log)


@pytest.fixture(scope="module")
def made(talks_home: Settings, talks_night: Night, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(talks_home, talks_night, tmp_path_factory.mktemp("made"))


def test_it_hands_over_what_the_page_shows(made: Trained, talks_home: Settings) -> None:
    figures = {"nll", "perplexity", "bits_per_byte"}
    assert set(made.metrics) == figures | {f"base_{name}" for name in figures}
    assert made.metrics["perplexity"] == pytest.approx(np.exp(made.metrics["nll"]))
    assert {"tokens_per_s", "peak_memory_gb", "trained_tokens"} <= set(made.measures)
    assert "estimated_memory_gb" not in made.measures  # nothing was to be fitted into
    assert made.params["base_model"] == talks_home.language_model and made.params["rank"] == 4
    assert made.params["train_conversations"] > 0 and made.features == []
    answers = made.tables["answers"]
    assert list(answers.columns) == ["mode", "prompt", "base", "adapter"] and len(answers) == len(ASKED)
    assert {path.name for path in made.folders["adapter"].iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_no_text_of_a_user_is_on_the_page(made: Trained) -> None:
    for frame in (made.reference, made.data):
        assert not {"messages_text", "content", "user_id"} & set(frame.columns)
        assert frame.map(lambda value: isinstance(value, list | dict)).to_numpy().sum() == 0


def test_a_run_that_was_killed_goes_on_when_the_night_is_trained_again(
    made: Trained, talks_home: Settings, talks_night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "SMALL", replace(recipe.SMALL, keep_steps=1))
    fresh = talks_home.model_copy(update={"home": tmp_path})
    (tmp_path / "lake").symlink_to(talks_home.lake_dir)

    def killer(step: int, told: dict[str, float]) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fresh, talks_night, tmp_path / "work", killer)
    (folder,) = (tmp_path / "checkpoints").iterdir()
    again = train(fresh, talks_night, tmp_path / "work")

    assert again.params["resumed_from"] == 1 and again.scratch == (folder,)
    assert again.metrics == made.metrics
    theirs, ours = (one.package.artifacts["adapter"].read_bytes() for one in (made, again))
    assert theirs == ours


def test_what_cannot_fit_the_card_is_refused_before_anything_is_loaded(
    talks_home: Settings, talks_night: Night, tmp_path: Path
) -> None:
    tight = talks_home.model_copy(update={"language_vram_gb": 0.1})
    with pytest.raises(SettingsError, match=r"needs \d"):
        train(tight, talks_night, tmp_path)


def test_the_estimate_stands_beside_the_peak_where_there_is_a_limit(
    talks_home: Settings, talks_night: Night, tmp_path: Path
) -> None:
    measures = train(talks_home.model_copy(update={"language_vram_gb": 4.0}), talks_night, tmp_path).measures
    assert 0 < measures["estimated_memory_gb"] < 4 and measures["peak_memory_gb"] > 0


def test_the_estimate_is_of_the_rows_that_were_trained(
    talks_home: Settings, talks_night: Night, tmp_path: Path
) -> None:
    roomy = talks_home.model_copy(update={"language_vram_gb": 4.0, "language_tokens": 512})
    made = train(roomy, talks_night, tmp_path)
    shape = memory.shape_of(roomy, BaseRef(roomy.language_model))
    rows = (int(made.params[name]) for name in ("tokens", "rank", "at_once"))
    assert made.params["tokens"] == recipe.SMOKE_TOKENS
    assert made.measures["estimated_memory_gb"] == memory.budget(shape, *rows).tensors_gib
    assert "peak_over_estimate" not in made.measures  # the peak of a process is no card's


@pytest.mark.parametrize(("share", "said"), [(1.05, ""), (1.2, "off by +20%"), (0.8, "off by -20%")])
def test_a_budget_that_is_off_on_a_card_is_said(
    share: float, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    estimate = memory.budget(memory.SHAPES["llama-3-8b"], 512, 16)
    tuned = Tuned({}, {}, [], 3.0, 2.0, 1, 512, 1.0, 512.0, share * estimate.tensors_gib, 0)
    found = recipe._measures(tuned, estimate, on_card=True)
    assert found["peak_over_estimate"] == pytest.approx(share)
    told = capsys.readouterr().err
    assert said in told and bool(told) == bool(said)


def test_a_card_that_runs_out_all_the_same_is_told_with_figures_and_the_setting(
    talks_home: Settings, talks_night: Night, tmp_path: Path
) -> None:
    fresh = talks_home.model_copy(update={"home": tmp_path, "language_vram_gb": 4.0})
    (tmp_path / "lake").symlink_to(talks_home.lake_dir)

    def full(step: int, told: dict[str, float]) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(
        SettingsError,
        match=r"ran out: \d+ x \d+ tokens.*GiB of 4.00; set NIGHTSHIFT_LANGUAGE_TOKENS.*2.00 GiB",
    ):
        train(fresh, talks_night, tmp_path / "work", full)


def test_a_small_base_reads_its_conversations_twice_and_a_large_one_once(
    base: Base, talks_home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps() -> int:
        how, budget, times = recipe._how(base, talks_home, None, smoke=False, seed=0)
        row = Encoded([1] * budget, [1] * budget)
        found = Lessons([row], [row], [], pd.DataFrame(), {})
        return round(recipe._paced(how, found, times, 1).steps * how.rows * how.tokens / budget)

    assert steps() == 2
    monkeypatch.setattr(recipe, "FEW_PARAMETERS", 1)
    assert steps() == 1


def test_a_checkpoint_of_another_device_is_not_taken_up(
    base: Base, talks_home: Settings, talks_night: Night
) -> None:
    how = recipe.SMALL
    here = recipe._checkpoints(talks_home, base, how, talks_night)
    there = recipe._checkpoints(talks_home, replace(base, device=torch.device("cuda")), how, talks_night)
    assert here != there
    for folder in (here, there):
        folder.rmdir()


def test_a_base_that_is_not_there_is_named(talks_home: Settings, talks_night: Night, tmp_path: Path) -> None:
    lost = talks_home.model_copy(update={"language_model": str(tmp_path / "no-model")})
    with pytest.raises(BaseModelError, match="NIGHTSHIFT_LANGUAGE_MODEL"):
        train(lost, talks_night, tmp_path)
