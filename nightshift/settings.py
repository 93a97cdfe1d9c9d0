"""Every path, URL and knob, in one class. `NIGHTSHIFT_X=…` or a `.env` file sets field `x`.

State lives under `home` (default `var/`, ignored by git). `nightshift config` prints what is in
force, with secrets hidden.
"""

from __future__ import annotations

import json
import os
import secrets
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nightshift.errors import SettingsError

PROJECT = Path(__file__).resolve().parents[1]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="NIGHTSHIFT_", env_file=".env", extra="forbid", env_parse_none_str="none"
    )

    home: Path = Field(PROJECT / "var", description="Where all state lives.")
    backups: Path | None = Field(
        None, description="Folder that backups go to; default: beside home, with .backups after its name."
    )

    # What machines share. Endpoint, keys and region of a bucket: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
    # AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION, or the machine's role.
    store_url: str | None = Field(
        None,
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s?#@:]*)?$",
        description="s3://bucket/prefix of lake, features and what nights did; default: folders under home. Endpoint "
        "and keys: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.",
    )
    feast_project: str = Field(
        "nightshift",
        pattern=r"^[a-z][a-z0-9_]{0,62}$",
        description="Name of the features in a registry and an online store that others may use too.",
    )
    feast_registry_url: SecretStr | None = Field(
        None,
        description="SQLAlchemy URL of Feast's registry; default a file under home. PostgreSQL in production.",
    )
    online_url: SecretStr | None = Field(
        None,
        description="redis://host:port/number of the online features (rediss:// with TLS); default SQLite under home.",
    )
    database_pool: int = Field(
        5,
        ge=1,
        le=200,
        description="Connections to PostgreSQL that a process keeps; as many more under load.",
    )

    # Where data comes from
    source: Literal["market", "online_retail", "files"] = Field(
        "market", description="The source a night takes its day from; `events` (feedback) always joins it."
    )
    source_path: Path | None = Field(None, description="Folder of day files, for online_retail and files.")
    history_days: int = Field(28, ge=2, le=400, description="Days the very first night takes in at once.")
    exam_days: int = Field(1, ge=1, le=7, description="Last published days held out as the exam, at least.")
    exam_users: int = Field(
        1_600,
        ge=0,
        description="The exam takes in more days, up to a week, until this many users were active.",
    )
    exam_users_after_drift: int = Field(
        300,
        ge=0,
        description="The same in the week after a retrain was requested: what came before the drift is no fair exam.",
    )
    full_retrain_days: int = Field(
        7,
        ge=1,
        description="A family that can go on from an earlier version starts from nothing after this many days; 1: "
        "every night.",
    )
    policies: Path | None = Field(
        None,
        description="Folder with a <seat>.toml per seat: what the gate asks; default: training/policies.",
    )

    feeds: Path | None = Field(
        None,
        description="YAML file, topic: [feed URLs]: RSS and Atom feeds that policy changes are counted from.",
    )

    # Features
    features_engine: Literal["duckdb", "spark"] = Field(
        "duckdb",
        description="What the feature pipelines run on; spark needs requirements-spark.lock and Java.",
    )
    spark_master: str = Field(
        "local[*]", description="Where Spark runs: local[*], local[2], or a cluster's master URL."
    )
    features_memory_gb: float | None = Field(
        None,
        gt=0,
        description="What the engine of the feature pipelines may hold in memory, in GiB; the rest lies on disk "
        "under home for the while. Default: a third of the machine's memory, or of the container's.",
    )

    # The market simulator
    market_seed: int = Field(7, description="Seed of the simulated world.")
    market_users: int = Field(2_000, ge=20, le=1_000_000)
    market_items: int = Field(1_000, ge=20, le=1_000_000)
    market_topics: int = Field(
        120, ge=10, le=20_000, description="Topics whose weekly indicators the market tells."
    )
    market_start: date = Field(date(2026, 9, 1), description="First day of the simulated world.")
    market_drift_day: date = Field(
        date(2026, 10, 12),
        description="From this day on tastes, devices and sessions shift (the planted drift).",
    )

    market_conversations: int = Field(
        150, ge=0, le=100_000, description="Conversations with the career coach that the market tells a day."
    )

    # The recommender seat
    train_processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that share the training of a family that can be shared: ncf, on CPUs.",
    )
    recommender_memory_gb: float | None = Field(
        None,
        gt=0,
        description="What training with millions of ids may take of the card, or of memory where there is none, in "
        "GiB; default: what is free.",
    )

    # The language seat
    language_model: str = Field(
        "small",
        description="Base model: small (built in, made on the first night), a folder, or a Hugging Face name such as "
        "MLP-KTLim/llama-3-Korean-Bllossom-8B.",
    )
    models: Path | None = Field(
        None, description="Folder of base models that are made here; default: models under home."
    )
    language_revision: str | None = Field(
        None, description="Commit or branch of a Hugging Face model: pin it."
    )
    language_tokens: int = Field(
        512,
        ge=64,
        le=131_072,
        description="Tokens of a packed training sequence, at most; fewer if they do not fit.",
    )
    language_rank: int = Field(16, ge=1, le=512, description="Rank of the LoRA matrices.")
    language_days: int = Field(
        28, ge=2, le=400, description="Days of conversations that a night learns from."
    )
    language_device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where language models run: auto takes a CUDA device if there is one."
    )
    language_vram_gb: float | None = Field(
        None, gt=0, description="What training may take of the card, in GiB; default: what the device has."
    )
    language_lease: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether the coach gives way to training: auto where both would use the CUDA device.",
    )
    profiles_url: SecretStr | None = Field(
        None,
        description="SQLAlchemy URL of the coach's profiles; default SQLite under home. PostgreSQL with pgvector in "
        "production.",
    )
    catalogue: Path | None = Field(
        None, description="JSON file of courses and books for /roadmap; default: the one that comes with us."
    )

    # Services (all on loopback by default)
    host: str = "127.0.0.1"
    mlflow_port: int = Field(5500, ge=1, le=65535)
    airflow_port: int = Field(8080, ge=1, le=65535)
    serving_port: int = Field(3000, ge=1, le=65535)
    forecaster_port: int = Field(3001, ge=1, le=65535)
    language_port: int = Field(3002, ge=1, le=65535)
    mlflow_url: str | None = Field(None, description="Tracking server; default http://host:mlflow_port.")
    mlflow_backend_url: SecretStr | None = Field(
        None,
        description="SQLAlchemy URL of what our MLflow server keeps; default SQLite under home. PostgreSQL in "
        "production.",
    )
    mlflow_artifacts_url: str | None = Field(
        None,
        description="Where our MLflow server keeps artifacts, such as s3://bucket/mlflow; default: under home.",
    )
    mlflow_hosts: str = Field(
        "", description="Further host names our MLflow server answers to, comma separated; any port."
    )
    mlflow_session_secret: SecretStr | None = Field(
        None, description="Of MLflow's login; made and kept under home when unset."
    )
    airflow_url: str | None = Field(None, description="Airflow's API; default http://host:airflow_port.")
    airflow_database_url: SecretStr | None = Field(
        None, description="SQLAlchemy URL of Airflow's database; default SQLite under home."
    )
    airflow_executor: Literal["LocalExecutor", "CeleryExecutor"] = Field(
        "LocalExecutor",
        description="Who runs tasks: the scheduler's own machine, or Celery workers (needs PostgreSQL and a broker).",
    )
    airflow_broker_url: SecretStr | None = Field(
        None, description="redis:// URL of the queue that Celery workers take tasks from."
    )
    airflow_workers: int = Field(
        2, ge=0, le=64, description="Celery workers that `nightshift up` starts on this machine."
    )
    airflow_user: str = "admin"
    airflow_password: SecretStr | None = Field(None, description="Made and kept under home when unset.")
    airflow_jwt_secret: SecretStr | None = Field(None, description="Made and kept under home when unset.")
    eventlog_url: SecretStr | None = Field(
        None,
        description="SQLAlchemy URL of the event log; default SQLite under home. PostgreSQL in production.",
    )
    families: str = Field(
        "", description="Families that a night trains, comma separated, such as ncf,dae,ridge; empty: all."
    )
    schedule: str = Field("0 0 * * *", description="Cron of the nightly DAG, Asia/Seoul.")
    watch_schedule: str = Field("30 * * * *", description="Cron of the watch DAG, Asia/Seoul.")
    study_schedule: str = Field(
        "", description="Cron of the study DAG, Asia/Seoul, such as 0 9 * * 0; empty: by hand alone."
    )

    # Serving
    serving_url: str | None = Field(None, description="The recommender; default http://host:serving_port.")
    forecaster_url: str | None = Field(
        None, description="The forecaster, which the coach asks; default http://host:forecaster_port."
    )
    language_url: str | None = Field(None, description="The coach; default http://host:language_port.")
    serving_hosts: str = Field(
        "", description="Further host names the service answers to, comma separated; any port."
    )
    champion_poll_seconds: float = Field(
        1.0, gt=0, le=60, description="How often serving asks who is champion."
    )
    pinned_version: int | None = Field(
        None, ge=1, description="Serve this version whoever is champion; how the gate tries a candidate out."
    )
    feature_max_age_days: int = Field(3, ge=1, description="Online features older than this are not used.")
    topic_max_age_days: int = Field(
        28, ge=1, description="A topic that nothing was told of for longer is not forecast."
    )
    clock: Literal["data", "wall"] = Field(
        "data",
        description="Now, to serving: the day after the last published one (data) or real time (wall).",
    )

    commit: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{40}(-dirty)?$",
        description="Commit that this code is of, where there is no git to ask: in an image.",
    )

    @field_validator("home", "backups", "source_path", "feeds", "policies", "models", "catalogue")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path.expanduser().resolve() if path is not None else None

    @model_validator(mode="after")
    def _celery_has_what_it_needs(self) -> Self:
        if self.airflow_executor == "CeleryExecutor":
            missing = [
                name for name in ("airflow_database_url", "airflow_broker_url") if not getattr(self, name)
            ]
            if missing:
                raise ValueError(
                    "CeleryExecutor needs "
                    + " and ".join(f"NIGHTSHIFT_{name.upper()}" for name in missing)
                    + ": workers share no SQLite file"
                )
        return self

    @field_validator("online_url")
    @classmethod
    def _redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("redis://", "rediss://")):
            raise ValueError("must begin with redis:// or rediss://")
        return url

    def in_home(self, folder: str) -> Path:
        """A folder of the store that lies under home. Raises SettingsError where the store is a bucket."""
        if self.store_url is not None:
            raise SettingsError(f"{folder} is in {self.store_url}, not in a folder: go by nightshift.store")
        return self.home / folder

    @property
    def backups_dir(self) -> Path:
        return self.backups or self.home.with_name(f"{self.home.name}.backups")

    @property
    def lake_dir(self) -> Path:
        return self.in_home("lake")

    @property
    def features_dir(self) -> Path:
        return self.in_home("features")

    @property
    def models_dir(self) -> Path:
        return self.models or self.home / "models"

    @property
    def nights_dir(self) -> Path:
        return self.in_home("nights")

    @property
    def logs_dir(self) -> Path:
        return self.home / "logs"

    @property
    def mlflow_uri(self) -> str:
        return self.mlflow_url or f"http://{self.host}:{self.mlflow_port}"

    @property
    def airflow_uri(self) -> str:
        return self.airflow_url or f"http://{self.host}:{self.airflow_port}"

    @property
    def serving_uri(self) -> str:
        return self.serving_url or f"http://{self.host}:{self.serving_port}"

    @property
    def eventlog_uri(self) -> str:
        if self.eventlog_url is not None:
            return self.eventlog_url.get_secret_value()
        return f"sqlite:///{self.home / 'eventlog.db'}"

    def exportable(self) -> dict[str, str]:
        """Every field by its variable, as text for the environment of a child process.

        What is unset is said too ("none"): else a child would read it from its own surroundings or `.env`, and a
        replay, say, would find its way to the real registry.
        """
        values = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            values[f"NIGHTSHIFT_{name.upper()}"] = "none" if value is None else text
        return values

    def secret(self, name: Literal["airflow_password", "airflow_jwt_secret", "mlflow_session_secret"]) -> str:
        """The secret from the environment, else one made once and kept in `home/secrets.json` (0600)."""
        given: SecretStr | None = getattr(self, name)
        if given is not None:
            return given.get_secret_value()
        path = self.home / "secrets.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        if name not in known:
            known[name] = secrets.token_urlsafe(32)
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = path.with_suffix(".tmp")
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
                json.dump(known, handle)
            temporary.replace(path)
        return str(known[name])


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once from the environment and `.env`."""
    return Settings()
