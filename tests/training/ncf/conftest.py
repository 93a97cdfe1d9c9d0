from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from nightshift import featurestore
from nightshift.lake import Lake
from nightshift.settings import Settings
from training.ncf.data import Window, read_window
from training.ncf.fit import Hyper, Inputs, fit
from training.ncf.model import NeuMF
from training.recipe import Night

CPU = torch.device("cpu")
SMALL = replace(Hyper(), factors=8, first=8, second=4, batch=64)
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def store(featured_home: Settings) -> Any:
    return featurestore.open_store(featured_home)


@pytest.fixture(scope="session")
def lake(featured_home: Settings) -> Lake:
    return Lake(featured_home.lake_dir)


@pytest.fixture(scope="session")
def window(lake: Lake, store: Any, tiny_night: Night) -> Window:
    return read_window(lake, store, tiny_night.train_start, tiny_night.train_end)


@pytest.fixture(scope="session")
def fitted(window: Window) -> tuple[NeuMF, Inputs]:
    return fit(window, SMALL, epochs=15, seed=1, device=CPU, after_epoch=lambda *_: True)
