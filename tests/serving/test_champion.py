"""Who serves. Swaps, refusals and outages are in test_recommender.py and test_forecaster.py."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import mlflow
import pytest

from nightshift.seats import RECOMMENDER
from nightshift.settings import Settings
from serving.champion import AWAY, Champion, exam_figures
from serving.recommending import prepare
from tests.conftest import free_port
from tests.serving.conftest import Recommenders


@pytest.fixture
def handed_in(mlflow_server: Settings, tmp_path: Path) -> Iterator[Recommenders]:
    """Hands in versions of a seat that nobody has sat in."""
    before = mlflow.get_tracking_uri()
    seat = replace(RECOMMENDER, registered_model=f"seat-{uuid.uuid4().hex[:8]}")
    yield Recommenders(mlflow_server, tmp_path, seat)
    mlflow.set_tracking_uri(before)  # it is one per process
    mlflow.set_registry_uri(before)


def test_what_the_registry_said_is_in_the_log_and_not_on_the_page(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()  # where nobody answers
    url = f"http://admin:open-sesame@127.0.0.1:{port}"
    config = Settings(_env_file=None, home=tmp_path, mlflow_url=url)  # type: ignore[call-arg]
    champion = Champion(config, RECOMMENDER, prepare=lambda package: package)
    before = mlflow.get_tracking_uri()
    try:
        champion.look()
    finally:
        mlflow.set_tracking_uri(before)  # it is one per process
        mlflow.set_registry_uri(before)
    assert champion.describe()["registry"] == {"reachable": False, "error": AWAY}
    assert str(port) not in str(champion.describe())
    assert f"127.0.0.1:{port}" in caplog.text and "open-sesame" not in caplog.text


def test_exam_tags_become_figures_where_they_are_figures() -> None:
    tags = {"exam_hr_at_10": "0.25", "exam_start": "2026-09-28", "family": "ncf"}
    assert exam_figures(tags) == {"hr_at_10": 0.25, "start": "2026-09-28"}


def test_a_pinned_service_serves_its_version_whoever_is_champion_and_says_so(
    mlflow_server: Settings, handed_in: Recommenders
) -> None:
    first, pinned, third = (handed_in.submit(seed=n) for n in range(3))
    handed_in.promote(first)
    config = mlflow_server.model_copy(update={"pinned_version": pinned})
    champion = Champion(config, handed_in.seat, prepare)
    assert champion.describe()["note"] == f"pinned to {pinned}, not seated yet"
    for _ in range(2):
        champion.look()
        told = champion.describe()
        assert told["version"] == told["pinned"] == str(pinned)
        assert told["note"].startswith(f"pinned to version {pinned}")
        handed_in.promote(third)
    following = Champion(mlflow_server, handed_in.seat, prepare)
    following.look()
    assert (following.describe()["version"], following.describe()["pinned"]) == (str(third), None)


def test_what_a_person_decided_is_told_and_what_users_did_is_no_training_figure(
    mlflow_server: Settings, handed_in: Recommenders
) -> None:
    number = handed_in.submit()
    handed_in.promote(number)
    run_id = handed_in.registry.get(handed_in.seat, number).run_id
    handed_in.registry.log_metrics(run_id, {"live_rate": 0.5}, date(2026, 9, 2))
    champion = Champion(mlflow_server, handed_in.seat, prepare)
    champion.look()
    told = champion.describe()
    assert told["training"] == {"ndcg_at_10": 0.25}
    assert [told[key] for key in ("review", "reviewed_by", "review_reason")] == [None, None, None]

    other = handed_in.submit(seed=1)
    handed_in.registry.promote(handed_in.seat, other, by="mina", reason="a hot fix", action="override")
    champion.look()
    told = champion.describe()
    assert (told["version"], told["review"]) == (str(other), "overridden")
    assert (told["reviewed_by"], told["review_reason"]) == ("mina", "a hot fix")


def test_a_package_that_was_tampered_with_is_refused_and_what_serves_keeps_serving(
    mlflow_server: Settings, handed_in: Recommenders, caplog: pytest.LogCaptureFixture
) -> None:
    champion = Champion(mlflow_server, handed_in.seat, prepare)
    good, other = handed_in.submit(seed=1), handed_in.submit(seed=2)
    handed_in.promote(good)
    champion.look()
    found = handed_in.registry.client.get_model_version(handed_in.seat.registered_model, str(other))
    files = mlflow_server.home / "artifacts"
    model = str(found.source).removeprefix("models:/")
    (weights,) = files.glob(f"*/models/{model}/artifacts/artifacts/weights.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1  # the last bit of a score: it would load, and nobody would see it
    weights.write_bytes(content)

    handed_in.promote(other)
    champion.look()
    told = champion.describe()
    assert told["version"] == str(good) and told["refused"]["version"] == str(other)
    assert f"version {other} is not the package that was handed in" in caplog.text
