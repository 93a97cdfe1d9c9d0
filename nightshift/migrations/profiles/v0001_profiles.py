"""Profiles, topics and roadmaps: where the coach's store began."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Nothing before it."""
