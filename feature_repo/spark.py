"""The feature pipelines on Spark: the same Ibis expressions, for windows that one machine does not hold.

On `local[…]` the driver listens on loopback alone. On a cluster its executors must reach it, so Spark chooses the
address (SPARK_LOCAL_IP sets it), and the lake must lie where every executor can read it under the same path.
**No cluster has been run: no second machine was at hand.** What comes out, a row per user or item, is collected here.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis.util import gen_name

from feature_repo.engines import Engine, memory_mib
from feature_repo.shares import EVERYBODY, Share
from nightshift.errors import FeatureError
from nightshift.lake import Lake
from nightshift.settings import Settings

LOCAL = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.authenticate": "true",  # other users of this machine cannot talk to it; a cluster has its own secret
    "spark.sql.shuffle.partitions": "32",  # 200, for a cluster, are mostly overhead here
}
INSTALL = "python3.11 -m nightshift.bootstrap spark"
# DuckDB's function of this name: Spark's cast divides the microseconds by 1e6 as well, so both give the same float64.
EPOCH = "CREATE OR REPLACE TEMPORARY FUNCTION epoch(at TIMESTAMP) RETURNS DOUBLE RETURN CAST(at AS DOUBLE)"


class Spark(Engine):
    """session: the SparkSession that `connection`, Ibis' backend, talks to."""

    def __init__(self, session: Any) -> None:
        super().__init__(ibis.pyspark.connect(session))  # which sets the session's time zone to UTC
        self.session = session
        session.sql(EPOCH)

    def shares(self, lake: Lake, start: date, end: date) -> list[Share]:
        return EVERYBODY  # Spark cuts by itself

    def kept(self, name: str, expression: ir.Table) -> ir.Table:
        return expression

    def files(self, paths: list[Path]) -> ir.Table:
        root = str(
            paths[0].parents[1]
        )  # <table>/day=…/<digest>.parquet: folders above the first count as no column
        return self._table(self.session.read.option("basePath", root).parquet(*map(str, paths)))

    def empty(self, schema: pa.Schema) -> ir.Table:
        return self._table(self.session.createDataFrame(schema.empty_table()))

    def arrow(self, expression: ir.Table) -> pa.Table:
        # Not through Ibis, which would go by pandas, where a missing number and NaN are one.
        found: pa.Table = self.session.sql(self.connection.compile(expression)).toArrow()
        return found

    def _table(self, frame: Any) -> ir.Table:
        name = gen_name("nightshift")
        frame.createOrReplaceTempView(name)
        found: ir.Table = self.connection.table(name)
        return found


@contextmanager
def open_spark(settings: Settings, spill: Path) -> Iterator[Spark]:
    """Spark for a while; its Java process ends with it.

    Raises:
        FeatureError: pyspark or Java is missing, or Spark does not start.
    """
    _check_installed()
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(settings.spark_master).appName("nightshift")
    for name, value in _options(settings, spill).items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
    except (Py4JError, PySparkException, OSError) as error:
        _end_java()
        reason = str(getattr(error, "java_exception", error)).strip().splitlines()[0]
        raise FeatureError(
            f"Spark does not start on NIGHTSHIFT_SPARK_MASTER={settings.spark_master}: {reason}; it needs Java 17 or "
            "newer, and a master that can be reached"
        ) from error
    try:
        yield Spark(session)
    finally:
        session.stop()
        _end_java()


def _check_installed() -> None:
    if importlib.util.find_spec("pyspark") is None:
        raise FeatureError(f"NIGHTSHIFT_FEATURES_ENGINE=spark, and pyspark is not installed: run `{INSTALL}`")
    home = os.environ.get("JAVA_HOME")
    if not (shutil.which("java") if home is None else (Path(home) / "bin" / "java").exists()):
        where = "on the path" if home is None else f"under JAVA_HOME={home}"
        raise FeatureError(
            f"NIGHTSHIFT_FEATURES_ENGINE=spark, and there is no Java {where}: install a JRE, 17 or newer "
            "(on Debian: apt install openjdk-17-jre-headless)"
        )


def _options(settings: Settings, spill: Path) -> dict[str, str]:
    memory = f"{memory_mib(settings)}m"
    return {
        **(LOCAL if settings.spark_master.startswith("local") else {}),
        "spark.driver.memory": memory,
        "spark.driver.maxResultSize": memory,
        "spark.local.dir": str(spill),
        "spark.sql.warehouse.dir": str(spill / "warehouse"),
        "spark.ui.enabled": "false",  # else it listens on all addresses
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }


def _end_java() -> None:
    """Spark keeps its Java process, and the memory it took, until Python ends: the rest of a night has use for it."""
    from pyspark import SparkContext

    context: Any = SparkContext
    gateway, context._gateway, context._jvm = context._gateway, None, None
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()  # what it waits for to end
        gateway.proc.wait(timeout=60)
