"""The registry's door, against a real MLflow server: who sits in the seat, and what a kill leaves behind."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.errors import NoChampionError, PackageError, RegistryError
from nightshift.registry import PREVIOUS, PRODUCTION, Registry, _redacted, succession
from nightshift.seats import RECOMMENDER, Seat
from nightshift.settings import PROJECT, Settings
from tests.training.test_examine import hall, table
from training.examine import judge

PREDICTOR = Path(__file__).parents[1] / "training" / "tiny_predictor.py"


@pytest.fixture(scope="module")
def packaged(mlflow_server: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """(run id, model URI) of a model that works, one whose package is torn, and two that can sit an exam."""
    Registry(mlflow_server)
    mlflow.set_experiment("registry tests")
    logged = {}
    tables = {
        "good": {"items": ["i1"], "scores": {"u1": [0.5]}},
        "torn": {"broken": True},
        "weak": table(0.3),
        "strong": table(0.6),
    }
    for name, content in tables.items():
        path = tmp_path_factory.mktemp(name) / "table.json"
        path.write_text(json.dumps(content))
        with mlflow.start_run() as run:
            info = mlflow.pyfunc.log_model(
                name="model", python_model=str(PREDICTOR), artifacts={"table": str(path)}, pip_requirements=[]
            )
        logged[name] = (run.info.run_id, info.model_uri)
    return logged


@pytest.fixture
def registry(mlflow_server: Settings) -> Registry:
    return Registry(mlflow_server)


@pytest.fixture
def seat() -> Seat:
    """A seat that no other test has sat in."""
    return replace(RECOMMENDER, registered_model=f"seat-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def submit(registry: Registry, seat: Seat, packaged: dict[str, tuple[str, str]]) -> Callable[..., int]:
    def _submit(which: str = "good", **tags: str) -> int:
        run_id, uri = packaged[which]
        return registry.submit(seat, run_id=run_id, model_uri=uri, tags=tags).number

    return _submit


def aliases(registry: Registry, seat: Seat) -> dict[str, int]:
    found = registry.client.get_registered_model(seat.registered_model).aliases
    return {alias: int(number) for alias, number in found.items()}


def test_an_empty_seat_has_no_champion_no_versions_and_no_history(registry: Registry, seat: Seat) -> None:
    assert registry.champion(seat) is None
    assert registry.versions(seat) == []
    assert registry.history(seat) == []


def test_a_submitted_candidate_is_found_by_its_tags_and_sits_nowhere(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    submit(family="ncf", night="2026-09-28")
    again = submit(family="ncf", night="2026-09-28")
    submit(family="ncf", night="2026-09-29")
    assert [v.number for v in registry.versions(seat, night="2026-09-28", family="ncf")] == [1, again]
    assert registry.get(seat, again).tags == {"family": "ncf", "night": "2026-09-28", "stage": "None"}
    assert registry.champion(seat) is None


def test_a_promotion_moves_both_aliases_mirrors_the_stage_and_is_recorded(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second = submit(), submit()
    registry.promote(seat, first, by="the gate", reason="the seat was empty", exam_digest="d1")
    assert aliases(registry, seat) == {PRODUCTION: first}
    registry.promote(seat, second, by="the gate", reason="better", exam_digest="d2")
    assert aliases(registry, seat) == {PRODUCTION: second, PREVIOUS: first}
    champion = registry.champion(seat)
    assert champion is not None and champion.number == second
    assert champion.tags["stage"] == "Production" and champion.tags["in_production_since"]
    assert registry.get(seat, first).tags["stage"] == "Archived"
    one, two = registry.history(seat)
    assert (one["action"], one["from"], one["to"], one["exam_digest"]) == ("promote", None, first, "d1")
    assert (two["from"], two["to"], two["by"], two["reason"]) == (first, second, "the gate", "better")


def test_promoting_the_champion_again_changes_nothing(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second = submit(), submit()
    registry.promote(seat, first, by="me", reason="first")
    registry.promote(seat, second, by="me", reason="better")
    registry.promote(seat, second, by="me", reason="again")
    assert aliases(registry, seat) == {PRODUCTION: second, PREVIOUS: first}
    assert len(registry.history(seat)) == 2


def test_an_unknown_version_and_a_move_without_a_reason_are_refused_in_words(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first = submit()
    with pytest.raises(RegistryError, match=r"seat recommender has no version 99; the newest are: 1$"):
        registry.promote(seat, 99, by="me", reason="why not")
    with pytest.raises(RegistryError, match="needs a reason"):
        registry.promote(seat, first, by="me", reason="  ")
    assert registry.champion(seat) is None and registry.history(seat) == []


def test_a_rollback_restores_the_version_before_and_marks_the_one_that_lost_the_seat(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second = submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    registry.promote(seat, second, by="the gate", reason="better")
    assert registry.rollback(seat, to=None, by="mina", reason="sold-out items").number == first
    assert aliases(registry, seat) == {PRODUCTION: first}
    assert registry.get(seat, second).tags["rolled_back"] == "mina: sold-out items"
    assert registry.history(seat)[-1]["action"] == "rollback"
    with pytest.raises(NoChampionError, match="no earlier champion"):
        registry.rollback(seat, to=None, by="mina", reason="once more")
    registry.promote(seat, second, by="mina", reason="it was the catalogue after all")
    assert "rolled_back" not in registry.get(seat, second).tags


def test_a_second_rollback_goes_further_back_and_never_forward_again(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    versions = [submit() for _ in range(3)]
    for version in versions:
        registry.promote(seat, version, by="the gate", reason="better")
    assert registry.rollback(seat, to=None, by="mina", reason="bad").number == versions[1]
    assert registry.rollback(seat, to=None, by="mina", reason="still bad").number == versions[0]


def test_a_rollback_can_name_its_version_and_says_when_there_is_nothing_to_do(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    versions = [submit() for _ in range(3)]
    for version in versions:
        registry.promote(seat, version, by="the gate", reason="better")
    assert registry.rollback(seat, to=versions[0], by="mina", reason="the old one").number == versions[0]
    with pytest.raises(RegistryError, match=f"version {versions[0]} holds the seat already"):
        registry.rollback(seat, to=versions[0], by="mina", reason="the old one")


def test_a_rollback_of_an_empty_seat_is_refused(registry: Registry, seat: Seat) -> None:
    with pytest.raises(NoChampionError, match="no earlier champion"):
        registry.rollback(seat, to=None, by="mina", reason="bad")


class PowerCut(Exception):
    pass


class FailingAfter:
    """A client whose writes stop after `budget` calls, as if the process had been killed there."""

    def __init__(self, client: Any, budget: int) -> None:
        self._client, self._budget = client, budget

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not name.startswith(("set_", "delete_", "update_")):
            return method

        def write(*args: Any, **kwargs: Any) -> Any:
            if self._budget == 0:
                raise PowerCut
            self._budget -= 1
            return method(*args, **kwargs)

        return write


@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_a_kill_between_any_two_writes_leaves_a_champion_and_the_next_move_sets_it_right(
    registry: Registry, seat: Seat, submit: Callable[..., int], mlflow_server: Settings, action: str
) -> None:
    first, second, third = submit(), submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    registry.promote(seat, second, by="the gate", reason="better")

    def move(through: Registry) -> None:
        if action == "promote":
            through.promote(seat, third, by="the gate", reason="better still")
        else:
            through.rollback(seat, to=None, by="mina", reason="bad")

    target, kills = {"promote": third, "rollback": first}[action], 0
    while True:
        dying = Registry(mlflow_server)
        dying.client = FailingAfter(registry.client, kills)  # type: ignore[assignment]
        try:
            move(dying)
            break
        except PowerCut:
            kills += 1
        champion = registry.champion(seat)
        assert champion is not None and champion.number in (second, target)
        moves = registry.history(seat)
        assert moves[-1]["to"] == champion.number, "the history tells who sits in the seat at any moment"
        registry.settle(seat)
        if champion.number == second:
            assert aliases(registry, seat) == {PRODUCTION: second, PREVIOUS: first}
            continue
        assert registry.get(seat, target).tags["stage"] == "Production"
        assert registry.get(seat, second).tags["stage"] == "Archived"
        registry.rollback(seat, to=second, by="test", reason="try the next kill")
        registry.promote(seat, first, by="test", reason="line up again")
        registry.promote(seat, second, by="test", reason="line up again")
    assert kills >= 5, "the move has at least five writes, and each was cut off once"
    assert registry.history(seat)[-1]["to"] == target


@pytest.mark.parametrize("kills", [1, 2])
def test_a_move_that_was_killed_before_the_alias_and_made_again_is_one_move(
    registry: Registry, seat: Seat, submit: Callable[..., int], mlflow_server: Settings, kills: int
) -> None:
    first, second, third = submit(), submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    registry.promote(seat, second, by="the gate", reason="better")
    dying = Registry(mlflow_server)
    dying.client = FailingAfter(registry.client, kills)  # type: ignore[assignment]
    with pytest.raises(PowerCut):
        dying.promote(seat, third, by="the gate", reason="better still")
    registry.promote(seat, third, by="the gate", reason="better still")
    assert aliases(registry, seat) == {PRODUCTION: third, PREVIOUS: second}
    assert [move["to"] for move in registry.history(seat)] == [first, second, third]


def test_a_champion_seated_by_hand_in_mlflow_is_where_a_rollback_returns(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second, third = submit(), submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty")
    registry.client.set_registered_model_alias(seat.registered_model, PRODUCTION, str(second))
    registry.promote(seat, third, by="the gate", reason="better")
    assert registry.rollback(seat, to=None, by="mina", reason="bad").number == second


def test_a_packaged_model_loads_and_a_torn_one_says_which_it_is(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    good, torn = submit("good"), submit("torn")
    assert registry.load(seat, good).items == ["i1"]
    with pytest.raises(PackageError, match=rf"version {torn} cannot be loaded: .*the table is torn"):
        registry.load(seat, torn)


def test_a_nights_figures_are_dated_by_the_night_and_logged_once(
    registry: Registry, packaged: dict[str, tuple[str, str]]
) -> None:
    run_id = packaged["good"][0]
    for _ in range(2):
        registry.log_metrics(run_id, {"exam_auc": 0.75}, date(2026, 9, 28))
    registry.log_metrics(run_id, {"exam_auc": 0.5}, date(2026, 9, 29))
    assert registry.metrics(run_id)["exam_auc"] == 0.5
    points = registry.client.get_metric_history(run_id, "exam_auc")
    assert [(p.value, date.fromordinal(p.step).isoformat()) for p in points] == [
        (0.75, "2026-09-28"),
        (0.5, "2026-09-29"),
    ]


def test_text_beside_a_run_can_be_read_back_and_replaced(
    registry: Registry, packaged: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    run_id = packaged["good"][0]
    registry.log_text(run_id, "verdict/verdict.md", "# eins")
    registry.log_text(run_id, "verdict/verdict.md", "# 판정")
    kept = registry.artifact(run_id, "verdict/verdict.md", tmp_path)
    assert kept.read_text(encoding="utf-8") == "# 판정"
    with pytest.raises(RegistryError):
        registry.artifact(run_id, "verdict/none.md", tmp_path)


def test_long_reasons_are_cut_and_say_so(registry: Registry, seat: Seat, submit: Callable[..., int]) -> None:
    first = submit()
    registry.promote(seat, first, by="mina", reason="곱하기" * 3_000)
    assert registry.history(seat)[0]["reason"].endswith("…")
    registry.annotate(seat, first, tags={"verdict_reason": "x" * 20_000}, description="**so**")
    assert registry.get(seat, first).description == "**so**"


@pytest.mark.parametrize("answers", ["refuses the call", "never answers"])
def test_an_mlflow_that_is_not_there_is_an_error_in_words_within_seconds(
    mlflow_server: Settings, answers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) + 1
    assert tries * int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) <= 20
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # the same wait, in less of a test's time
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        if answers == "never answers":
            door.listen(8)
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        gone = Registry(mlflow_server.model_copy(update={"mlflow_url": url}))
        began = time.monotonic()
        with pytest.raises(RegistryError, match=f"MLflow at {url} does not answer; `nightshift status`"):
            gone.champion(RECOMMENDER)
        assert time.monotonic() - began < 10


def test_no_error_names_the_user_or_password_of_an_address(mlflow_server: Settings) -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{door.getsockname()[1]}"
        for login in ("mina:open-sesame", "mina:p@ss-open-sesame", "mina:open-sesame" + 400 * "e"):
            gone = Registry(mlflow_server.model_copy(update={"mlflow_url": f"http://{login}@{where}"}))
            with pytest.raises(RegistryError, match=rf"MLflow at http://\*\*\*@{where} does not") as caught:
                gone.champion(RECOMMENDER)
            assert "sesame" not in str(caught.value) and "mina" not in str(caught.value)
    assert _redacted("at postgresql+psycopg2://u:p@db:5432/x, http://h/a@b") == (
        "at postgresql+psycopg2://***@db:5432/x, http://h/a@b"
    )


# --- pickles ---------------------------------------------------------------------------------------------


class Canary:
    """Unpickling it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


class Pickled(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]
    def __init__(self, canary: Canary) -> None:
        self.canary = canary

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        return model_input


LOAD = """
import sys
from dataclasses import replace
from nightshift.registry import Registry
from nightshift.seats import RECOMMENDER
from nightshift.settings import settings
seat = replace(RECOMMENDER, registered_model=sys.argv[1])
try:
    Registry(settings()).load(seat, 1)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_pickled_version_is_refused_unread_whatever_the_surroundings_allow(
    registry: Registry, seat: Seat, mlflow_server: Settings, tmp_path: Path
) -> None:
    sprung = tmp_path / "sprung"
    with mlflow.start_run() as run:
        model = Pickled(Canary(str(sprung)))
        uri = mlflow.pyfunc.log_model(name="model", python_model=model, pip_requirements=[]).model_uri
    registry.submit(seat, run_id=run.info.run_id, model_uri=uri, tags={})
    with pytest.raises(PackageError, match=r"version 1 cannot be loaded: it is pickled, .* from code$"):
        registry.load(seat, 1)
    allowed = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true"}
    (other,) = at_once(mlflow_server, LOAD, [[seat.registered_model]], **allowed)
    assert other.startswith("PackageError") and "it is pickled" in other
    assert not sprung.exists()


# --- two promoters ---------------------------------------------------------------------------------------


def at_once(config: Settings, script: str, arguments: list[list[str]], **more: str) -> list[str]:
    """What processes that run `script` at the same time print, one for each list of arguments."""
    own = {"NIGHTSHIFT_HOME": str(config.home), "NIGHTSHIFT_MLFLOW_URL": config.mlflow_uri}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, *each],
            env={**os.environ, **own, **more}, cwd=PROJECT, stdout=subprocess.PIPE, text=True,
        )
        for each in arguments
    ]  # fmt: skip
    printed = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(running)
    return printed


PROMOTE = """
import sys, time
from dataclasses import replace
from pathlib import Path
from nightshift.registry import Registry
from nightshift.seats import RECOMMENDER
from nightshift.settings import settings
name, folder, me, other, *versions = sys.argv[1:]
registry, seat = Registry(settings()), replace(RECOMMENDER, registered_model=name)
registry.champion(seat)
Path(folder, me).touch()
while not Path(folder, other).exists():
    time.sleep(0.001)
for version in versions:
    registry.promote(seat, int(version), by=me, reason="at once")
"""


def test_two_processes_that_promote_at_once_take_turns_and_the_history_has_every_move(
    registry: Registry, seat: Seat, submit: Callable[..., int], mlflow_server: Settings, tmp_path: Path
) -> None:
    first, *others = [submit() for _ in range(7)]
    registry.promote(seat, first, by="test", reason="first")
    mine, yours = [str(n) for n in others[::2]], [str(n) for n in others[1::2]]
    common = [seat.registered_model, str(tmp_path)]
    at_once(mlflow_server, PROMOTE, [[*common, "a", "b", *mine], [*common, "b", "a", *yours]])
    moves = registry.history(seat)
    assert sorted(move["to"] for move in moves) == [first, *others]
    assert all(before["to"] == after["from"] for before, after in itertools.pairwise(moves))
    assert aliases(registry, seat) == {PRODUCTION: moves[-1]["to"], PREVIOUS: moves[-2]["to"]}
    stages = {v.number: v.tags["stage"] for v in registry.versions(seat)}
    assert [number for number, stage in stages.items() if stage == "Production"] == [moves[-1]["to"]]


def test_of_two_that_beat_the_same_champion_at_once_one_is_refused(
    registry: Registry, seat: Seat, submit: Callable[..., int], mlflow_server: Settings
) -> None:
    first, *winners = submit(), submit(), submit()
    registry.promote(seat, first, by="test", reason="first")
    together = threading.Barrier(2)

    def promote(version: int) -> str:
        mine = Registry(mlflow_server)
        together.wait(30)
        try:
            mine.promote(seat, version, by="the gate", reason="better", expected=first)
        except RegistryError as error:
            return str(error)
        return "seated"

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(promote, winners))
    won = winners[said.index("seated")]
    lost = said[1 - said.index("seated")]
    assert f"the champion changed during the exam (was v{first}, is v{won}); run the gate again" in lost
    assert [move["to"] for move in registry.history(seat)] == [first, won]
    assert aliases(registry, seat) == {PRODUCTION: won, PREVIOUS: first}


def test_a_promotion_over_another_champion_than_the_expected_is_refused(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second, third = submit(), submit(), submit()
    registry.promote(seat, first, by="the gate", reason="empty", expected=None)
    with pytest.raises(RegistryError, match=rf"\(was nobody, is v{first}\); run the gate again"):
        registry.promote(seat, second, by="the gate", reason="empty", expected=None)
    registry.promote(seat, second, by="the gate", reason="better", expected=first)
    registry.rollback(seat, to=None, by="mina", reason="sold-out items")
    with pytest.raises(RegistryError, match=rf"\(was v{second}, is v{first}\)"):
        registry.promote(seat, third, by="the gate", reason="better", expected=second)
    assert aliases(registry, seat) == {PRODUCTION: first} and len(registry.history(seat)) == 3
    registry.promote(seat, first, by="the gate", reason="a rerun", expected=second)  # it sits there already
    assert len(registry.history(seat)) == 3


def test_settling_waits_for_a_move_that_is_under_way_and_does_not_undo_it(
    registry: Registry, seat: Seat, submit: Callable[..., int], mlflow_server: Settings
) -> None:
    first, second = submit(), submit()
    registry.promote(seat, first, by="test", reason="first")
    slow, reached, go_on = Registry(mlflow_server), threading.Event(), threading.Event()
    set_alias = slow._set_alias

    def paused(*arguments: Any) -> None:
        reached.set()
        assert go_on.wait(30)
        set_alias(*arguments)

    slow._set_alias = paused  # type: ignore[method-assign, assignment]
    moving = threading.Thread(target=slow.promote, args=(seat, second), kwargs={"by": "b", "reason": "r"})
    settling = threading.Thread(target=registry.settle, args=(seat,))
    moving.start()
    assert reached.wait(30)
    settling.start()
    settling.join(1)
    assert settling.is_alive()
    go_on.set()
    moving.join(30)
    settling.join(30)
    assert aliases(registry, seat) == {PRODUCTION: second, PREVIOUS: first}
    assert [move["to"] for move in registry.history(seat)] == [first, second]


class Meanwhile:
    """A model during whose exam something else happens, once."""

    def __init__(self, model: Any, happens: Callable[[], object]) -> None:
        self._model, self._happens = model, happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def score(self, users: pd.DataFrame) -> np.ndarray:
        happens, self._happens = self._happens, lambda: None
        happens()
        scores: np.ndarray = self._model.score(users)
        return scores


def test_the_gate_does_not_overwrite_a_rollback_that_was_made_during_its_exam(
    registry: Registry, seat: Seat, submit: Callable[..., int]
) -> None:
    first, second = submit("weak", train_end="2026-09-26"), submit("weak", train_end="2026-09-26")
    registry.promote(seat, first, by="test", reason="first")
    registry.promote(seat, second, by="test", reason="second")
    tonight = hall()
    candidate = submit(
        "strong", family="ncf", night=str(tonight.night.night), train_end=str(tonight.night.train_end)
    )
    baseline = Meanwhile(
        tonight.baselines["popularity"], lambda: registry.rollback(seat, to=None, by="mina", reason="bad")
    )
    with pytest.raises(RegistryError, match=rf"\(was v{second}, is v{first}\); run the gate again"):
        judge(registry, seat, replace(tonight, baselines={"popularity": baseline}), ["ncf"])
    assert aliases(registry, seat) == {PRODUCTION: first}
    assert (
        judge(registry, seat, replace(tonight, baselines={"popularity": baseline}), ["ncf"])["decision"]
        == "promote"
    )
    assert aliases(registry, seat) == {PRODUCTION: candidate, PREVIOUS: first}


# --- the line of succession ------------------------------------------------------------------------------

moves = st.lists(
    st.tuples(st.sampled_from(["promote", "rollback"]), st.integers(1, 5)), min_size=1, max_size=12
)


@given(moves)
def test_the_line_of_succession_always_ends_with_the_champion_and_never_repeats_it(
    steps: list[tuple[str, int]],
) -> None:
    records: list[dict[str, Any]] = []
    for action, to in steps:
        champion = records[-1]["to"] if records else None
        if to != champion and not (action == "rollback" and champion is None):
            records.append({"action": action, "from": champion, "to": to})
    line = succession(records)
    assert line[-1:] == [record["to"] for record in records[-1:]]
    assert all(here != there for here, there in itertools.pairwise(line))


def test_a_rollback_forgets_whoever_came_after_the_version_it_returns_to() -> None:
    def record(action: str, source: int | None, to: int) -> dict[str, Any]:
        return {"action": action, "from": source, "to": to}

    climb = [record("promote", None, 1), record("promote", 1, 2), record("promote", 2, 3)]
    assert succession(climb) == [1, 2, 3]
    assert succession([*climb, record("rollback", 3, 2)]) == [1, 2]
    assert succession([*climb, record("rollback", 3, 1)]) == [1]
    assert succession([*climb, record("rollback", 3, 7)]) == [1, 2, 7]
