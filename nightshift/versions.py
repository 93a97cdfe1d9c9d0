"""One registered version, and a seat at one moment: what one reading of MLflow tells, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from nightshift.moves import Move, read

PRODUCTION, PREVIOUS, REFERENCE = "production", "previous", "reference"
WITHDRAWN = ("rejected", "rolled_back")  # tags; each holds by whom and why


@dataclass(frozen=True)
class Version:
    """One registered version of a seat's model."""

    seat: str
    number: int
    run_id: str
    created_at: datetime
    tags: dict[str, str] = field(default_factory=dict)
    description: str = ""
    ready: bool = True

    @property
    def withdrawn(self) -> str:
        """By whom and why it was rejected or rolled back; "" if it was not."""
        return next((self.tags[tag] for tag in WITHDRAWN if tag in self.tags), "")


@dataclass(frozen=True)
class SeatState:
    """The aliases and the tags of a seat's registered model; exists: whether it has any version yet."""

    aliases: dict[str, int] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    exists: bool = False

    @property
    def champion(self) -> int | None:
        return self.aliases.get(PRODUCTION)

    @property
    def log(self) -> list[Move]:
        return read(self.tags)

    @property
    def unfinished(self) -> Move | None:
        """The move that is under way, or was killed half-way."""
        log = self.log
        return log[-1] if log and log[-1].state == "started" else None
