"""docker/compose.yaml as `docker compose` reads it: variables, anchors, profiles. Only what that file uses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nightshift.settings import PROJECT

FILE = PROJECT / "docker" / "compose.yaml"
VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:-)([^}]*)|(:\?)([^}]*))?\})")


@dataclass(frozen=True)
class Service:
    """One service; `told` is its mapping in the file, with everything filled in."""

    name: str
    told: dict[str, Any]

    @property
    def command(self) -> list[str]:
        """Entrypoint and command, as one list of words."""
        return [*self.told.get("entrypoint", []), *self.told.get("command", [])]

    @property
    def environment(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.told.get("environment", {}).items()}

    @property
    def check(self) -> list[str] | None:
        """The health check's words, or None."""
        test = self.told.get("healthcheck", {}).get("test")
        return list(test[1:]) if test else None

    @property
    def needs(self) -> dict[str, str]:
        """Service → condition that has to hold before this one starts."""
        return {name: told["condition"] for name, told in self.told.get("depends_on", {}).items()}

    @property
    def once(self) -> bool:
        """Whether it does something and ends."""
        return self.told.get("restart") == "on-failure"

    @property
    def dockerfile(self) -> Path | None:
        build = self.told.get("build")
        return PROJECT / build["dockerfile"] if build else None


def env_file(path: Path) -> dict[str, str]:
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def services(variables: dict[str, str], profiles: set[str], file: Path = FILE) -> dict[str, Service]:
    """The services of these profiles, by name. Raises KeyError with compose's words for a variable that must be set."""
    read = _filled(yaml.safe_load(file.read_text()), variables)
    chosen = {name: told for name, told in read["services"].items() if set(told["profiles"]) & profiles}
    return {name: Service(name, told) for name, told in chosen.items()}


def _filled(value: Any, variables: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(inner, variables) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, variables) for inner in value]
    return VARIABLE.sub(lambda found: _value(found, variables), value) if isinstance(value, str) else value


def _value(found: re.Match[str], variables: dict[str, str]) -> str:
    dollar, name, _, default, required, message = found.groups()
    if dollar:
        return "$"
    if variables.get(name):
        return variables[name]
    if required:
        raise KeyError(f"{name}: {message}")
    return default or ""
