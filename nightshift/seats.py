"""The seats: a job that a Production model does, and what it is asked and answers.

A seat names its registered model in MLflow, its primary metric and its direction. A family competes for
a seat with a packaged model that follows the seat's protocol; serving and the gate know only the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol, get_args

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from nightshift.contracts.features import HORIZON, TOPIC_VIEW, TOPIC_WINDOW, USER_VIEW
from nightshift.contracts.indicators import INDICATOR_NAMES
from nightshift.contracts.interactions import CHANNELS, DEVICES
from nightshift.errors import SettingsError


@dataclass(frozen=True)
class Seat:
    """service: what BentoML serves the seat with. port: the setting with the port that it listens on.

    view: the features (nightshift.contracts.features.VIEWS) whose drift the watch looks for; None: it has none.
    """

    name: str
    registered_model: str
    primary_metric: str
    higher_is_better: bool
    service: str
    port: str
    view: str | None


RECOMMENDER = Seat(
    "recommender",
    "recommender",
    primary_metric="ndcg_at_100",
    higher_is_better=True,
    service="serving.recommender:Recommender",
    port="serving_port",
    view=USER_VIEW,
)
FORECASTER = Seat(
    "forecaster",
    "forecaster",
    primary_metric="mse",
    higher_is_better=False,
    service="serving.forecaster:Forecaster",
    port="forecaster_port",
    view=TOPIC_VIEW,
)
LANGUAGE = Seat(
    "language",
    "language",
    primary_metric="bits_per_byte",
    higher_is_better=False,
    service="serving.language:Coach",
    port="language_port",
    view=None,
)
SEATS: dict[str, Seat] = {seat.name: seat for seat in (RECOMMENDER, FORECASTER, LANGUAGE)}


def find_seat(name: str, seats: Mapping[str, Seat] = SEATS) -> Seat:
    """The seat of that name. Raises SettingsError, naming those there are."""
    if name not in seats:
        raise SettingsError(f"there is no seat {name!r}; the seats are {', '.join(seats)}")
    return seats[name]


# NUL is the one character that PostgreSQL cannot store in a text.
Id = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern="^[^\\x00]+$")]


# What is known of a request beside who asks; a model names those that it wants.
CONTEXT = ("recent_items", "hour", "device", "channel")


class RecommenderModel(Protocol):
    """A packaged recommender, as `Registry.load` returns it (no torch).

    items: item ids in the order of the score columns.
    titles / categories: parallel to `items`.
    user_features: columns wanted in `users`, as Feast names them (`view:feature`).

    A package may also have, and those that were made before these were asked for do not:
    context: which of CONTEXT it wants as further columns of `users`; empty = none. `recent_items`: a list of item
        ids, what the user met since the training cut-off, oldest first, any id; `hour`: 0..23 UTC; `device`,
        `channel`: as in the contract `interactions`. A missing column or value is unknown.
    calibration: float64 [2, n], how sure a shown item is: row 0 ascending log-shares (an item's score less the
        logsumexp of all scores that are left in the user's ranking), row 1 the chance that the user meets the item
        in the days that an exam takes; between them interpolated, flat beyond the ends.
    reason(…, recent_items=()): if its `context` names them, a keyword with the same ids, for a reason that speaks of
        the visit under way.
    """

    items: list[str]
    titles: list[str]
    categories: list[str]
    user_features: list[str]

    def known(self, user_id: str) -> bool:
        """Whether the model has learnt this user's own taste (else it answers by features and popularity)."""
        ...

    def seen(self, user_id: str) -> np.ndarray:
        """Column indices (int64) of items the user met before the training cut-off; empty if unknown."""
        ...

    def score(self, users: pd.DataFrame) -> np.ndarray:
        """Scores [len(users), len(items)] float32, finite, higher is better.

        users: `user_id`, the columns of `user_features` and, if told, of `context`; a missing value is NaN.
        """
        ...

    def reason(self, user_id: str, column: int) -> str:
        """One short line on why this item is shown to this user."""
        ...


class ForecasterModel(Protocol):
    """A packaged forecaster, as `Registry.load` returns it (NumPy and, for trees, LightGBM; no torch).

    features: columns wanted in `rows`, as Feast names them (`view:feature`).
    typical: bare feature name → what it is taken to be where it is missing: `*_usual` and `*_spread` of a
        typical topic, so that a window of nobody knows which topic can be scored.
    topics: the topics it learnt from; it answers for others too.
    """

    features: list[str]
    typical: dict[str, float]
    topics: list[str]

    def forecast(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The velocity's change in the HORIZON weeks after each row's week, float64, finite, in points.

        rows: the bare names of `features` and `topic`, whose row it is (None if nobody's), in any order, more
            columns are ignored; missing = NaN or absent.
        Columns of the answer, in the order of `rows`: change, low_80, high_80, low_95, high_95.
        """
        ...


class LanguageModel(Protocol):
    """A packaged adapter, as `Registry.load` returns it: small, and without the base, torch or this project.

    base, revision: the base model that it was tuned on, as `nightshift.language.bases.BaseRef`.
    tokenizer_digest: of that base's tokenizer; another one would read every text differently.
    lora: the keyword arguments of peft's LoraConfig. weights: as peft names them, float32; empty = the untuned base.
    """

    base: str
    revision: str
    tokenizer_digest: str
    lora: dict[str, Any]
    weights: dict[str, np.ndarray]


class Strict(BaseModel):
    """Requests name unknown fields and wrong types instead of ignoring or converting them."""

    model_config = ConfigDict(extra="forbid", strict=True)


RECENT = 100  # items: what a user met lately, at most
Device = Literal["mobile", "desktop", "tablet", "unknown"]
Channel = Literal["search", "home", "recommendation", "email", "unknown"]


class RecommendRequest(Strict):
    user_id: Id = Field(description="Opaque user id; an unknown user gets popular items.")
    k: int = Field(10, ge=1, le=100, description="How many items.")
    exclude_items: list[Id] = Field(default_factory=list, max_length=1_000, description="Never return these.")
    recent_items: list[Id] = Field(
        default_factory=list,
        max_length=RECENT,
        description="What the user did in this session, oldest first, where it was not sent to /feedback.",
    )
    device: Device | None = None
    channel: Channel | None = Field(None, description="Where the list will be shown.")
    max_per_category: int | None = Field(
        None,
        ge=1,
        le=100,
        description="At most so many items of one category, even if fewer than k are left.",
    )


class RecommendedItem(BaseModel):
    item_id: str
    title: str
    category: str
    score: float
    confidence: float | None = Field(
        description="The chance that a user who meets anything new meets this item in the days that an exam takes; "
        "null if the model is not calibrated."
    )
    rank: int
    reason: str


class RecommendResponse(BaseModel):
    request_id: str
    user_id: str
    known_user: bool
    items: list[RecommendedItem]
    model_version: str
    recent_items_used: int = Field(
        description="How many items that the user met lately the list goes by; 0 if the model goes by none."
    )
    features_at: datetime | None = Field(
        description="Event time of the online features used; null if none were."
    )
    note: str | None = Field(None, description="Said when the answer is not personal or short, and why.")


class FeedbackEvent(Strict):
    """One thing a user did; the contract `interactions` with what a client can leave out."""

    event_id: Id = Field(description="Chosen by the client; sending it again changes nothing.")
    user_id: Id
    item_id: Id
    kind: Literal["view", "click", "add_to_cart", "purchase", "like", "share", "rating"]
    value: float | None = Field(None, ge=0, le=1e9, allow_inf_nan=False)
    at: datetime | None = Field(None, description="With a time zone; default: now.")
    session_id: Id | None = None
    device: Device = "unknown"
    channel: Channel = "unknown"
    request_id: Id | None = Field(None, description="The /recommend answer that this responds to.")


class FeedbackRequest(Strict):
    events: list[FeedbackEvent] = Field(min_length=1, max_length=1_000)


class FeedbackResponse(BaseModel):
    accepted: int = Field(description="Events stored by this call.")
    duplicates: int = Field(description="Events that were stored before.")


Finite = Annotated[float, Field(allow_inf_nan=False)]
Indicators = Annotated[
    list[Finite | None], Field(min_length=len(INDICATOR_NAMES), max_length=len(INDICATOR_NAMES))
]


class ForecastRequest(Strict):
    """A topic, or its window: exactly one of them."""

    topic: Id | None = Field(None, description="Its past four weeks are read from the feature store.")
    window: Annotated[list[Indicators], Field(min_length=TOPIC_WINDOW, max_length=TOPIC_WINDOW)] | None = (
        Field(
            None,
            description=f"Four weeks, oldest first, each [{', '.join(INDICATOR_NAMES)}]; null where unknown.",
        )
    )


class Interval(BaseModel):
    low: float
    high: float


class Driver(BaseModel):
    indicator: str = Field(
        description="One of the indicators, or `history`: all else that the model goes by."
    )
    effect: float = Field(description="Points of the forecast change that are due to it (Shapley value).")


class ForecastResponse(BaseModel):
    """Velocity is a score of 0 to 100 points; 50 is the topic's usual pace."""

    topic: str | None
    week: str | None = Field(description="The ISO week the forecast starts from; null for a bare window.")
    velocity: float = Field(description="Now.")
    change: float = Field(description=f"What it is expected to change in the next {HORIZON} weeks.")
    forecast: float = Field(description="Velocity then: velocity + change, within 0..100.")
    interval_80: Interval = Field(description="Holds the change of 80 % of such forecasts.")
    interval_95: Interval
    base: float = Field(description="The change forecast of a topic that does as usual; + effects = change.")
    drivers: list[Driver] = Field(description="Strongest first.")
    coverage: float = Field(description="Share of the velocity's weight that was known, 0..1.")
    model_version: str
    family: str | None
    features_at: datetime | None
    note: str | None = None


class TrendsRequest(BaseModel):
    """The query of GET /trends; texts, so a number is read from one."""

    model_config = ConfigDict(extra="forbid")

    k: int = Field(10, ge=1, le=1_000, description="How many topics.")


class Trend(BaseModel):
    rank: int
    topic: str
    week: str | None
    velocity: float
    change: float
    forecast: float
    interval_80: Interval
    base: float
    drivers: list[Driver]


class TrendsResponse(BaseModel):
    """Topics by forecast velocity, highest first."""

    trends: list[Trend]
    topics: int = Field(description="How many were forecast.")
    left_out: int = Field(description="Topics whose indicators are too old or too few.")
    made_at: datetime = Field(description="When the ranking was made, by the wall clock.")
    model_version: str
    note: str | None = None


assert get_args(Device) == DEVICES, "Device repeats the contract `interactions`"
assert get_args(Channel) == CHANNELS, "Channel repeats the contract `interactions`"
