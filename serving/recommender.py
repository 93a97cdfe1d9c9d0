"""The recommender service: POST /recommend, POST /feedback, GET /model; Bento adds / /livez /readyz /metrics.

    bentoml serve serving.recommender:Recommender --host 127.0.0.1 --port 3000

Handlers are async and score in place: one user is a fraction of a millisecond, a thread would cost more.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bentoml

from nightshift.contracts.features import USER_VIEW, VIEWS
from nightshift.errors import EventLogError
from nightshift.eventlog import EventLog
from nightshift.seats import (
    RECOMMENDER,
    FeedbackRequest,
    FeedbackResponse,
    RecommendRequest,
    RecommendResponse,
)
from nightshift.settings import settings
from serving import feedback as events
from serving import pages
from serving.champion import Champion
from serving.clock import Clock
from serving.edge import Edge, NoBadInput, Problem
from serving.exposures import Exposures
from serving.features import OnlineFeatures
from serving.recommending import about, prepare, recommend
from serving.sessions import Sessions

EVENTLOG_WAIT_SECONDS = 2.0  # under the timeout, so that a client hears why instead of a 504


@bentoml.asgi_app(pages.new(), path="/")
@bentoml.service(name="recommender", **pages.OPTIONS)
class Recommender:
    """Recommends items with the champion of the seat, and takes in what users did with them."""

    def __init__(self) -> None:
        logging.getLogger("bentoml._internal.server.http_app").addFilter(NoBadInput())
        config = settings()
        self.counters = Counters()
        self.clock = Clock(config)
        self.events = EventLog(config.eventlog_uri, EVENTLOG_WAIT_SECONDS, config.database_pool)
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="eventlog")
        self.exposures = Exposures(self.events, lambda how, n: self.counters.exposures.labels(how).inc(n))
        if config.pinned_version is None:  # a trial is no exposure of a champion
            self.exposures.start()
        self.sessions = Sessions(self.events)
        self.sessions.start()
        self.features = OnlineFeatures(config, VIEWS[USER_VIEW].key, config.feature_max_age_days)
        self.features.start()
        self.champion = Champion(
            config, RECOMMENDER, prepare, about, self.counters.swaps.inc, before_swap=self.features.open
        )
        self.champion.start()

    @bentoml.api(route="/recommend", output_spec=RecommendResponse)
    async def recommend(self, request: RecommendRequest, /) -> Any:
        """Items for a user, best first: nothing the user has met before, nothing excluded, nothing twice."""
        bundle = self.champion.bundle
        if bundle is None:
            return Problem(503, "no champion is seated yet: run a night (`nightshift night`)").response()
        wanted = bundle.ready.model.user_features
        now = self.clock.now()
        found = await self.features.of(request.user_id, wanted, now)
        answer = recommend(bundle, request, found, self.sessions.of(request.user_id, now), now)
        self.exposures.note(answer, now)
        self.counters.requests.labels(answer.model_version).inc()
        if not answer.known_user:
            self.counters.unknown.inc()
        return answer

    @bentoml.api(route="/feedback", output_spec=FeedbackResponse)
    async def feedback(self, request: FeedbackRequest, /) -> Any:
        """Take in what users did. On disk, and remembered for the next list, before the answer; sending an event again
        changes nothing."""
        try:
            rows = events.rows(request, self.clock.now())
            new = await asyncio.get_running_loop().run_in_executor(self.writer, self.events.append_new, rows)
        except Problem as problem:
            self.counters.feedback.labels("refused").inc(len(request.events))
            return problem.response()
        except EventLogError as error:
            logging.getLogger("nightshift.serving").warning("%s", error)
            self.counters.feedback.labels("failed").inc(len(request.events))
            return Problem(503, "the event log cannot be written now: send the same events again").response()
        self.sessions.note(events.stored(rows, new))
        self.counters.feedback.labels("accepted").inc(len(new))
        self.counters.feedback.labels("duplicate").inc(len(rows) - len(new))
        return FeedbackResponse(accepted=len(new), duplicates=len(rows) - len(new))

    @bentoml.on_shutdown
    def close(self) -> None:
        self.champion.stop()
        self.exposures.stop()
        self.sessions.stop()
        self.events.close()


Recommender.add_asgi_middleware(Edge)  # type: ignore[attr-defined]  # the decorator made it a bentoml.Service


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
        self.exposures = Counter(
            "nightshift_exposures", "Answers taken down as exposures, kept or dropped.", ["outcome"]
        )
