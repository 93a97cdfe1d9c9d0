"""One model's answer to one request for recommendations: no server in it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd

from nightshift.confidence import checked, confidences, log_shares
from nightshift.contracts.features import USER_FEATURES, numeric
from nightshift.seats import (
    CONTEXT,
    RECENT,
    RecommendedItem,
    RecommenderModel,
    RecommendRequest,
    RecommendResponse,
)
from serving.champion import Bundle
from serving.features import Found
from serving.ranking import best, best_of_each
from serving.sessions import Lately

NOBODY = "nobody-who-was-ever-seen"  # the user that a new version is tried on
_NUMERIC = frozenset(numeric(USER_FEATURES))


@dataclass(frozen=True)
class Recommending:
    """A model that was tried out.

    column: item id → score column. kind: int64 [items], the number of its category. context, calibration: the model's,
    as `RecommenderModel` says; packages of before there were any have neither. reason(user, column, recent items): the
    model's, which is told of the last only if it takes them.
    """

    model: RecommenderModel
    column: dict[str, int]
    kind: np.ndarray
    context: tuple[str, ...]
    calibration: np.ndarray | None
    reason: Callable[[str, int, list[str]], str]


def prepare(model: RecommenderModel) -> Recommending:
    """The model, warmed up by answering for somebody unknown.

    Raises:
        ValueError: it breaks the seat's protocol.
    """
    items = len(model.items)
    if not items or items != len(set(model.items)):
        raise ValueError(f"the model has {items} items, {len(set(model.items))} of them distinct")
    for name, values in (("titles", model.titles), ("categories", model.categories)):
        if len(values) != items:
            raise ValueError(f"the model has {items} items but {len(values)} {name}")
    context = tuple(getattr(model, "context", ()))
    if strange := [name for name in context if name not in CONTEXT]:
        raise ValueError(f"the model wants {strange[0]!r} of a request; there are {', '.join(CONTEXT)}")
    calibration = checked(getattr(model, "calibration", None))
    asked = {"recent_items": [model.items[0]], "hour": 12, "device": "mobile", "channel": "home"}
    for told in ({}, asked):
        wanted = {name: told.get(name) for name in context}
        scores = np.asarray(model.score(frame(NOBODY, model.user_features, {}, wanted)))
        if scores.shape != (1, items) or not np.isfinite(scores).all():
            raise ValueError(f"scores have shape {scores.shape}, expected (1, {items}), all finite")
    model.known(NOBODY)
    model.seen(NOBODY)
    reason = _reasons(model, context)
    reason(NOBODY, 0, [])
    reason(NOBODY, 0, [model.items[-1]])
    return Recommending(
        model,
        {item: place for place, item in enumerate(model.items)},
        np.unique(np.asarray(model.categories, dtype=str), return_inverse=True)[1].astype(np.int64),
        context,
        calibration,
        reason,
    )


def _reasons(model: RecommenderModel, context: tuple[str, ...]) -> Callable[[str, int, list[str]], str]:
    """The model's reasons; packages of before a reason could speak of the visit are not told of it."""
    said: Callable[..., str] = model.reason
    if "recent_items" in context and "recent_items" in signature(said).parameters:
        return lambda user, column, recent: said(user, column, recent_items=recent)
    return lambda user, column, recent: said(user, column)


def about(ready: Recommending) -> dict[str, Any]:
    """What GET /model says of a recommender alone."""
    return {
        "items": len(ready.column),
        "user_features": list(ready.model.user_features),
        "context": list(ready.context),
        "calibrated": ready.calibration is not None,
    }


def frame(
    user_id: str, features: list[str], values: Mapping[str, Any], context: Mapping[str, Any]
) -> pd.DataFrame:
    """One user as `RecommenderModel.score` takes it: bare feature names, a missing value is NaN or None.

    context: what the model wants to know of the request, by name; None = unknown.
    """
    row: dict[str, Any] = {"user_id": [user_id]}
    for reference in features:
        name = reference.partition(":")[2] or reference
        value = values.get(name)
        row[name] = [np.nan if value is None else float(value)] if name in _NUMERIC else [value]
    return pd.DataFrame({**row, **{name: [value] for name, value in context.items()}})


def recommend(
    bundle: Bundle[Recommending], request: RecommendRequest, found: Found, lately: Lately, now: datetime
) -> RecommendResponse:
    """The answer of one model to one request. lately: what is remembered of its user. now: by the service's clock."""
    ready, model, user = bundle.ready, bundle.ready.model, request.user_id
    known, k = model.known(user), request.k
    recent = recent_items(lately, request.recent_items)
    told = {"recent_items": recent, "hour": now.hour, "device": request.device, "channel": request.channel}
    context = {name: told[name] for name in ready.context}
    used = sum(item in ready.column for item in recent) if "recent_items" in context else 0
    scores = np.asarray(model.score(frame(user, model.user_features, found.values, context)))[0]
    met = _columns(ready, lately.met.union(request.recent_items))
    seen = np.concatenate([np.asarray(model.seen(user), np.int64), met])
    left_out = np.concatenate([seen, _columns(ready, request.exclude_items)])
    if request.max_per_category is None:
        columns = best(scores, left_out, k)
    else:
        columns = best_of_each(scores, left_out, k, ready.kind, request.max_per_category)
    sure = _confidences(ready, scores, seen, columns)
    notes = _notes(request, found, known, used, len(columns), len(scores) - len(np.unique(left_out)))
    return RecommendResponse(
        request_id=str(uuid.uuid4()),
        user_id=user,
        known_user=known,
        items=[
            RecommendedItem(
                item_id=model.items[place],
                title=model.titles[place],
                category=model.categories[place],
                score=float(scores[place]),
                confidence=sure[rank - 1],
                rank=rank,
                reason=ready.reason(user, place, recent),
            )
            for rank, place in enumerate(columns.tolist(), start=1)
        ],
        model_version=str(bundle.version.number),
        recent_items_used=used,
        features_at=found.at,
        note="; ".join(notes) or None,
    )


def recent_items(lately: Lately, given: list[str]) -> list[str]:
    """What a user met lately, oldest first: what is remembered, then what the request brings; of an id that comes twice
    the newer one, and of more than RECENT the newest."""
    newest_first = dict.fromkeys(reversed([*lately.liked, *given]))
    return list(newest_first)[:RECENT][::-1]


def _columns(ready: Recommending, items: Any) -> np.ndarray:
    return np.array([ready.column[item] for item in items if item in ready.column], dtype=np.int64)


def _confidences(
    ready: Recommending, scores: np.ndarray, seen: np.ndarray, columns: np.ndarray
) -> list[float | None]:
    """How sure each item shown is; what else is in the user's ranking counts, whether or not it was asked for."""
    if ready.calibration is None or not len(columns):
        return [None] * len(columns)
    ranking = scores[None, :].astype(np.float64)
    ranking[0, seen] = np.nan
    return confidences(ready.calibration, log_shares(ranking, columns[None, :]))[0].tolist()


def _notes(
    request: RecommendRequest, found: Found, known: bool, used: int, shown: int, left: int
) -> list[str]:
    """left: how many items could be shown, were it not for the cap on categories."""
    notes = []
    if not known:
        instead = "what was met lately decides" if used else "popular items"
        notes.append(f"the model does not know this user: {instead}")
    if found.note:
        notes.append(f"{found.note}: answered without features" if found.wrong == "away" else found.note)
    if shown < min(request.k, left):
        cap = request.max_per_category
        notes.append(f"only {shown} items: at most {cap} of one category, as you asked")
    elif shown < request.k:
        notes.append(f"only {shown} items are left that the user has not met and you did not exclude")
    return notes
