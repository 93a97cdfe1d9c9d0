"""A night's gate against a real MLflow server: what is written down, who gets the seat, what a rerun does."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from nightshift.errors import LakeError, RegistryError, SettingsError
from nightshift.lake import Lake
from nightshift.registry import Registry, Version
from nightshift.seats import LANGUAGE, RECOMMENDER, Seat, find_seat
from nightshift.settings import Settings
from nightshift.tenancy import Tenant
from training import examine
from training.baselines.popularity import Popularity
from training.evidence import Measured
from training.examine import already_decided, judge
from training.exams import conversations, examiner
from training.exams.ranking import Exam
from training.hall import Hall, candidacy
from training.identity import tries
from training.policy import BaselinePolicy, Policy, policy_of
from training.recipe import Night

NIGHT = date(2026, 9, 28)
USERS = [f"u{n:03d}" for n in range(120)]
ITEMS = [f"i{n:03d}" for n in range(60)]
WANTED = {user: ITEMS[(7 * n) % 50] for n, user in enumerate(USERS)}
EXAM = Exam(
    users=USERS,
    relevant=[[WANTED[user]] for user in USERS],
    seen=[[] for _ in USERS],
    features=pd.DataFrame({"user_id": USERS}),
    catalogue=ITEMS,
    start=NIGHT,
    end=NIGHT,
    digest="d1g35t",
)
# Popularity knows only the last ten items, which nobody wants tonight.
BASELINE = Popularity(
    pd.DataFrame({"user_id": [f"x{n}" for n in range(10)], "item_id": ITEMS[50:]}),
    pd.DataFrame({"item_id": ITEMS, "title": ITEMS, "category": "all"}),
)
PREDICTOR = Path(__file__).with_name("tiny_predictor.py")


# What these tests' tiny models are not made for, and what is tested by itself: behaviour, lineage, the trial.
PLAIN = policy_of("recommender").model_copy(
    update={"behaviour": {}, "lineage": None, "infra": {}, "baselines": BaselinePolicy(beat=("popularity",))}
)


def hall(night: date = NIGHT, exam: Exam | None = EXAM, problem: str = "", policy: Policy = PLAIN) -> Hall:
    window = Night(
        night=night, train_start=date(2026, 9, 1), train_end=night - timedelta(days=1), exam_start=night
    )
    return Hall(Settings(), examiner("recommender"), policy, window, exam, problem, {"popularity": BASELINE})


def table(skill: float, seed: int = 0) -> dict[str, Any]:
    """A model that puts the wanted item first for a `skill` share of the users, and half-way down for the others."""
    random = np.random.default_rng(seed)
    scores = {}
    for n, user in enumerate(USERS):
        row = random.random(len(ITEMS)).round(4)
        row[ITEMS.index(WANTED[user])] = 2.0 if (n * 37) % 100 < 100 * skill else 0.5
        scores[user] = row.tolist()
    return {"items": ITEMS, "scores": scores}


@pytest.fixture
def registry(mlflow_server: Settings) -> Registry:
    return Registry(mlflow_server)


@pytest.fixture
def seat() -> Seat:
    return replace(RECOMMENDER, registered_model=f"seat-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def hand_in(registry: Registry, seat: Seat, tmp_path: Path) -> Callable[..., Version]:
    """Package a table as a real MLflow model and submit it as `family`'s candidate of `night`."""

    def _hand_in(content: dict[str, Any], night: date = NIGHT, family: str = "ncf", **tags: str) -> Version:
        path = tmp_path / "table.json"
        path.write_text(json.dumps(content))
        mlflow.set_experiment("gate tests")
        with mlflow.start_run() as run:
            logged = mlflow.pyfunc.log_model(
                name="model", python_model=str(PREDICTOR), artifacts={"table": str(path)}, pip_requirements=[]
            )
        tags = {
            "family": family,
            "night": night.isoformat(),
            "train_end": str(night - timedelta(days=1)),
            "exam_start": night.isoformat(),
            **tags,
        }
        return registry.submit(seat, run_id=run.info.run_id, model_uri=logged.model_uri, tags=tags)

    return _hand_in


def registry_settings(registry: Registry) -> Settings:
    return Settings(mlflow_url=registry.uri)


def seated(registry: Registry, seat: Seat) -> int | None:
    champion = registry.champion(seat)
    return champion.number if champion else None


def test_the_first_candidate_that_beats_popularity_takes_the_empty_seat(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version], tmp_path: Path
) -> None:
    version = hand_in(table(0.5))
    result = judge(registry, seat, hall(), ["ncf"])
    assert (result["decision"], result["candidate"], result["champion"]) == ("promote", version.number, None)
    assert result["production"] == version.number
    exam = result["exam"]
    assert (exam["units"], exam["unit"], exam["digest"]) == (120, "users", "d1g35t")
    assert (exam["start"], exam["end"]) == ("2026-09-28", "2026-09-28") and "120 users" in exam["about"]
    assert (
        result["candidate_metrics"]["hr_at_10"] == pytest.approx(0.5, abs=0.05)
        and result["champion_metrics"] is None
    )
    assert result["baseline_metrics"]["popularity"]["hr_at_10"] == 0

    champion = registry.champion(seat)
    assert champion is not None and champion.number == version.number
    assert champion.tags["verdict"] == "promote" and "beyond noise" in champion.tags["verdict_reason"]
    assert champion.tags["exam_digest"] == "d1g35t"
    assert float(champion.tags["exam_ndcg_at_10"]) == pytest.approx(result["candidate_metrics"]["ndcg_at_10"])
    assert champion.description.startswith(f"**Promoted: version {version.number} (ncf)")
    assert registry.metrics(version.run_id)["exam_hr_at_10"] == result["candidate_metrics"]["hr_at_10"]
    (move,) = registry.history(seat)
    assert move["by"] == "the gate" and move["exam_digest"] == "d1g35t" and move["reason"]
    kept = json.loads(registry.artifact(version.run_id, "verdict/verdict.json", tmp_path).read_text())
    assert {check["status"] for check in kept["own"]["checks"]} == {"pass"}
    shown = registry.artifact(version.run_id, "verdict/verdict.md", tmp_path).read_text()
    assert shown.startswith("# Promoted: version")


def test_running_the_gate_again_after_the_promotion_changes_nothing(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    version = hand_in(table(0.5))
    assert already_decided(registry, seat, NIGHT, ["ncf"]) is None
    first = judge(registry, seat, hall(), ["ncf"])
    before = registry.get(seat, version.number)
    again = already_decided(registry, seat, NIGHT, ["ncf"])
    assert again is not None
    note = again.pop("note")
    assert again == json.loads(json.dumps(first))
    assert "holds the seat already" in note
    assert registry.get(seat, version.number) == before and len(registry.history(seat)) == 1


def test_a_gate_killed_between_verdict_and_promotion_ends_the_same_when_run_again(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_in(table(0.5))

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "promote", killed)
        with pytest.raises(KeyboardInterrupt):
            judge(registry, seat, hall(), ["ncf"])
    assert registry.champion(seat) is None
    written = registry.get(seat, 1)
    assert already_decided(registry, seat, NIGHT, ["ncf"]) is None
    assert judge(registry, seat, hall(), ["ncf"])["production"] == 1
    rewritten = registry.get(seat, 1)
    assert rewritten.tags["verdict_reason"] == written.tags["verdict_reason"]
    assert rewritten.description == written.description


def test_an_equal_candidate_keeps_the_champion_and_both_sat_tonights_exam(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    champion = hand_in(table(0.5), night=date(2026, 9, 27))
    registry.promote(seat, champion.number, by="test", reason="yesterday's winner")
    candidate = hand_in(table(0.5))
    result = judge(registry, seat, hall(), ["ncf"])
    assert (result["decision"], result["production"]) == ("keep", champion.number)
    assert seated(registry, seat) == champion.number
    assert result["champion_metrics"] == result["candidate_metrics"]
    assert any("Not better than the champion beyond noise" in reason for reason in result["reasons"])
    assert registry.get(seat, candidate.number).tags["verdict"] == "keep"
    points = registry.client.get_metric_history(champion.run_id, "exam_hr_at_10")
    assert [p.step for p in points] == [NIGHT.toordinal()]
    assert "verdict" not in registry.get(seat, champion.number).tags


def test_a_better_candidate_takes_the_seat_and_the_champion_becomes_previous(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    champion = hand_in(table(0.3), night=date(2026, 9, 27))
    registry.promote(seat, champion.number, by="test", reason="yesterday's winner")
    candidate = hand_in(table(0.6))
    result = judge(registry, seat, hall(), ["ncf"])
    assert (result["decision"], result["champion"], result["production"]) == (
        "promote",
        champion.number,
        candidate.number,
    )
    assert registry.rollback(seat, to=None, by="test", reason="back").number == champion.number


def test_the_gate_of_an_old_night_run_again_rewrites_neither_the_past_nor_the_champions_figures(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = hand_in(table(0.3))
    first = judge(registry, seat, hall(), ["ncf"])
    after = NIGHT + timedelta(days=1)
    champion = hand_in(table(0.7), night=after)
    assert judge(registry, seat, hall(after), ["ncf"])["decision"] == "promote"
    before = (registry.get(seat, old.number), registry.metrics(old.run_id), registry.metrics(champion.run_id))

    monkeypatch.setattr(examine, "open_hall", lambda *_: hall())
    again = examine.examine(registry_settings(registry), seat, NIGHT, ["ncf"])

    note = again.pop("note")
    assert again == json.loads(json.dumps(first))
    assert f"version {champion.number} holds it now" in note and "nothing was changed" in note
    assert seated(registry, seat) == champion.number and len(registry.history(seat)) == 2
    assert before == (
        registry.get(seat, old.number),
        registry.metrics(old.run_id),
        registry.metrics(champion.run_id),
    )
    points = registry.client.get_metric_history(champion.run_id, "exam_hr_at_10")
    assert [point.step for point in points] == [after.toordinal()]


def test_a_version_that_was_rolled_back_is_not_examined_again_by_a_rerun(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    champion = hand_in(table(0.3), night=date(2026, 9, 27))
    registry.promote(seat, champion.number, by="test", reason="yesterday's winner")
    candidate = hand_in(table(0.6))
    judge(registry, seat, hall(), ["ncf"])
    registry.rollback(seat, to=None, by="mina", reason="sold-out items")
    before = registry.get(seat, candidate.number)
    again = already_decided(registry, seat, NIGHT, ["ncf"])
    assert again is not None and again["candidate"] == candidate.number
    assert f"version {champion.number} holds it now" in again["note"]
    assert seated(registry, seat) == champion.number and registry.get(seat, candidate.number) == before


def test_a_version_seated_by_hand_and_rolled_back_unexamined_is_not_seated_by_the_gate(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    champion = hand_in(table(0.3), night=date(2026, 9, 27))
    registry.promote(seat, champion.number, by="test", reason="yesterday's winner")
    registry.promote(seat, hand_in(table(0.6)).number, by="mina", reason="in a hurry")
    registry.rollback(seat, to=None, by="mina", reason="sold-out items")
    assert already_decided(registry, seat, NIGHT, ["ncf"]) is None
    result = judge(registry, seat, hall(), ["ncf"])
    assert (result["decision"], result["production"]) == ("keep", champion.number)
    assert seated(registry, seat) == champion.number
    assert "This version was taken out before: mina: sold-out items" in result["reasons"]


def test_the_same_model_under_a_new_number_does_not_undo_a_rollback(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    same = {
        "content_digest": "d",
        "train_start": "2026-09-01",
        "git_commit": "c",
        "seed": "0",
        "smoke": "false",
    }
    champion = hand_in(table(0.3), night=date(2026, 9, 27))
    registry.promote(seat, champion.number, by="test", reason="yesterday's winner")
    taken_out = hand_in(table(0.6), **same)
    judge(registry, seat, hall(), ["ncf"])
    registry.rollback(seat, to=None, by="mina", reason="sold-out items")
    again = hand_in(table(0.6), **same)
    result = judge(registry, seat, hall(), ["ncf"])
    assert (result["candidate"], result["production"]) == (again.number, champion.number)
    assert f"sold-out items (as version {taken_out.number}, made of the same data" in " ".join(
        result["reasons"]
    )
    other = hand_in(table(0.6), **{**same, "git_commit": "mended"})
    assert judge(registry, seat, hall(), ["ncf"])["production"] == other.number


def test_a_family_that_did_not_arrive_blocks_the_seat_and_is_named(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    hand_in(table(0.5))
    result = judge(registry, seat, hall(), ["ncf", "two_tower"])
    assert result["decision"] == "not blessed" and result["production"] is None
    assert seated(registry, seat) is None
    assert result["reasons"] == ["The candidate of family two_tower is missing."]
    assert registry.get(seat, 1).tags["verdict"] == "not blessed"


def test_a_night_without_any_candidate_says_so(registry: Registry, seat: Seat) -> None:
    result = judge(registry, seat, hall(), ["ncf"])
    assert (result["decision"], result["candidate"]) == ("not blessed", None)
    assert result["reasons"] == ["The candidate of family ncf is missing."]
    assert result["exam"]["units"] == 120 and result["candidate_metrics"] == {}


def test_a_retried_training_counts_with_its_newest_version_only(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    hand_in(table(0.5))
    newest = hand_in(table(0.6))
    assert judge(registry, seat, hall(), ["ncf"])["candidate"] == newest.number
    assert "verdict" not in registry.get(seat, 1).tags


def test_training_a_night_again_and_again_must_be_surer_with_every_try(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    hand_in(table(0.9), night=date(2026, 9, 27))  # another night's is no try of this one
    hand_in(table(0.5))
    assert "(95 % interval" in judge(registry, seat, hall(), ["ncf"])["reasons"][0]
    for confidence, count, skill in (("97.5", 2, 0.45), ("98.33", 3, 0.4)):
        hand_in(table(skill))
        reasons = " ".join(judge(registry, seat, hall(), ["ncf"])["reasons"])
        assert f"({confidence} % interval" in reasons and f"this exam has {count} candidates" in reasons


def test_a_model_that_is_the_same_again_is_no_further_try_at_the_same_exam(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    same = {
        "content_digest": "d", "train_start": "2026-09-01", "git_commit": "c", "seed": "0", "smoke": "false",
        "dirty": "false",
    }  # fmt: skip
    versions = [hand_in(table(0.5), **same) for _ in range(2)]
    assert tries(versions) == 1
    for changed in (
        {"seed": "1"},
        {"content_digest": "later"},
        {"git_commit": "new"},
        {"smoke": "true"},
        {"family": "b"},
    ):
        other = versions[0].tags | changed
        assert tries([versions[0], replace(versions[0], number=9, tags=other)]) == 2
    unknown = [replace(v, tags={**v.tags, "dirty": "true"}) for v in versions]
    assert tries(unknown) == 2, "nobody knows what code a dirty tree held"


def test_of_two_families_that_pass_the_better_takes_the_seat_and_the_other_is_told(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version], tmp_path: Path
) -> None:
    good, better = hand_in(table(0.4)), hand_in(table(0.7), family="two_tower")
    result = judge(registry, seat, hall(), ["ncf", "two_tower"])
    assert (result["decision"], result["production"], result["family"]) == (
        "promote",
        better.number,
        "two_tower",
    )
    assert seated(registry, seat) == better.number
    assert f"next is version {good.number} (ncf): NDCG@100" in registry.get(seat, better.number).description
    loser = registry.get(seat, good.number).tags
    assert loser["verdict"] == "keep"
    assert loser["verdict_reason"].startswith(
        f"Good enough, but version {better.number} (two_tower) did better still on this exam: NDCG@100 0."
    )
    assert loser["verdict_reason"].endswith(", beyond noise.")
    told = registry.get(seat, good.number).description
    assert told.startswith(f"**Not promoted: version {good.number} (ncf); version {better.number} takes the")
    page = registry.artifact(good.run_id, "verdict/verdict.md", tmp_path).read_text()
    assert f"two_tower v{better.number}" in page, "a rival's figures stand beside the candidate's"


def test_a_policy_that_wants_a_persons_yes_puts_the_winner_on_hold_and_moves_nobody(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    version = hand_in(table(0.5))
    result = judge(registry, seat, hall(policy=PLAIN.model_copy(update={"hold": "always"})), ["ncf"])
    assert (result["decision"], result["production"]) == ("hold", None)
    assert seated(registry, seat) is None
    held = registry.get(seat, version.number)
    assert (held.tags["verdict"], held.tags["stage"]) == ("hold", "Staging")
    assert held.tags["examined_against"] == "nobody"
    assert "nightshift approve" in held.description


def test_who_fails_in_its_service_gives_the_seat_to_the_next_best_and_its_page_says_why(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, better = hand_in(table(0.4)), hand_in(table(0.7), family="two_tower")
    trials = {good.number: 20.0, better.number: 9_000.0}
    monkeypatch.setattr(
        examine, "try_out", lambda config, seat, number, exam: Measured({"p99_ms": trials[number]})
    )
    asked = PLAIN.model_copy(update={"infra": {"p99_ms": 500.0}})
    assert judge(registry, seat, hall(policy=asked), ["ncf", "two_tower"])["production"] == good.number
    reason = registry.get(seat, better.number).tags["verdict_reason"]
    assert "99th percentile answer, in ms: 9000.0 is above the limit of 500" in reason


def test_small_losses_are_held_against_the_first_champion_for_ever(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    first = hand_in(table(0.7), night=date(2026, 9, 26))
    registry.promote(seat, first.number, by="test", reason="the first")
    worse = hand_in(table(0.3), night=date(2026, 9, 27))
    registry.promote(seat, worse.number, by="mina", reason="by hand, and worse")
    hand_in(table(0.5))
    result = judge(registry, seat, hall(), ["ncf"])
    assert (result["decision"], result["production"]) == ("keep", worse.number)
    assert f"behind the frozen reference v{first.number}" in result["reasons"][0]
    assert f"frozen reference v{first.number}" in result["scores"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"broken": True}, "cannot be loaded"),
        ({"items": ITEMS, "scores": {user: [1.0] for user in USERS}}, "the model scored (120, 1)"),
    ],
)
def test_a_model_that_cannot_be_loaded_or_scored_is_missing_evidence_not_a_crash(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version], content: dict[str, Any], words: str
) -> None:
    champion = hand_in(table(0.3), night=date(2026, 9, 27))
    registry.promote(seat, champion.number, by="test", reason="yesterday's winner")
    hand_in(content)
    result = judge(registry, seat, hall(), ["ncf"])
    assert (result["decision"], result["production"]) == ("not blessed", champion.number)
    assert seated(registry, seat) == champion.number
    assert words in result["reasons"][0]


def test_the_behaviour_of_who_could_not_be_scored_is_not_tried(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    policy = PLAIN.model_copy(update={"behaviour": {"not_finite": 0.0}})
    torn = hand_in({"items": ITEMS, "scores": {user: [1.0] for user in USERS}})
    found = candidacy(registry, seat, hall(policy=policy), torn)
    assert found["candidate"].problem and found["behaviour"] is None
    good = candidacy(registry, seat, hall(policy=policy), hand_in(table(0.5)))
    assert not good["candidate"].problem and good["behaviour"] is not None


@pytest.mark.parametrize("raises", [False, True])
def test_the_base_is_given_back_before_the_card_is_though_there_was_no_trial(
    mlflow_server: Settings, talks_home: Settings, monkeypatch: pytest.MonkeyPatch, raises: bool
) -> None:
    config = talks_home.model_copy(
        update={"mlflow_url": mlflow_server.mlflow_uri, "language_lease": "always"}
    )
    language = replace(LANGUAGE, registered_model=f"seat-{uuid.uuid4().hex[:8]}")
    free: list[bool] = []

    def rest() -> None:
        assert conversations._open is not None, "the baseline sat on it"
        free.append(Tenant(config).take())
        conversations.close()

    def gone(*_: Any) -> None:
        raise RegistryError("MLflow does not answer")

    monkeypatch.setattr(examiner("language"), "rest", rest)
    night = Lake(config.lake_dir).days()[-1]
    if raises:
        monkeypatch.setattr(Registry, "reference", gone)
        with pytest.raises(RegistryError):
            examine.examine(config, language, night, ["qlora"])
    else:
        assert examine.examine(config, language, night, ["qlora"])["decision"] == "not blessed"
    assert free == [False] and Tenant(config).take()


def test_a_champion_trained_on_the_exam_day_makes_it_no_exam_and_a_verdict_of_before_stands(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    later = hand_in(table(0.3), night=NIGHT + timedelta(days=1))
    registry.promote(seat, later.number, by="test", reason="a later night's winner")
    candidate = hand_in(table(0.6))
    assert already_decided(registry, seat, NIGHT, ["ncf"]) is None
    result = judge(registry, seat, hall(), ["ncf"])
    before = registry.get(seat, candidate.number)
    again = already_decided(registry, seat, NIGHT, ["ncf"])
    assert again is not None and again["decision"] == "keep" and "of a later night holds" in again["note"]
    assert registry.get(seat, candidate.number) == before
    assert (result["decision"], result["production"]) == ("keep", later.number)
    assert seated(registry, seat) == later.number
    assert "The champion was trained on data up to 2026-09-28" in result["reasons"][0]
    assert not [name for name in registry.metrics(later.run_id) if name.startswith("exam_")]


def test_a_night_on_which_nobody_met_anything_new_has_no_exam(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version]
) -> None:
    hand_in(table(0.5))
    result = judge(registry, seat, hall(exam=None, problem="nobody met an item that was new"), ["ncf"])
    assert result["decision"] == "not blessed" and result["exam"]["units"] == 0
    assert seated(registry, seat) is None
    assert "nobody met an item that was new" in result["reasons"][0]


def test_an_mlflow_that_dies_during_the_exam_is_no_verdict_on_the_model(
    registry: Registry, seat: Seat, hand_in: Callable[..., Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_in(table(0.5))

    def gone(*_: Any) -> None:
        raise RegistryError("MLflow does not answer")

    monkeypatch.setattr(Registry, "load", gone)
    with pytest.raises(RegistryError):
        judge(registry, seat, hall(), ["ncf"])
    assert "verdict" not in registry.get(seat, 1).tags


def test_a_night_that_is_not_published_and_a_seat_that_is_not_there_are_errors_in_words(
    mlflow_server: Settings, tmp_path: Path
) -> None:
    with pytest.raises(LakeError, match="night 2026-09-28 is not published"):
        examine.examine(mlflow_server.model_copy(update={"home": tmp_path}), RECOMMENDER, NIGHT, ["ncf"])
    with pytest.raises(SettingsError, match="there is no seat 'chef'; the seats are recommender, forecaster"):
        find_seat("chef")
