from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nightshift import backtest_report
from nightshift.backtest import LIVES, Past, about, live_on, lives, past, swaps, to_judge
from nightshift.commands import step_path
from nightshift.errors import SettingsError
from nightshift.lake import write_json
from nightshift.night import StepFailedError
from nightshift.replay import replay_settings
from nightshift.settings import Settings

FIRST = date(2026, 10, 10)


def nights(*told: tuple[int | None, int | None, int | None]) -> list[Past]:
    """A history from (production, candidate, fresh) per night."""
    return [Past(FIRST + timedelta(days=n), "keep", *one, trained=2) for n, one in enumerate(told)]


def served(history: list[Past], life: str) -> list[int | None]:
    return [row[life] for row in lives(history)]


HISTORY = nights((None, 1, 2), (3, 3, 4), (3, 5, 6), (7, 7, 8), (7, None, 8))


def test_never_is_the_first_that_was_seated_and_nobody_before() -> None:
    assert served(HISTORY, "never") == [None, 3, 3, 3, 3]
    assert served(HISTORY, "gate") == [None, 3, 3, 7, 7]


def test_always_and_newest_follow_every_night() -> None:
    assert served(HISTORY, "always") == [2, 4, 6, 8, 8]
    assert served(HISTORY, "newest")[:4] == [1, 3, 5, 7]


def test_where_the_gate_seats_nobody_the_first_candidate_never_retires() -> None:
    history = nights((None, None, None), (None, 1, 2), (None, 3, 4))
    assert served(history, "never") == [None, 1, 1]
    assert served(history, "gate") == [None, None, None]


def test_swaps_count_whoever_took_over_and_not_who_came_first() -> None:
    assert [swaps(lives(HISTORY), life) for life in ("never", "always", "gate")] == [0, 3, 1]


versions = st.one_of(st.none(), st.integers(1, 9))


@given(st.lists(st.tuples(versions, versions, versions), min_size=1, max_size=8))
def test_what_is_judged_each_night_is_enough_whatever_comes_later(
    told: list[tuple[int | None, int | None, int | None]],
) -> None:
    history = nights(*told)
    for at, row in enumerate(lives(history)):
        judged = to_judge(history[: at + 1])
        assert {row[life] for life in LIVES} - {None} <= set(judged)


def test_the_past_is_read_from_the_steps_and_a_night_without_training_keeps_what_there_was(
    tmp_path: Path,
) -> None:
    config = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    first, second = FIRST, FIRST + timedelta(days=1)

    def left(night: date, step: str, **result: Any) -> None:
        write_json(step_path(config, night, step), result)

    left(first, "gate-recommender", decision="promote", production=2)
    left(first, "train-ncf", version=1, seat="recommender")
    left(first, "train-item_knn", version=2, seat="recommender")
    left(first, "train-gru", version=1, seat="forecaster")
    left(first, "no-exam-ncf", version=3)
    assert past(config, [first, second], "ncf") == [
        Past(first, "promote", production=2, candidate=1, fresh=3, trained=2),
        Past(second, "no exam", production=2, candidate=1, fresh=3, trained=0),
    ]
    left(first, "judged-recommender", scored_day=str(second), users=10, popularity_hr_at_10=0.5)
    history = past(config, [first], "ncf")
    told = about(config, "ncf", history, lives(history))
    assert told["promotions"] == 1 and told["models_trained"]["gate"] == 2
    assert (told["scored_days"], told["popularity_hits"]) == ([str(second)], 5)


def test_what_is_done_is_left_alone_and_what_lacks_a_version_is_judged_again(tmp_path: Path) -> None:
    config = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    following, said = FIRST + timedelta(days=1), list[str]()
    done = {
        "report": {}, "train-ncf": {"version": 1, "seat": "recommender"}, "no-exam-ncf": {"version": 2},
        "gate-recommender": {"decision": "promote", "production": 1},
        "judged-recommender": {"versions": {"1": {}, "2": {}}},
    }  # fmt: skip
    for step, result in done.items():
        write_json(step_path(config, FIRST, step), result)
    for step in ("features", "watch"):
        write_json(step_path(config, following, step), {"drift": False})
    live_on(config, [FIRST], following, "ncf", said.append)
    assert said == []
    step_path(config, following, "watch").unlink()
    write_json(step_path(config, following, "report"), {})
    live_on(config, [FIRST], following, "ncf", said.append)
    assert said == []  # the night after was trained: a look at its day now could ask for nothing any more
    write_json(step_path(config, FIRST, "judged-recommender"), {"versions": {"1": {}}})
    with pytest.raises(StepFailedError, match=r"training\.next_day recommender .* --version 1 --version 2"):
        live_on(config, [FIRST], following, "ncf", said.append)
    assert said == [f"judging by {following}"]


def test_a_backtest_has_a_state_of_its_own(tmp_path: Path) -> None:
    base = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    assert (
        replay_settings(base, "market", None, None, 9, kind="backtest").home
        == tmp_path / "backtest" / "market"
    )


def difference(hits: float, low: float, high: float) -> dict[str, Any]:
    return {
        "hits": hits, "hits_interval": [low, high], "share": hits / 1000, "share_interval": [low / 1000, high / 1000],
        "ndcg_at_100": hits / 1e5, "ndcg_at_100_interval": [low / 1e5, high / 1e5],
    }  # fmt: skip


def result(**differences: tuple[float, float, float]) -> dict[str, Any]:
    """A backtest of two nights, the second judged by the drift day; pairs named `a_b`, all others equal."""
    pairs = ["always_never", "newest_never", "newest_always", "gate_never", "gate_always", "gate_newest"]
    of_all = {name: {"hits": 900.0, "hr_at_10": 0.5, "ndcg_at_10": 0.1, "ndcg_at_100": 0.2} for name in LIVES}
    lead = {"hits": [0.0, 4.0], "low": [0.0, -1.0], "high": [0.0, 9.0]}
    told: dict[str, Any] = {
        "source": "market", "family": "ncf", "users": 1_500, "user_days": 1_800, "popularity_hits": 700.0,
        "drift_day": "2026-10-12", "scored_days": ["2026-10-11", "2026-10-12"],
        "history": [{"night": "2026-10-10", "decision": "promote"}, {"night": "2026-10-11", "decision": "keep"}],
        "served": [{"gate": 1}, {"gate": None}],
        "nights": [{"night": night, "users": 900, "hits": dict.fromkeys(LIVES, 450.0),
                    "ndcg_at_100": dict.fromkeys(LIVES, 180.0)} for night in ("2026-10-10", "2026-10-11")],
        "models_trained": {"never": 1, "always": 2, "newest": 2, "gate": 4},
        "swaps": {"never": 0, "always": 19, "newest": 19, "gate": 2},
        "lives": of_all, "leads": dict.fromkeys(("always", "newest", "gate"), lead),
        "differences": {pair.replace("_", " - "): difference(*differences.get(pair, (0, -5, 5))) for pair in pairs},
    }  # fmt: skip
    told["conclusions"] = backtest_report.conclusions(told)
    return told


def test_where_the_gate_does_not_pay_is_said_plainly() -> None:
    paid, worse, equal = ((40, 10, 70), (-40, -70, -10), (1, -8, 10))
    assert "The gate paid" in result(gate_always=paid)["conclusions"][0]
    assert result(gate_always=worse)["conclusions"][0].startswith("The gate did not pay on these nights")
    told = result(gate_always=equal)["conclusions"][0]
    assert told == (
        "The gate and always promoting cannot be told apart on these nights: "
        "+1 hits [-8, +10], +0.1% [-0.8%, +1.0%]; it saved 17 of 19 swaps."
    )
    assert "cannot be told from never retraining" in result()["conclusions"][1]
    assert "has its price: -40 hits" in result(newest_always=worse)["conclusions"][2]
    assert "choices cost something" in result(gate_newest=worse)["conclusions"][3]


def test_the_tables_fit_a_terminal_and_the_picture_is_drawn(tmp_path: Path) -> None:
    console = Console(record=True, width=80)
    backtest_report.show(result(gate_never=(40, 10, 70)), console)
    told = console.export_text()
    assert "nobody" in told and "promote" in told and "gate − never" in told and "most popular items" in told
    assert "+4.0% [+1.0%, +7.0%]" in told and "…" not in told.replace("[…]", "")
    backtest_report.plot(result(), tmp_path / "deep" / "backtest.png")
    assert (tmp_path / "deep" / "backtest.png").read_bytes().startswith(b"\x89PNG")


def test_a_family_that_the_seat_has_not_is_refused_before_anything_starts(tmp_path: Path) -> None:
    from nightshift.backtest import run

    base = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    with pytest.raises(SettingsError, match="no family 'gru'; its families are ncf"):
        run(base, FIRST, FIRST, Console(), None, family="gru")
    assert not (tmp_path / "mlflow").exists()
