"""Where Feast finds past feature values: a folder of Parquet partitions, one per published day."""

from __future__ import annotations

from pathlib import Path

from feast import FileSource
from feast.data_format import ParquetFormat

from feature_repo.pipelines.common import EVENT_TIMESTAMP


def partitions(place: str, view: str) -> FileSource:
    """`place/<view>/day=YYYY-MM-DD.parquet`, `place` being a folder or a URL; a path is absolute, as Feast resolves it
    by the working directory otherwise."""
    return FileSource(
        name=f"{view}_partitions",
        path=f"{place}/{view}" if "://" in place else str((Path(place) / view).resolve()),
        timestamp_field=EVENT_TIMESTAMP,
        file_format=ParquetFormat(),
        description="Written by `python -m feature_repo.build`.",
    )
