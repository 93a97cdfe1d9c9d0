"""The feature services that models ask for, one per seat, and everything there is to apply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feast import FeatureService

from feature_repo.entities import ENTITIES
from feature_repo.views import feature_views
from nightshift.contracts.features import SERVICES


def definitions(features_dir: Path) -> list[Any]:
    """Entities, views and services over the partitions under `features_dir`, in the contract's order."""
    views = feature_views(features_dir)
    services = [
        FeatureService(
            name=seat,
            features=[views[name] for name in names],
            description=f"All that the {seat} seat may use.",
        )
        for seat, names in SERVICES.items()
    ]
    return [*ENTITIES.values(), *views.values(), *services]
