"""What every step of a night has in common: a command that prints one JSON line of plain values last.

The same line is kept in the store as `nights/<night>/<step>.json`, so that the summary, the CLI and a replay read
what a step did without asking who ran it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from nightshift.errors import NightshiftError
from nightshift.settings import Settings
from nightshift.store import as_json, shared


def quiet_libraries() -> None:
    """Settings that must stand before the big libraries are imported: no telemetry, no idle threads."""
    for proxy in ("NO_PROXY", "no_proxy"):  # no proxy stands between the parts on this machine
        if "127.0.0.1" not in os.environ.get(proxy, ""):
            os.environ[proxy] = ",".join(filter(None, [os.environ.get(proxy), "127.0.0.1", "localhost"]))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # two threads on a contended box are 20 times slower than one
    os.environ["TZ"] = "UTC"  # Feast's SQLite store keeps times in the local zone: all must share one
    time.tzset()
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("FEAST_USAGE", "False")
    os.environ.setdefault("MPLBACKEND", "Agg")
    logging.getLogger().setLevel(logging.WARNING)


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: NumPy scalars unpacked, NaN and infinity as null, dates as text."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, date | Path):
        return str(value)
    return value


def step_name(night: date, step: str) -> str:
    """Where the store has what `step` did on `night`."""
    return f"nights/{night.isoformat()}/{step}.json"


def step_path(settings: Settings, night: date, step: str) -> Path:
    """The file of what `step` did on `night`, of a home that has its nights to itself, as a replay's."""
    return settings.nights_dir / night.isoformat() / f"{step}.json"


def emit(settings: Settings, night: date, step: str, result: dict[str, Any]) -> None:
    """Keep `result` as what `step` did on `night`, and print it as the last line."""
    result = plain(result)
    shared(settings).write(step_name(night, step), as_json(result))
    print(json.dumps(result, ensure_ascii=False), flush=True)


def read_step(settings: Settings, night: date, step: str) -> dict[str, Any] | None:
    """What `step` did on `night`, or None if it has not run."""
    content = shared(settings).read(step_name(night, step))
    return None if content is None else json.loads(content)


def read_steps(settings: Settings, night: date) -> dict[str, dict[str, Any]]:
    """What every step did on `night`, by its name."""
    store, folder = shared(settings), f"nights/{night.isoformat()}"
    steps = [name.removesuffix(".json") for name in store.names(folder) if name.endswith(".json")]
    found = {step: read_step(settings, night, step) for step in steps}
    return {step: result for step, result in found.items() if result is not None}


@contextmanager
def alone(settings: Settings, what: str) -> Iterator[None]:
    """Wait until no other process of this home does `what`: a person may start a night while Airflow runs one.

    The kernel lets go of the lock when its holder dies.
    """
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (settings.home / f"{what}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def run_command(command: Callable[[], Any]) -> None:
    """Run a command's main function: a NightshiftError, or a full disk, becomes one line and its exit status."""
    quiet_libraries()
    # So that `finally` and `except` run: a step that is told to stop must not leave a child or a run behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        command()
    except NightshiftError as error:
        line = " ".join(str(error).split())
        print(f"{type(error).__name__}: {line}", file=sys.stderr, flush=True)
        raise SystemExit(error.exit_status) from None
    except Exception as error:
        if not disk_is_full(error):
            raise
        where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        line = f"the disk is full{where}; what is half-written counts for nothing: free some space and run it again"
        print(f"DiskFullError: {line}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None


def disk_is_full(error: BaseException) -> bool:
    """Whether an error of any library says so; DuckDB's and SQLite's are no OSError."""
    said = ("No space left on device", "database or disk is full")
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or any(words in str(error) for words in said)
