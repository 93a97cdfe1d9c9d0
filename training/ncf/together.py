"""NCF's fits by several processes: `python -m training.ncf.together --night D …` is one that helps.

A helper reads the night's window itself and waits for the leader to name a fit: which days, which settings. It keeps
the same weights by making the same steps; what it learnt along the way is the leader's to judge, package and log.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from datetime import date

import torch

from nightshift import featurestore
from nightshift.commands import run_command
from nightshift.lake import open_lake
from nightshift.settings import Settings, settings
from training.ncf.data import Window, read_window
from training.ncf.fit import Hyper, Inputs, fit
from training.ncf.model import NeuMF
from training.recipe import Night
from training.team import Team, following

AfterEpoch = Callable[[int, float, NeuMF, Inputs], bool]
CPU = torch.device("cpu")


def fit_together(
    team: Team,
    window: Window,
    hyper: Hyper,
    *,
    cut: int | None = None,
    epochs: int,
    seed: int,
    device: torch.device,
    after_epoch: AfterEpoch,
    start: Callable[[NeuMF], None] = lambda model: None,
) -> tuple[NeuMF, Inputs]:
    """As `fit`, on the window's first `cut` days (None: on all), with the help of the team."""
    team.told({"cut": cut, "hyper": asdict(hyper), "epochs": epochs, "seed": seed})
    part = window if cut is None else window.until(cut)
    return fit(
        part, hyper, epochs=epochs, seed=seed, device=device, after_epoch=after_epoch, start=start, team=team
    )


def help_with(team: Team, window: Window) -> int:
    """Take part in the leader's fits until there are no more; how many there were."""
    done = 0
    while (asked := team.told(None)) is not None:
        part = window if asked["cut"] is None else window.until(asked["cut"])
        fit(
            part, Hyper(**asked["hyper"]), epochs=asked["epochs"], seed=asked["seed"], device=CPU,
            after_epoch=lambda *_: True, team=team,
        )  # fmt: skip
        done += 1
    return done


def assist(config: Settings, night: Night) -> None:
    torch.set_num_threads(1)
    with following() as team:
        lake, store = open_lake(config), featurestore.open_store(config)
        help_with(team, read_window(lake, store, night.train_start, night.train_end, night.met_from))


def command(night: Night) -> list[str]:
    """The module and arguments of a helper for `night`."""
    days = [f"--{name.replace('_', '-')}={value}" for name, value in vars(night).items() if value is not None]
    return ["training.ncf.together", *days]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.ncf.together", description=__doc__.splitlines()[0]
    )
    for name in ("night", "train-start", "train-end", "exam-start"):
        parser.add_argument(f"--{name}", type=date.fromisoformat, required=True)
    parser.add_argument("--met-from", type=date.fromisoformat)
    assist(settings(), Night(**vars(parser.parse_args())))


if __name__ == "__main__":
    run_command(main)
