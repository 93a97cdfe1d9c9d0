"""Feast's offline store over partitions that lie in a bucket: DuckDB reads them from this machine's cache.

Named in Feast's settings by `featurestore.store_config` where the store is a bucket, and imported by Feast alone. A
source's path in the registry is then where the partitions are for everybody, `s3://…/features/<view>`, and each
machine reads its own copy of those that the join may need.
"""

from __future__ import annotations

import copy
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from feast import FeatureView, FileSource, RepoConfig
from feast.data_source import DataSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.offline_store import RetrievalJob

from nightshift.errors import FeatureError
from nightshift.featurestore import TIMESTAMP
from nightshift.partitions import partitions
from nightshift.settings import Settings

SINCE = date(1970, 1, 1)  # no table tells of a moment before


class PartitionsOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """store_url: the bucket. home: where this machine keeps its cache."""

    type: Literal["nightshift.offline.PartitionsOfflineStore"] = "nightshift.offline.PartitionsOfflineStore"
    store_url: str
    home: str


class PartitionsOfflineStore(DuckDBOfflineStore):
    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        *rest: Any,
        **more: Any,
    ) -> RetrievalJob:
        oldest = pd.Timestamp(entity_df[TIMESTAMP].min()).date()
        views = [_at_hand(config, view, oldest) for view in feature_views]
        return DuckDBOfflineStore.get_historical_features(
            config, views, feature_refs, entity_df, *rest, **more
        )

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig, data_source: DataSource, *rest: Any, **more: Any
    ) -> RetrievalJob:
        since = more["start_date"].date() if more.get("start_date") else date.min
        there = local(config, data_source, since)
        return DuckDBOfflineStore.pull_all_from_table_or_query(config, there, *rest, **more)


def _at_hand(config: RepoConfig, view: FeatureView, oldest: date) -> FeatureView:
    """The view with all that a join for moments from `oldest` on may look at."""
    assert view.batch_source is not None, "every view has its partitions"
    assert view.ttl is not None, "and its bound"
    there = copy.copy(view)
    there.batch_source = local(config, view.batch_source, oldest - view.ttl)
    return there


def local(config: RepoConfig, source: DataSource, since: date) -> FileSource:
    """The source with this machine's copy of the partitions that may tell of `since` or later.

    A day's partition tells of the end of its day at the latest, and of any moment before it.
    """
    assert isinstance(source, FileSource)
    place = config.offline_store
    settings = Settings(_env_file=None, home=Path(place.home), store_url=place.store_url)  # type: ignore[call-arg]
    view = source.path.rpartition("/")[2]
    found = partitions(settings, view, since=max(since, SINCE) - timedelta(days=2))
    if not found:
        raise FeatureError(f"{source.path}: no features since {since}; run `nightshift features` first")
    there = copy.copy(source)
    there.file_options = copy.copy(source.file_options)
    there.file_options.uri = str(found[-1].parent)
    return there
