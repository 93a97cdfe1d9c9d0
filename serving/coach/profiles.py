"""Where the coach keeps profiles, topics' vectors and roadmaps: SQLite under home, or PostgreSQL with pgvector by URL.

One class for both. PostgreSQL has `vector(1536)` columns, topics with an HNSW index for cosine, and finds the nearest
itself; SQLite keeps vectors as float32 and NumPy compares them all, which is exact, and quick for some thousand topics.
Kept of a user is what they gave (tags, sliders), what came of their words (scores, vectors) and their roadmap; their
words are not. Vectors are compared within one `embedding_version` only: services with different bases may share a
store. Topics of versions that nobody wrote to for KEPT_DAYS go.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import (
    Column,
    Connection,
    Dialect,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    Text,
    create_engine,
    delete,
    event,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import TypeDecorator, TypeEngine

from nightshift import migrations
from nightshift.coaching import VECTOR_SIZE, Status
from nightshift.databases import postgresql_engine, with_driver
from nightshift.errors import NightshiftError, UpgradeError
from nightshift.eventlog_tables import Utc
from nightshift.settings import Settings

WAIT_SECONDS = 2.0  # for another writer
KEPT_DAYS = 30  # topics of another embedding
_SCHEMA_LOCK = (
    7_302_021  # any number of its own: PostgreSQL's "create if not exists" is not safe against itself
)
NO_PGVECTOR = (
    "it has no pgvector: install the extension (the image pgvector/pgvector has it) and let an administrator of the "
    "database run CREATE EXTENSION vector"
)


class ProfilesError(NightshiftError):
    """The store of profiles cannot be read or written; nothing was stored."""


class Vector(TypeDecorator[np.ndarray]):
    """[VECTOR_SIZE] float32: pgvector's own type, or its bytes."""

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            from pgvector.sqlalchemy import Vector as PgVector

            return dialect.type_descriptor(PgVector(VECTOR_SIZE))
        return dialect.type_descriptor(LargeBinary())

    def process_bind_param(self, value: np.ndarray | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        vector = np.asarray(value, np.float32)
        return vector if dialect.name == "postgresql" else vector.astype("<f4").tobytes()

    def process_result_value(self, value: Any, dialect: Dialect) -> np.ndarray | None:
        if value is None:
            return None
        if dialect.name == "postgresql":
            return np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value, np.float32)
        return np.frombuffer(value, "<f4").astype(np.float32)


_METADATA = MetaData()
PROFILES = Table(
    "coach_profiles",
    _METADATA,
    Column("user_id", String(128), primary_key=True),
    Column("at", Utc, nullable=False),
    Column("model_version", String(32), nullable=False),
    Column("embedding_version", String(32), nullable=False),
    Column("value_score", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("sliders", Text),
    Column(
        "tag_vectors", LargeBinary, nullable=False
    ),  # float16, one after another: only reasons are made of them
    Column("persona", Vector, nullable=False),
    Column("profile", Vector, nullable=False),
)
TOPICS = Table(
    "coach_topics",
    _METADATA,
    Column("topic", String(512), primary_key=True),
    Column("embedding_version", String(32), primary_key=True),
    Column("vector", Vector, nullable=False),
    Column("at", Utc, nullable=False),
)
ROADMAPS = Table(
    "coach_roadmaps",
    _METADATA,
    Column("user_id", String(128), primary_key=True),
    Column("topic", String(512), nullable=False),
    Column("made_at", Utc, nullable=False),
)
STEPS = Table(
    "coach_steps",
    _METADATA,
    Column("user_id", ForeignKey(ROADMAPS.c.user_id), primary_key=True),
    Column("step_id", String(128), primary_key=True),
    Column("place", Integer),  # in the roadmap; NULL: of a topic before, whose progress is kept
    Column("told", Text, nullable=False),  # JSON: what of a step never changes
    Column("status", String(8), nullable=False),
    Column("changed_at", Utc),
)
Index(
    "coach_topics_vector_hnsw",
    TOPICS.c.vector,
    postgresql_using="hnsw",
    postgresql_ops={"vector": "vector_cosine_ops"},
).ddl_if(dialect="postgresql")


@dataclass(frozen=True)
class Profile:
    """persona, profile: [VECTOR_SIZE] float32 of unit length. value_score: 0–1, sliders: 1–5, by value.

    tag_vectors: [len(tags), VECTOR_SIZE] float32, kept to three digits.
    """

    user_id: str
    at: datetime
    model_version: str
    embedding_version: str
    value_score: dict[str, float]
    tags: list[str]
    sliders: dict[str, int] | None
    tag_vectors: np.ndarray
    persona: np.ndarray
    profile: np.ndarray


@dataclass(frozen=True)
class KeptStep:
    """told: the step as the catalogue told it."""

    step_id: str
    told: dict[str, Any]
    status: Status
    changed_at: datetime | None


@dataclass(frozen=True)
class Roadmap:
    user_id: str
    topic: str
    made_at: datetime
    steps: list[KeptStep]


class Profiles:
    """The store. Opened on first use; safe for threads. Every method raises ProfilesError when it cannot be used."""

    def __init__(self, settings: Settings) -> None:
        given = settings.profiles_url.get_secret_value() if settings.profiles_url else None
        self._url = with_driver(make_url(given or f"sqlite:///{settings.home / 'profiles.db'}"))
        self._pool = settings.database_pool
        self._engine: Engine | None = None
        self._opening = threading.Lock()

    def keep(self, profile: Profile) -> None:
        """Store a user's profile in place of the one before."""
        row = {
            **vars(profile),
            "value_score": json.dumps(profile.value_score),
            "tags": json.dumps(profile.tags, ensure_ascii=False),
            "sliders": None if profile.sliders is None else json.dumps(profile.sliders),
            "tag_vectors": profile.tag_vectors.astype("<f2").tobytes(),
        }
        with self._transaction() as connection:
            _put(connection, PROFILES, [row], ["user_id"])

    def find(self, user_id: str) -> Profile | None:
        with self._transaction() as connection:
            row = connection.execute(select(PROFILES).where(PROFILES.c.user_id == user_id)).mappings().first()
        if row is None:
            return None
        told = {
            "value_score": json.loads(row["value_score"]),
            "tags": json.loads(row["tags"]),
            "sliders": None if row["sliders"] is None else json.loads(row["sliders"]),
            "tag_vectors": np.frombuffer(row["tag_vectors"], "<f2")
            .astype(np.float32)
            .reshape(-1, VECTOR_SIZE),
        }
        return Profile(**{**row, **told})

    def topics(self, version: str) -> dict[str, np.ndarray]:
        """Topic → its vector, of one embedding."""
        with self._transaction() as connection:
            found = select(TOPICS.c.topic, TOPICS.c.vector).where(TOPICS.c.embedding_version == version)
            return {row.topic: row.vector for row in connection.execute(found)}

    def keep_topics(
        self, version: str, vectors: Mapping[str, np.ndarray], now: datetime | None = None
    ) -> None:
        """Store topics' vectors, and drop those of embeddings that had none stored for KEPT_DAYS.

        now: for tests.
        """
        now = now or datetime.now(UTC)
        rows = [
            {"topic": topic, "embedding_version": version, "vector": vectors[topic], "at": now}
            for topic in sorted(vectors)
        ]
        of = TOPICS.c.embedding_version
        lately = select(of).where(now - timedelta(days=KEPT_DAYS) < TOPICS.c.at)
        with self._transaction() as connection:
            connection.execute(delete(TOPICS).where(of != version, of.not_in(lately)))
            _put(connection, TOPICS, rows, ["topic", "embedding_version"])

    def nearest(
        self, vector: np.ndarray, version: str, among: Sequence[str] | None, k: int
    ) -> list[tuple[str, float]]:
        """The k topics among those nearest to `vector` by cosine, with it, nearest first; ties by name.

        among: None stands for all of that embedding. There may be fewer than k: not all asked for need be kept.
        """
        with self._transaction() as connection:
            if connection.dialect.name == "postgresql":
                # Else the index looks at some 40 neighbours, and what is not asked for among them is missing.
                connection.execute(text("SET LOCAL hnsw.iterative_scan = strict_order"))
                found = connection.execute(by_distance(vector, version, among).limit(k))
                near = [(row[0], 1.0 - float(row[1])) for row in found]
            else:
                rows = connection.execute(_compared(select(TOPICS.c.topic, TOPICS.c.vector), version, among))
                near = [(row.topic, float(row.vector @ vector)) for row in rows]
        return sorted(near, key=lambda each: (-each[1], each[0]))[:k]

    def plan(self, roadmap: Roadmap) -> Roadmap:
        """Store a user's roadmap in place of the one before; how far a step is stays known, whatever the topic."""
        head = {"user_id": roadmap.user_id, "topic": roadmap.topic, "made_at": roadmap.made_at}
        rows = [
            {
                "user_id": roadmap.user_id,
                "step_id": step.step_id,
                "place": place,
                "told": json.dumps(step.told, ensure_ascii=False),
                "status": step.status,
            }
            for place, step in enumerate(roadmap.steps)
        ]
        with self._transaction() as connection:
            _put(connection, ROADMAPS, [head], ["user_id"])
            connection.execute(update(STEPS).where(STEPS.c.user_id == roadmap.user_id).values(place=None))
            _put(connection, STEPS, rows, ["user_id", "step_id"], kept=["status"])
        found = self.roadmap(roadmap.user_id)
        assert found is not None
        return found

    def roadmap(self, user_id: str) -> Roadmap | None:
        with self._transaction() as connection:
            head = (
                connection.execute(select(ROADMAPS).where(ROADMAPS.c.user_id == user_id)).mappings().first()
            )
            rows = _steps(connection, user_id)
        if head is None:
            return None
        steps = [
            KeptStep(row["step_id"], json.loads(row["told"]), row["status"], row["changed_at"])
            for row in rows
        ]
        return Roadmap(head["user_id"], head["topic"], head["made_at"], steps)

    def mark(self, user_id: str, step_id: str, status: Status, at: datetime) -> bool:
        """Whether the user's roadmap has that step; its status is then as given."""
        mine = (STEPS.c.user_id == user_id) & (STEPS.c.step_id == step_id) & STEPS.c.place.is_not(None)
        with self._transaction() as connection:
            return (
                connection.execute(update(STEPS).where(mine).values(status=status, changed_at=at)).rowcount
                > 0
            )

    def close(self) -> None:
        """Give back the connections; the next call opens them again."""
        with self._opening:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    # --- inside ----------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._opened().begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError, ImportError, UpgradeError) as error:
            raise self._cannot(error) from error

    def _cannot(self, error: Exception) -> ProfilesError:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        if 'extension "vector"' in reason:
            reason = NO_PGVECTOR
        return ProfilesError(f"profiles {self._url.render_as_string(hide_password=True)}: {reason}")

    def _opened(self) -> Engine:
        with self._opening:
            if self._engine is None:
                engine = (
                    self._sqlite()
                    if self._url.get_backend_name() == "sqlite"
                    else postgresql_engine(self._url, WAIT_SECONDS, self._pool)
                )
                try:
                    with engine.begin() as connection:
                        if connection.dialect.name == "postgresql":
                            connection.execute(text(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})"))
                            connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
                        migrations.bring_up(connection, "profiles", _METADATA.create_all)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def _sqlite(self) -> Engine:
        if self._url.database and self._url.database != ":memory:":
            Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(self._url, connect_args={"timeout": WAIT_SECONDS})

        @event.listens_for(engine, "connect")
        def _on_connect(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # we say BEGIN ourselves; the driver begins too late
            connection.execute("PRAGMA journal_mode=WAL")

        @event.listens_for(engine, "begin")
        def _on_begin(connection: Connection) -> None:
            # Waits for its turn here; a lock taken later in the transaction fails at once.
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        return engine


def by_distance(vector: np.ndarray, version: str, among: Sequence[str] | None) -> Select[Any]:
    """Topics and how far they are from `vector`, nearest first, in PostgreSQL's words."""
    far = TOPICS.c.vector.op("<=>", return_type=Float())(vector)
    return _compared(select(TOPICS.c.topic, far), version, among).order_by(far)


def _compared(found: Select[Any], version: str, among: Sequence[str] | None) -> Select[Any]:
    mine = found.where(TOPICS.c.embedding_version == version)
    return mine if among is None else mine.where(TOPICS.c.topic.in_(list(among)))


def _put(
    connection: Connection, table: Table, rows: list[dict[str, Any]], key: list[str], kept: Sequence[str] = ()
) -> None:
    """Insert, or write over the row with that key. kept: columns that are not written over."""
    if not rows:
        return
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    insert = dialect.insert(table)
    others = {name: insert.excluded[name] for name in rows[0] if name not in {*key, *kept}}
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=others), rows)


def _steps(connection: Connection, user_id: str) -> Sequence[Any]:
    mine = select(STEPS).where(STEPS.c.user_id == user_id, STEPS.c.place.is_not(None))
    return connection.execute(mine.order_by(STEPS.c.place)).mappings().all()
