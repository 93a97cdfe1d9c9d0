"""The policies: one readable file per seat; a wrong one is refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightshift.errors import SettingsError
from nightshift.seats import SEATS, Seat
from nightshift.settings import Settings
from training.exams import EXAMINERS, examiner
from training.metrics import METRICS
from training.policy import POLICIES, policy_of


@pytest.mark.parametrize("seat", SEATS.values(), ids=SEATS)
def test_every_seat_has_a_policy_that_asks_for_figures_that_its_exam_gives(seat: Seat) -> None:
    policy, scored = policy_of(seat.name), set(examiner(seat.name).metrics)
    assert policy.primary == seat.primary_metric
    assert {policy.primary, *policy.guardrails, *policy.floors, *policy.reference} <= scored <= set(METRICS)
    assert set(policy.behaviour) | set(policy.infra) <= set(METRICS)
    assert METRICS[policy.primary].higher_is_better is seat.higher_is_better
    assert policy.switched_off() == [] or seat.name not in EXAMINERS


def test_a_folder_of_ones_own_takes_the_place_of_the_built_in_policies(tmp_path: Path) -> None:
    text = (POLICIES / "recommender.toml").read_text(encoding="utf-8")
    (tmp_path / "recommender.toml").write_text(text.replace('hold = "never"', 'hold = "always"', 1))
    own = policy_of("recommender", Settings(policies=tmp_path))
    assert own.hold == "always" and own.digest != policy_of("recommender").digest


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("min_gain = 0.01", "min_gain = -1", "better.min_gain"),
        ("min_gain = 0.01", "mingain = 0.01", "better.mingain"),
        ('beat = ["popularity"]', "beat = []", "baselines.beat"),
        ("[better]", "[bettr]", "better"),
        ("auc = 0.5", "auc = 'high'", "floors.auc"),
        ("auc = 0.5", "auc = inf", "floors.auc"),
        ("p99_ms = 1000", "p99_ms = true", "infra.p99_ms"),
        ("hr_at_10 = 0.10", "hr_at_1O = 0.10", "did you mean hr_at_10"),
        ("p99_ms = 1000", "p99ms = 1000", "did you mean p99_ms"),
        ('metric = "ndcg_at_100"', 'metric = "ndcg_at_1000"', "did you mean ndcg_at_100"),
        ("hr_at_10 = 0.10", "hr_at_10 = 1.0", "guardrails.hr_at_10"),
        ('hold = "never"', "hold = never", "not TOML"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_file_the_table_and_the_field(
    tmp_path: Path, old: str, new: str, named: str
) -> None:
    text = (POLICIES / "recommender.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "recommender.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SettingsError, match=named) as refused:
        policy_of("recommender", Settings(policies=tmp_path))
    assert str(path) in str(refused.value)


def test_a_folder_without_the_seats_policy_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="NIGHTSHIFT_POLICIES"):
        policy_of("recommender", Settings(policies=tmp_path))
