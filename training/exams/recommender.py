"""Sets the exam of a night: reads the lake for what happened, and Feast for what was known before."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING

import pandas as pd

from nightshift import featurestore
from nightshift.contracts.features import USER_FEATURES, USER_VIEW
from nightshift.errors import LakeError
from nightshift.lake import Lake
from nightshift.settings import Settings
from training.recipe import Night
from training.scoring import Exam

if TYPE_CHECKING:
    from feast import FeatureStore


STEERED = "recommendation"  # the channel of what a user met because the service showed it


class EmptyExamError(LakeError):
    """Nobody met anything new on the exam days."""


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
    on_offer = set(lake.latest("items", night.night)["item_id"].to_pylist())
    catalogue = sorted(on_offer.union(*relevant))
    features = user_features_at(store, users, datetime.combine(night.exam_start, time(), UTC))
    digest = _digest(users, relevant, seen, catalogue, features)
    return Exam(users, relevant, seen, features, catalogue, night.exam_start, night.night, digest)


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


def user_features_at(store: FeatureStore, users: list[str], at: datetime) -> pd.DataFrame:
    """`user_id` and every user feature by its bare name, rows in the order of `users`."""
    names = [f.name for f in USER_FEATURES]
    entities = pd.DataFrame({"user_id": users, "event_timestamp": pd.Timestamp(at)})
    found = featurestore.historical(store, entities, [f"{USER_VIEW}:{name}" for name in names])
    return found[["user_id", *names]].reset_index(drop=True)


def _digest(
    users: list[str],
    relevant: list[list[str]],
    seen: list[list[str]],
    catalogue: list[str],
    features: pd.DataFrame,
) -> str:
    content = json.dumps([users, relevant, seen, catalogue]).encode()
    rows = pd.util.hash_pandas_object(features, index=False).to_numpy().tobytes()
    return hashlib.sha256(content + rows).hexdigest()
