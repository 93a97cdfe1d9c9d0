"""Topics say when they were embedded, and are found by an index; a step of a former roadmap keeps its progress."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    of_postgresql = op.get_bind().dialect.name == "postgresql"
    # Vectors without a date cannot be told from old ones; the coach embeds its topics again when it finds none.
    op.drop_table("coach_topics")
    vector: sa.types.TypeEngine[Any] = sa.LargeBinary()
    if of_postgresql:
        from pgvector.sqlalchemy import Vector

        vector = Vector(1536)
    op.create_table(
        "coach_topics",
        sa.Column("topic", sa.String(512), primary_key=True),
        sa.Column("embedding_version", sa.String(32), primary_key=True),
        sa.Column("vector", vector, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    if of_postgresql:
        op.create_index(
            "coach_topics_vector_hnsw", "coach_topics", ["vector"],
            postgresql_using="hnsw", postgresql_ops={"vector": "vector_cosine_ops"},
        )  # fmt: skip
    with op.batch_alter_table("coach_steps") as steps:
        steps.alter_column("place", existing_type=sa.Integer(), nullable=True)
