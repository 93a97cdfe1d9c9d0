"""The forecaster service: POST /forecast, GET /trends, GET /model; Bento adds / /livez /readyz /metrics.

    bentoml serve serving.forecaster:Forecaster --host 127.0.0.1 --port 3001

Handlers are async and forecast in place: one topic with its drivers is 64 rows of a small model.
"""

import logging
from typing import Annotated, Any

import bentoml
from fastapi import Query
from starlette.responses import Response

from nightshift.contracts.features import TOPIC_VIEW, VIEWS
from nightshift.seats import FORECASTER, ForecastRequest, ForecastResponse, TrendsRequest, TrendsResponse
from nightshift.settings import settings
from nightshift.velocity import LEAST_COVERAGE
from serving import pages
from serving.champion import Bundle, Champion
from serving.clock import Clock
from serving.edge import Edge, NoBadInput, Problem
from serving.features import OnlineFeatures
from serving.forecasting import (
    BORROWED,
    FEATURES,
    OF_NOBODY,
    UNLEARNT,
    Forecasting,
    about,
    completed,
    of_values,
    of_window,
    prepare,
    respond,
    too_little,
    too_old,
    window_of,
)
from serving.trends import Trends

NO_CHAMPION = "no champion is seated yet: run a night (`nightshift night`)"
NO_RANKING = (
    "the topics are not ranked yet: ask again in a few seconds; if it stays so, the service's log says why"
)

site = pages.new()


@site.get("/trends", response_model=TrendsResponse, summary="Topics by forecast velocity, highest first.")
async def trends(query: Annotated[TrendsRequest, Query()]) -> Response:
    service: Forecaster = bentoml.get_current_service()
    ranking = service.trends.ranking
    if ranking is None:
        return Problem(503, NO_CHAMPION if service.champion.bundle is None else NO_RANKING).response()
    service.counters.trends.labels(str(ranking.version)).inc()
    return Response(ranking.best(query.k).model_dump_json(), media_type="application/json")


@bentoml.asgi_app(site, path="/")
@bentoml.service(name="forecaster", **pages.OPTIONS)
class Forecaster:
    """Forecasts with the champion of the seat how a topic's velocity changes in the next four weeks."""

    def __init__(self) -> None:
        logging.getLogger("bentoml._internal.server.http_app").addFilter(NoBadInput())
        config = settings()
        self.counters = Counters()
        self.clock = Clock(config)
        self.features = OnlineFeatures(config, VIEWS[TOPIC_VIEW].key, config.topic_max_age_days)
        self.features.start()
        self.champion = Champion(
            config, FORECASTER, prepare, about, on_swap=self._swapped, before_swap=self.features.open
        )
        self.trends = Trends(config, self.features, self.clock, lambda: self.champion.bundle)
        self.champion.start()
        self.trends.start()

    @bentoml.api(route="/forecast", output_spec=ForecastResponse)
    async def forecast(self, request: ForecastRequest, /) -> Any:
        """How a topic's velocity changes in the next four weeks, how sure that is, and what drives it."""
        bundle = self.champion.bundle
        try:
            if bundle is None:
                raise Problem(503, NO_CHAMPION)
            if (request.topic is None) == (request.window is None):
                raise Problem(400, "give a topic or its window, and not both", ("topic",))
            answer = (
                await self._of_topic(bundle, request.topic) if request.topic else of_weeks(bundle, request)
            )
        except Problem as problem:
            self.counters.refused.labels(str(problem.status)).inc()
            return problem.response()
        self.counters.forecasts.labels(answer.model_version).inc()
        return answer

    @bentoml.on_shutdown
    def close(self) -> None:
        self.trends.stop()
        self.champion.stop()

    async def _of_topic(self, bundle: Bundle[Forecasting], topic: str) -> ForecastResponse:
        now = self.clock.now()
        found = await self.features.of(topic, FEATURES, now)
        if found.wrong == "unknown":
            raise Problem(
                404, f"no such topic here: {topic[:80]!r}; a window can be sent instead", ("topic",)
            )
        if found.wrong == "away":
            raise Problem(503, f"{found.note}: ask again later, or send the window")
        old = found.note or too_old(found.values, now, self.features.max_age_days)
        if old:
            raise Problem(503, f"the topic cannot be forecast now: {old}", ("topic",))
        topics, borrowed = completed(bundle.ready, of_values([found.values]))
        if topics.coverage[0] < LEAST_COVERAGE:
            raise Problem(
                503, f"the topic cannot be forecast now: {too_little(topics.coverage[0])}", ("topic",)
            )
        notes = [BORROWED] if borrowed[0] else []
        notes += [UNLEARNT] if topic not in bundle.ready.topics else []
        return respond(bundle, topics, topic, found.at, notes)

    def _swapped(self) -> None:
        self.counters.swaps.inc()
        self.trends.wake()


Forecaster.add_asgi_middleware(Edge)  # type: ignore[attr-defined]  # the decorator made it a bentoml.Service


def of_weeks(bundle: Bundle[Forecasting], request: ForecastRequest) -> ForecastResponse:
    """The answer to a request that brings its window."""
    assert request.window is not None
    topics, _ = completed(bundle.ready, of_window(window_of(request.window)))
    if topics.coverage[0] < LEAST_COVERAGE:
        raise Problem(400, f"window: {too_little(topics.coverage[0])}", ("window",))
    return respond(bundle, topics, None, None, [OF_NOBODY])


class Counters:
    """What Prometheus reads at /metrics. Made in the worker: Bento sets up its metrics folder before that."""

    def __init__(self) -> None:
        from prometheus_client import Counter

        self.forecasts = Counter("nightshift_forecasts", "Forecasts by model version.", ["model_version"])
        self.trends = Counter("nightshift_trends", "Rankings asked for, by model version.", ["model_version"])
        self.refused = Counter("nightshift_forecasts_refused", "Forecasts refused, by status.", ["status"])
        self.swaps = Counter("nightshift_model_swaps", "Versions seated since the service started.")
