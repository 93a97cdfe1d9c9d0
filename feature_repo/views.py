"""The feature views, generated from `nightshift.contracts.features`, where names and meanings stand once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureView, Field
from feast.types import Float64, PrimitiveFeastType, String

from feature_repo.entities import ITEM, USER
from feature_repo.sources import partitions
from nightshift.contracts.features import (
    ITEM_FEATURES,
    ITEM_VIEW,
    USER_FEATURES,
    USER_VIEW,
    WINDOW_DAYS,
    Feature,
)

# A row older than its own window says nothing about the present one. It also bounds the join: at most this many
# partitions are looked at per row. Feast applies it to training joins only: for online values, readers judge the
# age themselves (`nightshift.featurestore.online` returns the event times).
TTL = timedelta(days=WINDOW_DAYS)

TYPES: dict[str, PrimitiveFeastType] = {"float": Float64, "string": String}


def feature_views(features_dir: Path) -> tuple[FeatureView, FeatureView]:
    """The user and the item view over the partitions under `features_dir`."""
    return (
        _view(USER_VIEW, USER, USER_FEATURES, features_dir),
        _view(ITEM_VIEW, ITEM, ITEM_FEATURES, features_dir),
    )


def _view(name: str, entity: Entity, features: tuple[Feature, ...], features_dir: Path) -> FeatureView:
    fields = [Field(name=f.name, dtype=TYPES[f.dtype], description=f.meaning) for f in features]
    return FeatureView(
        name=name,
        entities=[entity],
        schema=[Field(name=entity.join_key, dtype=String), *fields],
        source=partitions(features_dir, name),
        ttl=TTL,
        online=True,
        description=f"{entity.name} features at the end of a published day, over {WINDOW_DAYS} days.",
    )
