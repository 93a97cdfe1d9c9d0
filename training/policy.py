"""What a seat asks of a candidate: one readable file per seat, `training/policies/<seat>.toml`.

A table is a check; without its table the check is not made, and the verdict's page lists it as switched off. Only
`exam`, `better` and `baselines` cannot be left out: without them anything would be promoted.
`NIGHTSHIFT_POLICIES` names a folder whose files take the place of these.
"""

from __future__ import annotations

import hashlib
import tomllib
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nightshift.errors import SettingsError
from nightshift.settings import Settings
from training.exams import examiner
from training.metrics import METRICS

POLICIES = Path(__file__).parent / "policies"
Share = Annotated[float, Field(ge=0, lt=1, strict=True)]
Confidence = Annotated[float, Field(gt=0.5, lt=1, strict=True)]
Figure = Annotated[float, Field(strict=True, allow_inf_nan=False)]
SAID = {"extra_forbidden": "there is no such table or field", "missing": "cannot be left out"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExamPolicy(_Part):
    min_units: int = Field(ge=2)
    confidence: Confidence = 0.95
    draws: int = Field(2_000, ge=200, le=100_000)


class BetterPolicy(_Part):
    metric: str
    min_gain: Share = 0.01


class BaselinePolicy(_Part):
    beat: tuple[str, ...] = Field(min_length=1)
    match: tuple[str, ...] = ()


class SlicePolicy(_Part):
    min_units: int = Field(ge=2)
    min_loss: Share = 0.05
    confidence: Confidence = 0.95


class LineagePolicy(_Part):
    dirty: Literal["pass", "flag", "fail"] = "flag"


class Policy(_Part):
    """One seat's policy. A check whose part is None or empty is switched off.

    floors, behaviour, infra: metric → the figure that must be reached, or where lower is better, not exceeded.
    guardrails, reference: metric → share of the champion's (the frozen reference's) figure that may be lost at most.
    digest: of the file, so that a verdict says by which policy it was reached.
    """

    hold: Literal["never", "flagged", "always"] = "never"
    exam: ExamPolicy
    better: BetterPolicy
    baselines: BaselinePolicy
    floors: dict[str, Figure] = {}
    guardrails: dict[str, Share] = {}
    slices: SlicePolicy | None = None
    reference: dict[str, Share] = {}
    behaviour: dict[str, Figure] = {}
    lineage: LineagePolicy | None = None
    infra: dict[str, Figure] = {}
    digest: str = ""

    @property
    def primary(self) -> str:
        return self.better.metric

    def switched_off(self) -> list[str]:
        """The checks that this policy leaves out."""
        return [
            name
            for name in type(self).model_fields
            if name not in ("digest", "hold") and not getattr(self, name)
        ]


def policy_of(seat: str, settings: Settings | None = None) -> Policy:
    """The policy of a seat: of the folder that the settings name, else ours.

    Raises:
        SettingsError: the file is not there, or not a policy; with its path, the table and the field.
    """
    folder = settings.policies if settings is not None and settings.policies is not None else POLICIES
    path = folder / f"{seat}.toml"
    policy = read_policy(path)
    scored = examiner(seat).metrics
    for table, named, known in (
        ("better", (policy.primary,), scored),
        *((table, getattr(policy, table), scored) for table in ("floors", "guardrails", "reference")),
        *((table, getattr(policy, table), tuple(METRICS)) for table in ("behaviour", "infra")),
    ):
        for metric in named:
            if metric not in known:
                near = get_close_matches(metric, known, 1)
                hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
                raise SettingsError(f"{path}: {table}: there is no figure {metric!r}{hint}")
    return policy


@lru_cache(maxsize=32)
def _parsed(path: Path, content: bytes) -> Policy:
    try:
        told = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error
    try:
        return Policy.model_validate({**told, "digest": hashlib.sha256(content).hexdigest()[:12]})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{path}: {where}: {SAID.get(first['type'], first['msg'])}") from error


def read_policy(path: Path) -> Policy:
    """A policy file. Raises SettingsError as `policy_of` does."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: no policy can be read there ({error.strerror}); NIGHTSHIFT_POLICIES names the "
                            "folder, unset it for the built-in ones") from error  # fmt: skip
    return _parsed(path, content)
