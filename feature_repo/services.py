"""The feature service that models ask for, and everything there is to apply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feast import FeatureService

from feature_repo.entities import ITEM, USER
from feature_repo.views import feature_views
from nightshift.contracts.features import SERVICE


def definitions(features_dir: Path) -> list[Any]:
    """Entities, views and the service over the partitions under `features_dir`."""
    views = feature_views(features_dir)
    service = FeatureService(
        name=SERVICE, features=list(views), description="All that the recommender seat may use."
    )
    return [USER, ITEM, *views, service]
