"""Makes `.venv` what the lock says. Standard library only: this runs before anything is installed.

    python3.11 -m nightshift.bootstrap [spark]     # with what requirements-spark.lock says too

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
INSTALL = ("-m", "uv", "pip", "install", "--quiet")
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
        found = sys.version.split()[0]
        sys.exit(f"Nightshift needs Python 3.11, and this is {found}: give make PYTHON=/path/to/python3.11")
    try:
        bootstrap()
        for extra in sys.argv[1:]:
            install_extra(extra)
    except subprocess.CalledProcessError as error:
        said = (error.output or b"").decode(errors="replace").strip().rpartition("\n")[2]  # of ensurepip
        hint = "On Debian: apt install python3.11-venv." if "named ensurepip" in said else f"{said} {AGAIN}"
        sys.exit(f"Failed (exit {error.returncode}): {shlex.join(map(str, error.cmd))}. {hint.strip()}")
    except OSError as error:
        sys.exit(f"Installing into {VENV} failed: {error}. {AGAIN}")
    except KeyboardInterrupt:
        print("\nStopped; run it again, and it goes on where it stopped.", file=sys.stderr)
        sys.exit(130)


def bootstrap() -> None:
    python, stamp = VENV / "bin" / "python", VENV / "nightshift.lock"
    if python.exists() and stamp.exists() and stamp.read_text() == wanted():
        return
    print(f"Installing Nightshift's packages into {VENV} (once; a few minutes) …", file=sys.stderr)
    probe = (python, "-m", "pip", "--version")
    if not python.exists() or subprocess.run(probe, capture_output=True, check=False).returncode:
        # Cleared only if it was begun as an environment: another folder's files are not ours to remove.
        venv.create(VENV, clear=(VENV / "pyvenv.cfg").exists(), with_pip=True)
    run(python, "-m", "pip", "install", "--quiet", "uv>=0.9")
    environment = environment_of(python)
    install = (python, *INSTALL, "--python", python)
    run(*install, "--compile-bytecode", *torch_build(environment), "-r", LOCK, env=environment)
    run(*install, "--no-deps", "-e", PROJECT, env=environment)
    stamp.write_text(wanted())


def install_extra(name: str) -> None:
    """Install what requirements-<name>.lock says beside the rest, unless it is there."""
    lock, stamp = PROJECT / f"requirements-{name}.lock", VENV / f"nightshift-{name}.lock"
    if not lock.exists():
        sys.exit(f"There is no {lock.name}: `{name}` is nothing that can be installed.")
    if stamp.exists() and stamp.read_text() == lock.read_text():
        return
    print(f"Installing what {lock.name} says into {VENV} (once; about a minute) …", file=sys.stderr)
    python = VENV / "bin" / "python"
    run(python, *INSTALL, "--python", python, "--no-deps", "-r", lock, env=environment_of(python))
    stamp.write_text(lock.read_text())


def environment_of(python: Path) -> dict[str, str]:
    """The variables for uv, by what the pip of `python` was told."""
    command: list[str | Path] = [python, "-m", "pip", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return uv_environment(pip_settings(listing), dict(os.environ))


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
    cache = Path(environment.get("XDG_CACHE_HOME") or environment.get("HOME", os.devnull) + "/.cache", "uv")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except OSError:
        told["UV_CACHE_DIR"] = str(VENV / "uv-cache")
    return {**told, **environment}


def torch_build(environment: dict[str, str]) -> list[str]:
    """uv's arguments for the build of torch that this machine should have."""
    links = filter(None, environment.get("UV_FIND_LINKS", "").split(","))
    local = any(any(Path(link.removeprefix("file://")).glob("torch-*")) for link in links)
    if local or shutil.which("nvidia-smi"):
        return []
    try:
        trusted = ssl.create_default_context(cafile=environment.get("SSL_CERT_FILE"))
        with urllib.request.urlopen(CPU_INDEX, timeout=5, context=trusted):
            return ["--torch-backend", "cpu"]
    except (OSError, http.client.HTTPException) as error:
        print(
            f"{CPU_INDEX} cannot be reached ({error}): taking the registry's default torch.", file=sys.stderr
        )
        return []


if __name__ == "__main__":
    main()
