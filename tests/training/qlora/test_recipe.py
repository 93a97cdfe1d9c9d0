from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nightshift.errors import BaseModelError, SettingsError
from nightshift.settings import Settings
from training.qlora import recipe
from training.qlora.recipe import ASKED, RECIPE
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


def test_a_base_that_is_not_there_is_named(talks_home: Settings, talks_night: Night, tmp_path: Path) -> None:
    lost = talks_home.model_copy(update={"language_model": str(tmp_path / "no-model")})
    with pytest.raises(BaseModelError, match="NIGHTSHIFT_LANGUAGE_MODEL"):
        train(lost, talks_night, tmp_path)
