"""Events: where the log began. Tables older than the counting of steps are at this one, or further."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Nothing before it."""
