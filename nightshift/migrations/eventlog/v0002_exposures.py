"""Which version answered which request, and the events by their request and by when they reached us."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "exposures",
        sa.Column("request_id", sa.String, primary_key=True),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("shown", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("exposures_answered", "exposures", ["answered_at"])
    named = sa.text("request_id IS NOT NULL")
    op.create_index(
        "events_request",
        "events",
        ["request_id"],
        sqlite_where=named,
        postgresql_where=named,
        if_not_exists=True,
    )
    op.create_index("events_received", "events", ["received_at"], if_not_exists=True)
