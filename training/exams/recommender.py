"""The recommender's exam: reads the lake for what happened, and Feast for what was known before."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

import pandas as pd

from nightshift import featurestore, retrains
from nightshift.contracts.features import USER_FEATURES, USER_VIEW
from nightshift.errors import NoDataError
from nightshift.lake import Lake, training_window
from nightshift.seats import RECOMMENDER
from nightshift.settings import Settings
from training.baselines.neighbours import in_memory
from training.baselines.popularity import Popularity
from training.behaviour.recommender import try_model
from training.evidence import Measured
from training.exams import Content, EmptyExamError, Scores
from training.exams.ranking import METRICS, Exam, score_model
from training.meetings import read_meetings
from training.recipe import Night

if TYPE_CHECKING:
    from feast import FeatureStore


STEERED = "recommendation"  # the channel of what a user met because the service showed it


TRAIN_WINDOW_DAYS = 90  # a season: older behaviour says little about what somebody will look for next
SMOKE_DAYS = 7


class Discovery:
    """Examiner of the recommender seat: what did users meet for the first time on the exam days?"""

    unit = "users"
    metrics = METRICS

    def night(self, lake: Lake, day: date, settings: Settings, *, smoke: bool = False) -> Night:
        """The exam is the last published days, fewer in the week after a drift; `smoke` trains on the last few."""
        enough, days = settings.exam_users, [one for one in lake.days() if one <= day]
        if retrains.after_drift(retrains.requested(settings, RECOMMENDER.name), days):
            enough = min(enough, settings.exam_users_after_drift)
        start, end, exam_start = training_window(
            lake,
            day,
            window_days=TRAIN_WINDOW_DAYS,
            exam_days=settings.exam_days,
            exam_users=enough,
        )
        if not lake.paths("interactions", start, end):
            raise NoDataError(
                f"night {day}: no interactions were published from {start} to {end}: "
                "the recommender seat is left out tonight"
            )
        night = Night(night=day, train_start=start, train_end=end, exam_start=exam_start)
        if not smoke:
            return night
        days = [day for day in lake.days() if start <= day <= end]
        return replace(night, train_start=days[-SMOKE_DAYS:][0], met_from=start)

    def digest(self, lake: Lake, night: Night) -> str:
        return lake.digest(night.train_start, night.train_end)

    def content(self, lake: Lake, settings: Settings, night: Night) -> Content:
        """Every published day's interactions, by the digest of their file."""
        return Content(
            training=published(lake, night.train_start, night.train_end),
            exam=published(lake, night.exam_start, night.night),
        )

    def set(self, lake: Lake, settings: Settings, night: Night) -> Exam:
        return build_exam(lake, featurestore.open_store(settings), night, settings)

    def baselines(self, lake: Lake, settings: Settings, night: Night) -> dict[str, Any]:
        """Popularity and item-kNN, from the training window alone."""
        interactions = lake.read("interactions", night.train_start, night.train_end)
        items = lake.latest("items", night.train_end)
        return {
            "popularity": Popularity(
                interactions.select(["user_id", "item_id"]).to_pandas(), items.to_pandas()
            ),
            "item-kNN": in_memory(read_meetings(lake, night.train_start, night.train_end)),
        }

    def score(self, model: Any, exam: Exam) -> Scores:
        return score_model(model, exam)

    def behaviour(self, model: Any, exam: Exam) -> Measured:
        return try_model(model, exam)

    def rest(self) -> None:
        """Scoring keeps nothing."""

    def about(self, exam: Exam) -> str:
        return f"{len(exam):,} users who met something new; the whole catalogue ranked, items met before left out"


EXAMINER = Discovery()


def published(lake: Lake, start: date, end: date) -> dict[str, str]:
    """Day → sha256 of its interactions, of the published days start..end that have any.

    A day without any is left out: all such days are alike, and say nothing.
    """
    found = {}
    for day in lake.days():
        entry = lake.entry(day) if start <= day <= end else None
        table = entry["tables"].get("interactions") if entry else None
        if table and table["rows"]:
            found[day.isoformat()] = str(table["sha256"])
    return found


def build_exam(lake: Lake, store: FeatureStore, night: Night, settings: Settings) -> Exam:
    """The exam of `night`: days exam_start..night, nothing known later than exam_start 00:00 UTC.

    Raises:
        EmptyExamError: nobody met anything new on the exam days.
        FeatureError: features were not built up to the exam.
    """
    columns = ["user_id", "item_id", "channel"]
    before = lake.read("interactions", night.train_start, night.train_end).select(columns).to_pandas()
    during = lake.read("interactions", night.exam_start, night.night).select(columns).to_pandas()
    users, relevant, seen = discoveries(before, during)
    if not users:
        raise EmptyExamError(
            f"exam {night.exam_start}..{night.night}: nobody met an item that was new to them; "
            f"raise NIGHTSHIFT_EXAM_DAYS (now {settings.exam_days})"
        )
    on_offer = categories(lake, night.night)
    catalogue = sorted(set(on_offer).union(*relevant))
    features = user_features_at(store, users, datetime.combine(night.exam_start, time(), UTC))
    # Who and what was known the evening before counts; of an item that came later, its first category.
    told: dict[str, Any] = {
        "category": {**on_offer, **categories(lake, night.train_end)},
        "popularity": {str(item): int(n) for item, n in before["item_id"].value_counts().items()},
        "country": countries(lake, night.train_end, users),
        "steered": steered_items(before, during, users),
    }
    digest = _digest([users, relevant, seen, catalogue, told], features)
    return Exam(users, relevant, seen, features, catalogue, night.exam_start, night.night, digest, **told)


def categories(lake: Lake, day: date) -> dict[str, str]:
    """Item → category of everything listed by the end of a day."""
    items = lake.latest("items", day)
    return dict(zip(items["item_id"].to_pylist(), items["category"].to_pylist(), strict=True))


def countries(lake: Lake, day: date, users: list[str]) -> dict[str, str]:
    """User → country, of those whose country was known by the end of a day."""
    people = lake.latest("users", day)
    told = dict(zip(people["user_id"].to_pylist(), people["country"].to_pylist(), strict=True))
    return {user: told[user] for user in users if told.get(user)}


def discoveries(
    before: pd.DataFrame, during: pd.DataFrame
) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """(users, relevant, seen) from two frames of user_id, item_id, channel; only users who met something new.

    What a user met through a recommendation counts neither for nor against anybody: the champion chose what
    was shown, so counting it would hand the champion its own clicks. Left out like what was seen before.
    """
    pair = ["user_id", "item_id"]
    steered = during.loc[during["channel"] == STEERED, pair]
    met = pd.concat([before[pair], steered]).drop_duplicates()
    new = during[pair].drop_duplicates().merge(met, on=pair, how="left", indicator=True)
    new = new[new["_merge"] == "left_only"]
    relevant = new.groupby("user_id")["item_id"].agg(sorted)
    seen = met[met["user_id"].isin(relevant.index)].groupby("user_id")["item_id"].agg(sorted)
    users = sorted(relevant.index)
    return users, [relevant[user] for user in users], [seen.get(user, []) for user in users]


def steered_items(before: pd.DataFrame, during: pd.DataFrame, users: list[str]) -> dict[str, list[str]]:
    """User → items first met on the exam days and through a recommendation: left out, but known to no model."""
    pair = ["user_id", "item_id"]
    shown = during.loc[(during["channel"] == STEERED) & during["user_id"].isin(users), pair].drop_duplicates()
    new = shown.merge(before[pair].drop_duplicates(), on=pair, how="left", indicator=True)
    new = new[new["_merge"] == "left_only"]
    return {str(user): sorted(items) for user, items in new.groupby("user_id")["item_id"]}


def user_features_at(store: FeatureStore, users: list[str], at: datetime) -> pd.DataFrame:
    """`user_id` and every user feature by its bare name, rows in the order of `users`."""
    names = [f.name for f in USER_FEATURES]
    entities = pd.DataFrame({"user_id": users, "event_timestamp": pd.Timestamp(at)})
    found = featurestore.historical(store, entities, [f"{USER_VIEW}:{name}" for name in names])
    return found[["user_id", *names]].reset_index(drop=True)


def _digest(told: list[Any], features: pd.DataFrame) -> str:
    content = json.dumps(told, sort_keys=True).encode()
    rows = pd.util.hash_pandas_object(features, index=False).to_numpy().tobytes()
    return hashlib.sha256(content + rows).hexdigest()
