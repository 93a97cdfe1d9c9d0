"""Makes `.venv` what the lock says. Standard library only: this runs before anything is installed.

    python3.11 -m nightshift.bootstrap

Torch is the one package with several builds. A CPU build offered by the machine's own pip settings
(find-links) is taken as it is; with an NVIDIA driver the registry's CUDA build is; otherwise PyTorch's CPU
build is asked for, and only if that index cannot be reached does the registry's large default come in.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
VENV = Path(os.environ.get("NIGHTSHIFT_VENV", PROJECT / ".venv"))
LOCK = PROJECT / "requirements.lock"


def wanted() -> str:
    content = LOCK.read_bytes() + (PROJECT / "pyproject.toml").read_bytes() + Path(__file__).read_bytes()
    return hashlib.sha256(content).hexdigest()


def pip_setting(python: Path, name: str) -> str:
    found = subprocess.run(
        [python, "-m", "pip", "config", "get", name], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def main() -> None:
    if sys.version_info[:2] != (3, 11):
        sys.exit(
            f"Nightshift needs Python 3.11; this is {sys.version.split()[0]}. Try: make PYTHON=…/python3.11"
        )
    stamp = VENV / "nightshift.lock"
    if stamp.exists() and stamp.read_text() == wanted():
        return
    print(
        f"Installing Nightshift's packages into {VENV} (once; a few minutes) …", file=sys.stderr, flush=True
    )
    python = VENV / "bin" / "python"
    if not python.exists():
        venv.create(VENV, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "uv>=0.9"], check=True)
    install(python)
    stamp.write_text(wanted())


def install(python: Path) -> None:
    environment = dict(os.environ)
    links = pip_setting(python, "global.find-links") or os.environ.get("PIP_FIND_LINKS", "")
    if links:
        environment.setdefault("UV_FIND_LINKS", links.replace(" ", ","))
    local_torch = any(list(Path(link).glob("torch-*")) for link in links.split() if Path(link).is_dir())
    locked = ["--compile-bytecode", "-r", str(LOCK)]
    cpu = ["--torch-backend", "cpu"]
    if local_torch or shutil.which("nvidia-smi"):
        uv_install(python, environment, locked)
    elif not uv_install(python, environment, [*locked, *cpu], must=False):
        print("PyTorch's CPU index cannot be reached; taking the registry's default build.", file=sys.stderr)
        uv_install(python, environment, locked)
    uv_install(python, environment, ["--no-deps", "-e", str(PROJECT)])


def uv_install(python: Path, environment: dict[str, str], arguments: list[str], *, must: bool = True) -> bool:
    """`uv pip install`; whether it succeeded."""
    command = [str(python), "-m", "uv", "pip", "install", "--quiet", "--python", str(python), *arguments]
    return subprocess.run(command, env=environment, check=must).returncode == 0


if __name__ == "__main__":
    main()
