"""The door to the features for training, serving and monitoring: Feast's past and present values.

Importing Feast takes seconds, so it happens in `open_store`, once per process; a server opens the store at start.
A store may be shared between threads for `online` (SQLite's connection is opened for that, and the registry's
cache has a lock); `historical` and `rows` use DuckDB's one default connection and are for one thread at a time.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pandas as pd
import pyarrow as pa
import yaml
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from nightshift.commands import quiet_libraries
from nightshift.contracts.features import VIEWS
from nightshift.databases import RECYCLE_SECONDS, with_driver
from nightshift.errors import FeatureError, SettingsError
from nightshift.partitions import TIMESTAMP
from nightshift.settings import PROJECT, Settings
from nightshift.store import as_json, write_json

if TYPE_CHECKING:
    from feast import FeatureStore

REPO = PROJECT / "feature_repo"
KEYS = tuple(view.key for view in VIEWS.values())
REGISTRY_SECONDS = 60  # until a process has heard of changed definitions in a registry that is a server
_REGISTRY_LOCK = 0x6E696768746665  # "nightfe", among PostgreSQL's advisory locks of the database
ONLINE_SECONDS = 5.0  # for Redis to take a batch of 10,000 rows; a request gives up long before


def store_config(settings: Settings) -> dict[str, Any]:
    """feature_store.yaml with ${NIGHTSHIFT_HOME} and other variables filled in, and nothing put in the environment;
    with the servers that the settings name in place of its files. Holds their passwords: never to be printed."""
    text = (REPO / "feature_store.yaml").read_text(encoding="utf-8")
    variables = {**os.environ, "NIGHTSHIFT_HOME": str(settings.home)}
    config: dict[str, Any] = yaml.safe_load(Template(text).safe_substitute(variables))
    config["project"] = settings.feast_project
    if settings.feast_registry_url is not None:
        url = with_driver(make_url(settings.feast_registry_url.get_secret_value()))
        config["registry"] = {
            "registry_type": "sql",
            "path": url.render_as_string(hide_password=False),
            # A thread looks for changed definitions, so that no request pays for it.
            "cache_mode": "thread",
            "cache_ttl_seconds": REGISTRY_SECONDS,
            "sqlalchemy_config_kwargs": {
                "pool_size": 2,
                "pool_pre_ping": True,
                "pool_recycle": RECYCLE_SECONDS,
            },
        }
    if settings.online_url is not None:
        config["online_store"] = {
            "type": "redis",
            "connection_string": redis_address(settings.online_url.get_secret_value()),
        }
    if settings.store_url is not None:
        config["offline_store"] = {
            "type": "nightshift.offline.PartitionsOfflineStore",
            "store_url": settings.store_url,
            "home": str(settings.home),
        }
    return config


def redis_address(url: str) -> str:
    """A redis:// URL as Feast wants it: host:port,db=0,password=…

    Raises:
        SettingsError: it names no host, or its password holds a comma, which Feast cannot be told.
    """
    told = urlsplit(url)
    number = told.path.strip("/") or "0"
    if not told.hostname or not number.isdigit():
        raise SettingsError("NIGHTSHIFT_ONLINE_URL: must be redis://[user:password@]host[:port][/number]")
    options = {"db": number, "socket_connect_timeout": "2", "socket_timeout": f"{ONLINE_SECONDS:g}"}
    if told.scheme == "rediss":
        options["ssl"] = "true"
    for name, value in (("username", told.username), ("password", told.password)):
        if value is not None and "," in unquote(value):
            raise SettingsError(
                f"NIGHTSHIFT_ONLINE_URL: its {name} holds a comma, which Feast cannot be told"
            )
        if value:
            options[name] = json.dumps(unquote(value))  # quoted, or Feast would take digits for a number
    return ",".join([f"{told.hostname}:{told.port or 6379}", *(f"{k}={v}" for k, v in options.items())])


def overwriting(config: dict[str, Any]) -> dict[str, Any]:
    """The settings to write all anew with: else Redis leaves a row alone that is of the same moment, and of it the
    features of before."""
    if config["online_store"]["type"] != "redis":
        return config
    return {**config, "online_store": {**config["online_store"], "skip_dedup": True}}


def shared_parts(config: dict[str, Any]) -> dict[str, Any]:
    """The settings without what may differ between machines that share the servers, and without passwords."""
    left_out = {"connection_string", "home"}
    told = dict(config)
    for name in ("online_store", "offline_store"):
        told[name] = {key: value for key, value in config[name].items() if key not in left_out}
    if "registry_type" in config["registry"]:
        told["registry"] = {
            **config["registry"],
            "path": make_url(config["registry"]["path"]).render_as_string(hide_password=True),
        }
    return told


def registry_stands(settings: Settings, config: dict[str, Any]) -> bool:
    """Whether the registry, and the online store if it is a file, are there: files, or the project's rows.

    Raises:
        FeatureError: a server cannot be reached.
    """
    if settings.feast_registry_url is None or not all(path.exists() for path in files_of(config)):
        return all(path.exists() for path in files_of(config))
    engine = create_engine(make_url(config["registry"]["path"]))
    try:
        with reaching(settings), engine.connect() as connection:
            if not inspect(connection).has_table("feature_views"):
                return False
            query = text("SELECT count(*) FROM feature_views WHERE project_id = :project")
            return bool(connection.execute(query, {"project": config["project"]}).scalar_one())
    finally:
        engine.dispose()


@contextmanager
def alone_at_registry(settings: Settings, config: dict[str, Any]) -> Iterator[None]:
    """One machine at a time tells a registry that is a PostgreSQL of definitions: two at once meet the same keys.

    Raises:
        FeatureError: the server cannot be reached, or refuses.
    """
    if settings.feast_registry_url is None:
        yield
        return
    engine = create_engine(make_url(config["registry"]["path"]))
    try:
        with reaching(settings), engine.connect() as connection:
            if engine.dialect.name == "postgresql":  # let go with the connection, also when we are killed
                connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _REGISTRY_LOCK})
            yield
    finally:
        engine.dispose()


class Written:
    """What the online store holds: the definitions' digest, and per view the partitions whose rows it has.

    It is kept where the values are, so that it goes when they go: in a file beside SQLite's, or under a key in Redis,
    whose loss with everything else is how a flushed server is noticed. (Redis must not evict: `maxmemory-policy
    noeviction`.)
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = settings.home / "feast" / "written.json"
        self._key = f"nightshift:{settings.feast_project}:written"
        self._redis: Redis | None = None
        if settings.online_url is not None:
            self._redis = Redis.from_url(
                settings.online_url.get_secret_value(), socket_timeout=2, socket_connect_timeout=2
            )

    def read(self) -> dict[str, Any] | None:
        """None if it is not known. Raises FeatureError if Redis cannot be asked."""
        content = self._content()
        return None if content is None else json.loads(content)

    def write(self, value: dict[str, Any]) -> None:
        """Raises FeatureError if Redis cannot be told."""
        if self._redis is None:
            write_json(self._path, value)
            return
        with reaching(self._settings):
            self._redis.set(self._key, as_json(value))

    def stamp(self) -> Hashable | None:
        """Something that differs once it was written anew; None if it is not there, or Redis is away."""
        if self._redis is None:
            try:
                return self._path.stat().st_mtime_ns
            except OSError:
                return None
        try:
            return self._content()
        except FeatureError:
            return None

    def _content(self) -> bytes | None:
        if self._redis is None:
            return self._path.read_bytes() if self._path.exists() else None
        with reaching(self._settings):
            content: Any = self._redis.get(self._key)
        return None if content is None else bytes(content)


@contextmanager
def reaching(settings: Settings) -> Iterator[None]:
    """What a server of the features says when it cannot be used, as a FeatureError."""
    try:
        yield
    except (SQLAlchemyError, RedisError) as error:
        raise _away(settings, error) from error


def _away(settings: Settings, error: Exception) -> FeatureError:
    """Which server of the features cannot be used, without its password."""
    which = settings.online_url if isinstance(error, RedisError) else settings.feast_registry_url
    name = "NIGHTSHIFT_ONLINE_URL" if isinstance(error, RedisError) else "NIGHTSHIFT_FEAST_REGISTRY_URL"
    where = make_url(which.get_secret_value()).render_as_string(hide_password=True) if which else "?"
    reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
    return FeatureError(f"{name} {where}: {reason}; is the server up, and the URL right?")


def files_of(config: dict[str, Any]) -> list[Path]:
    """The files that the registry and the online store keep on this machine: none where they are servers."""
    parts = (config["registry"], config["online_store"])
    return [Path(p["path"]) for p in parts if str(p.get("path", "")).startswith("/")]


def open_store(settings: Settings) -> FeatureStore:
    """The feature store under `settings.home`.

    Raises:
        FeatureError: no features have been built there yet.
    """
    config = store_config(settings)
    missing = [path for path in files_of(config) if not path.exists()]
    if missing:
        raise FeatureError(
            f"no features under {settings.home} ({missing[0].name} is missing); run `nightshift features` first"
        )
    with reaching(settings):
        return connect(config)


def connect(config: dict[str, Any]) -> FeatureStore:
    """The store that `config` describes, there or not; warmed, as Feast makes its parts on first use, unlocked."""
    quiet_libraries()
    import_feast()
    from feast import FeatureStore, RepoConfig

    # Feast turns on the deprecation warnings of every library in the process.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for path in files_of(config):
        path.parent.mkdir(parents=True, exist_ok=True)
    repo_config = RepoConfig(**config)
    repo_config.repo_path = REPO
    store = FeatureStore(config=repo_config)
    _ = store.registry, store._get_provider()
    return store


def import_feast() -> None:
    """Import Feast without what it loads and we never use: 1.5 s of CPU instead of 6.5.

    3 s are the checks of argument types that it has typeguard compile into its own code; ours are checked by mypy,
    before anything runs. 2 s and 200 MB are torch, which it wants for answers as tensors alone: it comes when one is
    asked for.
    """
    import typeguard

    library: Any = typeguard
    checked, library.typechecked = library.typechecked, lambda target: target
    wrapper: Any = ModuleType("feast.torch_wrapper")
    wrapper.get_torch = lambda: importlib.import_module("torch")
    sys.modules.setdefault(wrapper.__name__, wrapper)
    try:
        importlib.import_module("feast")
    finally:
        library.typechecked = checked


def historical(store: FeatureStore, entities: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
    """`entities` with one column per feature, as known at each row's time: a point-in-time join.

    What to read, how long a row is good for and where it lies is Feast's to say; the join is DuckDB's own ASOF JOIN.
    Feast's join pairs each row with all rows of the past before it keeps the newest, at ten times the CPU; a test
    holds the two together.

    A value counts from its own event timestamp on: what a day's features know is known at the midnight that ends
    it, that very moment included, and no later row is ever seen.

    Args:
        entities: one of `user_id`, `item_id`, `topic`; `event_timestamp` (tz-aware UTC); any other columns are kept.
        features: references such as "user_features:interactions_28d".

    Returns:
        The same rows in the same order with the same index, plus bare feature names; NaN/None where unknown.

    Raises:
        FeatureError: no such feature, no key column, or times without a time zone.
    """
    key = _key_of(entities)
    moments = entities[[key, TIMESTAMP]].reset_index(drop=True)
    asked = moments.drop_duplicates(ignore_index=True)  # the join is paid per distinct row only
    names = _names(features)
    if asked.empty:
        return entities.assign(**{name: pd.Series(dtype="float64") for name in names})
    wanted: dict[str, list[str]] = {}
    for reference in features:
        view, _, name = reference.partition(":")
        wanted.setdefault(view, []).append(name)
    with _speaking_plainly(), _own_duckdb():
        found = pd.concat([_as_of(store, view, asked, key, some) for view, some in wanted.items()], axis=1)
    place = moments.merge(asked.assign(row=range(len(asked))), how="left", on=[key, TIMESTAMP])["row"]
    return entities.assign(**{name: found[name].to_numpy()[place.to_numpy()] for name in names})


def _as_of(store: FeatureStore, view: str, asked: pd.DataFrame, key: str, names: list[str]) -> pd.DataFrame:
    """The columns `names` of each key's newest row that is known at its time and still good, in the order of `asked`.

    Reads by Ibis's default connection. Raises KeyError for a feature that the view does not have.
    """
    import ibis

    told = store.get_feature_view(view)
    missing = [name for name in names if name not in {field.name for field in told.features}]
    if missing or key not in told.join_keys:
        raise KeyError(f"{view} has no {missing[0] if missing else key}")
    source: Any = told.batch_source  # a FileSource
    good = told.ttl
    assert good is not None, "every view has its ttl"
    rows = ibis.memtable(
        pa.table(
            {
                key: pa.array(asked[key], pa.string()),
                "at": pa.array(asked[TIMESTAMP].dt.floor("us"), pa.timestamp("us", "UTC")),
                "row": pa.array(range(len(asked)), pa.int64()),
            }
        )
    )
    past = ibis.read_parquet(_readable(store, source, asked[TIMESTAMP].min() - good))
    near = past[TIMESTAMP].between(asked[TIMESTAMP].min() - good, asked[TIMESTAMP].max())
    past = past.filter(near).select(key, *names, known=TIMESTAMP)
    joined = rows.asof_join(past, on=rows["at"] >= past["known"], predicates=key)
    found = joined.select("row", "known", *names).to_pyarrow().sort_by("row").to_pandas()
    too_old = asked[TIMESTAMP] - found["known"] > good  # False where nothing was known
    return found[names].mask(too_old)


def _readable(store: FeatureStore, source: Any, since: pd.Timestamp) -> str:
    """Where this machine reads a source's partitions that may tell of `since` or later; a bucket's are fetched."""
    if not hasattr(store.config.offline_store, "store_url"):
        return str(source.path)
    from nightshift.offline import local

    return local(store.config, source, since.date()).path


def online(
    store: FeatureStore, ids: Sequence[str], features: Sequence[str], key: str = "user_id"
) -> tuple[pd.DataFrame, list[datetime | None]]:
    """The newest values of `ids`, and the event time of each row for the caller to judge its age.

    Feast does not enforce a TTL here: a value stays until it is overwritten.

    Returns:
        One row per id in order, columns `key` and bare feature names, None where unknown; one UTC time per row,
        None for an id that the store does not have.
    """
    names = _names(features)
    if not ids:
        return pd.DataFrame(columns=[key, *names]), []
    with _speaking_plainly():
        answer = store.get_online_features(
            features=list(features), entity_rows=[{key: value} for value in ids]
        ).to_dict(include_event_timestamps=True)
    times = zip(*(answer[f"{name}__ts"] for name in names), strict=True)
    values = {name: pd.Series(answer[name], dtype=object) for name in names}
    return pd.DataFrame({key: list(ids), **values}), [_time(row) for row in times]


def rows(store: FeatureStore, view: str, start: datetime, end: datetime) -> pd.DataFrame:
    """Every row of a view whose event timestamp is in start..end, both included, by key and then by time.

    What was known when, in full: of a topic's week that was told anew there is a row for each time.

    Returns:
        Columns: the view's key, `event_timestamp` (UTC), its features in the contract's order.

    Raises:
        FeatureError: no such view, or times without a time zone.
    """
    if start.tzinfo is None or end.tzinfo is None:
        raise FeatureError(
            f"{view}: start and end must be times with a time zone (UTC), found {start}..{end}"
        )
    if view not in VIEWS:
        raise FeatureError(f"{view}: no such view; there are {', '.join(VIEWS)}")
    key, names = VIEWS[view].key, [f.name for f in VIEWS[view].features]
    with _speaking_plainly(), _own_duckdb():
        source = store.get_feature_view(view).batch_source
        assert source is not None, "every view has its partitions"
        job = store._get_provider().offline_store.pull_all_from_table_or_query(
            config=store.config,
            data_source=source,
            join_key_columns=[key],
            feature_name_columns=names,
            timestamp_field=TIMESTAMP,
            start_date=start.astimezone(UTC),
            end_date=end.astimezone(UTC),
        )
        found = job.to_arrow()
    ordered = found.sort_by([(key, "ascending"), (TIMESTAMP, "ascending")])
    return ordered.select([key, TIMESTAMP, *names]).to_pandas()


# --- inside ------------------------------------------------------------------------------------------------


@contextmanager
def _own_duckdb() -> Iterator[None]:
    """Feast's joins run on Ibis's default connection: give it a fresh one, and free its memory afterwards.

    One that is left open until the process ends also makes DuckDB print pages about leaked objects.
    """
    import ibis

    connection = ibis.duckdb.connect()
    before, ibis.options.default_backend = ibis.options.default_backend, connection
    try:
        yield
    finally:
        ibis.options.default_backend = before
        connection.disconnect()


@contextmanager
def _speaking_plainly() -> Iterator[None]:
    """What Feast says of a reference that it does not know, as a FeatureError."""
    from feast.errors import FeastObjectNotFoundException

    try:
        yield
    except (FeastObjectNotFoundException, KeyError) as error:  # no such view; no such feature in it
        raise FeatureError(
            f"{error.args[0]}; names are in nightshift/contracts/features.py, and a changed contract is applied "
            "by the next `nightshift features`"
        ) from error


def _names(features: Sequence[str]) -> list[str]:
    """Bare feature names of references such as "user_features:spend_28d"."""
    wrong = [reference for reference in features if reference.count(":") != 1]
    if wrong or not features:
        raise FeatureError(
            f"features: {(wrong or features)!r}: expected references like 'user_features:spend_28d'"
        )
    return [reference.partition(":")[2] for reference in features]


def _key_of(entities: pd.DataFrame) -> str:
    keys = [key for key in KEYS if key in entities.columns]
    if len(keys) != 1:
        raise FeatureError(f"entities: one of {', '.join(KEYS)} is needed, found {list(entities.columns)}")
    if not isinstance(entities.dtypes.get(TIMESTAMP), pd.DatetimeTZDtype):
        raise FeatureError(
            f"entities: {TIMESTAMP!r} must be times with a time zone (UTC), found {entities.dtypes.get(TIMESTAMP)}"
        )
    return keys[0]


def _time(seconds: Sequence[int]) -> datetime | None:
    # 0 is how Feast says "never"; of several views, the oldest row decides how old the values are.
    return datetime.fromtimestamp(min(seconds), UTC) if min(seconds) > 0 else None
