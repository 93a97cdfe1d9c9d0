"""One service as a container would run it, with what Linux has: `python container.py SPEC.json`, below `unshare`.

A root of its own with the project's rooms, volumes and tmpfs where the service has them, read-only if it says so;
processes numbered from 1; its own user, no capability, no new privileges. Standard library only: this runs as root in
new namespaces (unshare --mount --uts --pid --fork --kill-child), and as process 1 it passes signals on and reaps, as
`init: true` has Docker's do. Not covered: limits of memory and processes, seccomp, networks of their own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

MERGED = ("bin", "lib", "lib64", "sbin")  # links into /usr


def main() -> int:
    spec: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    root = Path(spec["root"])
    furnish(root, spec)
    socket.sethostname(spec["hostname"])
    return run(root, spec)


def furnish(root: Path, spec: dict[str, Any]) -> None:
    """Mount all that the service sees under `root`."""
    mount("--make-rprivate", "/")
    root.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(root))
    for name in MERGED:
        if Path("/", name).is_symlink():
            (root / name).symlink_to(os.readlink(f"/{name}"))
        elif Path("/", name).exists():
            bind(Path("/", name), root / name, writable=False)
    for path in ("/usr", "/etc"):
        bind(Path(path), root / path[1:], writable=False)
    bind(Path(spec["hosts"]), root / "etc" / "hosts", writable=False)
    (root / "dev").mkdir()
    mount("--rbind", "/dev", str(root / "dev"))
    (root / "proc").mkdir()
    mount("-t", "proc", "proc", str(root / "proc"))
    # Outer mounts first, so that a volume can lie in another one's folder.
    places = [(target, "tmpfs", options, True) for target, options in spec["tmpfs"]]
    places += [(target, source, "", writable) for source, target, writable in spec["binds"]]
    for target, source, options, writable in sorted(places):
        place = root / target.lstrip("/")
        if source == "tmpfs":
            place.mkdir(parents=True, exist_ok=True)
            mount("-t", "tmpfs", *(["-o", options] if options else []), "tmpfs", str(place))
        else:
            bind(Path(source), place, writable=writable)
    if spec["read_only"]:
        mount("-o", "remount,ro", str(root))


def bind(source: Path, place: Path, *, writable: bool) -> None:
    if source.is_dir():
        place.mkdir(parents=True, exist_ok=True)
    elif not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    mount("--bind", str(source), str(place))
    if not writable:
        mount("-o", "remount,bind,ro", str(place))


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def run(root: Path, spec: dict[str, Any]) -> int:
    """Run the command in that root; its exit status."""
    privileges = ["setpriv", "--reuid", str(spec["uid"]), "--regid", str(spec["uid"]), "--clear-groups"]
    privileges += ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"]

    def enter() -> None:
        os.chroot(root)
        os.chdir(spec["workdir"])

    child = subprocess.Popen(  # no other thread runs here
        [*privileges, *spec["command"]], env=spec["environment"], preexec_fn=enter, start_new_session=True
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: child.send_signal(got))
    while True:
        pid, status = os.wait()  # orphans of the service are reaped, too
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
