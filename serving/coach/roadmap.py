"""A topic → the competencies that it asks for, with books and courses from the catalogue.

A competency applies where one of its words is in the topic's name, and one without words to every topic. The catalogue
comes with us (catalogue.json: real titles, without editions, prices or links, which change) or is one's own by
`NIGHTSHIFT_CATALOGUE`. No model writes plans: a model of this size would invent books.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from nightshift.coaching import Resource, RoadmapResponse, Step
from nightshift.errors import SettingsError
from nightshift.settings import Settings
from serving.coach.profiles import KeptStep, Roadmap

OURS = Path(__file__).with_name("catalogue.json")
MOST_STEPS = 8
FOR_ALL = "every field asks for it"

Word = Annotated[str, StringConstraints(min_length=2, max_length=64)]


class Titled(Resource):
    model_config = ConfigDict(extra="forbid")


class Competency(BaseModel):
    """words: that call for it in a topic's name, in any language; none: every topic does."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern="^[a-z0-9-]+$")]
    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    words: list[Word] = Field(default_factory=list)
    resources: list[Titled] = Field(min_length=1)

    @cached_property
    def _words(self) -> list[tuple[str, re.Pattern[str]]]:
        # Latin words count whole: `AI` is not in `maintenance`. Korean ones have endings and compounds.
        return [
            (
                word,
                re.compile(
                    rf"(?<![a-z0-9]){re.escape(word.lower())}(?![a-z0-9])"
                    if word.isascii()
                    else re.escape(word)
                ),
            )
            for word in self.words
        ]

    def called_by(self, topic: str) -> str | None:
        """The word in the topic's name that calls for it."""
        return next((word for word, pattern in self._words if pattern.search(topic.lower())), None)


class Catalogue(BaseModel):
    model_config = ConfigDict(extra="forbid")

    competencies: list[Competency]

    @model_validator(mode="after")
    def _has_one_for_every_topic(self) -> Catalogue:
        if all(competency.words for competency in self.competencies):
            raise ValueError("one competency at least must have no words, so that no plan is empty")
        ids = [competency.id for competency in self.competencies]
        if twice := {each for each in ids if ids.count(each) > 1}:
            raise ValueError(f"the id {min(twice)!r} is there twice")
        return self


def read(settings: Settings) -> Catalogue:
    """The catalogue of the settings. Raises SettingsError, naming the file and what is wrong in it."""
    path = settings.catalogue or OURS
    try:
        return Catalogue.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"the catalogue {path} cannot be read: {error.strerror}; NIGHTSHIFT_CATALOGUE names it"
        ) from None
    except ValidationError as error:
        wrong = error.errors()[0]
        place = ".".join(str(part) for part in wrong["loc"])
        raise SettingsError(
            f"the catalogue {path}: {place or 'file'}: {wrong['msg']}; NIGHTSHIFT_CATALOGUE names it"
        ) from None


def plan(catalogue: Catalogue, user_id: str, topic: str, at: datetime) -> Roadmap:
    """The steps for a topic: what its name calls for, in the catalogue's order, then what every topic does."""
    called = [(each, each.called_by(topic)) for each in catalogue.competencies]
    steps = [_step(each, f"“{word}” is in the topic's name") for each, word in called if word]
    steps += [_step(each, FOR_ALL) for each, _ in called if not each.words]
    return Roadmap(user_id, topic, at, steps[:MOST_STEPS])


def told(roadmap: Roadmap) -> RoadmapResponse:
    """The roadmap as a client is told it."""
    steps = [_told(step) for step in roadmap.steps]
    done = sum(step.status == "done" for step in steps)
    return RoadmapResponse(
        user_id=roadmap.user_id,
        topic=roadmap.topic,
        made_at=roadmap.made_at,
        steps=steps,
        done=done,
        progress=done / len(steps),
    )


def _step(competency: Competency, why: str) -> KeptStep:
    resources: Sequence[Titled] = competency.resources
    said = {"competency": competency.name, "why": why, "resources": [each.model_dump() for each in resources]}
    return KeptStep(competency.id, said, "todo", None)


def _told(step: KeptStep) -> Step:
    return Step(step_id=step.step_id, status=step.status, changed_at=step.changed_at, **step.told)
