"""Which rising trends are near a profile, and what in the profile says so.

Trends come from the forecaster's service and are asked for when they are needed, at most every FRESH_SECONDS. If it is
away, those known last are used and the answer says how old they are. Of a trend its topic's name is embedded, once, and
kept; nothing else of it says what it is about.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import numpy as np
from pydantic import ValidationError

from nightshift.coaching import MatchedTrend
from nightshift.language.prompts import VALUES
from nightshift.parts import service_uri
from nightshift.seats import FORECASTER, Trend, TrendsResponse
from nightshift.settings import Settings
from serving.coach.host import Later
from serving.coach.persona import SLIDERS, TAGS, leaning
from serving.coach.profiles import Profile

ASKED = 1_000  # topics asked for: all that a plan can be made for
COMPARED = 200  # of them, those of the highest forecast velocity: what is embedded at first takes seconds
MATCHES = 3
FRESH_SECONDS, RETRY_SECONDS = 60.0, 10.0
TIMEOUT_SECONDS = 3.0  # it ranks beforehand and answers in milliseconds
AWAY_SECONDS = 15
AWAY = "the forecaster cannot be asked for trends, and none are known yet; ask again"
WORTH_SAYING = 0.05  # cosine; below it two texts have nothing to do with each other

log = logging.getLogger("nightshift.serving")


@dataclass(frozen=True)
class Known:
    """What the forecaster said last. at: monotonic seconds."""

    told: TrendsResponse
    at: float
    note: str | None = None

    @property
    def compared(self) -> dict[str, Trend]:
        return {trend.topic: trend for trend in self.told.trends[:COMPARED]}


class Trends:
    """The forecaster's trends, as fresh as can be had. For one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._url = f"{service_uri(settings, FORECASTER)}/trends?k={ASKED}"
        self._known: Known | None = None
        self._retry_at = 0.0
        self._asking = asyncio.Lock()

    async def known(self) -> Known:
        """Raises Later if none were ever known."""
        async with self._asking:
            now = time.monotonic()
            fresh = self._known is not None and now - self._known.at < FRESH_SECONDS
            if not fresh and now >= self._retry_at:
                await self._ask()
        if self._known is None:
            raise Later(AWAY, AWAY_SECONDS)
        age = time.monotonic() - self._known.at
        if age > FRESH_SECONDS:
            note = f"the forecaster is away: these are its trends of {age / 60:.0f} minutes ago"
            return Known(self._known.told, self._known.at, note)
        return self._known

    async def _ask(self) -> None:
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
                answer = await client.get(self._url)
            answer.raise_for_status()
            self._known = Known(TrendsResponse.model_validate_json(answer.content), time.monotonic())
        except (httpx.HTTPError, ValidationError) as error:
            log.warning("the forecaster cannot be asked for trends: %s", str(error) or type(error).__name__)
            self._retry_at = time.monotonic() + RETRY_SECONDS


def matched(
    profile: Profile,
    tags: np.ndarray,
    values: np.ndarray,
    near: Sequence[tuple[Trend, np.ndarray, float]],
) -> list[MatchedTrend]:
    """The answer's trends. tags: vectors [n, VECTOR_SIZE] of the profile's tags. values: of VALUES [5, VECTOR_SIZE].

    near: trends, nearest first, each with its vector and cosine.
    """
    return [
        MatchedTrend(
            rank=rank,
            topic=trend.topic,
            similarity=round(cosine, 4),
            week=trend.week,
            velocity=trend.velocity,
            forecast=trend.forecast,
            change=trend.change,
            reason=reason(profile, tags @ vector, values @ vector, cosine),
        )
        for rank, (trend, vector, cosine) in enumerate(near, 1)
    ]


def reason(profile: Profile, tags: np.ndarray, values: np.ndarray, cosine: float) -> str:
    """What of the profile speaks most for a trend, in words. tags [n], values [5]: cosines with the trend."""
    said = []
    if len(tags) and tags.max() >= WORTH_SAYING:
        said.append(f"it is near your interest “{profile.tags[int(tags.argmax())]}”")
    if profile.sliders is not None:
        weighed = values * leaning(profile.sliders)
        wanted = "which you set high"
    else:
        weighed = values * np.array([2 * profile.value_score[value] - 1 for value in VALUES])
        wanted = "which your words put first"
    best = int(weighed.argmax())
    if weighed[best] >= WORTH_SAYING and values[best] > 0:
        said.append(f"it goes with {VALUES[best]}, {wanted}")
    if not said:
        said.append(
            "it is the nearest to what you said"
            if cosine > 0
            else "nothing here is near; it is the least far"
        )
    return " and ".join(said)


assert TAGS > SLIDERS, "a reason names the tag first"
