"""NCF over ten nights: from nothing every night, or on from the night before, on the same exams.

python -m benchmarks.incremental_nights [--quick] [--data DIR] [--home DIR]

Every night is trained twice, with the recipe and the rule of `training.warm` that `training.run` uses: once from
nothing, once from the newest version that tonight's exam allows, with the weekly training from nothing in it. Both
sit the night's own exam. `--data` is a folder of UCI Online Retail, one CSV a day; without it the market alone is
replayed. `--home` keeps the lakes, so that another run begins at once.

CPU seconds are those of the recipe (reading, search, fit, package) without its pictures, all nights, the weekly one
among them. Quality is compared on the nights that went on from another, for on the weekly one both are one model:
per user the differences of all nights, 95 % bootstrap over users. Said before any figure of these nights was looked
at: equal is a lower end above -2 % of the NDCG@100 of the nights from nothing; the price may be a third.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from nightshift.commands import plain, run_command
from nightshift.featurestore import open_store
from nightshift.lake import open_lake
from nightshift.night import data_commands, run_step
from nightshift.packages import package_digest
from nightshift.settings import Settings, settings
from nightshift.versions import Version
from training import warm
from training.exams.ranking import score_model
from training.exams.recommender import EXAMINER, build_exam
from training.intervals import mean_intervals
from training.recipe import Night, Setup, Trained

METRICS = {"ndcg_at_100": "", "ndcg_at_10": "10"}  # → what its keys in the JSON end with
MARGIN, PRICE = 0.02, 1 / 3
LAST = {"market": date(2026, 10, 9), "online_retail": date(2011, 11, 25)}
HISTORY = {"market": 39, "online_retail": 115}  # the days before, too: a night learns from ninety


@dataclass
class Arm:
    """One way through the nights: CPU seconds and values per user, by night."""

    cpu_s: list[float] = field(default_factory=list)
    fit_cpu_s: list[float] = field(default_factory=list)
    values: list[pd.DataFrame] = field(default_factory=list)


@dataclass(frozen=True)
class Replay:
    nights: list[date]
    full: Arm
    incremental: Arm
    on_from: list[int | None]  # per night, how many nights before its base was; None: from nothing


def replay(config: Settings, nights: int, seed: int, say: Callable[[str], None]) -> Replay:
    """The last `nights` days of the lake; the night before them is trained from nothing, and counts for neither."""
    from training.ncf.recipe import RECIPE

    lake, store = open_lake(config), open_store(config)
    days = lake.days()[-nights - 1 :]
    full, incremental, on_from = Arm(), Arm(), []
    versions: list[Version] = []
    states: dict[int, Path] = {}
    with tempfile.TemporaryDirectory(prefix="nightshift-nights-") as folder:

        def train(night: Night, kind: str, base: Path | None = None) -> tuple[Trained, float, float]:
            began = time.process_time()
            trained = RECIPE.train(
                night,
                config,
                Path(folder) / f"{night.night}-{kind}",
                smoke=False,
                seed=seed,
                log_epoch=lambda epoch, metrics: None,
                setup=Setup(warm=base),
            )
            took = time.process_time() - began
            return trained, took - trained.measures["pictures_cpu_s"], trained.measures["fit_cpu_s"]

        for number, day in enumerate(days):
            night = EXAMINER.night(lake, day, config)
            exam = build_exam(lake, store, night, config)
            base = warm.choose(versions, None, night, (), full_days=config.full_retrain_days, made={})
            always = train(night, "full")
            mine = always
            if base.version is not None:
                mine = train(night, "on", states[base.version.number])
                assert not mine[0].fresh, mine[0].fresh
            if number:  # the first night is only there to be gone on from
                for arm, (trained, cpu_s, fit_cpu_s) in ((full, always), (incremental, mine)):
                    arm.cpu_s.append(cpu_s)
                    arm.fit_cpu_s.append(fit_cpu_s)
                    scores = score_model(_served(trained), exam).per_unit
                    arm.values.append(
                        pd.DataFrame({metric: scores[metric] for metric in METRICS}, exam.users)
                    )
                on_from.append(number - base.version.number if base.version else None)
                say(f"{day}: {base.reason or 'on from an earlier night'}")
            states[number] = mine[0].folders["state"]
            versions.append(_handed_in(number, night, base, states[number]))
    return Replay(days[1:], full, incremental, on_from)


def _served(trained: Trained) -> Any:
    """The packaged model, read from its files as serving would."""
    from training.ncf.predictor import NeuMF

    model = NeuMF()
    paths = {name: str(path) for name, path in trained.package.artifacts.items()}
    model.load_context(SimpleNamespace(artifacts=paths))
    return model


def _handed_in(number: int, night: Night, base: warm.Base, state: Path) -> Version:
    """What `training.run` would have told the registry."""
    window = {name: str(getattr(night, name)) for name in ("night", "train_start", "train_end", "exam_start")}
    tags = {**window, **base.tags(night, package_digest(state))}
    return Version("recommender", number, "", datetime(2026, 1, 1, tzinfo=UTC), tags)


def compare(found: Replay) -> dict[str, Any]:
    """The figures of one replay; differences are relative to the nights from nothing."""
    on = [place for place, back in enumerate(found.on_from) if back is not None]
    full = pd.concat([found.full.values[place] for place in on])
    mine = pd.concat([found.incremental.values[place] for place in on])
    apart = (mine - full).groupby(level=0).sum()[list(METRICS)].to_numpy()
    low, high = mean_intervals(apart, confidence=0.95, draws=4_000, seed=0)
    rows, means = len(full), full.mean()
    result: dict[str, Any] = {
        "cpu_ratio": sum(found.incremental.cpu_s) / sum(found.full.cpu_s),
        "fit_ratio": sum(found.incremental.fit_cpu_s) / sum(found.full.fit_cpu_s),
        "nights": len(found.nights),
        "nights_on": len(on),
        "users": len(apart),
        "user_nights": rows,
    }
    for at, (metric, end) in enumerate(METRICS.items()):
        scale = len(apart) / rows / means[metric]
        result |= {
            f"ndcg{end}_full": means[metric],
            f"ndcg{end}_incremental": mine[metric].mean(),
            f"diff{end}": apart[:, at].mean() * scale,
            f"diff{end}_low": low[at] * scale,
            f"diff{end}_high": high[at] * scale,
        }
    result["equal"] = bool(result["diff_low"] >= -MARGIN)
    result["cheap"] = bool(result["cpu_ratio"] <= PRICE)
    return result


def table(found: Replay) -> Iterator[str]:
    yield "| night | users | on from | CPU s full | on | NDCG@100 full | on | NDCG@10 full | on |"
    yield "|---|---:|---|---:|---:|---:|---:|---:|---:|"
    for at, night in enumerate(found.nights):
        back = found.on_from[at]
        full, mine = found.full.values[at].mean(), found.incremental.values[at].mean()
        told = [f"{one[metric]:.4f}" for metric in METRICS for one in (full, mine)]
        cells = [
            str(night),
            str(len(found.full.values[at])),
            "nothing" if back is None else f"{back} night{'s' if back > 1 else ''} before",
            f"{found.full.cpu_s[at]:.1f}",
            f"{found.incremental.cpu_s[at]:.1f}",
            *told,
        ]
        yield f"| {' | '.join(cells)} |"


def world(base: Settings, source: str, home: Path, data: Path | None, quick: bool) -> Settings:
    """Settings of a lake with its features under `home`, taken in unless it is there."""
    small = {"market_users": 200, "market_items": 150, "market_topics": 10, "market_conversations": 10}
    changed = {
        "source": source,
        "source_path": data,
        "home": home / source,
        "history_days": 14 if quick else HISTORY[source],
        **(small if quick else {}),
    }
    config = Settings.model_validate({**base.model_dump(), **changed})
    last = config.market_start.replace(day=14) if quick and source == "market" else LAST[source]
    if last not in open_lake(config).days() or not config.features_dir.exists():
        for command in data_commands(last):
            run_step(config, command)
    return config


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.incremental_nights", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three nights of a tiny market: that it runs")
    parser.add_argument("--data", type=Path, help="folder of Online Retail's days")
    parser.add_argument("--home", type=Path, help="where the lakes are kept; default: a temporary folder")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    sources = ["market", *(["online_retail"] if given.data else [])]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="nightshift-worlds-") as folder:
        for source in sources:
            data = given.data.resolve() if given.data and source != "market" else None
            config = world(settings(), source, (given.home or Path(folder)).resolve(), data, given.quick)
            found = replay(config, 3 if given.quick else 10, given.seed, _say)
            results[source] = compare(found)
            print(f"\n{source}\n\n" + "\n".join(table(found)), flush=True)
    print(json.dumps(plain(results)))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_command(main)
