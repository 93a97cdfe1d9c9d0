"""An S3 server of one's own for tests: `localbucket`, in a process, its buckets folders under a temporary one.

It keeps objects on disk, decides conditional writes atomically and checks no keys. `nanio` is the other kind: it
checks signatures, and ignores the conditions. Why these: docs/decisions/0019-what-machines-share.md
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

BUCKET = "nightshift"
KEY, SECRET = "a-key-of-the-tests", "a-secret-of-the-tests"


@dataclass(frozen=True)
class S3Server:
    """A running server. folder: where it keeps the buckets. log: what it said."""

    url: str
    folder: Path
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        """The standard variables that a client needs."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextmanager
def serving_s3(folder: Path, kind: str = "localbucket") -> Iterator[S3Server]:
    """A server over `folder` on a free port, with the bucket `nightshift`; ended with the block."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    data, log = folder / "buckets", folder / f"{kind}.log"
    (data / BUCKET).mkdir(parents=True, exist_ok=True)
    binary = Path(sys.executable).parent / kind
    commands = {
        "localbucket": [binary, data, "--host", "127.0.0.1", "--port", port],
        "nanio": [binary, "serve", "--data-dir", data, "--host", "127.0.0.1", "--port", port],
    }
    secrets = {"NANIO_ACCESS_KEY": KEY, "NANIO_SECRET_KEY": SECRET}
    with log.open("w") as output:
        server = subprocess.Popen(
            [str(word) for word in commands[kind]],
            env={**os.environ, **secrets},
            stdout=output,
            stderr=output,
        )
    try:
        _wait(port, server, log)
        yield S3Server(f"http://127.0.0.1:{port}", data, log)
    finally:
        server.terminate()
        server.wait(timeout=10)


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        with closing(socket.socket()) as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the S3 server did not start: {log.read_text()[-2000:]}")
