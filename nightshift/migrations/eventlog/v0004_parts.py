"""A conversation is its user's and its id's, and what is said after a night took it is a part of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "conversations_by_part",
        sa.Column("user_id", sa.String, primary_key=True),
        sa.Column("conversation_id", sa.String, primary_key=True),
        sa.Column("after", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("messages", sa.Text, nullable=False),
        sa.Column("turns", sa.Integer, nullable=False),
        sa.Column("consent", sa.Boolean, nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("night", sa.Date),
        sa.CheckConstraint("conversation_id <> ''"),
    )
    op.execute(
        "INSERT INTO conversations_by_part "
        "SELECT user_id, conversation_id, 0, at, messages, turns, consent, received_at, night FROM conversations"
    )
    op.drop_table("conversations")  # its index goes with it
    op.rename_table("conversations_by_part", "conversations")
    op.create_index("conversations_night_at", "conversations", ["night", "at"])
