"""A tiny base that was opened, and conversations in its tokens."""

from __future__ import annotations

from datetime import timedelta

import pytest

from nightshift.lake import Lake
from nightshift.language.bases import Base, BaseRef, open_base
from nightshift.language.chat import Encoded, Message, encode
from nightshift.settings import Settings
from nightshift.sources.market import talk
from training.exams import examiner
from training.recipe import Night


@pytest.fixture(scope="session")
def corpus() -> list[list[Message]]:
    return [list(messages) for messages in talk.corpus(60, seed=5)]


@pytest.fixture(scope="module")
def base(talks_home: Settings) -> Base:
    """Opened in 4-bit, and nobody's but this module's."""
    return open_base(talks_home, BaseRef(talks_home.language_model))


@pytest.fixture(scope="module")
def encoded(base: Base, corpus: list[list[Message]]) -> list[Encoded]:
    return [encode(base.tokenizer, messages, 128) for messages in corpus]


@pytest.fixture(scope="session")
def talks_night(talks_home: Settings) -> Night:
    lake = Lake(talks_home.lake_dir)
    night: Night = examiner("language").night(lake, lake.days()[-1], talks_home)
    assert night.train_end - night.train_start >= timedelta(days=1)
    return night
