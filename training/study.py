"""Look for better settings of a family: `python -m training.study ncf --night 2026-09-28 --minutes 10 [--trials 30]`.

An Optuna study on the night's training window, scored on that window's own validation days, never on an exam. TPE
draws the settings, after the ones of now, which come first; a trial that is behind the median of the others at the same
epoch is pruned. It ends after `--minutes`, or `--trials`; killed, it goes on where it was when it is run again, for
its trials are kept in `home/studies/<family>.db`. Each is a run in MLflow, nested under the study's, with the
pictures of it.

The winner is a proposal, no more: the best of many is partly luck. nightshift/studies.py says what becomes of it.
Not covered: noise. Each trial is one seed on one set of validation days, the same for all of them.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from datetime import date
from typing import TYPE_CHECKING, Any, cast

from nightshift import studies
from nightshift.commands import emit, run_command
from nightshift.errors import LakeError, NoDataError, SettingsError
from nightshift.lake import open_lake
from nightshift.seats import SEATS
from nightshift.settings import Settings, settings
from training.exams import examiner
from training.families import FAMILIES, Family
from training.recipe import Setup
from training.spaces import Rehearse, Studied

if TYPE_CHECKING:
    import optuna

    from training.tracking import Run

EXPERIMENT = "nightshift/studies"
STARTUP, WARMUP = 4, 2  # whole trials, and epochs of each, before any is pruned
IMPORTANCE = 4  # whole trials, at least, to say which setting counted


def study(
    family: Family, day: date, config: Settings, *, minutes: float, trials: int | None, seed: int
) -> dict[str, Any]:
    """Search, write the proposal if it is better than the settings of now; returns what the step prints.

    trials: of the whole study, those of an earlier, killed run included; None: as many as the minutes allow.

    Raises:
        SettingsError: the family has no space to search.
        NoDataError: the window has no validation days, or no trial came to its end in time.
        LakeError, FeatureError, RegistryError: as `training.run`.
    """
    began = time.monotonic()
    if not family.studied:
        those = ", ".join(name for name, one in FAMILIES.items() if one.studied)
        raise SettingsError(f"family {family.name} has no settings to study; those that have: {those}")
    recipe = cast(Studied, family.load())
    night = examiner(family.seat).night(open_lake(config), day, config)
    from nightshift.registry import Registry
    from training.tracking import code_tags, open_run

    registry = Registry(config)
    champion = registry.champion(SEATS[family.seat])
    now = studies.choose(None, champion, None, family=family.name, night=day, train_end=night.train_end).hyper
    tags = {**code_tags(), "family": family.name, "night": str(day), "seed": str(seed)}
    name = f"{family.name}@{day}"
    with open_run(registry.client, EXPERIMENT, name, f"study-{name}", tags) as page:
        rehearse = recipe.rehearsal(night, config)
        found = _open(config, name, recipe, seed, now)
        search = Search(page, recipe, rehearse, now, seed, began + 60 * minutes)
        left = None if trials is None else max(0, trials - len(found.trials))
        left = left if left is None else left + sum(not one.state.is_finished() for one in found.trials)
        if left != 0:
            found.optimize(
                search, callbacks=[_say], n_trials=left, timeout=max(1.0, search.deadline - time.monotonic())
            )
        whole = _whole(found)
        if not whole:
            raise NoDataError(
                f"no trial of {family.name} came to its end in {minutes:g} minutes; give it more: "
                "the study goes on where it is"
            )
        _pictures(page, found)
        before = whole[0].value if whole[0].number == 0 else None
        best = found.best_trial
        proposed = before is not None and found.best_value != before
        outcome = "proposed" if proposed else "the settings of now are the best that was found"
        if before is None:
            outcome = "the settings of now did not come to their end: nothing to compare with"
        page.params({"minutes": minutes, "trials": len(found.trials), **best.params})
        page.tags({"outcome": outcome, "best_trial": str(best.number)})
        if before is not None and proposed:
            studies.write(
                config,
                studies.Proposal(
                    family=family.name,
                    seat=family.seat,
                    hyper={**now, **best.params},
                    until=night.train_end,
                    metric=recipe.goal.metric,
                    value=found.best_value,
                    before=before,
                    trials=len(found.trials),
                    run_id=page.id,
                ),
            )
    return {
        "family": family.name,
        "seat": family.seat,
        "outcome": outcome,
        "metric": recipe.goal.metric,
        "before": before,
        "best": found.best_value,
        "hyper": best.params,
        "trials": len(found.trials),
        "whole": len(whole),
        "run_id": page.id,
        "seconds": round(time.monotonic() - began, 1),
    }


def _open(config: Settings, name: str, recipe: Studied, seed: int, now: dict[str, Any]) -> optuna.Study:
    """The study of this night and these spaces, as far as it got; what a kill left running is closed as failed."""
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    studies.folder(config).mkdir(parents=True, exist_ok=True)
    asked = hashlib.sha256(repr((sorted(recipe.space.items()), now, seed)).encode()).hexdigest()[:8]
    storage = f"sqlite:///{studies.folder(config) / name.partition('@')[0]}.db"
    found = optuna.create_study(
        study_name=f"{name}-{asked}",
        storage=storage,
        direction="maximize" if recipe.goal.upwards else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=WARMUP),
        load_if_exists=True,
    )
    for one in found.get_trials(states=(TrialState.RUNNING,)):
        found.tell(one.number, state=TrialState.FAIL)
    # Another seed for each start, or a study that goes on would draw again what it drew before.
    found.sampler = optuna.samplers.TPESampler(seed=seed + len(found.trials), n_startup_trials=STARTUP)
    if not found.trials:
        found.enqueue_trial({name: now.get(name, getattr(recipe.defaults, name)) for name in recipe.space})
    return found


class Search:
    """One trial after another: each a run of its own in MLflow, pruned where it falls behind."""

    def __init__(
        self, page: Run, recipe: Studied, rehearse: Rehearse, now: dict[str, Any], seed: int, deadline: float
    ) -> None:
        self.page, self.recipe, self.rehearse = page, recipe, rehearse
        self.now, self.seed, self.deadline = now, seed, deadline

    def __call__(self, trial: optuna.Trial) -> float:
        import optuna

        drawn = {name: one.draw(trial, name) for name, one in self.recipe.space.items()}
        with self.page.nested(f"trial {trial.number}", {"trial": str(trial.number)}) as run:
            run.params(drawn)

            def log_epoch(epoch: int, metrics: dict[str, float]) -> None:
                run.epoch(epoch, metrics)
                value = metrics.get(self.recipe.goal.metric)
                if value is None:
                    return
                trial.report(value, epoch)
                late = time.monotonic() > self.deadline
                if late or trial.should_prune():
                    run.tags(
                        {"state": "pruned", "pruned": f"epoch {epoch}: {'out of time' if late else 'behind'}"}
                    )
                    raise optuna.TrialPruned

            value = self.rehearse(Setup({**self.now, **drawn}), self.seed, log_epoch)
            run.results_of({self.recipe.goal.metric: value})
            run.tags({"state": "complete"})
        return value


def _say(found: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """A line a trial on stderr: how it ended, and the best so far."""
    whole = _whole(found)
    value = f"{trial.value:.4f}" if trial.value is not None else trial.state.name.lower()
    best = f", best {found.best_value:.4f} (trial {found.best_trial.number})" if whole else ""
    print(f"trial {trial.number}: {value}{best}  {trial.params}", file=sys.stderr, flush=True)


def _whole(found: optuna.Study) -> list[Any]:
    """The trials that came to their end, in order."""
    from optuna.trial import TrialState

    return found.get_trials(states=(TrialState.COMPLETE,))


def _pictures(page: Run, found: optuna.Study) -> None:
    """How the best value rose, and which setting made the difference, where enough trials can tell."""
    import warnings

    from optuna.visualization import matplotlib as draw

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # its pictures are "experimental", and too wide for Matplotlib's layout
        page.figure("optimisation_history.png", draw.plot_optimization_history(found).figure)
        if len({one.value for one in _whole(found)}) >= IMPORTANCE:
            page.figure("importance.png", draw.plot_param_importances(found).figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.study", description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=sorted(FAMILIES), help="whose settings")
    parser.add_argument(
        "--night", type=date.fromisoformat, help="data date; default: the newest published day"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="when to end at the latest")
    parser.add_argument("--trials", type=int, help="how many settings to try in all; default: as many as fit")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config = settings()
    night = options.night or open_lake(config).last_day()
    if night is None:
        raise LakeError("no day is published yet; run `nightshift night` first")
    family = FAMILIES[options.family]
    result = study(family, night, config, minutes=options.minutes, trials=options.trials, seed=options.seed)
    emit(config, night, f"study-{family.name}", result)


if __name__ == "__main__":
    run_command(main)
