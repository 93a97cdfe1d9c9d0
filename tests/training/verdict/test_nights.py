"""The last nights, read back from the verdicts that a real MLflow server keeps."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, replace
from datetime import date
from typing import Any

import mlflow
import pytest

from nightshift.errors import RegistryError
from nightshift.registry import Registry
from nightshift.seats import RECOMMENDER, Seat
from nightshift.settings import Settings
from tests.conftest import free_port
from tests.training.verdict.pages import NIGHT, earlier, pages
from training.verdict.nights import past, tonight, with_tonight


@pytest.fixture
def registry(mlflow_server: Settings) -> Registry:
    return Registry(mlflow_server)


@pytest.fixture
def seat() -> Seat:
    return replace(RECOMMENDER, registered_model=f"seat-{uuid.uuid4().hex[:8]}")


def examined(registry: Registry, seat: Seat, night: str, kept: Any, **tags: str) -> None:
    """A version of `night` with a verdict, whose file holds `kept`; None: it has no file."""
    experiment = mlflow.set_experiment("nights").experiment_id
    run = registry.client.create_run(experiment).info.run_id
    if kept is not None:
        registry.log_text(run, "verdict/verdict.json", kept if isinstance(kept, str) else json.dumps(kept))
    registry.log_text(run, "model/MLmodel", "{}")
    given = {"night": night, "verdict": "keep", **tags}
    registry.submit(seat, run_id=run, model_uri=f"runs:/{run}/model", tags=given)


def test_the_newest_earlier_verdict_tells_all_nights_before_tonight(registry: Registry, seat: Seat) -> None:
    told = with_tonight(pages()["promote"])
    examined(registry, seat, "2026-09-29", {"nights": told[:3]})
    examined(registry, seat, NIGHT.isoformat(), {"nights": told})
    assert past(registry, seat, date(2026, 10, 2)) == (*earlier(), tonight(pages()["promote"]))
    assert past(registry, seat, date(2026, 10, 2), at_most=4)[-1].night == "2026-10-01"
    assert len(past(registry, seat, date(2026, 10, 2), at_most=4)) == 4
    assert [n.night for n in past(registry, seat, NIGHT)] == [row["night"] for row in told[:3]]
    assert past(registry, seat, date(2026, 9, 29)) == ()


def test_of_a_nights_candidates_the_winners_point_is_read_else_the_best_ones(
    registry: Registry, seat: Seat
) -> None:
    def kept(version: int) -> dict[str, Any]:
        return {"nights": [{**asdict(earlier()[0]), "version": version}]}

    examined(registry, seat, "2026-09-28", kept(1), exam_ndcg_at_100="0.2")
    examined(registry, seat, "2026-09-28", kept(2), exam_ndcg_at_100="0.1")
    examined(registry, seat, "2026-09-28", kept(3), exam_ndcg_at_100="nonsense")
    assert past(registry, seat, NIGHT)[0].version == 1
    examined(registry, seat, "2026-09-28", kept(4), verdict="hold", exam_ndcg_at_100="0.1")
    assert past(registry, seat, NIGHT)[0].version == 4


ROW = asdict(earlier()[0])


@pytest.mark.parametrize(
    "kept",
    [None, "", "no JSON", "[]", {"candidate": 3}, {"nights": None}, {"nights": [3]}, {"nights": [{"night": "x"}]},
     {"nights": [{**ROW, "night": "yesterday"}]}, {"nights": [{**ROW, "low": "0.1"}]},
     {"nights": [{**ROW, "decision": None}]}, '{"nights": [' + json.dumps({**ROW, "low": float("nan")}) + "]}"],
)  # fmt: skip
def test_a_file_that_is_missing_or_of_another_format_is_an_empty_past(
    registry: Registry, seat: Seat, kept: Any
) -> None:
    examined(registry, seat, "2026-09-28", kept)
    assert past(registry, seat, NIGHT) == ()


def test_a_seat_that_was_never_examined_has_no_past(registry: Registry, seat: Seat) -> None:
    assert past(registry, seat, NIGHT) == ()


def test_an_mlflow_that_does_not_answer_is_an_error_not_an_empty_past(
    registry: Registry, seat: Seat, monkeypatch: pytest.MonkeyPatch, mlflow_server: Settings
) -> None:
    away = Registry(mlflow_server.model_copy(update={"mlflow_url": f"http://127.0.0.1:{free_port()}"}))
    with pytest.raises(RegistryError, match="does not answer"):
        past(away, seat, NIGHT)
    examined(Registry(mlflow_server), seat, "2026-09-28", {"nights": []})
    found = registry.versions(seat)
    away = Registry(mlflow_server.model_copy(update={"mlflow_url": f"http://127.0.0.1:{free_port()}"}))
    monkeypatch.setattr(away, "versions", lambda _: found)  # it went away between the two questions
    with pytest.raises(RegistryError, match="does not answer"):
        past(away, seat, NIGHT)
    Registry(mlflow_server)  # MLflow's address is the process's: the next test wants this one


def test_tonights_point_holds_the_best_baseline_and_the_difference_that_was_judged() -> None:
    page = pages()["keep-slice"]
    found = tonight(page)
    judged = next(check for check in page.verdict.checks if check.name == "better than the champion")
    assert (found.difference, found.low, found.high) == tuple(
        judged.figures[n] for n in ("difference", "low", "high")
    )
    assert (found.baseline, found.baseline_figure) == ("item-kNN", page.scores["item-kNN"]["ndcg_at_100"])
    assert (found.night, found.decision, found.version, found.champion) == ("2026-10-01", "keep", 12, 9)
    first = tonight(pages()["first"])
    assert (first.champion, first.champion_figure, first.difference) == (None, None, None)
    assert json.loads(json.dumps(with_tonight(page)))[-1] == asdict(found)
