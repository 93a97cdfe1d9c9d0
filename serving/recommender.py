"""The recommender service: POST /recommend, POST /feedback, GET /model; Bento adds / /livez /readyz /metrics.

    bentoml serve serving.recommender:Recommender --host 127.0.0.1 --port 3000

Handlers are async and score in place: one user is a fraction of a millisecond, a thread would cost more.
"""

import asyncio
import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bentoml
import numpy as np
from fastapi import FastAPI
from starlette.responses import JSONResponse, RedirectResponse

from nightshift.errors import EventLogError
from nightshift.eventlog import EventLog
from nightshift.seats import (
    FeedbackRequest,
    FeedbackResponse,
    RecommendedItem,
    RecommendRequest,
    RecommendResponse,
)
from nightshift.settings import settings
from serving import feedback as events
from serving.champion import Bundle, Champion, frame
from serving.clock import Clock
from serving.edge import Edge, NoBadInput, Problem
from serving.features import Found, OnlineFeatures
from serving.ranking import best

TIMEOUT_SECONDS = 5  # Bento never cancels its timer, which pins each request's memory for this long
EVENTLOG_WAIT_SECONDS = 2.0  # under the timeout, so that a client hears why instead of a 504
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # 665 against 63 requests/s

pages = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


@pages.get("/model", summary="Who serves, since when, and how it did in its exam.")
async def model() -> JSONResponse:
    service: Recommender = bentoml.get_current_service()
    return JSONResponse(service.champion.describe())


@pages.get("/docs", include_in_schema=False)
async def docs() -> RedirectResponse:
    return RedirectResponse("/")


@bentoml.asgi_app(pages, path="/")
@bentoml.service(
    name="recommender",
    workers=1,
    traffic={"timeout": TIMEOUT_SECONDS},
    logging={"access": {"enabled": False}},
    envs=[{"name": name, "value": "1"} for name in ONE_THREAD],
)
class Recommender:
    """Recommends items with the champion of the seat, and takes in what users did with them."""

    def __init__(self) -> None:
        logging.getLogger("bentoml._internal.server.http_app").addFilter(NoBadInput())
        config = settings()
        self.counters = Counters()
        self.clock = Clock(config)
        self.events = EventLog(config.eventlog_uri, wait_seconds=EVENTLOG_WAIT_SECONDS)
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="eventlog")
        self.features = OnlineFeatures(config)
        self.features.start()
        self.champion = Champion(config, on_swap=self.counters.swaps.inc, before_swap=self.features.open)
        self.champion.start()

    @bentoml.api(route="/recommend", output_spec=RecommendResponse)
    async def recommend(self, request: RecommendRequest, /) -> Any:
        """Items for a user, best first: nothing the user has met before, nothing excluded, nothing twice."""
        bundle = self.champion.bundle
        if bundle is None:
            return Problem(503, "no champion is seated yet: run a night (`nightshift night`)").response()
        found = await self.features.of(request.user_id, bundle.model.user_features, self.clock.now())
        answer = recommend(bundle, request, found)
        self.counters.requests.labels(answer.model_version).inc()
        if not answer.known_user:
            self.counters.unknown.inc()
        return answer

    @bentoml.api(route="/feedback", output_spec=FeedbackResponse)
    async def feedback(self, request: FeedbackRequest, /) -> Any:
        """Take in what users did. On disk before the answer; sending an event again changes nothing."""
        try:
            rows = events.rows(request, self.clock.now())
            new = await asyncio.get_running_loop().run_in_executor(self.writer, self.events.append, rows)
        except Problem as problem:
            self.counters.feedback.labels("refused").inc(len(request.events))
            return problem.response()
        except EventLogError as error:
            logging.getLogger("nightshift.serving").warning("%s", error)
            self.counters.feedback.labels("failed").inc(len(request.events))
            return Problem(503, "the event log cannot be written now: send the same events again").response()
        self.counters.feedback.labels("accepted").inc(new)
        self.counters.feedback.labels("duplicate").inc(len(rows) - new)
        return FeedbackResponse(accepted=new, duplicates=len(rows) - new)

    @bentoml.on_shutdown
    def close(self) -> None:
        self.champion.stop()
        self.events.close()


Recommender.add_asgi_middleware(Edge)  # type: ignore[attr-defined]  # the decorator made it a bentoml.Service


def recommend(bundle: Bundle, request: RecommendRequest, found: Found) -> RecommendResponse:
    """The answer of one model to one request."""
    model, user = bundle.model, request.user_id
    known = model.known(user)
    excluded = [bundle.column[item] for item in request.exclude_items if item in bundle.column]
    left_out = np.concatenate([np.asarray(model.seen(user), np.int64), np.asarray(excluded, np.int64)])
    scores = np.asarray(model.score(frame(user, model.user_features, found.values)))[0]
    columns = best(scores, left_out, request.k).tolist()
    notes = [] if known else ["the model does not know this user: popular items"]
    notes += [found.note] if found.note else []
    if len(columns) < request.k:
        notes.append(f"only {len(columns)} items are left that the user has not met and you did not exclude")
    return RecommendResponse(
        request_id=str(uuid.uuid4()),
        user_id=user,
        known_user=known,
        items=[
            RecommendedItem(
                item_id=model.items[column],
                title=model.titles[column],
                score=float(scores[column]),
                rank=rank,
                reason=model.reason(user, column),
            )
            for rank, column in enumerate(columns, start=1)
        ],
        model_version=str(bundle.version.number),
        features_at=found.at,
        note="; ".join(notes) or None,
    )


class Counters:
    """What Prometheus reads at /metrics. Made in the worker: Bento sets up its metrics folder before that."""

    def __init__(self) -> None:
        from prometheus_client import Counter

        self.requests = Counter(
            "nightshift_recommendations", "Recommendations by model version.", ["model_version"]
        )
        self.unknown = Counter(
            "nightshift_unknown_users", "Recommendations for users the model does not know."
        )
        self.swaps = Counter("nightshift_model_swaps", "Versions seated since the service started.")
        self.feedback = Counter("nightshift_feedback_events", "Feedback events by outcome.", ["outcome"])
