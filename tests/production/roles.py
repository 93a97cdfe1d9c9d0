"""What an image holds, as its Dockerfile says: the packages of its extras, its rooms, its environment and its user.

An image's environment is laid out as a tree of links into the one that the tests run in: of the packages that its
extras need, and of no other, file by file, as `uv pip install` would have put them there. So a service that needs a
package which its role lacks fails here as it would in its container. Not covered: the base image, and installing.
"""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
import venv
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nightshift.settings import PROJECT

PREFIX = "/opt/venv"  # where the image has its environment


@dataclass
class Image:
    """A Dockerfile of ours, read: its last stage, and the extras that its first one installs."""

    extras: list[str]
    copies: list[tuple[str, str]] = field(default_factory=list)  # (path in the project, path in the image)
    environment: dict[str, str] = field(default_factory=dict)
    user: int = 0
    workdir: str = "/"


def image(dockerfile: Path) -> Image:
    """Read a Dockerfile; the few instructions that ours have."""
    lines = re.sub(r"\\\n", " ", dockerfile.read_text()).splitlines()
    last = max(n for n, line in enumerate(lines) if line.startswith("FROM "))
    read = Image(re.findall(r"--extra (\S+)", "\n".join(lines[:last])))
    for line in lines[last:]:
        word, _, rest = line.partition(" ")
        words = shlex.split(rest) if word in ("COPY", "ENV") else rest.split()
        if word == "WORKDIR":
            read.workdir = rest
        elif word == "USER":
            read.user = int(rest.partition(":")[0])
        elif word == "ENV":
            read.environment |= dict(pair.split("=", 1) for pair in words)
        elif word == "COPY" and not words[0].startswith("--from"):
            *sources, target = words
            for source in sources:
                name = f"{target}{Path(source).name}" if target.endswith("/") else target
                read.copies.append((source, f"{read.workdir}/{name}"))
    return read


def packages(extras: list[str]) -> dict[str, Distribution]:
    """The installed packages that the project needs with these extras, by canonical name.

    Raises AssertionError if one is not installed.
    """
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    optional: dict[str, list[str]] = project["optional-dependencies"]
    waiting = [Requirement(line) for line in project["dependencies"]]
    waiting += [Requirement(line) for extra in extras for line in optional[extra]]
    found: dict[str, Distribution] = {}
    asked: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name == "nightshift":
            waiting += [Requirement(line) for extra in requirement.extras for line in optional[extra]]
            continue
        for extra in ("", *requirement.extras):
            if (name, extra) in asked:
                continue
            asked.add((name, extra))
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:
                raise AssertionError(f"{name} is not installed, and {extras} need it") from None
            for line in found[name].requires or []:
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return found


def lay_out(extras: list[str], target: Path) -> dict[str, Distribution]:
    """Make `target` the environment of these extras, for a process that sees it at PREFIX; what is in it."""
    found = packages(extras)
    venv.create(target, with_pip=False)
    site = target / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    owners: dict[
        str, set[str]
    ] = {}  # a folder or file right in site-packages → the packages that have files in it
    files_of = {canonicalize_name(one.metadata["Name"]): recorded(one) for one in distributions()}
    for name, files in files_of.items():
        for file in files:
            owners.setdefault(file.partition("/")[0], set()).add(name)
    for name, package in found.items():
        root = Path(str(package.locate_file("")))
        for file in files_of[name]:
            top, slash, _ = file.partition("/")
            if top == "..":
                source = (root / file).resolve()
                if source.parent.name == "bin":
                    _script(source, target / "bin" / source.name)
            elif slash and owners[top] <= set(found):
                _link(root / top, site / top)  # nobody else has anything in there
            else:
                _link(root / file, site / file)
                compiled = (
                    Path(file).parent
                    / "__pycache__"
                    / f"{Path(file).stem}.{sys.implementation.cache_tag}.pyc"
                )
                if file.endswith(".py") and (root / compiled).exists():
                    _link(root / compiled, site / compiled)
    return found


def recorded(package: Distribution) -> list[str]:
    """The files of a package, as its RECORD names them; it is read a hundred times as fast as `package.files`."""
    lines = (package.read_text("RECORD") or "").splitlines()
    return [line.rsplit(",", 2)[0].strip('"') for line in lines if not line.startswith("__pycache__")]


def _link(source: Path, link: Path) -> None:
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source)


def _script(source: Path, target: Path) -> None:
    """A command of a package; its first line names the Python of its environment."""
    content = source.read_bytes()
    first, newline, rest = content.partition(b"\n")
    if first.startswith(b"#!") and b"python" in first:
        target.write_bytes(f"#!{PREFIX}/bin/python".encode() + newline + rest)
        target.chmod(0o755)
    elif not target.exists():
        target.symlink_to(source)
