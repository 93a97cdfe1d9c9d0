"""The feature services that models ask for, one per seat, and everything there is to apply."""

from __future__ import annotations

from typing import Any

from feast import FeatureService

from feature_repo.entities import ENTITIES
from feature_repo.views import feature_views
from nightshift.contracts.features import SERVICES


def definitions(place: str) -> list[Any]:
    """Entities, views and services over the partitions at `place`, a folder or a URL, in the contract's order."""
    views = feature_views(place)
    services = [
        FeatureService(
            name=seat,
            features=[views[name] for name in names],
            description=f"All that the {seat} seat may use.",
        )
        for seat, names in SERVICES.items()
    ]
    return [*ENTITIES.values(), *views.values(), *services]
