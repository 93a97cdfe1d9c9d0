"""Which versions are the same model: made of equal data by equal code with an equal seed, from an equal start.

On CPU they are equal to the last digit, whatever night they were trained on: the forecaster's weeks come once a week,
so its seven nights train much the same models.
"""

from __future__ import annotations

from collections.abc import Iterable

from nightshift.registry import Version

MADE_OF = ("family", "content_digest", "train_start", "git_commit", "seed", "smoke")
# Told only where there was one: the state that it went on from, settings that are not the recipe's own.
MADE_WITH = ("warm_digest", "hyper")
TAKEN_OUT = ("rolled_back", "rejected")


def made_of(version: Version) -> tuple[str, ...] | None:
    """What the version was made of; None if that is not on record."""
    told = [version.tags.get(name, "") for name in MADE_OF]
    return (*told, *(version.tags.get(name, "") for name in MADE_WITH)) if all(told) else None


def tries(versions: Iterable[Version]) -> int:
    """How many different models have had a try at an exam.

    One that is the same again is no further chance of luck. What code a dirty tree holds is not known, so each of its
    versions is a try of its own.
    """
    models: set[tuple[str, ...] | int] = set()
    for version in versions:
        told = made_of(version)
        models.add(told if told is not None and version.tags.get("dirty") == "false" else version.number)
    return len(models)


def withdrawn(version: Version, others: Iterable[Version]) -> str:
    """Why this model was taken out or turned down, under its own number or another; empty if it was not.

    Here a dirty tree's versions count as the same: what a person took out must not come back by itself, and whoever
    mended the code can commit it, or override.
    """
    own = made_of(version)
    for one in (version, *others):
        reason = next((one.tags[name] for name in TAKEN_OUT if one.tags.get(name)), "")
        if reason and one.number == version.number:
            return reason
        if reason and own is not None and made_of(one) == own:
            return f"{reason} (as version {one.number}, made of the same data by the same code)"
    return ""
