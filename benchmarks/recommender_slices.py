"""Who is served how well: new users, new items and visits under way, by the hybrid and by what it competes with.

    python -m benchmarks.recommender_slices --data ml-100k online-retail/by-day
    python -m benchmarks.recommender_slices --quick        # a small market alone: that it runs, not figures to keep

After each night's training the days that follow ask, in the middle of every user's first visit: which items come next?
Once with the visit's first half told as `recent_items`, with hour, device and channel, and once without a word of it.
The whole catalogue is ranked. Protocol and results: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from datetime import time as clock
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.recommender_sets import WINDOW_DAYS, Set, found, market
from nightshift import featurestore
from nightshift.commands import plain, quiet_libraries, run_command
from training.exams.ranking import Exam, score_model
from training.exams.recommender import EXAMINER, user_features_at
from training.families import FAMILIES
from training.hybrid.data import Window, read_window
from training.hybrid.halves import half_visits, silent
from training.intervals import mean_interval, seed_from
from training.recipe import Night, Package

# Of the recommender's families, those that there are.
COMPETING = ("hybrid", "item_knn", "ncf", "ials", "dae")
AGAINST = ("popularity", "item_knn", "ncf", "dae")  # whom the hybrid is compared with, user by user
METRICS = ("ndcg_at_10", "ndcg_at_100")
FEW = 5  # items met: who met fewer is new
NEW_DAYS = 7  # an item is new if nobody met it before the last week of the training window
CONFIDENCE, DRAWS = 0.95, 4_000
LEAST = 20  # users; of a smaller slice nothing is said


def measure(one: Set, families: Sequence[str], *, smoke: bool, seed: int = 0) -> dict[str, Any]:
    """All slices of a data set: slice → users, every model's figures, and the hybrid's lead with its interval."""
    rows: list[pd.DataFrame] = []
    seconds: dict[str, list[float]] = {}
    unreachable: list[float] = []
    for night in one.nights:
        exam, window, cut = _exam(one, night)
        models = _models(one, night, families, smoke, seed, seconds)
        rows += [_values(models, asked, night, name) for name, asked in _slices(exam, window, cut).items()]
        offered = set(window.items["item_id"].iloc[: int(window.offered[cut - 1])])
        unreachable.append(float(np.mean([item not in offered for items in exam.relevant for item in items])))
    values = pd.concat(rows, ignore_index=True)
    return {
        "nights": [str(night) for night in one.nights],
        "unreachable_share": float(np.mean(unreachable)),
        "cpu_s": {name: float(np.mean(spent)) for name, spent in seconds.items()},
        "slices": {
            str(name): _summary(part, f"{one.name} {name}")
            for name, part in values.groupby("slice", sort=False)
            if part["user_id"].nunique() >= LEAST
        },
    }


def _exam(one: Set, night: date) -> tuple[Exam, Window, int]:
    """The half visits after a night, with every user's features as known by then; the window with the exam's days."""
    days = one.lake.days()
    start = max(days[0], date.fromordinal(night.toordinal() - WINDOW_DAYS + 1))
    last = [day for day in days if day > night][: one.exam_days][-1]
    window = read_window(one.lake, start, last)
    cut = sum(day <= night for day in window.days)
    exam = half_visits(window, cut, one.exam_days)
    assert exam is not None, f"{one.name} {night}: nobody met two new items on a day"
    began = datetime.combine(window.days[cut], clock(), UTC)
    known = user_features_at(featurestore.open_store(one.settings), exam.users, began)
    features = pd.concat([exam.features, known.drop(columns="user_id")], axis=1)
    return replace(exam, features=features), window, cut


def _models(
    one: Set, night: date, families: Sequence[str], smoke: bool, seed: int, seconds: dict[str, list[float]]
) -> dict[str, Any]:
    """Every family as a night trains it, loaded from its package, and popularity."""
    days = one.lake.days()
    later = next(day for day in days if day > night)
    start = max(days[0], date.fromordinal(night.toordinal() - WINDOW_DAYS + 1))
    trained = [day for day in days if start <= day <= night]
    tonight = Night(night, trained[0], trained[-1], later)
    models: dict[str, Any] = {"popularity": EXAMINER.baselines(one.lake, one.settings, tonight)["popularity"]}
    for name in families:
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            made = (
                FAMILIES[name]
                .load()
                .train(
                    tonight,
                    one.settings,
                    Path(folder),
                    smoke=smoke,
                    seed=seed,
                    log_epoch=lambda epoch, metrics: None,
                )
            )
            seconds.setdefault(name, []).append(time.process_time() - began)
            models[name] = _loaded(made.package, Path(folder) / "packaged")
    return models


def _loaded(package: Package, folder: Path) -> Any:
    """The model as serving has it."""
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(package.predictor),
        artifacts={name: str(path) for name, path in package.artifacts.items()},
        signature=infer_signature(package.input_example, package.output_example),
        pip_requirements=package.requirements,
    )
    return mlflow.pyfunc.load_model(str(folder)).unwrap_python_model()


def _slices(exam: Exam, window: Window, cut: int) -> dict[str, Exam]:
    """The exam's slices, each once with the visit's first half told and once without."""
    early = window.met[window.met[:, 2] < cut]
    history = pd.Series(np.bincount(early[:, 0], minlength=len(window.users) + 1)[1:], index=window.users)
    met = history.loc[exam.users].to_numpy()
    ids = window.items["item_id"].to_numpy()
    before = np.unique(early[early[:, 2] < cut - NEW_DAYS, 1]) - 1
    offered = ids[: int(window.offered[cut - 1])]
    fresh = set(offered) - set(ids[before])
    parts = {
        "strangers (nothing met)": exam.where(met == 0),
        f"new users (1 to {FEW - 1} met)": exam.where((met > 0) & (met < FEW)),
        "returning users": exam.where(met >= FEW),
        "new items": _only(exam, fresh),
        "all": exam,
    }
    found = {}
    for name, asked in parts.items():
        if len(asked):
            found[f"{name}, visit told"] = asked
            found[f"{name}, nothing told"] = silent(asked)
    return found


def _only(exam: Exam, items: set[str]) -> Exam:
    """As if of what is to be found only `items` were in the ranking, for users who met any of them."""
    relevant = [[item for item in wanted if item in items] for wanted in exam.relevant]
    seen = [
        met + [item for item in wanted if item not in items]
        for met, wanted in zip(exam.seen, exam.relevant, strict=True)
    ]
    kept = np.array([len(wanted) > 0 for wanted in relevant])
    return replace(exam, relevant=relevant, seen=seen).where(kept)


def _values(models: dict[str, Any], asked: Exam, night: date, name: str) -> pd.DataFrame:
    """Every model's value for every user: columns slice, night, user_id, and `<model> <metric>`."""
    found = pd.DataFrame({"slice": name, "night": str(night), "user_id": asked.users})
    for model, served in models.items():
        scores = score_model(served, asked)
        for metric in METRICS:
            found[f"{model} {metric}"] = scores.per_unit[metric]
    return found


def _summary(part: pd.DataFrame, text: str) -> dict[str, Any]:
    """Means over users (a user of several nights counts once), and the hybrid's paired lead over AGAINST."""
    columns = [column for column in part if column not in ("slice", "night", "user_id")]
    by_user = part.groupby("user_id")[columns].mean()
    found: dict[str, Any] = {"users": len(by_user), "visits": len(part)}
    found |= {str(column).replace(" ", "_"): float(by_user[column].mean()) for column in columns}
    for other in AGAINST:
        for metric in METRICS:
            if f"{other} {metric}" not in by_user:
                continue
            lead = (by_user[f"hybrid {metric}"] - by_user[f"{other} {metric}"]).to_numpy()
            low, high = mean_interval(lead, confidence=CONFIDENCE, draws=DRAWS, seed=seed_from(text))
            found[f"hybrid-{other}_{metric}"] = [float(lead.mean()), low, high]
    return found


def show(results: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=160)
    for name, result in results.items():
        models = list(result["cpu_s"])
        rivals = [other for other in AGAINST if other in ("popularity", *models)]
        table = Table(title=f"{name}: NDCG@10 / NDCG@100; the hybrid's lead in NDCG@100 (95 % interval)")
        for column in ("slice", "users", "popularity", *models, *(f"− {other}" for other in rivals)):
            table.add_column(column, justify="left" if column == "slice" else "right")
        for part, told in result["slices"].items():
            cells = [
                f"{told[f'{model}_ndcg_at_10']:.3f} / {told[f'{model}_ndcg_at_100']:.3f}"
                for model in ("popularity", *models)
            ]
            leads = [
                "{:+.3f} ({:+.3f} to {:+.3f})".format(*told[f"hybrid-{other}_ndcg_at_100"])
                for other in rivals
            ]
            table.add_row(part, str(told["users"]), *cells, *leads)
        console.print(table)
        spent = ", ".join(f"{model} {value:.1f}" for model, value in result["cpu_s"].items())
        console.print(
            f"CPU seconds a night: {spent}. Of what was to be found, {result['unreachable_share']:.1%} came on offer "
            "after the night: no model could rank it."
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recommender_slices", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="a small market, two epochs: that it runs")
    parser.add_argument("--data", type=Path, nargs="*", default=[], metavar="DIR",
                        help="folders of MovieLens-100K (RecBole's files) and UCI Online Retail by day")  # fmt: skip
    parser.add_argument("--without-market", action="store_true", help="the sets of --data alone")
    parser.add_argument("--home", type=Path, metavar="DIR", help="keep the lakes there, for the next time")
    there = [name for name in COMPETING if name in FAMILIES]
    parser.add_argument(
        "--families", nargs="+", metavar="NAME", default=there, help="to train; hybrid among them"
    )
    options = parser.parse_args()
    quiet_libraries()
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    results = {}
    with tempfile.TemporaryDirectory() as passing:
        home = (options.home or Path(passing)).resolve()
        makers = [] if options.without_market else [lambda: market(home, quick=options.quick)]
        for make in (*makers, *(_maker(one, home) for one in options.data)):
            one = make()
            results[one.name] = measure(one, options.families, smoke=options.quick)
    show(results)
    print(json.dumps(plain(results), ensure_ascii=False))


def _maker(folder: Path, home: Path) -> Any:
    return lambda: found(folder, home)


if __name__ == "__main__":
    run_command(main)
