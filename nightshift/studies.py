"""What a study of a family's settings proposes: one file a family, `studies/<family>.json` in the
store, and what became of it.

A proposal is tried once: the next night trains the family with it. Only if the gate promotes that version do its
settings become those of later nights, which read them from the champion's tag `hyper`; else the proposal is spent.
`python -m training.study` writes it, `training.run` tries it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from nightshift.settings import Settings
from nightshift.store import as_json, shared
from nightshift.versions import Version

FOLDER = "studies"


@dataclass(frozen=True)
class Proposal:
    """Settings by name, and by how much they did better on the training window's own validation days.

    until: the last day that the study looked at. metric, value, before: what was compared, with these settings and
    with those of now. run_id: the study's page. night, version: when it was tried, and as which version.
    """

    family: str
    seat: str
    hyper: dict[str, Any]
    until: date
    metric: str
    value: float
    before: float
    trials: int
    run_id: str = ""
    night: date | None = None
    version: int | None = None


def folder(config: Settings) -> Path:
    """Where this machine keeps the trials of the studies that run on it."""
    return config.home / "studies"


def read(config: Settings, family: str) -> Proposal | None:
    """The family's newest proposal, whatever became of it; None if there never was one."""
    content = shared(config).read(f"{FOLDER}/{family}.json")
    if content is None:
        return None
    told = json.loads(content)
    days = {name: date.fromisoformat(told[name]) for name in ("until", "night") if told[name]}
    return Proposal(**{**told, **days})


def write(config: Settings, proposal: Proposal) -> None:
    shared(config).write(f"{FOLDER}/{proposal.family}.json", as_json(asdict(proposal)))


def proposals(config: Settings) -> list[Proposal]:
    """The newest of every family, by name."""
    names = [name for name in shared(config).names(FOLDER) if name.endswith(".json")]
    found = (read(config, name.removesuffix(".json")) for name in names)
    return [one for one in found if one is not None]


def tag(hyper: dict[str, Any]) -> str:
    """Settings as a version's tag `hyper`; empty for a recipe's own."""
    return json.dumps(hyper, sort_keys=True) if hyper else ""


@dataclass(frozen=True)
class Chosen:
    """Tonight's settings, and the proposal if they are one."""

    hyper: dict[str, Any] = field(default_factory=dict)
    proposal: Proposal | None = None


def choose(
    proposal: Proposal | None,
    champion: Version | None,
    again: Version | None,
    *,
    family: str,
    night: date,
    train_end: date,
) -> Chosen:
    """What a family trains with: a pure decision.

    again: a version that it handed in for this very night: then with its settings, so that a night gives the same
    model again. Else with a proposal that was not tried yet, unless its study looked at a day that tonight's exam asks
    about; else as the champion was trained if it is of the family; else as the recipe has it.
    """
    if again is not None:
        mine = proposal is not None and proposal.night == night
        return Chosen(_settings(again), proposal if mine else None)
    if proposal is not None and proposal.night in (None, night) and proposal.until <= train_end:
        return Chosen(proposal.hyper, replace(proposal, night=night))
    if champion is not None and champion.tags.get("family") == family:
        return Chosen(_settings(champion))
    return Chosen()


def _settings(version: Version) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(version.tags.get("hyper", "") or "{}")
    return found


def state(proposal: Proposal, tried: Version | None) -> str:
    """What became of a proposal, in words; tried: the version that was trained with it, if there is one."""
    better = f"{proposal.metric} {proposal.value:.4f} against {proposal.before:.4f} on validation days"
    if proposal.night is None:
        return f"proposed ({better}); the next night tries it"
    if tried is None:
        return f"being tried on night {proposal.night} ({better})"
    as_which = f"tried on night {proposal.night} as version {tried.number}"
    if "in_production_since" in tried.tags:
        return f"{as_which} and promoted: the settings of the nights while a version of {proposal.family} is champion"
    if "verdict" not in tried.tags:
        return f"{as_which}; the gate has not decided"
    return f"{as_which}; not promoted (verdict: {tried.tags['verdict']}), so it is spent"
