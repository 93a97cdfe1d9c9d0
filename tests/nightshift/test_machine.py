"""The memory of the machine, or of the container."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from nightshift.machine import free_bytes, memory_bytes


def test_without_limits_it_is_the_machines(tmp_path: Path) -> None:
    assert memory_bytes(tmp_path) == psutil.virtual_memory().total
    assert 0 < free_bytes(tmp_path) < memory_bytes(tmp_path)


def test_no_limit_is_said_as_max(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert memory_bytes(tmp_path) == psutil.virtual_memory().total
    assert free_bytes(tmp_path) > 1000


@pytest.mark.parametrize(("used", "left"), [(40, 60), (100, 0), (120, 0)])
def test_a_containers_limit_counts_where_it_is_smaller(tmp_path: Path, used: int, left: int) -> None:
    (tmp_path / "memory.max").write_text("100\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    assert (memory_bytes(tmp_path), free_bytes(tmp_path)) == (100, left)
