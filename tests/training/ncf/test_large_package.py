from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from training.ncf.large_package import write_safetensors


def test_what_is_written_in_parts_is_what_the_library_reads(tmp_path: Path) -> None:
    table = np.random.default_rng(0).random((7, 3)).astype(np.float32)
    flags, starts = np.array([1, 0, 1], np.uint8), np.arange(4)
    path = tmp_path / "some.safetensors"
    write_safetensors(
        path,
        {
            "table": ("float32", table.shape, iter([table[:2], table[2:6], table[6:]])),
            "flags": ("uint8", flags.shape, iter([flags])),
            "empty": ("int32", (0,), iter([])),
            "starts": ("int64", starts.shape, iter([starts[:1], starts[1:]])),
        },
    )
    found = load_file(path)
    np.testing.assert_array_equal(found["table"], table)
    np.testing.assert_array_equal(found["flags"], flags)
    np.testing.assert_array_equal(found["starts"], starts)
    assert found["empty"].shape == (0,)


def test_parts_that_are_not_the_shape_that_was_told_are_refused(tmp_path: Path) -> None:
    parts = iter([np.zeros(2, np.float32)])
    with pytest.raises(ValueError, match="'short'"):
        write_safetensors(tmp_path / "some.safetensors", {"short": ("float32", (3,), parts)})
