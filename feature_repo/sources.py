"""Where Feast finds past feature values: a folder of Parquet partitions, one per published day."""

from __future__ import annotations

from pathlib import Path

from feast import FileSource
from feast.data_format import ParquetFormat

from feature_repo.pipelines.common import EVENT_TIMESTAMP


def partitions(features_dir: Path, view: str) -> FileSource:
    """`features_dir/<view>/day=YYYY-MM-DD.parquet`; the path is absolute, as Feast resolves it by the working
    directory otherwise."""
    return FileSource(
        name=f"{view}_partitions",
        path=str((features_dir / view).resolve()),
        timestamp_field=EVENT_TIMESTAMP,
        file_format=ParquetFormat(),
        description="Written by `python -m feature_repo.build`.",
    )
