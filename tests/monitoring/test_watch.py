"""The watch against a real MLflow server: nobody in the seat, no drift, drift, and no server; and its requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from monitoring import watch
from monitoring.triggers import ColumnScore, Policy, decide
from nightshift.commands import emit, read_step, run_command
from nightshift.contracts.features import TOPIC_VIEW, USER_VIEW, VIEWS
from nightshift.errors import FeatureError, RegistryError
from nightshift.registry import PRODUCTION, Registry
from nightshift.seats import FORECASTER, RECOMMENDER, SEATS, Seat
from nightshift.settings import Settings

DAY = date(2026, 10, 12)


def users(rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame({name: random.gamma(2.0, 2.0, rows) + shift for name in VIEWS[USER_VIEW].watched})


def put_features(settings: Settings, day: date, features: pd.DataFrame) -> None:
    folder = settings.features_dir / USER_VIEW
    folder.mkdir(parents=True, exist_ok=True)
    away = pd.DataFrame(np.nan, index=range(50), columns=features.columns)
    pd.concat([features, away]).to_parquet(folder / f"day={day}.parquet")


@pytest.fixture
def home(mlflow_server: Settings, tmp_path: Path) -> Iterator[Settings]:
    """An own home and an empty seat; whoever sat in it is put back."""
    settings = mlflow_server.model_copy(update={"home": tmp_path})
    registry = Registry(settings)
    before = {seat: registry.champion(seat) for seat in SEATS.values()}
    for seat, champion in before.items():
        if champion is not None:
            registry.client.delete_registered_model_alias(seat.registered_model, PRODUCTION)
    yield settings
    for seat, champion in before.items():
        name, now = seat.registered_model, registry.champion(seat)
        if champion is not None:
            registry.client.set_registered_model_alias(name, PRODUCTION, str(champion.number))
        elif now is not None:
            registry.client.delete_registered_model_alias(name, PRODUCTION)


def seat_champion(settings: Settings, reference: pd.DataFrame | None, seat: Seat = RECOMMENDER) -> int:
    registry = Registry(settings)
    found = registry.client.get_experiment_by_name("nightshift/test-watch")
    experiment = found.experiment_id if found else registry.client.create_experiment("nightshift/test-watch")
    run_id = registry.client.create_run(experiment).info.run_id
    if reference is not None:
        file = settings.home / "reference.parquet"
        reference.to_parquet(file)
        registry.client.log_artifact(run_id, str(file), "features")
    registry.client.log_text(run_id, "never loaded here", "model/MLmodel")
    registry.client.set_terminated(run_id)
    version = registry.submit(seat, run_id=run_id, model_uri=f"runs:/{run_id}/model", tags={})
    registry.promote(seat, version.number, by="test", reason="first")
    return version.number


def topics(rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    values = {name: random.normal(shift, 1, rows) for name in VIEWS[TOPIC_VIEW].watched}
    return pd.DataFrame({"topic": [f"t{n}" for n in range(rows)], **values})


def put_topics(settings: Settings, day: date, told: pd.DataFrame) -> None:
    """Topic rows that came to be known with `day`, and users beside them, as the builder leaves them."""
    put_features(settings, day, users(300, 1))
    folder = settings.features_dir / TOPIC_VIEW
    folder.mkdir(parents=True, exist_ok=True)
    told = told.assign(event_timestamp=pd.Timestamp(day, tz="UTC"))
    # An opening: the same topics, a year before, when they were elsewhere.
    before = told.assign(event_timestamp=pd.Timestamp(day, tz="UTC") - pd.Timedelta(days=364))
    before[list(VIEWS[TOPIC_VIEW].watched)] += 50.0
    pd.concat([told, before]).to_parquet(folder / f"day={day}.parquet")


def test_a_weekly_seat_is_compared_on_the_days_that_tell_of_it_by_the_newest_rows_alone(
    home: Settings,
) -> None:
    number = seat_champion(home, topics(3_000, 0), FORECASTER)
    put_topics(home, DAY, topics(120, 1))
    quiet = watch.watch(home, None)[1]["seats"]["forecaster"]
    assert (quiet["drift"], quiet["champion"], quiet["share"]) == (False, number, 0.0)
    assert quiet["run_id"] is not None
    put_topics(home, DAY + timedelta(days=1), topics(0, 1))
    silent = watch.watch(home, None)[1]["seats"]["forecaster"]
    assert (silent["drift"], silent["run_id"]) == (False, None)
    assert silent["reason"] == "nothing was told of any topic on 2026-10-13: nothing to compare"
    put_topics(home, DAY + timedelta(days=2), topics(120, 2, shift=1.5))
    moved = watch.watch(home, None)[1]
    assert moved["drift"] and moved["reason"].startswith("forecaster: drift: 5 of 5 columns moved")


def looked(settings: Settings) -> dict[str, Any]:
    """What the watch sees for the recommender on the newest day."""
    seen: dict[str, Any] = watch.watch(settings, None)[1]["seats"]["recommender"]
    return seen


def run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> dict[str, Any]:
    """What the command prints last."""
    monkeypatch.setattr(watch, "read_settings", lambda: settings)
    watch.main(list(arguments))
    result: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return result


def test_without_a_champion_it_says_so_and_asks_for_nothing(
    home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_features(home, DAY, users(300, 1))
    result = run(home, monkeypatch, capsys)
    assert (result["drift"], result["day"]) == (False, "2026-10-12")
    assert set(result["seats"]) | set(result["not_watched"]) == set(SEATS)
    assert result["not_watched"] == ["language"], "it has no features that could drift"
    for seat, seen in result["seats"].items():
        assert seen["champion"] is None
        assert f"{seat}: seat {seat} has no champion" in result["reason"]
    assert result == read_step(home, DAY, "watch")


def test_drift_is_found_on_its_day_kept_in_mlflow_and_looking_requests_nothing(
    home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = seat_champion(home, users(5_000, 0))
    put_features(home, DAY - timedelta(days=1), users(300, 1))
    quiet = run(home, monkeypatch, capsys)["seats"]["recommender"]
    assert (quiet["drift"], quiet["share"]) == (False, 0.0)
    put_features(home, DAY, users(300, 2, shift=2.0))
    told = run(home, monkeypatch, capsys)
    found = told["seats"]["recommender"]
    assert (told["drift"], told["already_requested"]) == (True, False)
    assert (found["drift"], found["already_requested"], found["champion"]) == (True, False, number)
    assert told["reason"] == f"recommender: {found['reason']}", (
        "the seats that stood still are not in the way"
    )
    assert [column["drifted"] for column in found["columns"]] == [True] * len(VIEWS[USER_VIEW].watched)
    registry = Registry(home)
    logged = registry.client.get_run(found["run_id"])
    assert logged.info.status == "FINISHED"
    assert logged.data.tags["champion_version"] == str(number)
    assert logged.data.metrics["drifted_share"] == 1.0
    files = {file.path for file in registry.client.list_artifacts(found["run_id"])}
    assert files == {"drift.html", "scores.json"}

    assert run(home, monkeypatch, capsys) == told, "looking again asks for as much as the first look"
    assert not (home.home / "triggers").exists()
    asked = run(home, monkeypatch, capsys, "--request", "--night", "2026-10-12")
    assert asked["reason"] == told["reason"]
    kept = json.loads((home.home / "triggers" / f"2026-10-12-recommender-v{number}.json").read_text())
    assert kept["seat"] == "recommender"
    assert (kept["fact"], kept["day"], kept["run_id"]) == ("RetrainRequested", "2026-10-12", found["run_id"])
    again = run(home, monkeypatch, capsys)
    assert (again["drift"], again["already_requested"]) == (True, True)
    earlier = run(home, monkeypatch, capsys, "--night", "2026-10-11")
    assert (earlier["drift"], earlier["day"]) == (False, "2026-10-11")


def test_the_same_comparison_is_logged_once_and_another_champion_s_anew(home: Settings) -> None:
    put_features(home, DAY, users(300, 1))
    client = Registry(home).client
    runs = []
    for _ in range(2):
        number = seat_champion(home, users(500, 0))
        first, again = (looked(home)["run_id"] for _ in range(2))
        assert first == again
        experiment = watch._experiment(Registry(home))
        assert len(client.search_runs([experiment], f"tags.champion_version = '{number}'")) == 1
        runs.append(first)
    assert len(set(runs)) == 2


def test_a_comparison_that_could_not_be_logged_to_its_end_is_logged_again(home: Settings) -> None:
    seat_champion(home, users(500, 0))
    put_features(home, DAY, users(300, 1))
    client = Registry(home).client
    failed = looked(home)["run_id"]
    client.set_terminated(failed, "FAILED")
    assert looked(home)["run_id"] != failed


def test_a_watch_that_was_killed_is_closed_by_the_next_one(home: Settings) -> None:
    seat_champion(home, users(500, 0))
    put_features(home, DAY, users(300, 1))
    registry = Registry(home)
    experiment = watch._experiment(registry)
    left = registry.client.create_run(
        experiment, tags={"nightshift.task": f"watch-recommender@{DAY}"}
    ).info.run_id
    other = registry.client.create_run(
        experiment, tags={"nightshift.task": "watch-recommender@2026-10-01"}
    ).info.run_id
    watch.watch(home, None)
    assert registry.client.get_run(left).info.status == "KILLED"
    assert registry.client.get_run(other).info.status == "RUNNING"


def test_a_champion_without_a_reference_is_an_error_that_names_it(home: Settings) -> None:
    number = seat_champion(home, None)
    put_features(home, DAY, users(300, 1))
    with pytest.raises(RegistryError, match=r"reference\.parquet"):
        watch.watch(home, None)
    assert number > 0


def test_a_day_that_nobody_came_is_no_evidence_and_is_said(home: Settings) -> None:
    seat_champion(home, users(500, 0))
    put_features(home, DAY, users(0, 1))
    result = looked(home)
    assert result["drift"] is False
    assert "nothing could be compared" in result["reason"]
    assert result["run_id"] is not None


def test_without_features_it_says_what_to_run(home: Settings) -> None:
    with pytest.raises(FeatureError, match=r"feature_repo\.build"):
        watch.watch(home, None)
    put_features(home, DAY, users(300, 1))
    with pytest.raises(FeatureError, match="up to 2026-10-11"):
        watch.watch(home, DAY - timedelta(days=1))


def test_a_feature_file_cut_in_half_is_named(home: Settings) -> None:
    seat_champion(home, users(500, 0))
    put_features(home, DAY, users(300, 1))
    (file,) = (home.features_dir / USER_VIEW).iterdir()
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(FeatureError, match=r"day=2026-10-12\.parquet cannot be read"):
        watch.watch(home, None)


def test_when_mlflow_is_down_it_ends_with_status_1_in_one_line_and_requests_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    down = Settings(_env_file=None, home=tmp_path, mlflow_url="http://127.0.0.1:9")  # type: ignore[call-arg]
    put_features(down, DAY, users(300, 1, shift=2.0))
    monkeypatch.setattr(watch, "read_settings", lambda: down)
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: watch.main([]))
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert printed.out == ""
    assert "127.0.0.1:9" in printed.err
    assert read_step(down, DAY, "watch") is None
    assert not (tmp_path / "triggers").exists()


def test_a_watch_that_cannot_be_kept_is_an_error(home: Settings, tmp_path: Path) -> None:
    seat_champion(home, users(500, 0))
    champion = Registry(home).champion(RECOMMENDER)
    assert champion is not None
    gone = Registry(home.model_copy(update={"mlflow_url": "http://127.0.0.1:9"}))
    moved = [ColumnScore("a", 1.0, 0.1)]
    decision = decide(moved, Policy(), DAY)
    assert decision.request
    with pytest.raises(RegistryError, match="could not be kept"):
        watch.record(gone, RECOMMENDER, DAY, champion, moved, decision, tmp_path / "drift.html")


# --- requests ------------------------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home where nothing runs: requesting goes by files alone."""
    monkeypatch.delenv(watch.DAG_RUN, raising=False)
    settings = Settings(_env_file=None, home=tmp_path, mlflow_url="http://127.0.0.1:9")  # type: ignore[call-arg]
    monkeypatch.setattr(watch, "read_settings", lambda: settings)
    return settings


def saw(settings: Settings, day: date, *, drift: bool = True, champion: int = 4) -> None:
    """Keep a look at `day` that no request had covered."""
    decision = decide([ColumnScore("a", 1.0 if drift else 0.0, 0.1)], Policy(), day)
    emit(
        settings,
        day,
        "watch",
        watch.summed_up(day, {"recommender": watch.result_of(champion, [], decision, "run")}),
    )


def ask(day: date) -> int:
    """The exit status of `--request` for that day."""
    try:
        run_command(lambda: watch.main(["--request", "--night", str(day)]))
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def facts(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.home / "triggers").glob("*"))


def test_a_retrain_is_requested_for_the_drift_that_was_seen_and_the_step_says_so(
    alone: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    saw(alone, DAY)
    capsys.readouterr()
    assert ask(DAY) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == read_step(alone, DAY, "retrain-request")
    assert facts(alone) == ["2026-10-12-recommender-v4.json"]


def test_without_drift_nothing_is_requested_and_the_status_is_the_one_airflow_skips(
    alone: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    saw(alone, DAY, drift=False)
    capsys.readouterr()
    assert ask(DAY) == 99
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "no drift: 0 of 1 columns moved" in printed.err
    assert facts(alone) == []
    assert read_step(alone, DAY, "retrain-request") is None


def test_a_request_covers_three_days_whatever_the_champion_by_the_files_of_now(
    alone: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    days = [DAY + timedelta(days=n) for n in range(4)]
    for n, day in enumerate(days):
        saw(alone, day, champion=4 + n)  # all looked before anyone asked: the looks know of no request
    assert [ask(day) for day in days] == [0, 99, 99, 0]
    assert ask(DAY) == 99
    assert "requested for 2026-10-12 (champion v4)" in capsys.readouterr().err
    assert facts(alone) == ["2026-10-12-recommender-v4.json", "2026-10-15-recommender-v7.json"]


@pytest.mark.parametrize("later", [0, 1])
def test_a_request_killed_after_its_fact_was_written_is_made_by_whoever_comes_next(
    alone: Settings, later: int
) -> None:
    saw(alone, DAY)
    assert watch.request(alone, DAY)[0]  # and killed here, before the step
    next_day = DAY + timedelta(days=later)
    saw(alone, next_day)
    assert (ask(next_day), ask(next_day)) == (0, 99)


def test_a_task_killed_before_airflow_heard_of_its_request_succeeds_again_in_the_same_run_only(
    alone: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    saw(alone, DAY)
    monkeypatch.setenv(watch.DAG_RUN, "scheduled__10:30")
    assert (ask(DAY), ask(DAY)) == (0, 0)
    monkeypatch.setenv(watch.DAG_RUN, "scheduled__11:30")
    assert ask(DAY) == 99
    assert facts(alone) == ["2026-10-12-recommender-v4.json"]


def test_a_request_for_a_day_that_nobody_looked_at_is_an_error_not_a_skip(
    alone: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(DAY) == FeatureError.exit_status
    assert "run `python -m monitoring.watch --night 2026-10-12` first" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        watch.main(["--request"])
    assert "--request needs --night" in capsys.readouterr().err


def test_each_seat_has_its_own_requests_and_pause(
    alone: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = decide([ColumnScore("a", 1.0, 0.1)], Policy(), DAY)
    still = decide([ColumnScore("a", 0.0, 0.1)], Policy(), DAY)

    def both(day: date, recommender: bool, forecaster: bool) -> int:
        seen = {
            seat: watch.result_of(4, [], moved if drifted else still, "run")
            for seat, drifted in (("recommender", recommender), ("forecaster", forecaster))
        }
        emit(alone, day, "watch", watch.summed_up(day, seen))
        return ask(day)

    week = timedelta(days=7)
    assert both(DAY, False, True) == 0
    assert both(DAY + week, False, True) == 99, "a retrain could not have learnt from it yet"
    assert both(DAY + 2 * week, True, True) == 0, "the other seat has not asked"
    assert both(DAY + 12 * week, False, True) == 0
    assert facts(alone) == [
        "2026-10-12-forecaster-v4.json",
        "2026-10-26-recommender-v4.json",
        "2027-01-04-forecaster-v4.json",
    ]
