"""A version's lineage looked up in a real MLflow server and a real lake, and what is found when something is amiss."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest

from nightshift.errors import RegistryError
from nightshift.lake import Lake, write_json
from nightshift.registry import Registry, Version
from nightshift.seats import RECOMMENDER, Seat
from nightshift.settings import Settings
from tests.conftest import free_port
from tests.training.conftest import TINY_NIGHT
from training.evidence import Lineage
from training.exams import examiner
from training.exams.recommender import EXAMINER
from training.lineage import CONTENT, KEPT, TAGS, listed, look_up
from training.recipe import Night

PREDICTOR = Path(__file__).with_name("tiny_predictor.py")


@pytest.fixture
def config(tiny_home: Settings, mlflow_server: Settings, tmp_path: Path) -> Settings:
    """A lake to write to, and the real MLflow server."""
    shutil.copytree(tiny_home.lake_dir, tmp_path / "home" / "lake")
    return mlflow_server.model_copy(update={"home": tmp_path / "home"})


@pytest.fixture
def lake(config: Settings) -> Lake:
    return Lake(config.lake_dir)


@pytest.fixture
def night(config: Settings, lake: Lake) -> Night:
    return EXAMINER.night(lake, TINY_NIGHT, config)


@pytest.fixture
def seat() -> Seat:
    return replace(RECOMMENDER, registered_model=f"seat-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def hand_in(
    config: Settings, lake: Lake, night: Night, seat: Seat, tmp_path: Path
) -> Callable[..., tuple[Version, str]]:
    """Hand in as training does: everything that is recorded, but `tags`, which are changed (None: left out)."""

    def _hand_in(content: dict[str, str] | None = None, **tags: str | None) -> tuple[Version, str]:
        registry = Registry(config)
        text, digest = listed(content or EXAMINER.content(lake, config, night).training)
        mlflow.set_experiment("lineage tests")
        (tmp_path / "table.json").write_text(json.dumps({"items": ["i1"], "scores": {}}))
        with mlflow.start_run() as run:
            for name in KEPT:
                mlflow.log_text(text if name == CONTENT else "{}", name)
            model = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(PREDICTOR),
                artifacts={"table": str(tmp_path / "table.json")},
                pip_requirements=[],
            )
        windows = {
            name: str(getattr(night, name)) for name in ("night", "train_start", "train_end", "exam_start")
        }
        told = {
            "family": "ncf", **windows, "data_digest": EXAMINER.digest(lake, night), "content_digest": digest,
            "git_commit": "c0ffee", "dirty": "false", "seed": "0", **tags,
        }  # fmt: skip
        version = registry.submit(
            seat,
            run_id=run.info.run_id,
            model_uri=model.model_uri,
            tags={name: tag for name, tag in told.items() if tag is not None},
        )
        return version, model.model_id

    return _hand_in


@pytest.fixture
def found(config: Settings, lake: Lake, night: Night, seat: Seat) -> Callable[[Version], Lineage]:
    return lambda version: look_up(
        Registry(config), lake, config, seat, version, night, examiner("recommender")
    )


def in_manifest(lake: Lake, change: Callable[[dict[str, Any]], None]) -> None:
    path = lake.root / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest["days"])
    write_json(path, manifest)


def test_a_version_as_training_hands_it_in_has_nothing_amiss(
    hand_in: Callable[..., tuple[Version, str]], found: Callable[[Version], Lineage]
) -> None:
    version, _ = hand_in()
    assert found(version) == Lineage(commit="c0ffee", dirty=False)


@pytest.mark.parametrize(("told", "dirty"), [("true", True), ("unknown", None), (None, None)])
def test_a_dirty_tree_is_told_and_one_of_which_nothing_is_known_too(
    hand_in: Callable[..., tuple[Version, str]],
    found: Callable[[Version], Lineage],
    told: str | None,
    dirty: bool,
) -> None:
    assert found(hand_in(dirty=told)[0]).dirty is dirty


def test_whatever_was_not_recorded_is_absent(
    config: Settings,
    seat: Seat,
    hand_in: Callable[..., tuple[Version, str]],
    found: Callable[[Version], Lineage],
) -> None:
    everything = dict.fromkeys(TAGS)
    version, _ = hand_in(**everything)
    digest = {"package_digest"}  # the registry sees to that one itself
    assert set(found(version).absent) == {f"tag {name}" for name in set(TAGS) - digest}

    client = Registry(config).client
    running = client.create_run(client.get_run(version.run_id).info.experiment_id).info.run_id
    lost = found(replace(version, run_id=running, tags={}))
    assert set(lost.absent) == {*(f"tag {name}" for name in TAGS), "finished run (it is RUNNING)", *KEPT}
    assert (lost.commit, lost.dirty) == ("", None)
    client.set_terminated(running, "KILLED")
    for gone in (running, "", uuid.uuid4().hex):
        status = "KILLED" if gone == running else "GONE"
        assert f"finished run (it is {status})" in found(replace(version, run_id=gone)).absent


def test_content_that_is_in_training_and_exam_is_shared(
    config: Settings,
    lake: Lake,
    night: Night,
    hand_in: Callable[..., tuple[Version, str]],
    found: Callable[[Version], Lineage],
) -> None:
    content = EXAMINER.content(lake, config, night)
    (digest, *_) = content.exam.values()
    last = str(night.train_end)
    seen = found(hand_in({**content.training, last: digest})[0])
    assert seen.shared == (last,)
    assert seen.changed == (last,)  # nor is it what the lake holds of that day


def test_the_recorded_list_is_held_against_the_lake_and_against_its_own_digest(
    config: Settings,
    lake: Lake,
    night: Night,
    hand_in: Callable[..., tuple[Version, str]],
    found: Callable[[Version], Lineage],
) -> None:
    content = EXAMINER.content(lake, config, night).training
    first, last = str(night.train_start), str(night.train_end)
    short = {day: digest for day, digest in content.items() if day != first}
    assert found(hand_in({**short, last: "other"})[0]).changed == (first, last)
    assert found(hand_in(content_digest="other")[0]).changed == (CONTENT,)
    assert found(hand_in(data_digest="other")[0]).changed == ("the published data of its training window",)


def test_a_file_of_the_lake_that_was_rewritten_is_found(
    lake: Lake, night: Night, hand_in: Callable[..., tuple[Version, str]], found: Callable[[Version], Lineage]
) -> None:
    version, _ = hand_in()
    (path,) = lake.paths("interactions", night.train_end, night.train_end)
    path.write_bytes(path.read_bytes() + b"\0")
    assert found(version).changed == (f"{night.train_end} interactions",)
    path.unlink()
    assert found(version).changed == (f"{night.train_end} interactions",)


def test_a_package_that_was_rewritten_is_found(
    mlflow_server: Settings, hand_in: Callable[..., tuple[Version, str]], found: Callable[[Version], Lineage]
) -> None:
    version, model = hand_in()
    (table,) = (mlflow_server.home / "artifacts").glob(f"*/models/{model}/artifacts/artifacts/table.json")
    table.write_text(table.read_text().replace("i1", "i2"))
    assert found(version).changed == ("its package",)


@pytest.mark.parametrize("amiss", ["no audit", "not passed", "of other content"])
@pytest.mark.parametrize("which", ["train_start", "night"])
def test_a_day_of_training_or_exam_without_an_audit_that_it_passed_is_named(
    lake: Lake,
    night: Night,
    hand_in: Callable[..., tuple[Version, str]],
    found: Callable[[Version], Lineage],
    amiss: str,
    which: str,
) -> None:
    version, _ = hand_in()
    day = str(getattr(night, which))
    audits: dict[str, dict[str, Any]] = {
        "no audit": {},
        "not passed": {**(lake.entry(night.night) or {})["audit"], "passed": False},
        "of other content": {"passed": True, "content": {"interactions": "other"}},
    }
    in_manifest(lake, lambda days: days[day].update(audit=audits[amiss]))
    assert found(version) == Lineage(unaudited=(day,), commit="c0ffee", dirty=False)


def test_what_cannot_be_looked_up_is_a_problem_and_mlflow_away_is_none_of_the_versions(
    config: Settings,
    lake: Lake,
    night: Night,
    seat: Seat,
    hand_in: Callable[..., tuple[Version, str]],
    found: Callable[[Version], Lineage],
) -> None:
    version, _ = hand_in()
    assert (
        "Invalid isoformat" in found(replace(version, tags={**version.tags, "train_start": "soon"})).problem
    )
    (lake.root / "manifest.json").write_text("{")
    assert "JSONDecodeError" in found(version).problem
    away = Registry(config.model_copy(update={"mlflow_url": f"http://127.0.0.1:{free_port()}"}))
    try:
        with pytest.raises(RegistryError, match="does not answer"):
            look_up(away, lake, config, seat, version, night, examiner("recommender"))
    finally:
        Registry(config)  # MLflow's address is one per process
