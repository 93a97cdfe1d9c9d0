"""Makes `.venv` what the lock says. Standard library only: this runs before anything is installed.

    python3.11 -m nightshift.bootstrap

Packages come from where pip's settings say; uv, which installs them, is told the same. Torch alone has several
builds: one that find-links offers is taken as it is; with an NVIDIA driver the registry's CUDA build; otherwise
PyTorch's CPU build, and only if its index cannot be reached the registry's large default.
"""

from __future__ import annotations

import ast
import hashlib
import http.client
import os
import shlex
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.request
import venv
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
VENV = Path(os.environ.get("NIGHTSHIFT_VENV") or PROJECT / ".venv")
LOCK = PROJECT / "requirements.lock"
CPU_INDEX = "https://download.pytorch.org/whl/cpu/torch/"
AGAIN = "Once that is mended, run it again: it goes on where it stopped."
# uv's variable for each of pip's options, and what separates its values.
UV_NAMES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "cert": ("SSL_CERT_FILE", " "),
}


def main() -> None:
    if sys.version_info[:2] != (3, 11):
        sys.exit(
            f"Nightshift needs Python 3.11, not {sys.version.split()[0]}: make PYTHON=/path/to/python3.11"
        )
    try:
        bootstrap()
    except subprocess.CalledProcessError as error:
        lacking = b"No module named ensurepip" in (error.output or b"")
        hint = "This Python lacks venv; on Debian: apt install python3.11-venv." if lacking else AGAIN
        sys.exit(f"Failed (exit {error.returncode}): {shlex.join(map(str, error.cmd))}. {hint}")
    except OSError as error:
        sys.exit(f"Installing into {VENV} failed: {error}. {AGAIN}")
    except KeyboardInterrupt:
        print("\nStopped; run it again, and it goes on where it stopped.", file=sys.stderr)
        sys.exit(130)


def bootstrap() -> None:
    python, stamp = VENV / "bin" / "python", VENV / "nightshift.lock"
    if python.exists() and stamp.exists() and stamp.read_text() == wanted():
        return
    print(
        f"Installing Nightshift's packages into {VENV} (once; a few minutes) …", file=sys.stderr, flush=True
    )
    pip = (python, "-m", "pip")
    if (
        not python.exists()
        or subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode
    ):
        # Cleared only if it was begun as an environment: another folder's files are not ours to remove.
        venv.create(VENV, clear=(VENV / "pyvenv.cfg").exists(), with_pip=True)
    run(*pip, "install", "--quiet", "uv>=0.9")
    listing = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False).stdout
    environment = uv_environment(pip_settings(listing), dict(os.environ))
    install = (python, "-m", "uv", "pip", "install", "--quiet", "--python", python)
    run(*install, "--compile-bytecode", *torch_build(environment), "-r", LOCK, env=environment)
    run(*install, "--no-deps", "-e", PROJECT, env=environment)
    stamp.write_text(wanted())


def wanted() -> str:
    content = LOCK.read_bytes() + (PROJECT / "pyproject.toml").read_bytes() + Path(__file__).read_bytes()
    return hashlib.sha256(content).hexdigest()


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, env=env, stdin=subprocess.DEVNULL, check=True)


def pip_settings(listing: str) -> dict[str, str]:
    """What `pip config list` prints, by option: the environment beats `[install]`, which beats `[global]`."""
    found: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):
        for key, equals, value in (line.partition("=") for line in listing.splitlines()):
            if equals and key.startswith(section):
                found[key.removeprefix(section)] = str(ast.literal_eval(value))
    return found


def uv_environment(settings: dict[str, str], environment: dict[str, str]) -> dict[str, str]:
    """`environment` with pip's settings for uv; what it says to uv already stays."""
    known = [(*UV_NAMES[option], value.split()) for option, value in settings.items() if option in UV_NAMES]
    told = {name: separator.join(values) for name, separator, values in known if values}
    if "UV_INDEX" in told:
        # pip takes the best of all its indexes; uv would only look into the first that knows a package's name.
        told["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    caches = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not writable(Path(caches, "uv")):
        told["UV_CACHE_DIR"] = str(VENV / "uv-cache")
    return {**told, **environment}


def writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def torch_build(environment: dict[str, str]) -> list[str]:
    """uv's arguments for the build of torch that this machine should have."""
    links = filter(None, environment.get("UV_FIND_LINKS", "").split(","))
    local = any(any(Path(link.removeprefix("file://")).glob("torch-*")) for link in links)
    if local or shutil.which("nvidia-smi"):
        return []
    if problem := unreachable(CPU_INDEX, environment.get("SSL_CERT_FILE")):
        print(f"{problem}; taking the registry's default build of torch.", file=sys.stderr)
        return []
    return ["--torch-backend", "cpu"]


def unreachable(url: str, certificates: str | None) -> str:
    """Why `url` cannot be read, through the environment's proxies; empty if it can."""
    try:
        trusted = ssl.create_default_context(cafile=certificates)
        with urllib.request.urlopen(url, timeout=5, context=trusted):  # noqa: S310
            return ""
    except (OSError, http.client.HTTPException) as error:
        return f"{url} cannot be reached ({error})"


if __name__ == "__main__":
    main()
