"""One model's answer to one request for recommendations: no server in it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nightshift.contracts.features import USER_FEATURES, numeric
from nightshift.seats import RecommendedItem, RecommenderModel, RecommendRequest, RecommendResponse
from serving.champion import Bundle
from serving.features import Found
from serving.ranking import best

NOBODY = "nobody-who-was-ever-seen"  # the user that a new version is tried on
_NUMERIC = frozenset(numeric(USER_FEATURES))


@dataclass(frozen=True)
class Recommending:
    """A model that was tried out. column: item id → score column."""

    model: RecommenderModel
    column: dict[str, int]


def prepare(model: RecommenderModel) -> Recommending:
    """The model, warmed up by answering for somebody unknown.

    Raises:
        ValueError: it breaks the seat's protocol.
    """
    items = len(model.items)
    if not items or items != len(set(model.items)):
        raise ValueError(f"the model has {items} items, {len(set(model.items))} of them distinct")
    if len(model.titles) != items:
        raise ValueError(f"the model has {items} items but {len(model.titles)} titles")
    scores = np.asarray(model.score(frame(NOBODY, model.user_features, {})))
    if scores.shape != (1, items) or not np.isfinite(scores).all():
        raise ValueError(f"scores have shape {scores.shape}, expected (1, {items}), all finite")
    model.known(NOBODY)
    model.seen(NOBODY)
    model.reason(NOBODY, 0)
    return Recommending(model, {item: place for place, item in enumerate(model.items)})


def about(ready: Recommending) -> dict[str, Any]:
    """What GET /model says of a recommender alone."""
    return {"items": len(ready.column), "user_features": list(ready.model.user_features)}


def frame(user_id: str, features: list[str], values: dict[str, Any]) -> pd.DataFrame:
    """One user as `RecommenderModel.score` takes it: bare feature names, a missing value is NaN or None."""
    row: dict[str, Any] = {"user_id": [user_id]}
    for reference in features:
        name = reference.partition(":")[2] or reference
        value = values.get(name)
        row[name] = [np.nan if value is None else float(value)] if name in _NUMERIC else [value]
    return pd.DataFrame(row)


def recommend(bundle: Bundle[Recommending], request: RecommendRequest, found: Found) -> RecommendResponse:
    """The answer of one model to one request."""
    model, user = bundle.ready.model, request.user_id
    column = bundle.ready.column
    known = model.known(user)
    excluded = [column[item] for item in request.exclude_items if item in column]
    left_out = np.concatenate([np.asarray(model.seen(user), np.int64), np.asarray(excluded, np.int64)])
    scores = np.asarray(model.score(frame(user, model.user_features, found.values)))[0]
    columns = best(scores, left_out, request.k).tolist()
    notes = [] if known else ["the model does not know this user: popular items"]
    if found.note:
        notes.append(f"{found.note}: answered without features" if found.wrong == "away" else found.note)
    if len(columns) < request.k:
        notes.append(f"only {len(columns)} items are left that the user has not met and you did not exclude")
    return RecommendResponse(
        request_id=str(uuid.uuid4()),
        user_id=user,
        known_user=known,
        items=[
            RecommendedItem(
                item_id=model.items[place],
                title=model.titles[place],
                score=float(scores[place]),
                rank=rank,
                reason=model.reason(user, place),
            )
            for rank, place in enumerate(columns, start=1)
        ],
        model_version=str(bundle.version.number),
        features_at=found.at,
        note="; ".join(notes) or None,
    )
