"""The load test's clients: what was not answered with 200 they send again, and count as acknowledged once it was."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from benchmarks import serving_load
from benchmarks.serving_load import Seen


async def told(statuses: list[int], events: list[dict[str, Any]]) -> tuple[Seen, list[list[str]]]:
    """What a client saw that told `events` to a service that answers with these statuses, and what that got."""
    got: list[list[str]] = []

    async def feedback(request: web.Request) -> web.Response:
        got.append([event["event_id"] for event in (await request.json())["events"]])
        return web.json_response({"accepted": 1}, status=statuses.pop(0) if statuses else 503)

    app = web.Application()
    app.router.add_post("/feedback", feedback)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    seen = Seen(seconds=1.0)
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession(address) as session:
        await serving_load._tell(session, seen, events)
    await runner.cleanup()
    return seen, got


def test_events_are_sent_again_until_they_are_acknowledged_and_then_count_once() -> None:
    seen, got = asyncio.run(told([503, 503, 200], [{"event_id": "a"}, {"event_id": "b"}]))
    assert got == [["a", "b"]] * 3
    row = seen.row()
    assert seen.acknowledged == ["a", "b"] and row["not_200"] == {"feedback 503": 2} and row["requests"] == 3
    assert len(seen.feedback_ms) == 1, "only answers with 200 are timed"


def test_events_that_are_never_acknowledged_are_given_up_and_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving_load, "PATIENCE", 0.2)
    seen, got = asyncio.run(told([], [{"event_id": "a"}]))
    assert len(got) > 1 and seen.acknowledged == [] and seen.given_up == 1
