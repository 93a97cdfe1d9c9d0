"""Who serves. Swaps, refusals and outages are in test_recommender.py and test_forecaster.py."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from nightshift.seats import RECOMMENDER
from nightshift.settings import Settings
from serving.champion import AWAY, Champion, exam_figures
from tests.conftest import free_port


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
