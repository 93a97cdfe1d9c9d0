"""Trends as fresh as can be had, and reasons."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from nightshift.coaching import VECTOR_SIZE
from nightshift.language.prompts import VALUES
from nightshift.settings import Settings
from serving.coach import match
from serving.coach.host import Later
from serving.coach.match import COMPARED, Trends, reason
from serving.coach.profiles import Profile
from tests.conftest import free_port


def a_profile(tags: list[str], sliders: dict[str, int] | None, scores: float = 0.5) -> Profile:
    nothing = np.zeros(VECTOR_SIZE, np.float32)
    scored = {**dict.fromkeys(VALUES, scores), "impact": 1.0}
    at = datetime(2026, 9, 28, tzinfo=UTC)
    return Profile(
        "u1", at, "1", "e1", scored, tags, sliders, np.zeros((len(tags), VECTOR_SIZE)), nothing, nothing
    )


NONE = np.zeros(5)


def test_the_nearest_tag_is_the_reason() -> None:
    said = reason(a_profile(["요리", "로봇"], None), np.array([0.2, 0.6]), NONE, 0.5)
    assert "로봇" in said and "요리" not in said


def test_a_value_that_was_set_high_is_a_reason_and_one_set_low_is_not() -> None:
    values = np.array([0.3, 0.0, 0.2, 0.4, 0.0])
    low_reward = {**dict.fromkeys(VALUES, 3), "growth": 4, "reward": 1}
    said = reason(a_profile([], low_reward), np.zeros(0), values, 0.4)
    assert "growth, which you set high" in said and "reward" not in said
    assert "impact, which your words" in reason(a_profile([], None), np.zeros(0), np.full(5, 0.2), 0.4)


def test_where_nothing_is_near_the_reason_says_so() -> None:
    assert "nearest to what you said" in reason(a_profile(["요리"], None), np.array([0.01]), NONE, 0.3)
    assert "nothing here is near" in reason(a_profile([], None), np.zeros(0), NONE, -0.1)


class Ranking:
    """Another program in the forecaster's place."""

    def __init__(self, count: int) -> None:
        self.asked, self.body = 0, json.dumps(self._told(count)).encode()
        ranking = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                ranking.asked += 1
                self.send_response(200)
                self.send_header("content-length", str(len(ranking.body)))
                self.end_headers()
                self.wfile.write(ranking.body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.settings = Settings(_env_file=None, forecaster_port=self.server.server_port)  # type: ignore[call-arg]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def _told(count: int) -> dict[str, Any]:
        trend = {"week": None, "velocity": 50, "change": 1, "forecast": 51, "base": 0, "drivers": []}
        interval = {"interval_80": {"low": 0, "high": 2}}
        trends = [{**trend, **interval, "rank": n + 1, "topic": f"t{n}"} for n in range(count)]
        made = {"topics": count, "left_out": 0, "made_at": "2026-09-28T00:00:00Z", "model_version": "1"}
        return {"trends": trends, **made}

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_the_forecaster_is_asked_once_a_while_and_its_best_topics_are_compared() -> None:
    ranking = Ranking(COMPARED + 50)
    trends = Trends(ranking.settings)

    async def ask() -> int:
        known = await asyncio.gather(*(trends.known() for _ in range(5)))
        return len(known[0].compared)

    assert asyncio.run(ask()) == COMPARED and ranking.asked == 1
    ranking.stop()


def test_when_the_forecaster_is_away_the_trends_known_last_are_used_and_their_age_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ranking = Ranking(3)
    trends = Trends(ranking.settings)
    monkeypatch.setattr(match, "FRESH_SECONDS", 0.0)

    async def ask() -> tuple[Any, Any]:
        first = await trends.known()
        ranking.stop()
        return first, await trends.known()

    _, later = asyncio.run(ask())
    assert len(later.compared) == 3 and "away" in later.note and "minutes ago" in later.note


@pytest.mark.parametrize("body", [None, b"<html>", b'{"trends": 3}'])
def test_without_any_trends_the_client_is_told_when_to_come_again(body: bytes | None) -> None:
    if body is None:
        config = Settings(_env_file=None, forecaster_port=free_port())  # type: ignore[call-arg]
    else:
        ranking = Ranking(1)
        ranking.body, config = body, ranking.settings
    with pytest.raises(Later, match="forecaster") as away:
        asyncio.run(Trends(config).known())
    assert away.value.response().headers["retry-after"] == str(away.value.seconds)
