"""Train one family for one night: `python -m training.run ncf --night 2026-09-28 [--smoke] [--seed N]`.

Nothing here knows a family: `training.families` names its recipe, the recipe trains, and this opens the run in
MLflow, keeps what came out, and submits the model as a candidate for its seat. Running it again for the same
night makes another version; the gate judges the newest. With `--no-exam` nothing is held back for one: such a
version knows every day up to the night, and the gate, which could not examine it fairly, never sees it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightshift import retrains, studies
from nightshift.commands import emit, run_command
from nightshift.errors import SettingsError
from nightshift.lake import open_lake
from nightshift.packages import package_digest
from nightshift.seats import SEATS
from nightshift.settings import Settings, settings
from nightshift.versions import Version
from training import warm
from training.exams import examiner
from training.families import FAMILIES, Family
from training.lineage import listed
from training.recipe import LogEpoch, Night, Setup, Trained
from training.team import follows, under_torchrun

if TYPE_CHECKING:
    from nightshift.registry import Registry


def train(
    family: Family,
    day: date,
    config: Settings,
    *,
    smoke: bool,
    seed: int,
    no_exam: bool = False,
    full: bool = False,
) -> dict[str, Any]:
    """Train, log and submit; returns the step's result.

    full: start from nothing, whatever could be gone on from.

    Raises:
        LakeError, FeatureError: the night is not published or its features are not built.
        NoDataError: the lake holds nothing for the family's seat, or too little.
        RegistryError: MLflow cannot be reached.
    """
    began = time.monotonic()
    lake = open_lake(config)
    exams = examiner(family.seat)
    night = exams.night(lake, day, config, smoke=smoke)
    if no_exam:
        night = _without_exam(night)
    from nightshift.registry import Registry
    from training.tracking import code_tags, open_run

    registry = Registry(config)
    digest = exams.digest(lake, night)
    content, content_digest = listed(exams.content(lake, config, night).training)
    tags = {
        **_night_tags(family, night, no_exam=no_exam),
        **code_tags(),
        "data_digest": digest,
        "content_digest": content_digest,
        "smoke": str(smoke).lower(),
        "seed": str(seed),
    }
    kind = "-no-exam" if no_exam else ""
    run_name = f"{family.name}-{night.night}{kind}"
    task = f"{family.name}@{night.night}{kind}"
    # MLflow is down? Then this says so before the work, not after it.
    chosen, base = _start(registry, config, family, night, tags, full=full)
    if chosen.hyper:
        tags["hyper"] = studies.tag(chosen.hyper)
    if (
        chosen.proposal is not None
    ):  # before the training: a retry of this night tries it again, another does not
        studies.write(config, chosen.proposal)
    with (
        open_run(registry.client, f"nightshift/{family.seat}", run_name, task, tags) as run,
        tempfile.TemporaryDirectory(prefix="nightshift-") as folder,
        _progress(f"training {task}") as show,
    ):
        run.params({"night": night.night, "seed": seed, "smoke": smoke, **_window(night)})

        def log_epoch(epoch: int, metrics: dict[str, float]) -> None:
            run.epoch(epoch, metrics)
            show(epoch, metrics)

        base, state = warm.fetch(registry, base, Path(folder) / "warm")
        trained = family.load().train(
            night,
            config,
            Path(folder),
            smoke=smoke,
            seed=seed,
            log_epoch=log_epoch,
            setup=Setup(chosen.hyper, state),
        )
        tags |= _ancestry(base, trained, night)
        run.tags(tags)
        run.params(trained.params)
        run.results(trained, digest, source=lake.where)
        run.lineage(content)
        version = registry.submit(
            SEATS[family.seat], run_id=run.id, model_uri=run.model(trained.package), tags=tags
        )
    if chosen.proposal is not None:
        studies.write(config, replace(chosen.proposal, version=version.number))
    for done in trained.scratch:
        shutil.rmtree(done, ignore_errors=True)
    return _result(family, version, trained, time.monotonic() - began)


def _start(
    registry: Registry, config: Settings, family: Family, night: Night, tags: dict[str, str], *, full: bool
) -> tuple[studies.Chosen, warm.Base]:
    """Tonight's settings, and what the training goes on from, by what the registry tells."""
    seat = SEATS[family.seat]
    champion, versions = registry.champion(seat), registry.versions(seat, family=family.name)
    if tags["smoke"] == "true":
        return studies.Chosen(), warm.Base(None, "a smoke night")
    same = ("night", "seed", "smoke")
    again = [one for one in versions if all(one.tags.get(name) == tags.get(name, "-") for name in same)]
    chosen = studies.choose(
        studies.read(config, family.name) if "night" in tags else None,  # without an exam nothing is tried
        champion,
        again[0] if again else None,
        family=family.name,
        night=night.night,
        train_end=night.train_end,
    )
    if full:
        return chosen, warm.Base(None, warm.ASKED)
    drifts = retrains.requested(config, seat.name)
    made = {"seed": tags["seed"], "hyper": studies.tag(chosen.hyper)}
    return chosen, warm.choose(
        versions, champion, night, drifts, full_days=config.full_retrain_days, made=made
    )


def _ancestry(base: warm.Base, trained: Trained, night: Night) -> dict[str, str]:
    """Where the model comes from, in tags; none for a family that keeps no state to go on from."""
    if warm.STATE not in trained.folders:
        return {}
    if base.version is not None and trained.fresh:
        base = warm.Base(None, f"the state of version {base.version.number} does not fit: {trained.fresh}")
    return base.tags(night, package_digest(trained.folders[warm.STATE]))


def _window(night: Night) -> dict[str, str]:
    return {name: str(getattr(night, name)) for name in ("train_start", "train_end", "exam_start")}


def _night_tags(family: Family, night: Night, *, no_exam: bool) -> dict[str, str]:
    tags = {"family": family.name, "seat": family.seat, "night": str(night.night), **_window(night)}
    if no_exam:  # without these it is no night's candidate, and no try at an exam
        del tags["night"], tags["exam_start"]
    return tags


def _result(family: Family, version: Version, trained: Trained, seconds: float) -> dict[str, Any]:
    told = ("warm_from", "full_retrain_reason", "hyper")
    return {
        "family": family.name,
        "seat": family.seat,
        "version": version.number,
        "run_id": version.run_id,
        **{name: version.tags[name] for name in told if name in version.tags},
        "metrics": trained.metrics,
        **({"measures": trained.measures} if trained.measures else {}),
        "epochs": trained.params.get("epochs"),
        "train_rows": len(trained.data),
        "seconds": round(seconds, 1),
    }


@contextmanager
def _progress(title: str) -> Iterator[LogEpoch]:
    """A moving bar on stderr while a person watches, and nothing otherwise."""
    if not sys.stderr.isatty():
        yield lambda epoch, metrics: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[said]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, said="reading")

        def show(epoch: int, metrics: dict[str, float]) -> None:
            said = " ".join(f"{name} {value:.4f}" for name, value in list(metrics.items())[:3])
            bar.update(task, said=f"epoch {epoch}: {said}")

        yield show


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.run", description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=sorted(FAMILIES), help="what to train")
    parser.add_argument("--night", type=date.fromisoformat, required=True, help="data date, YYYY-MM-DD")
    parser.add_argument("--smoke", action="store_true", help="in seconds, for the plumbing's sake")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-exam", action="store_true", help="train on every day; the gate never sees it")
    parser.add_argument("--full", action="store_true", help="from nothing, not on from an earlier version")
    options = parser.parse_args()
    config = settings()
    family = FAMILIES[options.family]
    if under_torchrun():
        recipe: Any = family.load()
        if not hasattr(recipe, "assist"):
            raise SettingsError(f"{family.name} trains in one process: run it without torchrun")
        if follows():
            night = examiner(family.seat).night(open_lake(config), options.night, config, smoke=options.smoke)
            recipe.assist(_without_exam(night) if options.no_exam else night, config)
            return
    result = train(
        family,
        options.night,
        config,
        smoke=options.smoke,
        seed=options.seed,
        no_exam=options.no_exam,
        full=options.full,
    )
    emit(config, options.night, f"{'no-exam' if options.no_exam else 'train'}-{family.name}", result)


def _without_exam(night: Night) -> Night:
    return replace(night, train_end=night.night, exam_start=night.night + timedelta(days=1))


def _run() -> None:
    from training.tracking import StoppedError

    try:
        run_command(main)
    except StoppedError:
        print("stopped: the run is closed as KILLED", file=sys.stderr, flush=True)
        raise SystemExit(143) from None  # 128 + SIGTERM, as a shell says it


if __name__ == "__main__":
    _run()
