"""Tiny worlds with their features built, one a seat, and what each family makes of them, trained once a session."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from nightshift.cleaning import clean
from nightshift.contracts.conversations import CONVERSATIONS
from nightshift.lake import Lake
from nightshift.language.bases import small_folder
from nightshift.seats import FORECASTER, LANGUAGE, RECOMMENDER
from nightshift.settings import Settings
from nightshift.sources import DayBatch
from nightshift.sources.market.indicators import Indicators
from nightshift.sources.market.talk import Talk
from tests.conftest import TINY_DAYS, TINY_START, publish_day
from training.exams import examiner
from training.exams.recommender import EXAMINER
from training.families import FAMILIES
from training.qlora.small import Making, make
from training.recipe import Night, Trained

# A base that is made in seconds: it has the shape of one, and says nothing of sense.
TINY_BASE = Making(
    conversations=120,
    vocabulary=768,
    hidden=32,
    inner=64,
    layers=2,
    heads=2,
    kv_heads=1,
    tokens=64,
    batch=4,
    steps=30,
)
TALK_DAYS = 6
TINY_NIGHT = TINY_START + timedelta(days=TINY_DAYS - 1)
TINY_TOPICS = 12


@pytest.fixture(scope="session")
def featured_home(tiny_home: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose home holds the tiny lake and its features. Read it; copy it to write."""
    home = tmp_path_factory.mktemp("featured_home")
    shutil.copytree(tiny_home.lake_dir, home / "lake")
    build_features(home)
    return tiny_home.model_copy(update={"home": home})


@pytest.fixture(scope="session")
def topics_home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose home holds five years of twelve topics of the market, told on one day, and their features."""
    home = tmp_path_factory.mktemp("topics_home")
    settings = Settings(_env_file=None, home=home, market_topics=TINY_TOPICS)  # type: ignore[call-arg]
    told = Indicators(settings).told(settings.market_start)
    publish_day(Lake(settings.lake_dir), DayBatch(settings.market_start, {"indicators": told}))
    build_features(home, settings.market_start)
    return settings


@pytest.fixture(scope="session")
def talks_home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose home holds six days of the market's conversations, cleaned, and whose base is a tiny one."""
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        home=tmp_path_factory.mktemp("talks_home"),
        market_users=60,
        market_items=40,
        market_conversations=70,
        language_device="cpu",
        language_rank=4,
    )
    base = make(settings, how=TINY_BASE)
    talk, lake = Talk(settings), Lake(settings.lake_dir)
    for day in (settings.market_start + timedelta(days=n) for n in range(TALK_DAYS)):
        rows, counts = clean(talk.told(day).to_pylist())
        publish_day(lake, DayBatch(day, {"conversations": CONVERSATIONS.table(rows)}, counts))
    return settings.model_copy(update={"language_model": str(small_folder(settings, base.revision))})


def build_features(home: Path, night: date = TINY_NIGHT) -> None:
    """By command, as a night does: this room does not import the feature repository."""
    done = subprocess.run(
        [sys.executable, "-m", "feature_repo.build", "--night", str(night)],
        env={**os.environ, "NIGHTSHIFT_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="session")
def tiny_night(featured_home: Settings) -> Night:
    return EXAMINER.night(Lake(featured_home.lake_dir), TINY_NIGHT, featured_home)


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """What each family's recipe gives on the tiny world of its seat, by the night that its examiner says."""
    family = FAMILIES[request.param]
    home = {
        RECOMMENDER.name: "featured_home",
        FORECASTER.name: "topics_home",
        LANGUAGE.name: "talks_home",
    }[family.seat]
    config: Settings = request.getfixturevalue(home)
    lake = Lake(config.lake_dir)
    night = examiner(family.seat).night(lake, lake.days()[-1], config, smoke=True)
    folder = tmp_path_factory.mktemp(f"trained_{family.name}")
    return family.load().train(
        night, config, folder, smoke=True, seed=3, log_epoch=lambda epoch, metrics: None
    )
