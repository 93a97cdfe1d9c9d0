"""Writes a fitted large network as the arrays that `large_predictor.py` serves with, a piece at a time.

No second table stands in memory: weights go to the file in float32 some rows at a time, what users met straight from
the window's own database, and the catalogue from there to Parquet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from torch import Tensor

from training.ncf import large_predictor as predictor
from training.ncf.coded import Window
from training.ncf.large import Hyper, Network
from training.recipe import Package

REQUIRES = ("mlflow", "numpy", "pandas", "pyarrow", "safetensors")
ROWS = 1 << 18  # of a table, written at a time
NAMES = {"float32": "F32", "int32": "I32", "int64": "I64", "uint8": "U8"}  # as safetensors calls them


def write(network: Network, window: Window, user_counts: np.ndarray, hyper: Hyper, folder: Path) -> Package:
    """The package under `folder`; user_counts [users + 1]: positives of each, 0 = a stranger like any other."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("weights.safetensors", "seen.safetensors", "config.json", "items.parquet", "users.parquet")
    paths = {Path(name).stem: folder / name for name in names}
    users, items, factors = window.users, window.items, hyper.factors
    write_safetensors(
        paths["weights"],
        {
            "user": ("float32", (users + 1, factors), _parts(network.user.weight)),
            "item": ("float32", (items, factors), _parts(network.item.weight)),
            "bias": ("float32", (items,), _parts(network.bias.weight[:, 0])),
            "user_learnt": ("uint8", (users + 1,), iter([(user_counts > 0).astype(np.uint8)])),
        },
    )
    _write_seen(window, paths["seen"])
    paths["config"].write_text(json.dumps({"factors": factors, "dtype": hyper.dtype}), encoding="utf-8")
    window.export("SELECT item_id, title, category FROM items ORDER BY code", paths["items"])
    window.export("SELECT user_id FROM users ORDER BY code", paths["users"])
    served = predictor.Factors()
    served.load_context(SimpleNamespace(artifacts=paths))
    # Somebody known, and a stranger without a k: so the signature makes k optional.
    known = window.user_id(int(np.flatnonzero(user_counts)[-1]))
    example = pd.DataFrame({"user_id": [known, "nobody-knows-me"], "k": [3.0, None]})
    return Package(
        predictor=Path(predictor.__file__),
        artifacts=paths,
        input_example=example,
        output_example=served.predict(None, example),
        requirements=[f"{name}=={version(name)}" for name in REQUIRES],
    )


def write_safetensors(
    path: Path, arrays: dict[str, tuple[str, tuple[int, ...], Iterable[np.ndarray]]]
) -> None:
    """A safetensors file whose arrays come in parts: name → dtype, shape and the parts along the first axis.

    The library's own writer wants each array whole. The format: 8 bytes of the header's length, a JSON header with
    types, shapes and offsets, the arrays' bytes (github.com/huggingface/safetensors, "Format").

    Raises:
        ValueError: the parts of an array are not as many bytes as its shape says.
    """
    header, at = {}, 0
    for name, (dtype, shape, _) in arrays.items():
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    told = json.dumps(header).encode()
    told += b" " * (-len(told) % 8)  # the arrays begin aligned
    with path.open("wb") as handle:
        handle.write(len(told).to_bytes(8, "little") + told)
        begin = handle.tell()
        for name, (dtype, _, parts) in arrays.items():
            for part in parts:
                np.ascontiguousarray(part, dtype=dtype).tofile(handle)
            end = header[name]["data_offsets"][1]  # type: ignore[index]
            if handle.tell() - begin != end:
                raise ValueError(f"{path}: array {name!r} ends at byte {handle.tell() - begin}, not {end}")


def _write_seen(window: Window, path: Path) -> None:
    """Items met by each user: twice through the database, so that neither pass holds them."""
    counts = np.zeros(window.users + 2, np.int64)
    for pairs in window.seen():
        np.add.at(counts, pairs[:, 0] + 1, 1)
    starts = np.cumsum(counts)
    write_safetensors(
        path,
        {
            "seen_start": ("int64", starts.shape, iter([starts])),
            "seen_items": ("int32", (int(starts[-1]),), (pairs[:, 1] for pairs in window.seen())),
        },
    )


def _parts(table: Tensor) -> Iterator[np.ndarray]:
    for part in table.split(ROWS):
        yield part.float().cpu().numpy()
