"""The seats: a job that a Production model does, and what it is asked and answers.

A seat names its registered model in MLflow, its primary metric and its direction. A family competes for
a seat with a packaged model that follows the seat's protocol; serving and the gate know only the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, Protocol

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from nightshift.contracts.interactions import CHANNELS, DEVICES


@dataclass(frozen=True)
class Seat:
    name: str
    registered_model: str
    primary_metric: str
    higher_is_better: bool


RECOMMENDER = Seat("recommender", "recommender", primary_metric="ndcg_at_10", higher_is_better=True)
SEATS: dict[str, Seat] = {RECOMMENDER.name: RECOMMENDER}

# NUL is the one character that PostgreSQL cannot store in a text.
Id = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern="^[^\\x00]+$")]


class RecommenderModel(Protocol):
    """A packaged recommender, as `Registry.load` returns it (numpy only: serving has no torch).

    items: item ids in the order of the score columns.
    titles / categories: parallel to `items`.
    user_features: columns wanted in `users`, as Feast names them (`view:feature`).
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

        users: `user_id` and the columns of `user_features`; a missing value is NaN.
        """
        ...

    def reason(self, user_id: str, column: int) -> str:
        """One short line on why this item is shown to this user."""
        ...


class Strict(BaseModel):
    """Requests name unknown fields and wrong types instead of ignoring or converting them."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RecommendRequest(Strict):
    user_id: Id = Field(description="Opaque user id; an unknown user gets popular items.")
    k: int = Field(10, ge=1, le=100, description="How many items.")
    exclude_items: list[Id] = Field(default_factory=list, max_length=1_000, description="Never return these.")


class RecommendedItem(BaseModel):
    item_id: str
    title: str
    score: float
    rank: int
    reason: str


class RecommendResponse(BaseModel):
    request_id: str
    user_id: str
    known_user: bool
    items: list[RecommendedItem]
    model_version: str
    features_at: datetime | None = Field(
        description="Event time of the online features used; null if none were."
    )
    note: str | None = Field(None, description="Said when the answer is not personal, and why.")


class FeedbackEvent(Strict):
    """One thing a user did; the contract `interactions` with what a client can leave out."""

    event_id: Id = Field(description="Chosen by the client; sending it again changes nothing.")
    user_id: Id
    item_id: Id
    kind: Literal["view", "click", "add_to_cart", "purchase", "like", "share", "rating"]
    value: float | None = Field(None, ge=0, le=1e9, allow_inf_nan=False)
    at: datetime | None = Field(None, description="With a time zone; default: now.")
    session_id: Id | None = None
    device: Literal["mobile", "desktop", "tablet", "unknown"] = "unknown"
    channel: Literal["search", "home", "recommendation", "email", "unknown"] = "unknown"
    request_id: Id | None = Field(None, description="The /recommend answer that this responds to.")


class FeedbackRequest(Strict):
    events: list[FeedbackEvent] = Field(min_length=1, max_length=1_000)


class FeedbackResponse(BaseModel):
    accepted: int = Field(description="Events stored by this call.")
    duplicates: int = Field(description="Events that were stored before.")


assert DEVICES == ("mobile", "desktop", "tablet", "unknown"), "FeedbackEvent.device repeats the contract"
assert CHANNELS == ("search", "home", "recommendation", "email", "unknown")
