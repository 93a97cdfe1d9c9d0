"""A language model of a few thousand parameters, opened as any base is."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightshift.language.bases import BaseRef, open_base
from nightshift.language.engine import Engine
from nightshift.settings import Settings
from training.qlora.small import Making, build

TALK = [
    [
        {"role": "user", "content": f"{word} 일이 힘들어요."},
        {"role": "assistant", "content": f"{word} 무엇이 가장 힘든가요?"},
    ]
    for word in ("요즘", "오늘", "사실", "솔직히", "Lately,")
]
TINY = Making(
    vocabulary=400, hidden=32, inner=64, layers=3, heads=4, kv_heads=2, tokens=16, batch=4, steps=200
)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    build(TINY, TALK, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_settings(tiny_folder: Path) -> Settings:
    return Settings(home=tiny_folder.parent, language_model=str(tiny_folder), language_device="cpu")


@pytest.fixture
def engine(tiny_settings: Settings) -> Engine:
    return Engine(open_base(tiny_settings, BaseRef(tiny_settings.language_model)))
