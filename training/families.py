"""The families: ways of building a model for a seat. Names only; importing this costs nothing.

`python -m training.families` prints those of a night with their seats, for those who may not import this room: all,
or the ones that NIGHTSHIFT_FAMILIES names.

To add one: a folder with `recipe.py` like `training/ncf/`, and a line here. The DAG, the gate, serving, the
watch and the conformance tests follow by themselves. A new seat also needs an examiner (`training/exams/`), a
policy (`training/policies/`) and a service.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from nightshift.errors import SettingsError

if TYPE_CHECKING:
    from training.recipe import Recipe


@dataclass(frozen=True)
class Family:
    name: str
    seat: str
    recipe: str  # "module:attribute", imported on use
    studied: bool = False  # the recipe has a space of settings that `training.study` can search

    def load(self) -> Recipe:
        module, _, attribute = self.recipe.partition(":")
        recipe: Recipe = getattr(import_module(module), attribute)
        return recipe


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("ncf", seat="recommender", recipe="training.ncf.recipe:RECIPE", studied=True),
        Family("item_knn", seat="recommender", recipe="training.baselines.item_knn:RECIPE"),
        Family("ease", seat="recommender", recipe="training.baselines.ease:RECIPE"),
        Family("dae", seat="recommender", recipe="training.factors.recipe:DAE", studied=True),
        Family("ials", seat="recommender", recipe="training.factors.recipe:IALS", studied=True),
        Family("hybrid", seat="recommender", recipe="training.hybrid.recipe:RECIPE"),
        Family("gru", seat="forecaster", recipe="training.gru.recipe:RECIPE", studied=True),
        Family("transformer", seat="forecaster", recipe="training.transformer.recipe:RECIPE", studied=True),
        Family("ridge", seat="forecaster", recipe="training.baselines.ridge:RECIPE"),
        Family("lightgbm", seat="forecaster", recipe="training.baselines.lightgbm:RECIPE"),
        Family("qlora", seat="language", recipe="training.qlora.recipe:RECIPE"),
    )
}


def of_a_night(names: str) -> dict[str, Family]:
    """The families that NIGHTSHIFT_FAMILIES names, in the order they are trained; all if it is empty.

    Raises:
        SettingsError: there is no family of that name.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in FAMILIES]
    if unknown:
        raise SettingsError(
            f"NIGHTSHIFT_FAMILIES: no family {', '.join(unknown)}; there are {', '.join(FAMILIES)}"
        )
    return {name: family for name, family in FAMILIES.items() if not wanted or name in wanted}


def main() -> None:
    from nightshift.settings import settings

    print(json.dumps({family.name: family.seat for family in of_a_night(settings().families).values()}))


if __name__ == "__main__":
    from nightshift.commands import run_command

    run_command(main)
