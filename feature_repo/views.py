"""The feature views, generated from `nightshift.contracts.features`, where names and meanings stand once."""

from __future__ import annotations

from datetime import timedelta

from feast import FeatureView, Field
from feast.types import Float64, PrimitiveFeastType, String

from feature_repo.entities import ENTITIES
from feature_repo.sources import partitions
from nightshift.contracts.features import VIEWS, View

TYPES: dict[str, PrimitiveFeastType] = {"float": Float64, "string": String}


def feature_views(place: str) -> dict[str, FeatureView]:
    """By name, every view of the contract over the partitions at `place`."""
    return {name: _view(view, place) for name, view in VIEWS.items()}


def _view(view: View, place: str) -> FeatureView:
    entity = ENTITIES[view.key]
    fields = [Field(name=f.name, dtype=TYPES[f.dtype], description=f.meaning) for f in view.features]
    when = "at the end of a published day" if view.daily else "whenever something was told"
    return FeatureView(
        name=view.name,
        entities=[entity],
        schema=[Field(name=view.key, dtype=String), *fields],
        source=partitions(place, view.name),
        # Bounds the join too: at most this many partitions are looked at per row. Feast applies it to training
        # joins only: for online values, readers judge the age themselves (`nightshift.featurestore.online` returns
        # the event times).
        ttl=timedelta(days=view.ttl_days),
        online=True,
        description=f"{entity.name} features {when}, good for {view.ttl_days} days.",
    )
