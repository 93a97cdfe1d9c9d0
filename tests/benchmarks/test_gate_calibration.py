"""The gate's calibration: pools with an exact truth, rules that do what they say, figures with their intervals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import gate_calibration
from benchmarks.calibration import figures, market, ratchet, report, rules, scenarios, topics
from benchmarks.calibration.pools import PRIMARY, Pool, broken, levelled, pairs
from benchmarks.calibration.scenarios import Scenario
from benchmarks.calibration.shares import average, share
from benchmarks.calibration.topics import Contest
from nightshift.commands import plain
from training.policy import Policy, policy_of

KEYS = {"false_promotion_equal", "false_promotion_worse", "found_plus5", "slice_caught", "ratchet_loss"}
SIZE = gate_calibration.Size(nights=4, curve=2, chains=2, topics=4, exams=1, weeks=1)


@pytest.fixture(scope="module")
def pool() -> Pool:
    """A small market: one exam of some 400 users."""
    return market.market_pool(0, exams=1, users=500, items=800)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return policy_of("recommender")


@pytest.mark.parametrize("level", [-0.05, -0.01, 0.0, 0.02, 0.05])
def test_a_candidate_is_better_by_exactly_what_is_said(pool: Pool, level: float) -> None:
    for seed in pool.seeds:
        assert levelled(pool, level, seed=seed).truth() == pytest.approx(
            (1 + level) * pool.level(), rel=1e-12
        )


def test_nights_scatter_about_the_truth(pool: Pool) -> None:
    random, model = np.random.default_rng(0), levelled(pool, 0.05, seed="seed 1")
    rows = random.integers(0, pool.units, 200_000)
    found = model.sit("candidate", "exam", rows, random)
    for metric in (PRIMARY, "auc", "novelty_at_10"):
        assert found.figure(metric) == pytest.approx(model.truth(metric), rel=0.01)


def test_a_broken_slice_is_bad_and_the_mean_is_better(pool: Pool) -> None:
    group = "country: JP"
    usual = float(np.mean([levelled(pool, 0.0, seed=seed).truth(group=group) for seed in pool.seeds]))
    for loss, left in ((0.4, 0.6), (1.0, 0.25)):
        model = broken(pool, 0.05, seed="seed 0", group=group, loss=loss)
        assert model.truth() == pytest.approx(1.05 * pool.level(), rel=1e-12)
        assert model.truth(group=group) <= (left + 0.05) * usual


def test_what_a_pool_cannot_give_is_refused(pool: Pool) -> None:
    with pytest.raises(ValueError, match="cannot give"):
        levelled(pool, 3.0, seed="seed 0")
    with pytest.raises(ValueError, match="cannot give"):
        broken(pool, 0.05, seed="seed 0", group="country: KR", loss=1.0)


def test_a_night_asks_everyone_the_same_users_and_is_the_same_again(pool: Pool, policy: Policy) -> None:
    first, again = (
        scenarios.play(pool, policy, Scenario("step", 0.02), 3, seed=5),
        scenarios.play(pool, policy, Scenario("step", 0.02), 3, seed=5),
    )
    assert first == again
    assert first != scenarios.play(pool, policy, Scenario("step", 0.02), 3, seed=6)


def test_each_rule_does_what_it_says(pool: Pool, policy: Policy) -> None:
    worse = scenarios.play(pool, policy, Scenario("step", -0.05), 12, seed=0)
    assert all(night.promoted["always"] for night in worse)
    assert not any(night.promoted["ours"] for night in worse)
    assert sum(night.promoted["tolerance"] for night in worse) <= 4
    equal = scenarios.play(pool, policy, Scenario("step", 0.0), 30, seed=0)
    assert 5 <= sum(night.promoted["higher_wins"] for night in equal) <= 25
    assert sum(night.promoted["tolerance"] for night in equal) >= sum(
        night.promoted["higher_wins"] for night in equal
    )


def test_a_much_better_candidate_is_found_by_the_whole_policy(pool: Pool, policy: Policy) -> None:
    """All of the evidence that the policy asks for is there: else nothing could be found."""
    nights = scenarios.play(replace(pool, exam_units=2_500), policy, Scenario("step", 0.05), 8, seed=0)
    assert sum(night.promoted["ours"] for night in nights) >= 4


def test_a_wrecked_category_is_caught_by_its_own_slice(pool: Pool, policy: Policy) -> None:
    group = next(iter(pool.wrecks))
    large = replace(pool, exam_units=2_500)
    nights = scenarios.play(large, policy, Scenario("broken", 0.05, group, 1.0), 6, seed=0)
    assert not any(night.promoted["ours"] for night in nights)
    assert all(f"slice {group}" in night.blocked for night in nights)
    assert any(night.promoted["higher_wins"] for night in nights)


def test_whoever_always_promotes_loses_half_a_percent_every_night(pool: Pool, policy: Policy) -> None:
    lost = ratchet.chain(pool, policy, ratchet.PROMOTES["always"], np.random.default_rng(0))
    np.testing.assert_allclose(lost, 1 - 0.995 ** np.arange(1, 21))
    never = ratchet.chain(pool, policy, lambda evidence, policy: False, np.random.default_rng(0))
    assert not never.any()


def test_equal_models_disagree_user_by_user(pool: Pool) -> None:
    """As real ones do; a pool without this would make any gate look sharp."""
    found = pairs(pool, [PRIMARY])[PRIMARY]
    assert 0.6 < found["correlation"] < 0.95
    assert found["relative_sd"] > 0.3


def test_the_figures_have_their_keys_and_hold_their_estimates(pool: Pool) -> None:
    part = gate_calibration.play(pool, 0, SIZE)
    found = gate_calibration.measured([part, part])
    line = json.loads(json.dumps(plain(gate_calibration.headline(found))))
    assert set(line) >= KEYS
    for key in KEYS:
        assert set(line[key]) == {"ours", "always", "higher_wins", "tolerance"}
        for figure in line[key].values():
            assert figure["low"] <= figure["estimate"] <= figure["high"]
    assert line["false_promotion_equal"]["always"]["estimate"] == 1
    assert line["slice_caught"]["always"]["estimate"] == 0
    assert found["bars"]
    assert line["slice_caught_own"]["ours"]["estimate"] <= line["slice_caught"]["ours"]["estimate"]
    outright = [row["caught"]["estimate"] for row in found["by_slice"] if row["loss"] == 1]
    assert line["slice_worst"]["caught"]["estimate"] == min(outright)
    assert line["rivals"] == 6 and "given these 2 pools" in line["intervals"]
    assert all(len(estimates) == 2 for estimates in line["by_pool"].values())


def test_the_plot_and_the_tables_are_made_of_what_there_is(
    pool: Pool, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {
        "market": gate_calibration.measured([gate_calibration.play(pool, 0, SIZE)]),
        "online_retail": {"left_out": "no files"},
    }
    figures.plot(found, tmp_path / "docs" / "gate.png")
    assert (tmp_path / "docs" / "gate.png").stat().st_size > 20_000
    report.show(found, gate_calibration.forecaster_figures([topics.promotions(1)]))
    printed = " ".join(capsys.readouterr().out.split())
    assert "online_retail is left out: no files" in printed
    assert "always promote" in printed
    assert "judged as one of 6 candidates" in printed and "given these 1 pools" in printed
    assert "Worst slice: " in printed and "too many for the rest to make up for: country: KR" in printed


def test_a_share_has_wilsons_interval() -> None:
    assert share([True] * 5 + [False] * 95)["low"] == pytest.approx(0.0215, abs=5e-4)
    assert share([True] * 5 + [False] * 95)["high"] == pytest.approx(0.1118, abs=5e-4)
    assert share([False] * 200)["low"] == 0
    assert share([False] * 200)["high"] == pytest.approx(0.0188, abs=5e-4)


def test_a_mean_has_an_interval_about_it() -> None:
    found = average([0.0, 1.0] * 50)
    assert found["low"] < 0.45 < 0.5 == found["estimate"] < 0.55 < found["high"]
    assert average([0.2] * 5)["low"] == pytest.approx(0.2) == average([0.2] * 5)["high"]


def test_a_candidate_is_judged_as_one_of_the_seats_families(pool: Pool, policy: Policy) -> None:
    cast = tuple(levelled(pool, 0.0, seed=seed) for seed in pool.seeds[:3])
    night = scenarios.evidence_of(pool, policy, "exam", np.arange(100), cast, np.random.default_rng(0))  # type: ignore[arg-type]
    assert night.rivals == rules.rivals_of("recommender") == 6
    assert rules.rivals_of("forecaster") == 4


def test_a_slice_is_broken_from_the_policys_size_on_and_the_rest_are_named(
    pool: Pool, policy: Policy
) -> None:
    assert policy.slices is not None
    new = float(pool.groups["users: new"].mean() * pool.exam_units)
    for least, played in ((int(new), True), (int(new) + 1, False)):
        asked = policy.model_copy(
            update={"slices": policy.slices.model_copy(update={"min_units": max(least, 1)})}
        )
        assert ("users: new" in scenarios.breakable_groups(pool, asked)) is played
        assert ("users: new" in scenarios.left_out(pool, asked)) is not played
    missing = scenarios.left_out(pool, policy)
    assert "too many" in missing["country: KR"] and "too many" in missing["users: returning"]
    broken_here = {one.group for one in scenarios.broken_outright(pool, policy)}
    assert broken_here | set(missing) == {
        c.removeprefix("slice ") for c in pool.columns if c.startswith("slice ")
    }
    assert not broken_here & set(missing)


def test_a_slice_left_out_of_some_pools_says_so() -> None:
    found = report.left_out([{"a": "too few", "b": "of items"}, {"b": "of items"}])
    assert found == {"a": "too few (in 1 of 2 pools)", "b": "of items"}


def test_what_topics_share_makes_an_equal_forecaster_look_better_more_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    apart, alike, surer = (
        Contest(120, 0.0, 0.0, 0.95),
        Contest(120, 0.5, 0.0, 0.95),
        Contest(120, 0.5, 0.0, 0.999),
    )
    monkeypatch.setattr(topics, "contests", lambda policy: [apart, alike, surer])
    found = topics.promotions(60)
    assert np.mean(found[alike]) > np.mean(found[apart])
    assert np.mean(found[alike]) > np.mean(found[surer])


@pytest.mark.parametrize("gain", [0.0, 0.05, 0.10])
def test_a_better_forecasters_error_is_lower_by_its_gain(gain: float) -> None:
    random, policy = np.random.default_rng(0), policy_of("forecaster")
    nights = [topics._evidence(policy, Contest(120, 0.0, gain, 0.95), "exam", random) for _ in range(150)]
    candidate, champion = (
        np.mean([model.figure("mse") for model in models if model is not None])
        for models in ([night.candidate for night in nights], [night.champion for night in nights])
    )
    assert 1 - candidate / champion == pytest.approx(gain, abs=0.01)
