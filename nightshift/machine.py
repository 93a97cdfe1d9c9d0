"""What memory this process may have: the machine's, or its container's where that is smaller."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")  # version 2; a container sees its own limits right here


def memory_bytes(cgroup: Path = CGROUP) -> int:
    """All of it, in bytes."""
    total = int(psutil.virtual_memory().total)
    limit = _number(cgroup / "memory.max")
    return total if limit is None else min(total, limit)


def free_bytes(cgroup: Path = CGROUP) -> int:
    """What nobody uses yet, in bytes."""
    free = int(psutil.virtual_memory().available)
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    return free if limit is None or used is None else max(min(free, limit - used), 0)


def _number(path: Path) -> int | None:
    """None where there is no such limit, or none that is set (`max`)."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
