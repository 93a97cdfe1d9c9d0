from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nightshift.settings import Settings
from tests.training.baselines.test_neighbours import window
from training.factors import dae, ials
from training.factors.recipe import DAE, IALS, FactorsRecipe, Hyper, explained, fit, served
from training.recipe import Night, Setup
from training.spaces import Between, OneOf

MET = {(user, item) for user in range(6) for item in range(7) if (user + item) % 3}
SMALL = [replace(dae.Hyper(), factors=4, epochs=3), replace(ials.Hyper(), factors=4, epochs=2)]


@pytest.mark.parametrize("recipe", [DAE, IALS])
def test_a_study_may_try_the_settings_of_now_and_only_settings_that_there_are(recipe: FactorsRecipe) -> None:
    for name, values in recipe.space.items():
        now = getattr(recipe.defaults, name)
        assert isinstance(values, OneOf | Between)
        assert now in values.values if isinstance(values, OneOf) else values.low <= now <= values.high


@pytest.mark.parametrize("recipe", [DAE, IALS])
def test_a_rehearsal_is_worth_what_the_validation_days_said_last(
    recipe: FactorsRecipe, featured_home: Settings, tiny_night: Night
) -> None:
    told: list[tuple[int, float]] = []
    rehearse = recipe.rehearsal(tiny_night, featured_home)
    value = rehearse(
        Setup({"epochs": 2, "factors": 4}),
        0,
        lambda epoch, metrics: told.append((epoch, metrics["val_ndcg_at_100"])),
    )
    assert told[-1] == (2, value) and 0 < value < 1


def test_the_autoencoders_parts_and_base_sum_to_the_items_lead_exactly() -> None:
    given, hyper = window(MET), SMALL[0]
    arrays = fit(given, hyper, seed=0)
    found = explained(given, hyper, arrays, np.random.default_rng(1))
    scores = served(given, hyper, arrays).score(_everybody(given.users))
    leads = scores - scores.mean(axis=1, keepdims=True)
    total = found.base_values + found.values.sum(axis=1)
    assert np.abs(total[:, None] - leads.ravel()[None, :]).min(axis=1).max() < 1e-5


@pytest.mark.parametrize("hyper", SMALL, ids=["dae", "ials"])
def test_the_same_seed_gives_the_same_scores_and_another_seed_others(hyper: Hyper) -> None:
    given = window(MET)
    first, again, other = (
        served(given, hyper, fit(given, hyper, seed)).score(_everybody(given.users)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def _everybody(users: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"user_id": users})
